"""esperc compile: what is asked for is checked, though the stage that is shown does not need it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from esper.cli.esperc import main


@pytest.mark.parametrize(
    ("given", "exit_code", "told"),
    [
        (["--set", "foo=3"], 1, "`foo`"),
        (["--set", "features=wide"], 1, "`wide`"),
        (["--set", "features"], 1, "`features`"),
        (["--size", "N"], 1, "`N`"),
        (["--tune", "seconds"], 2, "--tune"),
    ],
)
def test_a_tree_is_not_shown_for_options_that_mean_nothing(
    given: list[str], exit_code: int, told: str
) -> None:
    result = CliRunner().invoke(main, ["compile", "norm", "--emit", "ast", *given])
    assert result.exit_code == exit_code, result.output
    assert told in result.stderr and not result.stdout


def test_a_tree_needs_no_values() -> None:
    plain, set_ = (
        CliRunner().invoke(main, ["compile", "norm", "--emit", "ast", *given])
        for given in ([], ["--set", "features=8"])
    )
    assert plain.exit_code == 0 and plain.stdout == set_.stdout != ""
