"""No change to a source makes the compiler raise or run on, and equal sources elaborate to equal graphs."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.testing import esp_programs
from tests.lang.laws import SECONDS, TooSlow, elaborated, processor_time, require_treated
from tests.lang.mutations import mutated, seeds, vocabulary

GOOD = b"blueprint b(width: dim = 4) { input x: f32[N, width] output x }"


@st.composite
def mutated_sources(draw: st.DrawFn) -> str:
    """A source of the library or of a diagnostic's fixture, or a drawn one, with some tokens changed."""
    text = draw(st.one_of(st.sampled_from(seeds()), esp_programs()))
    return mutated(text, draw(st.randoms(use_true_random=False)))


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """A source with up to six bytes, or runs of bytes, removed, inserted or set."""
    data = draw(st.sampled_from(seeds())).encode()
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from((0, 1, 1, 2, 40)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[end:]
    return data


@settings.get_profile("language")
@given(mutated_sources())
def test_a_source_with_other_tokens_is_treated(text: str) -> None:
    with processor_time(SECONDS):
        require_treated(text.encode())


@settings.get_profile("language")
@given(mutated_bytes())
def test_a_source_with_other_bytes_is_treated(data: bytes) -> None:
    with processor_time(SECONDS):
        require_treated(data)


@settings.get_profile("language")
@given(st.one_of(esp_programs(), mutated_sources()))
def test_elaboration_is_deterministic(text: str) -> None:
    assert elaborated(text) == elaborated(text)


def test_elaboration_does_not_depend_on_the_order_of_sets() -> None:
    program = (
        "from tests.lang.laws import elaborated\nfrom tests.lang.mutations import seeds\n"
        "print([elaborated(text) for text in seeds()])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert "linear" in found.pop()


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"\xff\xfe", "unreadable"),
        (GOOD[:-1], "syntax"),
        (GOOD.replace(b"output x", b"output y"), "rejected"),
        (GOOD, "accepted"),
    ],
)
def test_the_law_says_how_far_a_text_came(data: bytes, outcome: str) -> None:
    assert require_treated(data) == outcome


def test_the_law_ends_what_runs_on() -> None:
    with pytest.raises(TooSlow), processor_time(0.05):
        while True:
            pass


def test_mutations_have_every_seed_and_word_and_are_repeatable() -> None:
    assert any("blueprint attention(" in text for text in seeds())
    assert {"blueprint", "|>", "linear", "=>"} <= set(vocabulary())
    texts = {mutated(seeds()[0], random.Random(seed)) for seed in range(100)}
    assert len(texts) > 90
    assert mutated(seeds()[0], random.Random(1)) == mutated(seeds()[0], random.Random(1))
