"""Seeds from blueprints and from `.seed` files: `esper.compile` and `esper.load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from esper.errors import require_kind
from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, lower
from esper.urza.artifact import read_artifact
from esper.urza.compiler import compile_ir
from esper.urza.errors import ArtifactTampered
from esper.urza.run.seed import CompiledSeed
from esper.urza.run.supply import Supply
from esper.urza.run.tiers import Tier


def compile(
    blueprint: str | Path,
    *,
    name: str | None = None,
    target: str | Sequence[str] = (),
    precision: str | None = None,
    sizes: Mapping[str, SizeValue] | None = None,
    generator: torch.Generator | None = None,
    tier: Tier = "torch",
    cuda_graphs: bool = False,
    **params: Any,
) -> CompiledSeed:
    """A seed from a library blueprint's name or a path to a `.esp` file, with fresh weights.

    name: which blueprint of the file. target: GPUs to build kernels for at once, such as `sm_90`, which needs
    no GPU. precision: `f32`, `bf16` or `f16`; what the source declares if None. sizes: values of size
    symbols. generator: where initial weights come from. cuda_graphs: on the triton tier, launch kernels that
    are launched again and again alike as one. params: the blueprint's parameters.
    Raises the errors of the language, `KernelBuildFailed` and `WrongArgument`.
    """
    ir = lower(blueprint, name=name, sizes=sizes, precision=precision, **params)
    targets = (target,) if isinstance(target, str) else tuple(target)
    if targets:
        compile_ir(ir, targets, sizes=sizes)
    supply = Supply(ir, cuda_graphs=True) if cuda_graphs else None
    return CompiledSeed(ir, generator=generator, tier=tier, targets=targets, supply=supply)


def load(
    path: str | Path,
    trust_kernels: bool = False,
    *,
    generator: torch.Generator | None = None,
    tier: Tier = "torch",
    cuda_graphs: bool = False,
) -> CompiledSeed:
    """The seed that a `.seed` file describes, with fresh weights.

    Its graph is checked against the operator table and lowered anew. Of the native code in it runs, on the
    triton tier, what this machine built itself; the rest is built again in the background. trust_kernels:
    run all of it, as if this machine had built it; then neither Triton nor a C compiler is needed.
    cuda_graphs: as in `compile`. Raises `ArtifactUnreadable`, `ArtifactTampered`, `WrongArgument`, and what
    reading a graph raises.
    """
    require_kind("path", path, (str, Path), "a path to a .seed file")
    require_kind("trust_kernels", trust_kernels, (bool,), "True or False")
    artifact = read_artifact(Path(path))
    ir = BlueprintIR.from_json(artifact.ir_json)
    if ir.hash != artifact.ir_hash:
        raise ArtifactTampered(path=path, reason="the graph is not the one that its hash names")
    supply = Supply(ir, artifact, trust_kernels=trust_kernels, cuda_graphs=cuda_graphs)
    return CompiledSeed(ir, generator=generator, tier=tier, targets=artifact.targets, supply=supply)
