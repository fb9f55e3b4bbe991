"""Shared by all tests: golden files, and how many examples a property is given."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "soak", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("ci")  # `--hypothesis-profile=quick` or `soak` takes another

LAW_EXAMPLES = 300  # for each law of a pass under `ci`; the other profiles keep their own number
LANGUAGE_EXAMPLES = 10_000  # for each law of the language under `soak`; the other profiles keep their own


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """The profiles `law` and `language`, once the one that the command line names is loaded.

    A shell starts what it puts in the background with SIGINT ignored, and so would every child of a test.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    loaded, examples = settings.get_current_profile_name(), settings().max_examples
    settings.register_profile("law", settings(), max_examples=LAW_EXAMPLES if loaded == "ci" else examples)
    settings.register_profile(
        "language", settings(), max_examples=LANGUAGE_EXAMPLES if loaded == "soak" else examples
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("name.txt", text)` compares with the file in `golden/` beside the test, or writes it."""

    def compare(name: str, text: str) -> None:
        path = Path(request.node.path).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing; write it with --update-golden"
        assert text == path.read_text(encoding="utf-8"), f"{path} differs; look, then use --update-golden"

    return compare
