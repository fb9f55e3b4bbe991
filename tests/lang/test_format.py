"""One layout: reached in one step, of the same meaning, with every comment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import BlueprintRejected, Source, format_source, library, parse_source
from esper.lang.ast import If, Repeat
from esper.testing import esp_programs
from tests.lang.laws import meaning
from tests.lang.mutations import PIECE

COMMENT = re.compile(r"#[^\n]*")


def lines_around_comments(text: str) -> Iterator[str]:
    """The lines of statements with a comment inside, which keep them, however long."""
    source = Source("<source>", text)
    left = [statement for blueprint in parse_source(text)[0].blueprints for statement in blueprint.body]
    while left:
        statement = left.pop()
        if isinstance(statement, Repeat | If):
            left += [*statement.body, *(statement.otherwise if isinstance(statement, If) else ())]
            continue
        span = statement.span
        start, end = source.offset(span.line, span.column), source.offset(span.end_line, span.end_column)
        lines = text[start:end].splitlines()
        if any("#" in line for line in lines[:-1]):
            yield from (line.strip() for line in lines)


def formatted(text: str) -> str:
    return format_source(Source("<source>", text))


def comments(text: str) -> list[str]:
    return [found.rstrip() for found in COMMENT.findall(text)]


@st.composite
def commented_programs(draw: st.DrawFn) -> str:
    """Sources with comments, line breaks and white space wherever these may stand between two tokens."""
    text = draw(esp_programs())
    places = [match.start() for match in re.finditer(r'(?<=[ (){},=])(?![^"\n]*"[^"\n]*\n)', text)]
    chosen = draw(st.lists(st.sampled_from(places), max_size=6)) if places else []
    kinds = st.sampled_from(("  # why\n", "\n# alone\n", "   ", "\n\n\n", "\t"))
    for place in sorted(chosen, reverse=True):
        candidate = text[:place] + draw(kinds) + text[place:]
        if not parse_source(candidate)[1]:
            text = candidate
    return text


@settings.get_profile("language")
@given(commented_programs())
def test_the_layout_is_reached_in_one_step(text: str) -> None:
    once = formatted(text)
    assert formatted(once) == once


@settings.get_profile("language")
@given(commented_programs())
def test_the_layout_means_the_same_and_keeps_the_comments(text: str) -> None:
    once = formatted(text)
    before, after = parse_source(text), parse_source(once)
    assert not after[1]
    assert meaning(after[0]) == meaning(before[0])
    assert comments(once) == comments(text)


@settings.get_profile("language")
@given(commented_programs())
def test_lines_are_neither_long_nor_end_in_white_space(text: str) -> None:
    kept = set(lines_around_comments(text))
    for line in formatted(text).splitlines():
        assert line == line.rstrip()
        assert len(COMMENT.sub("", line).rstrip()) <= 100 or line.strip() in kept


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_the_library_is_laid_out(entry: Any) -> None:
    text = Path(entry.file).read_text(encoding="utf-8")
    assert formatted(text) == text


def test_a_comment_within_a_parameter_moves_above_it_and_documents_nothing() -> None:
    text = (
        "blueprint b(\n  n: int = 1 in {1, # why\n 8}, ## doc n\n  m: int = 2 in {2, ## stray\n 3},\n) {}\n"
    )
    once = formatted(text)
    assert once == (
        "blueprint b(\n    # why\n    n: int = 1 in {1, 8},  ## doc n\n"
        "    # stray\n    m: int = 2 in {2, 3},\n) {\n}\n"
    )
    assert formatted(once) == once
    assert meaning(parse_source(once)[0]) == meaning(parse_source(text)[0])


def test_a_comment_within_a_parameter_has_one_blank_line_above_it() -> None:
    # found: one for the comment and one for the parameter
    once = formatted("blueprint b(n: int = 1,\n\n\n m:   # why\nint = 2) {}\n")
    assert once == "blueprint b(\n    n: int = 1,\n\n    # why\n    m: int = 2,\n) {\n}\n"
    assert formatted(once) == once


def test_documentation_behind_a_comma_on_its_own_line_documents_nothing_before_and_after() -> None:
    # found: it was printed above the next parameter, and documented that
    text = "blueprint b(\n  n: int = 1\n  , ## stray\n  m: int = 2,\n) {}\n"
    once = formatted(text)
    assert once == "blueprint b(\n    n: int = 1,\n    # stray\n    m: int = 2,\n) {\n}\n"
    assert meaning(parse_source(once)[0]) == meaning(parse_source(text)[0])


def test_documentation_behind_the_parameters_documents_the_last() -> None:
    text = "blueprint b(n: int = 1, m: int = 2) ## doc m\n{}\n"
    once = formatted(text)
    assert once == "blueprint b(\n    n: int = 1,\n    m: int = 2,  ## doc m\n) {\n}\n"
    assert meaning(parse_source(once)[0]) == meaning(parse_source(text)[0])


SPREAD_OUT = """import norm
import "a.esp"
blueprint b(
  n: int = 1 in {1, 2},
  m: float = 2.0 in 0.0..3.0 step 0.5
) {
  input x: f32[N, ...S, n]
  y = x |> linear(n, bias=true)
  repeat n as i { y = y + x }
  if n > 1 { y = y } else if n > 2 { y = x } else { y = x }
  c = choice kind { p => gelu(x), q => x |> relu() }
  output z = y + c
  constraint params < 5 on sm_90
}
blueprint c() {}
"""
FLAT = "blueprint b(n: int = 1, o: op = relu) { input x: f32[N, n] let k = [1, 2] output o(x) }\n"


@pytest.mark.parametrize("comment", ["# c\n", "## d\n", "\n# c\n", "\n## d\n"])
@pytest.mark.parametrize("text", [SPREAD_OUT, FLAT], ids=["spread out", "flat"])
def test_a_comment_may_stand_anywhere(text: str, comment: str) -> None:
    pieces = PIECE.findall(text)
    for place in range(len(pieces) + 1):
        source = "".join((*pieces[:place], comment, *pieces[place:]))
        program, found = parse_source(source)
        if not any(diagnostic.is_error for diagnostic in found):
            once = formatted(source)
            assert formatted(once) == once
            assert meaning(parse_source(once)[0]) == meaning(program)


def test_everything_that_the_language_has(golden: Callable[[str, str], None]) -> None:
    golden("layout.esp", formatted(EVERYTHING))


def test_a_source_with_syntax_errors_is_refused() -> None:
    with pytest.raises(BlueprintRejected, match="never closed"):
        formatted("blueprint b() { input x: f32[N] output relu(x }")


EVERYTHING = """
import "mlp.esp"   # beside
# the norm of the library


import norm
## What it is.
## More of it.
blueprint b(n: dim=4,   ## documents n
   # stands alone
   act:op=relu in {relu,gelu} , rate : float = 1e-2 in 0.001..0.1   log,
   k: int = 3 in 1..9 step 2,  dt: dtype=f32 ## documents dt
   ) {  # opens

   # first
   require n%2==0:"n (an even one), please"   # why


   precision bf16
   input x:dt[N,n,...S]
   h=x|>linear(  n,bias = false)|>act()  # pipe
   repeat 3 as i{ h=h*(i+1)+(  2 ) # trails
     # ends the body
   } # after
   if n>3 {h=gelu(h)} # taken
   # between
   else if not n > 2 and k==3 or false { # empty
   } else { h = - relu(-h)  ** 2 }
   a,b=f(h, # of two
      3, 4
   )
   kind = choice kind{a=>relu(h),b=>gelu(h)|>relu(),}
   call = some_long_operator(aaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbb, ccccccccccccccc, e=f(x, 3))
   pipe = x |> aaaaaaaaaaaaaaaaaaaaaaaaaaaa(3) |> bbbbbbbbbbbbbbbbbbbbbbbbbbb(4) |> cccccccccccccccccccccc(5)
   chain = aaaaaaaaaaaaaaaaaaaaaaaaaaa + bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb * ccccccccccccccccc - ddddddddd
   shape = reshape(h, [N, ...S, aaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbb, ccccccccccccccc * ddddd])
   which = choice other { first => aaaaaaaaaaaaaaaaaaaaaaaaaaaaa(h), second => bbbbbbbbbbbbbbbbbbbbbbbb(h) }
   constraint latency_ms<=0.2 on "sm_90"
   output h
   output second=kind
   # last
}
# between
blueprint c(){input x:f32[N] output x}
# end
"""
