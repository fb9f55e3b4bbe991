"""For tests of passes and operators: random valid graphs, types and sources, values to run graphs on, laws.

    from hypothesis import given
    from esper.passes import run_passes
    from esper.testing import blueprint_irs, random_values
    from esper.testing.laws import require_law

    @given(blueprint_irs())
    def test_my_pass_keeps_its_law(ir):
        require_law(MyPass.law, ir, run_passes(ir, [MyPass()]), random_values(ir))

A failing example shrinks to the fewest nodes on small concrete sizes, and its text, `str(ir)`, can be pasted
into `BlueprintIR.from_text`. `docs/extending.md` has more; `esperc opt --reduce` shrinks a graph from a file.
"""

from importlib.util import find_spec

from esper.errors import MissingPackage

if find_spec("hypothesis") is None:
    raise MissingPackage(package="hypothesis", purpose="`esper.testing`", extra="dev")

from esper.testing.programs import esp_programs
from esper.testing.strategies import blueprint_irs, tensor_types
from esper.testing.values import GraphValues, random_values

__all__ = ["GraphValues", "blueprint_irs", "esp_programs", "random_values", "tensor_types"]
