"""For tests of passes and operators: random valid graphs, types and sources, and values to run graphs on.

from hypothesis import given
from esper.testing import blueprint_irs

@given(blueprint_irs())
def test_my_pass_keeps_the_types_of_the_outputs(ir): ...
"""

from importlib.util import find_spec

from esper.errors import MissingPackage

if find_spec("hypothesis") is None:
    raise MissingPackage(package="hypothesis", purpose="`esper.testing`", extra="dev")

from esper.testing.programs import esp_programs
from esper.testing.strategies import blueprint_irs, tensor_types
from esper.testing.values import GraphValues, random_values

__all__ = ["GraphValues", "blueprint_irs", "esp_programs", "random_values", "tensor_types"]
