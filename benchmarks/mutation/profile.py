"""A pytest plugin for runs that only ask whether a test fails: Hypothesis does not shrink what it finds.

Use with `--hypothesis-profile=mutation`; elsewise as the profile `ci` of tests/conftest.py.
"""

from hypothesis import Phase, settings

settings.register_profile(
    "mutation",
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    print_blob=False,
)
