"""Reproduction folders: whole, sufficient, without secrets, and only for faults of Esper's own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from esper.cli.esperc import main
from esper.ir import BlueprintIR
from esper.passes import PASSES, Law
from esper.urza.builder.processes import child_environment

SOURCE = """import "part.esp"
blueprint whole(features: dim = 4) {
    input x: f32[N, features]
    output part(x)
}
"""
PART = """blueprint part(features: dim = 4) {
    input x: f32[N, features]
    output tanh(x)
}
"""


@dataclass(frozen=True)
class Breaks:
    """A pass that fails, with a text of its own or by an invalid graph."""

    says: str = ""
    name: ClassVar[str] = "breaks"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        if self.says:
            raise ZeroDivisionError(self.says)
        return ir.replace(outputs=())


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    PASSES["breaks"] = Breaks()
    yield folder
    del PASSES["breaks"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "part.esp").write_text(PART)
    file = tmp_path / "whole.esp"
    file.write_text(SOURCE)
    return file


def esperc(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def only_folder(temporary: Path, result: Result) -> Path:
    (folder,) = temporary.iterdir()
    assert f"wrote a reproduction to {folder}\n" in result.stderr
    assert folder.name.startswith("esper-reproduction-")
    return folder


@pytest.mark.parametrize("pipeline", ["breaks", "breaks{says=why}"])
def test_a_pass_at_fault_leaves_the_graph_that_it_was_given(
    source: Path, temporary: Path, pipeline: str
) -> None:
    result = esperc("opt", source, "--passes", f"expand,{pipeline},dce")
    assert result.exit_code == 1 and result.stdout == "" and "Traceback" not in result.stderr
    folder = only_folder(temporary, result)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "command.txt", "graph.ir", "traceback.txt", "versions.txt"]
    given = esperc("opt", source, "--passes", "expand").stdout
    assert (folder / "graph.ir").read_text() == given
    command = f"esperc opt graph.ir --passes {shlex.quote(pipeline)}"
    assert (folder / "command.txt").read_text() == f"{command}\n"
    assert command in (folder / "README.md").read_text()
    assert (
        "Breaks" in (folder / "traceback.txt").read_text()
        or "breaks" in (folder / "traceback.txt").read_text()
    )
    assert "torch 2." in (folder / "versions.txt").read_text()


def test_the_command_in_the_folder_fails_in_the_same_way(source: Path, temporary: Path) -> None:
    first = esperc("opt", source, "--passes", "expand,breaks{says=why}")
    folder = only_folder(temporary, first)
    words = shlex.split((folder / "command.txt").read_text())
    again = esperc(words[1], folder / words[2], *words[3:])
    told = "the pass `breaks` failed on a valid graph: ZeroDivisionError: why"
    assert told in first.stderr and told in again.stderr


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("in the planner")


def test_a_fault_of_the_compiler_leaves_the_sources(
    source: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esper.urza.compiler.make_programs", fail)
    result = esperc("compile", source, "--set", "features=8", "--target", "sm_90", "--emit", "plan")
    assert result.exit_code == 1 and "ZeroDivisionError: in the planner" in result.stderr
    folder = only_folder(temporary, result)
    assert (folder / "whole.esp").read_text() == SOURCE and (folder / "part.esp").read_text() == PART
    command = (folder / "command.txt").read_text()
    assert command == "esperc compile whole.esp --set features=8 --target sm_90\n"
    lowered = BlueprintIR.from_text((folder / "lowered.ir").read_text())
    assert [node.op for node in lowered.nodes] == ["input", "tanh"]


def test_secrets_of_the_environment_are_blanked(
    source: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hunter2hunter2")
    monkeypatch.setenv("PLAIN_SETTING", "a_plain_setting")
    result = esperc("opt", source, "--passes", "breaks{says=sent hunter2hunter2 away}")
    texts = [path.read_text() for path in only_folder(temporary, result).iterdir()]
    assert any("sent $MY_API_TOKEN away" in text for text in texts)
    assert not any("hunter2" in text or "a_plain_setting" in text for text in texts)


def test_what_a_user_can_mend_leaves_nothing(source: Path, temporary: Path) -> None:
    source.write_text("blueprint broken {")
    for arguments in (
        ["opt", source],
        ["compile", source],
        ["opt", "nowhere.ir"],
        ["compile", "mlp_block", "--x"],
    ):
        assert esperc(*arguments).exit_code in (1, 2)
    assert not any(temporary.iterdir())


def test_where_nothing_can_be_written_the_error_is_told_all_the_same(
    source: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "absent"))
    result = esperc("opt", source, "--passes", "breaks")
    assert result.exit_code == 1
    assert "no reproduction could be written: No such file or directory" in result.stderr
    assert "the pass `breaks` made an invalid graph" in result.stderr


def test_a_folder_is_whole_or_not_there(
    source: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    result = esperc("opt", source, "--passes", "breaks")
    assert "no reproduction could be written: No space left on device" in result.stderr
    assert not any(temporary.iterdir())


def test_the_folder_for_temporary_files_is_the_systems(source: Path, temporary: Path) -> None:
    code = (
        "from esper.passes import PASSES, Law\n"
        "class Breaks:\n    name, law = 'breaks', Law.EXACT\n    def run(self, ir): return 1 // 0\n"
        "import dataclasses; PASSES['breaks'] = dataclasses.dataclass(frozen=True)(Breaks)()\n"
        f"from esper.cli.esperc import main; main(['opt', {str(source)!r}, '--passes', 'breaks'])"
    )
    environment = {**child_environment(), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"wrote a reproduction to {temporary}/esper-reproduction-" in done.stderr
