"""Where names are bound, as the syntax tree tells it, is where elaboration binds them."""

from __future__ import annotations

import pytest
from hypothesis import given

from esper.editors.analysis import Analysis
from esper.editors.names import Role, block_at
from esper.lang import Source
from esper.lang.ast import If, Repeat
from esper.lang.scope import Place
from esper.testing.programs import esp_programs
from tests.editors.marked import LIBRARY


def bound(analysis: Analysis) -> set[Place]:
    return {occurrence.place for occurrence in analysis.names if occurrence.role is Role.BINDING}


def elaborated(analysis: Analysis) -> set[Place]:
    """The places at which elaboration bound a name."""
    calls = {occurrence.place for occurrence in analysis.names if occurrence.role is Role.CALL}
    return set(analysis.insight.texts) - calls


def require_agreement(analysis: Analysis) -> None:
    """Elaboration binds nothing else, and nothing is left but blocks that a check does not take."""
    statements = [s for b in analysis.program.blueprints for s in b.body]
    assert elaborated(analysis) <= bound(analysis)
    if not any(isinstance(statement, If | Repeat) for statement in statements):
        assert elaborated(analysis) == bound(analysis)
    for use in analysis.names:
        binding = analysis.means_binding(use)
        if use.role is Role.READ and binding is not None and use.blueprint is not None:
            readable = analysis.names.visible_at(use.blueprint, use.place, block_at(use.blueprint, use.place))
            assert binding in list(readable), use.name


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_the_library_is_bound_as_elaboration_binds_it(name: str) -> None:
    require_agreement(Analysis.of(LIBRARY[name]))


@given(esp_programs())
def test_any_program_is_bound_as_elaboration_binds_it(text: str) -> None:
    require_agreement(Analysis.of(Source("<source>", text)))
