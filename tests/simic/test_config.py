"""Configuration: defaults, files under options, refusals, and a resolved text that asks for the same run."""

from pathlib import Path

import pytest
import yaml

from esper.simic.config import config_text, load_config
from esper.simic.errors import HostFromFile, InvalidConfig, SlotsMissing, UnknownHost, UnreadableConfig


def test_everything_has_a_default_and_the_host_fills_in_its_own() -> None:
    config = load_config(None, {})
    assert (config.task, config.host, config.seed) == ("mnist1d", "cnn", 0)
    assert config.slots
    assert config.blueprints


def test_options_stand_above_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 7\nseed: 5\n")
    config = load_config(path, {"seed": 6})
    assert (config.epochs, config.seed) == (7, 6)


def test_resolved_text_asks_for_the_same_run(tmp_path: Path) -> None:
    config = load_config(None, {"epochs": 11, "policy_options": {"patience": 2}})
    path = tmp_path / "c.yaml"
    path.write_text(config_text(config))
    assert load_config(path, {}) == config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epoch: 3", "unknown key `epoch`"),
        ("epochs: many", "`epochs`"),
        ("epochs: 0", "greater than or equal to 1"),
    ],
)
def test_unknown_keys_and_wrong_values_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load_config(path, {})
    assert problem in str(caught.value)


@pytest.mark.parametrize("content", [b"- 1\n- 2\n", b"a: [", b"\xff\xfe\x00"])
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UnreadableConfig):
        load_config(path, {})


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableConfig) as caught:
        load_config(tmp_path / "none.yaml", {})
    assert "No such file" in str(caught.value)


def test_unknown_host_is_refused() -> None:
    with pytest.raises(UnknownHost):
        load_config(None, {"host": "resnet"})


def test_empty_file_asks_for_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("")
    assert load_config(path, {}) == load_config(None, {})
    assert yaml.safe_load(config_text(load_config(path, {})))["epochs"] == 40


def test_host_by_import_path_is_refused_from_a_file_and_taken_from_the_options(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("host: package.module:build\nslots: [layer]\nblueprints: [norm]\n")
    with pytest.raises(HostFromFile) as caught:
        load_config(path, {})
    assert "--host package.module:build" in caught.value.help_text
    assert load_config(path, {"host": "package.module:build"}).slots == ["layer"]


@pytest.mark.parametrize(("given", "missing"), [({}, "slots"), ({"slots": ["layer"]}, "blueprints")])
def test_imported_host_needs_slots_and_blueprints(given: dict[str, list[str]], missing: str) -> None:
    with pytest.raises(SlotsMissing) as caught:
        load_config(None, {"host": "package.module:build", **given})
    assert f"--{missing}" in caught.value.help_text
