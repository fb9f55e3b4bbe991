"""Random valid `.esp` sources: a blueprint over rows or maps whose statements keep its tensors' shape.

Every draw is a choice of lines, so an example shrinks to a blueprint without parameters or statements.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

ACTIVATIONS = ("relu", "gelu", "silu", "sigmoid", "tanh")


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of tensor: its declared shape, the call that mixes its features, and what else keeps it."""

    shape: str
    mix: str
    steps: tuple[str, ...]


ROWS = _Form("[N, ...S, width]", "linear({width}{more})", ("layer_norm()", "rms_norm(eps=1e-6)", "softmax()"))
MAPS = _Form(
    "[N, width, ...S]", "conv({width}, kernel=1{more})", ("batch_norm()", "depthwise_conv(kernel=3)")
)


@st.composite
def esp_programs(draw: st.DrawFn, max_statements: int = 6) -> str:
    """The source of one blueprint, valid for every value in its parameters' domains."""
    form = draw(st.sampled_from((ROWS, MAPS)))
    width = draw(st.sampled_from((1, 2, 4, 6)))
    has_factor, has_act, has_rate = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    parameters = [f"width: dim = {width}"]
    hidden = "width"
    body: list[str] = []
    if has_factor:
        parameters.append("factor: int = 2 in {1, 2, 3}")
        body.append("let hidden = width * factor" + draw(st.sampled_from(("", " + 1", " // 1"))))
        hidden = "hidden"
    if has_act:
        parameters.append(f"act: op = {draw(st.sampled_from(ACTIVATIONS))}")
    if has_rate:
        parameters.append("rate: float = 0.5 in {0.25, 0.5, 1.0}")
        body.append('require rate > 0.0 and not rate > 1.0: "rate is a share"')
    activation = "act" if has_act else draw(st.sampled_from(ACTIVATIONS))
    body += [f"input x: f32{form.shape}", "h = x"]
    statements = _statements(form, hidden, activation, has_rate)
    for _ in range(draw(st.integers(0, max_statements))):
        body.append(draw(st.one_of(statements, _blocks(statements))))
    body.append(draw(st.sampled_from(("", "constraint params <= 100000"))))
    body.append(draw(st.sampled_from(("output h", "output x + h", "output y = h output x"))))
    docs = draw(st.sampled_from(("", "## A blueprint.\n", "# A comment.\n")))
    body = [draw(st.sampled_from(("", "precision f32"))), *body]
    gap = draw(st.sampled_from(("\n    ", "\n\n    ", " ")))
    return f"{docs}blueprint drawn({', '.join(parameters)}) {{{gap}{gap.join(filter(None, body))}\n}}\n"


def _statements(form: _Form, hidden: str, activation: str, has_rate: bool) -> st.SearchStrategy[str]:
    """Statements that bind `h` to a tensor of its own shape."""
    back = form.mix.format(width="width", more=", init=zeros")
    there = form.mix.format(width=hidden, more=", bias=false")
    choices = [
        f"h = h |> {activation}()",
        f"h = h |> {there} |> {activation}() |> {back}",
        "h = (h + x) * 0.5",
        "h = h - -x / 2",
        "h = h ** 2 * sigmoid(h)",
        f"g = {activation}(h)\n    h = g + h",
        *(f"h = {step.replace('(', '(h, ', 1).replace(', )', ')')}" for step in form.steps),
        *(f"h = h |> {step}" for step in form.steps),
    ]
    if has_rate:
        choices.append("h = h * rate + dropout(h, rate / 2)")
    return st.sampled_from(choices)


@st.composite
def _blocks(draw: st.DrawFn, statements: st.SearchStrategy[str]) -> str:
    """A block of statements, or a choice between the values that two of them bind."""
    kind = draw(st.sampled_from(("repeat", "if", "choice")))
    first, second = draw(statements), draw(statements)
    if kind == "repeat":
        return f"repeat {draw(st.integers(0, 3))} as i {{ {first}\n    h = h + i }}"
    if kind == "if":
        condition = draw(st.sampled_from(("true", "width > 2", "width % 2 == 0 and not false")))
        return f"if {condition} {{ {first} }} else {{ {second} }}"
    return "h = choice kind { same => h, twice => h + h, }"
