"""Lists the packages; everything else is in pyproject.toml.

`grammar/`, `kernels/` and `blueprints/` stand at the top level and are installed under `esper`, which
setuptools' own discovery cannot find.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["esper", "esper.*"]),
        "esper.grammar",
        "esper.kernels",
        "esper.blueprints",
    ]
)
