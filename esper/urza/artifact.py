"""The `.seed` file: a compiled blueprint as a zip of text, JSON and native code, and nothing that runs.

The same contents give the same bytes wherever they are written: entries are sorted, stored without
compression, and dated 1980. Reading turns that around: a file whose bytes are not exactly what its own
contents would be written as is refused, so no byte outside the manifest's digests can hide in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from esper.files import write_whole
from esper.urza.builder.toolchain import code_files
from esper.urza.errors import ArtifactTampered, ArtifactUnreadable
from esper.urza.kernel import BuiltKernel, Resources

SCHEMA_VERSION = 1
LIMIT_BYTES = 256 * 1024 * 1024
"""Larger files are refused unread."""

_MANIFEST = "manifest.json"
_TEXTS = {
    "ir.json": "ir_json",
    "source.esp": "source",
    "kernels.py": "kernels_py",
    "module.py": "module_py",
    "report.json": "report_json",
}
_NAMES = re.compile(
    "|".join(map(re.escape, (_MANIFEST, *_TEXTS)))
    + r"|cubins/(?:sm_\d{2,3}/[A-Za-z_]\w{0,199}\.cubin|gfx[\da-f]{3,4}/[A-Za-z_]\w{0,199}\.hsaco)",
    re.ASCII,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w{0,199}$")]
Target = Annotated[str, StringConstraints(pattern=r"^(sm_\d{2,3}|gfx[\da-f]{3,4})$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class KernelEntry(_Strict):
    """One kernel for one target, as the manifest lists it.

    digest: of the `KernelSource` it was built from, by which a graph that is lowered anew finds it.
    """

    name: Name
    direction: Literal["forward", "backward"]
    target: Target
    digest: Sha256
    symbol: Name
    num_warps: int = Field(ge=1, le=64)
    scratch_bytes: int = Field(ge=0)
    resources: Resources

    @property
    def file(self) -> str:
        """Where its code stands in the zip."""
        return f"cubins/{self.target}/{self.name}{Path(code_files(self.target)[0]).suffix}"


class FileEntry(_Strict):
    """Size and digest of one file."""

    size: int = Field(ge=0, le=LIMIT_BYTES)
    sha256: Sha256


class Manifest(_Strict):
    """What an artifact says of itself; `checksum` is the sha256 of all the rest."""

    schema_version: Literal[1]
    blueprint: Name
    ir_hash: str
    options: dict[str, str]
    versions: dict[str, str]
    targets: tuple[Target, ...]
    kernels: tuple[KernelEntry, ...]
    files: dict[str, FileEntry]
    checksum: Sha256


@dataclass(frozen=True, slots=True)
class Artifact:
    """The contents of a `.seed` file.

    blueprint: its name. ir_hash, ir_json: the graph as compiled. source: the `.esp` text, or "".
    kernels_py, module_py: for people to read. report_json: what `esperc compile --json` printed.
    options: what the graph was compiled with, such as precision. versions: of the tools.
    kernels and cubins: built code, by `KernelEntry.file`.
    """

    blueprint: str
    ir_hash: str
    ir_json: str
    source: str
    kernels_py: str
    module_py: str
    report_json: str
    options: Mapping[str, str]
    versions: Mapping[str, str]
    targets: tuple[str, ...]
    kernels: tuple[KernelEntry, ...] = ()
    cubins: Mapping[str, bytes] = field(default_factory=dict)

    def with_kernels(self, built: tuple[BuiltKernel, ...]) -> Artifact:
        """This artifact holding `built`, whose names are unique for each target."""
        entries = tuple(
            KernelEntry(
                name=one.kernel.name,
                direction=one.kernel.direction,
                target=one.target,
                digest=one.kernel.digest,
                symbol=one.symbol,
                num_warps=one.num_warps,
                scratch_bytes=one.scratch_bytes,
                resources=one.resources,
            )
            for one in built
        )
        cubins = {entry.file: one.cubin for entry, one in zip(entries, built, strict=True)}
        return replace(self, kernels=entries, cubins=cubins)


def write_artifact(path: Path, artifact: Artifact) -> None:
    """Writes `path`, whole or not at all. Raises `FileUnwritable`."""
    write_whole(path, artifact_bytes(artifact))


def artifact_bytes(artifact: Artifact) -> bytes:
    """What `write_artifact` writes."""
    return _pack(_files(artifact))


def read_artifact(path: Path) -> Artifact:
    """The contents of `path`, every name, size and digest checked; nothing of it runs.

    Raises ArtifactUnreadable for what is no artifact, ArtifactTampered for one that does not hold what its
    manifest says.
    """
    data = _read(path)
    files = _unpack(path, data)
    try:
        manifest = Manifest.model_validate_json(files.pop(_MANIFEST, b""))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or _MANIFEST
        raise ArtifactUnreadable(path=path, reason=f"{place}: {first['msg'].lower()}") from error
    expected = {name: entry.sha256 for name, entry in manifest.files.items()}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise ArtifactTampered(path=path, reason=f"`{name}` is not what the manifest says")
    cubins = {entry.file: files.pop(entry.file, b"") for entry in manifest.kernels}
    if set(files) != set(_TEXTS) or not all(cubins.values()) or len(cubins) != len(manifest.kernels):
        raise ArtifactTampered(path=path, reason="files are missing, or there are more than it lists")
    try:
        texts = {_TEXTS[name]: data.decode() for name, data in files.items()}
    except UnicodeDecodeError as error:
        raise ArtifactTampered(path=path, reason="a text in it is not UTF-8") from error
    artifact = Artifact(
        blueprint=manifest.blueprint,
        ir_hash=manifest.ir_hash,
        options=manifest.options,
        versions=manifest.versions,
        targets=manifest.targets,
        kernels=manifest.kernels,
        cubins=cubins,
        **texts,
    )
    if artifact_bytes(artifact) != data:
        raise ArtifactTampered(path=path, reason="its bytes are not those its contents are written as")
    return artifact


def manifest_of(artifact: Artifact) -> Manifest:
    """The manifest that `write_artifact` writes."""
    return Manifest.model_validate_json(_files(artifact)[_MANIFEST])


def _files(artifact: Artifact) -> dict[str, bytes]:
    """Every file of the zip, the manifest among them."""
    files = {name: getattr(artifact, attribute).encode() for name, attribute in _TEXTS.items()}
    files |= artifact.cubins
    rest = {
        "schema_version": SCHEMA_VERSION,
        "blueprint": artifact.blueprint,
        "ir_hash": artifact.ir_hash,
        "options": dict(artifact.options),
        "versions": dict(artifact.versions),
        "targets": list(artifact.targets),
        "kernels": [entry.model_dump() for entry in artifact.kernels],
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        },
    }
    checksum = hashlib.sha256(_canonical(rest)).hexdigest()
    return {**files, _MANIFEST: _canonical(rest | {"checksum": checksum})}


def _canonical(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ArtifactUnreadable(path=path, reason=error.strerror or str(error)) from error
    if len(data) > LIMIT_BYTES:
        raise ArtifactUnreadable(path=path, reason=f"it has more than {LIMIT_BYTES} bytes")
    return data


def _unpack(path: Path, data: bytes) -> dict[str, bytes]:
    """The zip's files by name; only stored ones, with names that an artifact uses, none twice."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            names = {info.filename for info in infos}
            if sum(info.file_size for info in infos) > len(data) or len(names) != len(infos):
                raise ArtifactTampered(path=path, reason="its entries overlap or are larger than the file")
            for info in infos:
                if info.compress_type != zipfile.ZIP_STORED or not _NAMES.fullmatch(info.filename):
                    raise ArtifactTampered(path=path, reason=f"`{info.filename}` has no place in it")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, NotImplementedError, OSError) as error:
        raise ArtifactUnreadable(path=path, reason=f"it is no whole zip file ({error})") from error


def manifest_text(manifest: Manifest) -> str:
    """The manifest for people, one kernel a line."""
    lines = [
        f"{manifest.blueprint}  (schema {manifest.schema_version}, digests checked)",
        f"graph     {manifest.ir_hash}",
        "options   " + (", ".join(f"{k}={v}" for k, v in sorted(manifest.options.items())) or "none"),
        "built by  " + ", ".join(f"{k} {v}" for k, v in sorted(manifest.versions.items())),
        "targets   " + ", ".join(manifest.targets),
        f"files     {len(manifest.files)}, {sum(f.size for f in manifest.files.values())} bytes",
    ]
    if manifest.kernels:
        lines.append(f"\n{'kernel':<32}{'target':<8}{'registers':>10}{'spilled':>9}{'shared':>8}  matrix")
    for kernel in manifest.kernels:
        used = kernel.resources
        matrix = f"{used.matrix_instructions} {used.matrix_kind}" if used.matrix_kind else "-"
        lines.append(
            f"{kernel.name:<32}{kernel.target:<8}{used.registers:>10}{used.spill_bytes:>9}"
            f"{used.shared_bytes:>8}  {matrix}"
        )
    return "\n".join(lines)
