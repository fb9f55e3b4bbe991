"""References for reductions; `axes` and `keepdims` as in torch's `dim` and `keepdim`."""

from __future__ import annotations

import torch


def sum(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The sum of `x` over `axes`."""
    return torch.sum(x, dim=axes, keepdim=keepdims)


def amax(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The greatest elements of `x` over `axes`."""
    return torch.amax(x, dim=axes, keepdim=keepdims)


def mean(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The mean of `x` over `axes`."""
    return torch.mean(x, dim=axes, keepdim=keepdims)


def amin(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The least elements of `x` over `axes`."""
    return torch.amin(x, dim=axes, keepdim=keepdims)


def vector_norm(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The Euclidean norm of `x` over `axes`."""
    found: torch.Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keepdims)
    return found


def logsumexp(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """`log(sum(exp(x)))` over `axes`."""
    return torch.logsumexp(x, dim=axes, keepdim=keepdims)


def var(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool, correction: int) -> torch.Tensor:
    """The variance of `x` over `axes`."""
    return torch.var(x, dim=axes, keepdim=keepdims, correction=correction)


def std(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool, correction: int) -> torch.Tensor:
    """The standard deviation of `x` over `axes`."""
    return torch.std(x, dim=axes, keepdim=keepdims, correction=correction)


def prod(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The product of `x` over `axes`."""
    for axis in reversed(axes):
        x = torch.prod(x, dim=axis, keepdim=keepdims)
    return x


def prod_backward(g: torch.Tensor, x: torch.Tensor, *, axes: tuple[int, ...]) -> torch.Tensor:
    """`g`, of the axes that are kept, times the products of the elements before and after each one."""
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    order = [*kept, *axes]
    last = x.permute(order)
    rows = last.reshape(*g.shape, -1)
    ones = torch.ones_like(rows[..., :1])
    before = torch.cat([ones, rows[..., :-1]], -1).cumprod(-1)
    after = torch.cat([rows[..., 1:], ones], -1).flip(-1).cumprod(-1).flip(-1)
    found = (g.unsqueeze(-1) * before * after).reshape(last.shape)
    return found.permute([order.index(axis) for axis in range(x.dim())])


def any(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """Whether an element of `x` over `axes` is true."""
    return torch.any(x, dim=axes, keepdim=keepdims)


def all(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """Whether all elements of `x` over `axes` are true."""
    return torch.all(x, dim=axes, keepdim=keepdims)


def cumsum(x: torch.Tensor, *, axis: int, reverse: bool) -> torch.Tensor:
    """The running sums of `x` along `axis`, from its end if `reverse`."""
    return x.flip(axis).cumsum(axis).flip(axis) if reverse else x.cumsum(axis)


def argmax(x: torch.Tensor, *, axis: int, keepdims: bool) -> torch.Tensor:
    """The int64 index of the greatest element along `axis`."""
    return torch.argmax(x, dim=axis, keepdim=keepdims)


def argmin(x: torch.Tensor, *, axis: int, keepdims: bool) -> torch.Tensor:
    """The int64 index of the least element along `axis`."""
    return torch.argmin(x, dim=axis, keepdim=keepdims)
