"""The stream: what is written can be read, in order, once; damage is told with its line."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from esper.leyline.events import Event, GrowthStepped
from esper.nissa.errors import MalformedStream, MissingStream, StreamTooShort, StreamUnwritable
from esper.nissa.stream import FILE_NAME, EventStream, read_stream, set_aside


def write(folder: Path, events: Sequence[Event], env_id: str = "0") -> None:
    with EventStream(folder / FILE_NAME, "r1", env_id, clock=lambda: 12.5) as stream:
        for event in events:
            stream.emit(event)


def test_what_is_written_is_read_in_order(tmp_path: Path, story: list[Event]) -> None:
    write(tmp_path, story)
    recorded = read_stream(tmp_path)
    assert [entry.event for entry in recorded] == story
    assert [entry.seq for entry in recorded] == list(range(len(story)))
    assert {(entry.run_id, entry.time) for entry in recorded} == {("r1", 12.5)}


def test_each_line_carries_the_contract_fields(tmp_path: Path, story: list[Event]) -> None:
    write(tmp_path, story[:1], env_id="7")
    record = json.loads((tmp_path / FILE_NAME).read_text())
    assert list(record)[:6] == ["schema_version", "run_id", "seq", "time", "env_id", "kind"]
    assert record["env_id"] == "7"


def test_line_is_on_disk_when_it_is_emitted(tmp_path: Path, story: list[Event]) -> None:
    with EventStream(tmp_path / FILE_NAME, "r1") as stream:
        stream.emit(story[0])
        assert len(read_stream(tmp_path)) == 1


def test_number_that_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    step = GrowthStepped(
        epoch=1, step=1, train_loss=math.nan, val_loss=1.0, val_accuracy=None, gradient_norm=None, slots=[]
    )
    write(tmp_path, [step])
    event = read_stream(tmp_path)[0].event
    assert isinstance(event, GrowthStepped)
    assert event.train_loss is None


def test_stream_has_one_writer(tmp_path: Path, story: list[Event]) -> None:
    write(tmp_path, story)
    with pytest.raises(StreamUnwritable):
        EventStream(tmp_path / FILE_NAME, "r2")


def test_torn_last_line_is_left_out(tmp_path: Path, story: list[Event]) -> None:
    write(tmp_path, story)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_stream(tmp_path)) == len(story) - 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda lines: [*lines[:2], "{", *lines[3:]], "line 3: not JSON"),
        (lambda lines: [*lines[:2], "[]", *lines[3:]], "line 3: not a JSON object"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: seq is 3, expected 2"),
        (
            lambda lines: [lines[0].replace('"schema_version": 1', '"schema_version": 9')],
            "line 1: schema_version",
        ),
        (lambda lines: [lines[0].replace("run_started", "run_dreamt")], "line 1: unknown event kind"),
    ],
)
def test_damage_is_told_with_its_line(
    tmp_path: Path, story: list[Event], damage: Callable[[list[str]], list[str]], reason: str
) -> None:
    write(tmp_path, story)
    path = tmp_path / FILE_NAME
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text().splitlines())))
    with pytest.raises(MalformedStream) as caught:
        read_stream(tmp_path)
    assert reason in str(caught.value)


def test_folder_without_a_stream_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingStream):
        read_stream(tmp_path)


def test_a_stream_goes_on_after_what_is_set_aside(tmp_path: Path, story: list[Event]) -> None:
    write(tmp_path, story)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"schema_ver')
    for number, kept in enumerate((3, 2), start=1):
        before = path.read_bytes()
        aside = set_aside(path, kept)
        assert aside == tmp_path / f"events.set-aside-{number}.jsonl"
        assert path.read_bytes() + aside.read_bytes() == before
    with EventStream(path, "r1", clock=lambda: 12.5, seq=2) as stream:
        for event in story[2:]:
            stream.emit(event)
        stream.sync()
        assert stream.state_dict() == {"seq": len(story)}
    assert path.read_bytes() == whole
    assert set_aside(path, len(story)) is None
    assert set_aside(path, 0) is not None
    assert not path.exists()


def test_a_stream_with_fewer_events_than_the_checkpoint_is_not_gone_on_with(
    tmp_path: Path, story: list[Event]
) -> None:
    write(tmp_path, story[:2])
    with pytest.raises(StreamTooShort, match="has 2 whole events, and the checkpoint was made after 3"):
        set_aside(tmp_path / FILE_NAME, 3)
    with EventStream(tmp_path / FILE_NAME, "r1", seq=2) as stream, pytest.raises(StreamTooShort):
        stream.load_state_dict({"seq": 3})


def test_a_stream_that_is_being_written_is_neither_cut_nor_written_by_another(
    tmp_path: Path, story: list[Event]
) -> None:
    path = tmp_path / FILE_NAME
    with EventStream(path, "r1") as stream:
        stream.emit(story[0])
        with pytest.raises(StreamUnwritable, match="another process is writing it"):
            set_aside(path, 0)
        with pytest.raises(StreamUnwritable, match="another process is writing it"):
            EventStream(path, "r1", seq=1)
        assert len(read_stream(tmp_path)) == 1
    assert set_aside(path, 0) is not None


def test_a_missing_stream_has_nothing_to_set_aside(tmp_path: Path) -> None:
    assert set_aside(tmp_path / FILE_NAME, 0) is None
    with pytest.raises(StreamTooShort, match="has 0 whole events"):
        set_aside(tmp_path / FILE_NAME, 1)
