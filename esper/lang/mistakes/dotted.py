"""Names with dots, and numbers as other languages write them: modules, methods, attributes, `.5`, `1_000`."""

from __future__ import annotations

import re

from esper.ir.operator import OPERATORS
from esper.lang.elsewhere import here
from esper.lang.mistakes.kinds import A_BLUEPRINT

_MODULES = {
    *("torch", "nn", "F", "functional", "tf", "keras", "layers", "K", "np", "numpy", "jnp", "jax", "lax"),
    *("flax", "linen", "hk", "eqx", "mx", "math", "einops", "timm", "torchvision", "ops"),
}
_QUESTION = re.compile("did you mean `([^`]+)`")
_SIZES = {"shape", "size", "ndim", "dim", "numel"}
_LAYERS = "an operator makes its weights where it is called: `x |> linear(width)`"
_NAMED_SIZES = "sizes have the names that the input gives them: `input x: f32[N, width]`"


def number_way_out(text: str) -> str:
    """For `.5`, `5.`, `1_000` and `0xff`."""
    if "." in text:
        meant = f"0{text}" if text.startswith(".") else f"{text}0"
    else:
        meant = str(int(text, 16)) if text[1] in "xX" else text.replace("_", "")
    return f"did you mean `{meant}`?"


def dotted_way_out(text: str, before: str, after: str) -> str:
    """For `nn.Linear`; before, after: what stands on its line on both sides."""
    *owners, last = text.split(".")
    operators = [name for name, operator in OPERATORS.items() if operator.in_language]
    first_word = (before.split() or [""])[0]
    is_called = after.startswith("(")
    if first_word in ("import", "from"):
        return "operators need no import, and one of a blueprint has a single name: `import norm`"
    if first_word == "class":
        return f"a block is a blueprint: `{A_BLUEPRINT}`"
    if owners[0] in _MODULES:
        return here(last, operators) or "an operator stands alone: `relu(x)`"
    if owners[0] == "self":
        return _LAYERS if is_called else f"did you mean `{last}`?"
    if last in _SIZES:
        return _NAMED_SIZES
    if last in ("T", "mT"):
        return "axes change places by an operator: `transpose(x, -2, -1)`"
    if not is_called:
        return f"a name has no parts, and stands alone: `{last}`"
    meant = _QUESTION.match(here(last, operators))
    function = meant[1] if meant else last
    return f"a function takes what it works on: `{'.'.join(owners)} |> {function}(…)`"
