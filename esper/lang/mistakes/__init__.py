"""Wrong texts that people write, each kind with a valid example of what was meant.

`recognize.py` feeds the wrong texts to the parser, keeps where it stops, and compares that with where it
stops in a user's file. A kind that no text here has gets the general message of `syntax.py`.
"""

from esper.lang.mistakes.characters import CHARACTERS, OTHER_CHARACTER
from esper.lang.mistakes.dotted import dotted_way_out, number_way_out
from esper.lang.mistakes.foreign import SIGNS_IN_A_BODY, WORDS_IN_A_BODY
from esper.lang.mistakes.in_files import IN_A_FILE
from esper.lang.mistakes.in_parameters import IN_PARAMETERS
from esper.lang.mistakes.in_statements import STATEMENTS
from esper.lang.mistakes.in_values import IN_VALUES
from esper.lang.mistakes.kinds import Context, Mistake

__all__ = [
    "CHARACTERS",
    "MISTAKES",
    "OTHER_CHARACTER",
    "Context",
    "Mistake",
    "dotted_way_out",
    "number_way_out",
]

MISTAKES = (
    *IN_A_FILE,
    *IN_PARAMETERS,
    *WORDS_IN_A_BODY,
    *SIGNS_IN_A_BODY,
    *STATEMENTS,
    *IN_VALUES,
)
