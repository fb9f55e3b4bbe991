"""Which Triton and ptxas build kernels here, told without importing Triton."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from esper.urza.errors import MissingCompiler, UnknownTarget

SHARED_BYTES = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "sm_120": 99 * 1024,
    "gfx942": 64 * 1024,
}
"""The shared memory that one program may have, in bytes (CUDA C++ programming guide, technical data; CDNA3
instruction set, local data share)."""

TARGETS = tuple(SHARED_BYTES)
"""The GPUs that kernels are built for."""

TEMPLATE = re.compile(r"^\s*(?:from|import) +esper\.kernels\.(\w+)", re.MULTILINE)
"""A module of templates that a kernel's text imports."""

_FIRST_BLACKWELL = 100


def is_amd(target: str) -> bool:
    """Whether `target` is a GPU of AMD: its code is an hsaco and AMDGCN assembly, not a cubin and PTX."""
    return target.startswith("gfx")


def code_files(target: str) -> tuple[str, str]:
    """What native code and assembly for `target` are called."""
    return ("kernel.hsaco", "kernel.amdgcn") if is_amd(target) else ("kernel.cubin", "kernel.ptx")


def kept_files(target: str) -> tuple[str, ...]:
    """What a build keeps: native code, assembly, Triton's IR, and what tells buffers apart where that is not
    the assembly."""
    return (*code_files(target), "kernel.ttir", *(("kernel.llir",) if is_amd(target) else ()))


def check_target(target: str) -> str:
    """`target` itself; UnknownTarget when it is none of TARGETS."""
    if target not in TARGETS:
        raise UnknownTarget(target=target, known=", ".join(TARGETS))
    return target


@functools.cache
def triton_version() -> str:
    """The installed Triton's version; MissingCompiler when there is none."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError as error:
        raise MissingCompiler(tool="triton", reason="the package is not installed") from error


@functools.cache
def ptxas_version(target: str) -> str:
    """The release of the assembler that serves `target`, such as `12.8.93`; MissingCompiler without one."""
    path = _ptxas(target)
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingCompiler(tool=str(path), reason=str(error)) from error
    release = re.search(r"\bV([\d.]+)", answer)
    if release is None:
        raise MissingCompiler(tool=str(path), reason="it does not tell its version")
    return release[1]


def templates_digest(source: str | None = None) -> str:
    """sha256 over the Triton templates that generated kernels import: all, or those that `source` needs.

    A template that is not there counts as empty: building says so.
    """
    templates = _templates()
    needed = set(templates) if source is None else {"__init__", *TEMPLATE.findall(source)}
    reached: set[str] = set()
    while needed:
        name = needed.pop()
        reached.add(name)
        needed |= _imported(templates.get(name, b"")) - reached
    digest = hashlib.sha256()
    for name in sorted(reached):
        digest.update(name.encode() + b"\0" + templates.get(name, b"") + b"\0")
    return digest.hexdigest()


@functools.cache
def _imported(template: bytes) -> frozenset[str]:
    return frozenset(TEMPLATE.findall(template.decode()))


@functools.cache
def _templates() -> dict[str, bytes]:
    """The text of each module of templates by its name."""
    found = (file for file in files("esper.kernels").iterdir() if file.name.endswith(".py"))
    return {file.name.removesuffix(".py"): file.read_bytes() for file in found}


@functools.cache
def esper_version() -> str:
    """This package's version, or `checkout` where it is not installed."""
    try:
        return metadata.version("esper-toolchain")
    except metadata.PackageNotFoundError:
        return "checkout"


def versions(targets: Iterable[str]) -> dict[str, str]:
    """What an artifact states of the tools that built it: esper, triton, ptxas and the templates' digest."""
    return tool_versions(targets) | {"templates": templates_digest()}


def tool_versions(targets: Iterable[str]) -> dict[str, str]:
    """The versions of esper, triton and ptxas.

    Code for AMD GPUs comes from the LLVM inside Triton: no ptxas is named where no target needs one.
    """
    ptxas = sorted({ptxas_version(target) for target in targets if not is_amd(target)})
    return {
        "esper": esper_version(),
        "triton": triton_version(),
        **({"ptxas": ", ".join(ptxas)} if ptxas else {}),
    }


def _ptxas(target: str) -> Path:
    """Where Triton looks for the assembler."""
    blackwell = int(target.removeprefix("sm_")) >= _FIRST_BLACKWELL
    variable = "TRITON_PTXAS_BLACKWELL_PATH" if blackwell else "TRITON_PTXAS_PATH"
    if variable in os.environ:
        return Path(os.environ[variable])
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        raise MissingCompiler(tool="triton", reason="the package is not installed")
    name = "ptxas-blackwell" if blackwell else "ptxas"
    return Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
