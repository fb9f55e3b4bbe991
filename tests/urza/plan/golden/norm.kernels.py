"""The kernels of `norm`, as generated."""

import triton
import triton.language as tl

from esper.kernels.columns import totals_of_lines
from esper.kernels.matmul import matmul
from esper.kernels.rows import rows, rows_with_sums
from esper.kernels.sharing import member_of_program, pick


# forward: grid (ceil(size_0 / BLOCK_M)), BLOCK_M = 32, BLOCK_K = 32, 2 warps
@triton.jit
def rows_0_rms_norm_mul_3_body(row, column, mask, operands):
    (x_ptr, rms_norm_weight_ptr, rms_norm_rsqrt_ptr, size_0, rms_norm_mul_3_ptr) = operands
    x_value = tl.load(x_ptr + row * 32 + column, mask, 0)
    rms_norm_mul = x_value * x_value
    rms_norm_sum = tl.sum(tl.where(mask, rms_norm_mul, 0.0), 1)[:, None]
    rms_norm_div = rms_norm_sum / 32.0
    rms_norm_add_2 = rms_norm_div + 1e-05
    rms_norm_rsqrt = tl.rsqrt(rms_norm_add_2)
    rms_norm_mul_2 = x_value * rms_norm_rsqrt
    rms_norm_weight_value = tl.load(rms_norm_weight_ptr + column, column < 32, 0)
    rms_norm_mul_3 = rms_norm_weight_value * rms_norm_mul_2
    tl.store(rms_norm_rsqrt_ptr + row, rms_norm_rsqrt, row < size_0)
    tl.store(rms_norm_mul_3_ptr + row * 32 + column, rms_norm_mul_3, mask)


@triton.jit
def rows_0_rms_norm_mul_3(
    x_ptr,
    rms_norm_weight_ptr,
    rms_norm_rsqrt_ptr,
    rms_norm_mul_3_ptr,
    size_0,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    rows(
        size_0,
        (x_ptr, rms_norm_weight_ptr, rms_norm_rsqrt_ptr, size_0, rms_norm_mul_3_ptr),
        rows_0_rms_norm_mul_3_body,
        32,
        BLOCK_M,
        BLOCK_K,
    )


# forward: grid (ceil(size_0 / BLOCK_M) * ceil(32 / BLOCK_N), 1), BLOCK_M = 64, BLOCK_N = 32, BLOCK_K = 32, SPREAD = False, 4 warps
@triton.jit
def matmul_1_linear_matmul_body(tile, slice_index, row, column, mask, operands):
    (linear_bias_ptr, x_ptr, add_ptr) = operands
    linear_bias_value = tl.load(linear_bias_ptr + column, column < 32, 0)
    linear_add = linear_bias_value + tile
    x_value = tl.load(x_ptr + row * 32 + column, mask, 0)
    add = x_value + linear_add
    tl.store(add_ptr + row * 32 + column, add, mask)


@triton.jit
def matmul_1_linear_matmul(
    rms_norm_mul_3_ptr,
    linear_weight_ptr,
    linear_bias_ptr,
    x_ptr,
    add_ptr,
    size_0,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPREAD: tl.constexpr,
):
    matmul(
        tl.program_id(0),
        (rms_norm_mul_3_ptr,),
        (linear_weight_ptr,),
        size_0,
        32,
        (32,),
        ((0, 32, 1),),
        ((0, 1, 32),),
        (linear_bias_ptr, x_ptr, add_ptr),
        matmul_1_linear_matmul_body,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        "ieee",
        SPREAD=SPREAD,
        EVEN_K=32 % BLOCK_K == 0,
    )


# backward: grid (ceil(size_0 / BLOCK_M) * ceil(32 / BLOCK_N), 1), BLOCK_M = 64, BLOCK_N = 32, BLOCK_K = 32, SPREAD = False, 4 warps
@triton.jit
def matmul_0_linear_matmul_matmul_body(tile, slice_index, row, column, mask, operands):
    (linear_matmul_matmul_ptr,) = operands
    tl.store(linear_matmul_matmul_ptr + row * 32 + column, tile, mask)


@triton.jit
def matmul_0_linear_matmul_matmul(
    grad_result_ptr,
    linear_weight_ptr,
    linear_matmul_matmul_ptr,
    size_0,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPREAD: tl.constexpr,
):
    matmul(
        tl.program_id(0),
        (grad_result_ptr,),
        (linear_weight_ptr,),
        size_0,
        32,
        (32,),
        ((0, 32, 1),),
        ((0, 32, 1),),
        (linear_matmul_matmul_ptr,),
        matmul_0_linear_matmul_matmul_body,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        "ieee",
        SPREAD=SPREAD,
        EVEN_K=32 % BLOCK_K == 0,
    )


# backward: grid (128), BLOCK_M = 32, BLOCK_K = 32, 2 warps
@triton.jit
def rows_1_rms_norm_rms_norm_backward_sum_2_body(row, column, mask, operands):
    (
        x_ptr,
        saved_0_ptr,
        size_0,
        rms_norm_weight_ptr,
        linear_matmul_matmul_ptr,
        grad_result_ptr,
        rms_norm_mul_3_ptr,
        rms_norm_add_ptr,
    ) = operands
    x_value = tl.load(x_ptr + row * 32 + column, mask, 0)
    saved_0_value = tl.load(saved_0_ptr + row, row < size_0, 0)
    rms_norm_mul_2 = x_value * saved_0_value
    rms_norm_weight_value = tl.load(rms_norm_weight_ptr + column, column < 32, 0)
    rms_norm_mul_3 = rms_norm_weight_value * rms_norm_mul_2
    linear_matmul_matmul_value = tl.load(linear_matmul_matmul_ptr + row * 32 + column, mask, 0)
    rms_norm_rms_norm_backward_mul_2 = rms_norm_weight_value * linear_matmul_matmul_value
    rms_norm_rms_norm_backward_mul_3 = rms_norm_mul_2 * rms_norm_rms_norm_backward_mul_2
    rms_norm_rms_norm_backward_sum = tl.sum(tl.where(mask, rms_norm_rms_norm_backward_mul_3, 0.0), 1)[:, None]
    rms_norm_rms_norm_backward_div = rms_norm_rms_norm_backward_sum / 32.0
    rms_norm_rms_norm_backward_mul_4 = rms_norm_mul_2 * rms_norm_rms_norm_backward_div
    rms_norm_rms_norm_backward_sub = rms_norm_rms_norm_backward_mul_2 - rms_norm_rms_norm_backward_mul_4
    rms_norm_rms_norm_backward_mul_5 = saved_0_value * rms_norm_rms_norm_backward_sub
    rms_norm_rms_norm_backward_mul_6 = rms_norm_mul_2 * linear_matmul_matmul_value
    grad_result_value = tl.load(grad_result_ptr + row * 32 + column, mask, 0)
    rms_norm_add = grad_result_value + rms_norm_rms_norm_backward_mul_5
    tl.store(rms_norm_mul_3_ptr + row * 32 + column, rms_norm_mul_3, mask)
    tl.store(rms_norm_add_ptr + row * 32 + column, rms_norm_add, mask)
    return (tl.where(mask, rms_norm_rms_norm_backward_mul_6, 0.0),)


@triton.jit
def rows_1_rms_norm_rms_norm_backward_sum_2(
    x_ptr,
    saved_0_ptr,
    rms_norm_weight_ptr,
    linear_matmul_matmul_ptr,
    grad_result_ptr,
    rms_norm_mul_3_ptr,
    rms_norm_add_ptr,
    partials_rms_norm_rms_norm_backward_sum_2_ptr,
    size_0,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    rows_with_sums(
        size_0,
        (
            x_ptr,
            saved_0_ptr,
            size_0,
            rms_norm_weight_ptr,
            linear_matmul_matmul_ptr,
            grad_result_ptr,
            rms_norm_mul_3_ptr,
            rms_norm_add_ptr,
        ),
        (partials_rms_norm_rms_norm_backward_sum_2_ptr,),
        rows_1_rms_norm_rms_norm_backward_sum_2_body,
        32,
        BLOCK_M,
        BLOCK_K,
    )


# backward: grid (ceil(32 / BLOCK_M) * ceil(32 / BLOCK_N), 16), BLOCK_M = 64, BLOCK_N = 32, BLOCK_K = 32, SPREAD = False, 4 warps
@triton.jit
def matmul_2_linear_matmul_matmul_2_body(tile, slice_index, row, column, mask, operands):
    (partials_linear_matmul_matmul_2_ptr,) = operands
    tl.store(partials_linear_matmul_matmul_2_ptr + (slice_index * 32 + row) * 32 + column, tile, mask)


@triton.jit
def matmul_2_linear_matmul_matmul_2_sums(sums, slice_index, offsets, mask, operands):
    (partials_linear_add_sum_ptr,) = operands
    tl.store(partials_linear_add_sum_ptr + slice_index * 32 + offsets, sums, mask)


@triton.jit
def matmul_2_linear_matmul_matmul_2(
    grad_result_ptr,
    rms_norm_mul_3_ptr,
    partials_linear_matmul_matmul_2_ptr,
    partials_linear_add_sum_ptr,
    size_0,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPREAD: tl.constexpr,
):
    matmul(
        tl.program_id(0),
        (grad_result_ptr,),
        (rms_norm_mul_3_ptr,),
        32,
        32,
        (size_0,),
        ((0, 1, 32),),
        ((0, 32, 1),),
        (partials_linear_matmul_matmul_2_ptr,),
        matmul_2_linear_matmul_matmul_2_body,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        "ieee",
        SPREAD=SPREAD,
        SPLITS=16,
        SUM_OF="a",
        SUM=matmul_2_linear_matmul_matmul_2_sums,
        sum_operands=(partials_linear_add_sum_ptr,),
    )


# backward: grid (18), 4 warps
@triton.jit
def total_3_linear_add_sum_and_2_more_totals_0(totals, offsets, mask, operands):
    (member, linear_add_sum_ptr, linear_matmul_matmul_2_ptr) = operands
    picked_0_ptr = pick((linear_add_sum_ptr, linear_matmul_matmul_2_ptr), member)
    tl.store(picked_0_ptr + offsets, totals[0], mask)


@triton.jit
def total_3_linear_add_sum_and_2_more_totals_1(totals, offsets, mask, operands):
    (rms_norm_rms_norm_backward_sum_2_ptr,) = operands
    tl.store(rms_norm_rms_norm_backward_sum_2_ptr + offsets, totals[0], mask)


@triton.jit
def total_3_linear_add_sum_and_2_more(
    linear_add_sum_ptr,
    partials_linear_add_sum_ptr,
    linear_matmul_matmul_2_ptr,
    partials_linear_matmul_matmul_2_ptr,
    rms_norm_rms_norm_backward_sum_2_ptr,
    partials_rms_norm_rms_norm_backward_sum_2_ptr,
):
    member, program = member_of_program((1, 16, 1))
    if member < 2:
        totals_of_lines(
            program,
            16,
            pick((32, 1024), member),
            (pick((partials_linear_add_sum_ptr, partials_linear_matmul_matmul_2_ptr), member),),
            (member, linear_add_sum_ptr, linear_matmul_matmul_2_ptr),
            total_3_linear_add_sum_and_2_more_totals_0,
            16,
            64,
        )
    elif member < 3:
        totals_of_lines(
            program,
            128,
            32,
            (partials_rms_norm_rms_norm_backward_sum_2_ptr,),
            (rms_norm_rms_norm_backward_sum_2_ptr,),
            total_3_linear_add_sum_and_2_more_totals_1,
            32,
            64,
        )
