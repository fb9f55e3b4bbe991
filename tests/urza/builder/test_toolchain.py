"""What built a kernel: the templates that its text needs, and no others."""

from __future__ import annotations

import ast
from importlib.resources import files

import pytest

from esper.urza.builder import toolchain
from esper.urza.builder.toolchain import TEMPLATE, templates_digest

TEXTS = {
    file.name.removesuffix(".py"): file.read_text(encoding="utf-8")
    for file in files("esper.kernels").iterdir()
    if file.name.endswith(".py")
}


def imported(text: str) -> set[str]:
    """The modules that `text` imports, as Python reads it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("name", TEXTS)
def test_a_template_names_the_modules_that_it_imports(name: str) -> None:
    own = {module for module in imported(TEXTS[name]) if module.startswith("esper")}
    assert own == {f"esper.kernels.{found}" for found in TEMPLATE.findall(TEXTS[name])}


@pytest.mark.parametrize(("changed", "matters"), [("sums", True), ("rows", True), ("folds", False)])
def test_a_template_counts_where_a_kernel_needs_it(
    monkeypatch: pytest.MonkeyPatch, changed: str, matters: bool
) -> None:
    source = "import triton\nfrom esper.kernels.rows import rows_with_sums\n"
    texts = {name: text.encode() for name, text in TEXTS.items()}
    monkeypatch.setattr(toolchain, "_templates", lambda: texts)
    whole, own = templates_digest(), templates_digest(source)
    texts[changed] += b"# more\n"
    assert templates_digest() != whole
    assert (templates_digest(source) != own) == matters
