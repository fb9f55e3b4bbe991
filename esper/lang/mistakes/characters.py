"""Characters that start no token, and what is written here in their place."""

from __future__ import annotations

CHARACTERS = {
    "!": "a condition is turned round by `not`: `not residual`",
    "$": "a name stands alone: `width`",
    "&": "both conditions hold with `and`: `width > 8 and width < 64`",
    "&&": "both conditions hold with `and`: `width > 8 and width < 64`",
    "'": 'text stands in double quotes: `"why"`',
    ".": "a step of a pipeline stands behind `|>`: `linear(x, width) |> relu()`",
    ";": "a line ends a statement, and nothing stands between two: `h = relu(x) output h`",
    "?": "`if` is a statement: `if width > 64 { h = x } else { h = y }`",
    "^": "a power is `**`: `width ** 2`",
    "`": "a name stands without quotes: `width`",
    "|": "a pipeline is `|>`, and one of two conditions holds with `or`: `x |> relu()`",
    "||": "one of two conditions holds with `or`: `width < 8 or width > 64`",
    "~": "a condition is turned round by `not`: `not residual`",
    "\u00a0": "white space is made of spaces, tabs and line ends: `2 * width`",
    "\u00d7": "a product is `*`: `2 * width`",
    "\u00f7": "a quotient is `/`, and that of integers `//`: `width // 2`",
    "\u2013": "a difference is `-`: `width - 2`",
    "\u2018": 'text stands in double quotes: `"why"`',
    "\u2019": 'text stands in double quotes: `"why"`',
    "\u201c": 'text stands in double quotes: `"why"`',
    "\u201d": 'text stands in double quotes: `"why"`',
    "\u2026": "remaining axes are three dots and a name: `...S`",
    "\u2192": "a pipeline is `|>`: `x |> relu()`",
    "\u2212": "a difference is `-`: `width - 2`",
    "\u2260": "a comparison is `!=`: `width != 64`",
    "\u2264": "a comparison is `<=`: `width <= 64`",
    "\u2265": "a comparison is `>=`: `width >= 64`",
}
"""What was meant by characters that start no token; a pair is one mistake."""
OTHER_CHARACTER = (
    "names are ASCII letters, digits and `_`; text stands in double quotes; `#` starts a comment"
)
