"""`.seed` files: equal contents are equal bytes, every change is noticed, and nothing in them runs."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.files import FileUnwritable
from esper.urza.artifact import Artifact, manifest_of, read_artifact, write_artifact
from esper.urza.errors import ArtifactTampered, ArtifactUnreadable
from esper.urza.kernel import BuiltKernel, KernelSource, Resources

BUILT = BuiltKernel(
    kernel=KernelSource("hidden", "forward", "pass\n", "hidden", (), (1,)),
    target="sm_90",
    cubin=b"\x7fELF" + bytes(range(256)),
    symbol="hidden",
    num_warps=4,
    scratch_bytes=0,
    resources=Resources(64, 0, 1024, 4, "wgmma", 128, 1.0),
    ttir="",
    ptx="",
    cached=False,
)
ARTIFACT = Artifact(
    blueprint="mlp_block",
    ir_hash="5f" * 32,
    ir_json='{"nodes": []}',
    source="blueprint mlp_block() {}",
    kernels_py="pass\n",
    module_py="pass\n",
    report_json="{}",
    options={"precision": "bf16"},
    versions={"esper": "0.1.0", "triton": "3.7.1"},
    targets=("sm_90",),
).with_kernels((BUILT,))


def rezip(path: Path, **changes: bytes | None) -> None:
    """Rewrites `path` with files replaced, added, or (None) left out; `__` in a name stands for `/`."""
    with zipfile.ZipFile(path) as archive:
        files: dict[str, bytes | None] = {info.filename: archive.read(info) for info in archive.infolist()}
    files |= {name.replace("__", "/").replace("_dot_", "."): data for name, data in changes.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(name, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "mlp.seed"
    write_artifact(found, ARTIFACT)
    return found


def test_what_is_written_is_read(path: Path) -> None:
    assert read_artifact(path) == ARTIFACT


def test_equal_contents_are_equal_bytes(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.seed"
    write_artifact(other, replace(ARTIFACT, options=dict(ARTIFACT.options)))
    assert other.read_bytes() == path.read_bytes()


def test_the_manifest_lists_digests_targets_and_figures(path: Path) -> None:
    manifest = manifest_of(read_artifact(path))
    assert manifest.targets == ("sm_90",)
    (kernel,) = manifest.kernels
    assert kernel.digest == BUILT.kernel.digest and kernel.resources == BUILT.resources
    assert set(manifest.files) == {
        "ir.json",
        "source.esp",
        "kernels.py",
        "module.py",
        "report.json",
        "cubins/sm_90/hidden.cubin",
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_any_changed_byte_is_noticed(path: Path, data: st.DataObject) -> None:
    original = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(original) - 1))
    flipped = data.draw(st.integers(1, 255))
    original[position] ^= flipped
    changed = path.with_name("changed.seed")
    changed.write_bytes(original)
    with pytest.raises((ArtifactTampered, ArtifactUnreadable)):
        read_artifact(changed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_any_truncation_is_noticed(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    cut = path.with_name("cut.seed")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises((ArtifactTampered, ArtifactUnreadable)):
        read_artifact(cut)


@pytest.mark.parametrize("name", ["..__evil.py", "__etc__passwd", "cubins__sm_90__..__x.cubin", "extra.txt"])
def test_names_that_have_no_place_are_refused(path: Path, name: str) -> None:
    rezip(path, **{name: b"x"})
    with pytest.raises(ArtifactTampered, match="has no place in it"):
        read_artifact(path)


def test_a_replaced_cubin_is_refused(path: Path) -> None:
    rezip(path, **{"cubins__sm_90__hidden.cubin": b"\x7fELF other code"})
    with pytest.raises(ArtifactTampered, match=r"`cubins/sm_90/hidden\.cubin` is not what the manifest says"):
        read_artifact(path)


def test_a_missing_file_is_refused(path: Path) -> None:
    rezip(path, **{"ir.json": None})
    with pytest.raises(ArtifactTampered, match=r"`ir\.json`"):
        read_artifact(path)


def test_a_manifest_with_other_figures_is_refused_though_every_file_is_whole(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["kernels"][0]["resources"]["registers"] = 1
    rezip(path, **{"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ArtifactTampered):
        read_artifact(path)


def test_a_later_schema_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["schema_version"] = 2
    rezip(path, **{"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ArtifactUnreadable, match="schema_version"):
        read_artifact(path)


def test_compressed_entries_are_refused_unread(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ir.json", bytes(50_000_000))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ArtifactTampered, match="larger than the file"):
        read_artifact(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_artifact_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.seed").write_bytes(content)
    with pytest.raises(ArtifactUnreadable):
        read_artifact(tmp_path / "x.seed")


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match=r"absent\.seed.*No such file"):
        read_artifact(tmp_path / "absent.seed")


def test_an_unwritable_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x.seed").mkdir()
    (tmp_path / "x.seed" / "inside").touch()
    with pytest.raises(FileUnwritable):
        write_artifact(tmp_path / "x.seed", ARTIFACT)
    with pytest.raises(FileUnwritable):
        write_artifact(tmp_path / "no folder" / "x.seed", ARTIFACT)
    assert [path.name for path in tmp_path.iterdir()] == ["x.seed"]
