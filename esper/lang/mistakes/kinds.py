"""What a kind of mistake is, and where in a file its examples stand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Context(Enum):
    """Where an example stands; `□` in the texts is its place.

    A mistake at the start of a list and one after an element leave the parser in different states, so each
    context has all that matter.
    """

    FILE = ("□\n", "import norm\n□\n", "blueprint z() { }\n□\n", "blueprint z() { let k = 1 }\n□\n")
    HEADER = ("blueprint z()□", "blueprint z(k: int)□", "blueprint z(k: int,)□")
    PARAMETERS = ("blueprint z(□) { }", "blueprint z(k: int = 1, □) { }")
    BODY = ("blueprint z() {\n□\n}", "blueprint z() {\nlet k = 1\n□\n}")
    LINE = (
        *BODY,
        "blueprint z() {\nk = x\n□\n}",
        "blueprint z() {\nk = f(x)\n□\n}",
        "blueprint z() {\ninput x: f32[N]\n□\n}",
    )
    VALUE = (
        "blueprint z() {\nlet k = □\n}",
        "blueprint z() {\nk = □\n}",
        "blueprint z() {\noutput □\n}",
    )


@dataclass(frozen=True, slots=True)
class Mistake:
    """One kind. The way out that it tells is `{hint}: {right}`.

    right: a valid text for the same context, or for a file. wrong: texts with this mistake alone; `$` in
    them is each of `foreign`, a word or sign that the language has not, and at which the mistake is shown.
    """

    context: Context
    hint: str
    right: str
    wrong: tuple[str, ...]
    foreign: tuple[str, ...] = ()

    @property
    def way_out(self) -> str:
        return f"{self.hint}: `{self.right}`"

    def examples(self) -> list[tuple[str, str]]:
        """The wrong texts, each in its surroundings, and the foreign word or an empty string."""
        spelled = [(text.replace("$", word), word) for text in self.wrong for word in self.foreign or ("",)]
        return [(around.replace("□", text), word) for around in self.context.value for text, word in spelled]


FILE, HEADER, PARAMETERS, BODY, LINE, VALUE = Context
STATEMENT_WORDS = ("constraint", "if", "input", "let", "output", "precision", "repeat", "require")

A_BLUEPRINT = "blueprint wide(width: dim = 64) { }"
FUNCTIONS = ("def", "fn", "func", "function", "fun", "class", "struct", "module", "layer", "block")
A_COMMENT = ("a comment starts with `#`", "# a remark")
A_LET = ("a static value is bound by `let` and `=`", "let hidden = 4 * width")
A_BINDING = ("a value is bound to a name, or put out", "h = relu(x)")
