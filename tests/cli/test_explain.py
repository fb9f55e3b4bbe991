"""`esperc explain`: codes by their pages or their classes, blueprints by their plan and what they save."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import esper
from esper.cli.codes import WIDTH, declarations, explanation
from esper.cli.esperc import main
from esper.errors import EsperError
from esper.ir import evaluate_size, parse_type
from esper.resources import explanations

LOADS_LITTLE = """
import sys
from esper.cli.esperc import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "triton", "networkx", "lark", "numpy"} & set(sys.modules), sorted(sys.modules)
"""


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


@pytest.mark.parametrize("code", ["E0202", "e0202"])
def test_a_code_of_the_language_prints_its_page_as_plain_text(code: str) -> None:
    result = explain(code)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("E0202: a name that is not bound\n\nA name in an expression is ")
    assert (
        "\n\nWrong:\n\n    blueprint block(width: dim = 64) {\n        input x: f32[N, width]\n"
        in result.stdout
    )
    assert "\n\nRepaired:\n\n    blueprint block(" in result.stdout
    assert "```" not in result.stdout


def test_json_is_one_document_with_the_same_text() -> None:
    document = json.loads(explain("w0201", "--json").stdout)
    assert document == {
        "schema_version": 1,
        "code": "W0201",
        "title": "something that is never used",
        "text": explain("W0201").stdout,
    }


@pytest.mark.parametrize(
    ("code", "closest"),
    [
        ("E0299", "E0301, W0301, E0302"),
        ("e202", "E0202, W0202, E0201"),
        ("W0203", "E0203, W0202, E0202"),
        ("e01", "E0101, E0102, E0103"),
        ("201", "E0201, W0201, E0202"),
    ],
)
def test_an_unknown_code_names_the_closest(code: str, closest: str) -> None:
    result = explain(code)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error[E0984]: there is no code `{code.upper()}`\n  help: the closest are {closest}\n"
    )


def test_a_code_of_another_room_is_told_by_its_class() -> None:
    assert explain("E0001").stdout == (
        "E0001: missing package\n"
        "\n"
        "An optional package is not installed.\n"
        "\n"
        "    E0001: `{package}` is not installed, and {purpose} needs it\n"
        "      help: pip install 'esper-toolchain[{extra}]'\n"
        "\n"
        "In place of the words in braces stands what was found.\n"
    )


def test_what_is_read_of_the_sources_is_what_the_classes_say() -> None:
    """Every room that declares a code is imported, so no class is missed either."""
    root = Path(esper.__file__).parent
    modules = [
        ".".join(("esper", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*.py")
        if '    code = "' in path.read_text(encoding="utf-8")
    ]
    kinds = {
        kind.code: kind
        for module in map(import_module, modules)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, EsperError) and "code" in vars(kind)
    }
    kinds.pop(EsperError.code)
    declared = declarations()
    assert {code: kind.__name__ for code, kind in kinds.items()} == {
        code: found.name for code, found in declared.items()
    }
    for code, kind in kinds.items():
        assert (declared[code].message, declared[code].help) == (kind.message, kind.help)
        assert declared[code].doc.split() == (kind.__doc__ or "").split()


@pytest.mark.parametrize("code", sorted(set(declarations()) - set(explanations())))
def test_a_code_without_a_page_reads_well_at_80_columns(code: str) -> None:
    text = explanation(code).text
    assert text.startswith(f"{code}: ") and text.endswith("\n")
    assert not [line for line in text.splitlines() if len(line) > WIDTH]


@pytest.mark.parametrize("arguments", [["E0202"], ["E0502"], ["--help"]])
def test_explaining_a_code_loads_neither_torch_nor_the_language(arguments: list[str]) -> None:
    command = [sys.executable, "-c", LOADS_LITTLE, "explain", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_code_takes_no_options_of_a_blueprint() -> None:
    result = explain("E0202", "--set", "width=3")
    assert result.exit_code == 2
    assert "--set is for a blueprint, and E0202 is a code" in result.stderr


def test_a_blueprint_is_explained_by_the_plan_that_compile_emits_and_by_what_is_saved() -> None:
    given = ["norm", "--set", "features=8", "--size", "N=3", "--size", "S=5"]
    plan = CliRunner().invoke(main, ["compile", *given, "--emit", "plan"]).stdout
    result = explain(*given)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(plan)
    assert result.stdout.removeprefix(plan) == (
        "\n"
        "saved for backward: 60 bytes at N = 3, S.0 = 5\n"
        "  %rms_norm.rsqrt: f32[N, S.0, 1], 60 bytes, it is no larger than what it could be computed from\n"
    )


def test_json_of_a_blueprint_has_its_groups_refusals_and_what_is_saved() -> None:
    document = json.loads(explain("attention", "--set", "features=64", "--size", "N=2", "--json").stdout)
    assert (document["schema_version"], document["blueprint"]) == (1, "attention")
    assert document["sizes"] == {"N": 2, "T": 64}
    first = document["groups"][0]
    assert (first["direction"], first["shape"]) == ("forward", ["N", "T", "64"])
    assert {"name": "layer_norm.rsqrt", "op": "rsqrt", "stored": True} in first["nodes"]
    directions = [group["direction"] for group in document["groups"]]
    assert directions == sorted(directions, reverse=True) and set(directions) == {"forward", "backward"}
    (refusal,) = [found for found in document["refusals"] if found["node"].endswith("backward.mul_2")]
    assert refusal["direction"] == "backward"
    assert refusal["reason"] == "a reduction reads the product again anyway"
    assert {refusal["group"]} <= {group["name"] for group in document["groups"]}
    for saved in document["saved"]:
        assert saved["bytes"] == evaluate_size(parse_type(saved["type"]).bytes, document["sizes"])


@pytest.mark.parametrize("suffix", [".esp", ".ir"])
def test_a_path_is_accepted_in_place_of_a_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"block{suffix}"
    source = "blueprint block(width: dim = 4) {\n    input x: f32[N, width]\n    output linear(x, width)\n}\n"
    (tmp_path / "block.esp").write_text(source)
    if suffix == ".ir":
        path.write_text(str(esper.lower(tmp_path / "block.esp")))
    result = explain(str(path))
    assert result.exit_code == 0
    assert result.stdout.startswith("forward block\n  matmul_0_linear_matmul over [N, 4]\n")


@pytest.mark.parametrize(("file", "code"), [("attentoin", "E0209"), ("nowhere.esp", "E0110")])
def test_what_is_neither_code_nor_blueprint_is_told_as_by_other_commands(file: str, code: str) -> None:
    result = explain(file)
    assert result.exit_code == 1
    assert f"error[{code}]: " in result.stderr
