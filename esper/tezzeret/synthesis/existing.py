"""A blueprint of a registry: its graph and figures from nothing but its source, and what edits make of it."""

from __future__ import annotations

from esper.ir.graph import BlueprintIR
from esper.lang import Source, lower_loaded
from esper.lang.from_graph import write_source
from esper.lang.library import Loaded, reject
from esper.lang.units import source_unit
from esper.tezzeret.costs import DEVICES, REFERENCE_DEVICE, Quantities, quantities
from esper.tezzeret.evaluator import BoundFigure
from esper.tezzeret.ladder import Ladder
from esper.tezzeret.registry.registry import Registry
from esper.tezzeret.registry.versions import Blueprint
from esper.tezzeret.requirements import Requirements
from esper.tezzeret.solver.enforce_graph import enforce_graph
from esper.tezzeret.synthesis.errors import NoRegistry, OtherShapes
from esper.tezzeret.synthesis.made import Made, first_accurate
from esper.tezzeret.synthesis.templates import shapes_of

_FILE = "<registry>"


def graph_of(blueprint: Blueprint) -> BlueprintIR:
    """Raises `BlueprintRejected` where the source imports files: they are not in the registry."""
    unit, report = source_unit(Source(_FILE, blueprint.source))
    reject(report, unit.sources)
    own = next(one for one in unit.program.blueprints if one.name.text == blueprint.name)
    values, sizes = dict(blueprint.values), dict(blueprint.sizes)
    return lower_loaded(Loaded(own, unit), values, sizes, blueprint.precision)[0]


def counted(
    blueprint: Blueprint, requirements: Requirements
) -> tuple[BlueprintIR, Quantities, tuple[BoundFigure, ...]]:
    """The graph, its figures, and the limits with theirs, all by the full road."""
    ir = graph_of(blueprint)
    figures = quantities(ir, blueprint.sizes)
    bounds = []
    for constraint in requirements.bounds():
        device = REFERENCE_DEVICE if constraint.target is None else DEVICES[constraint.target]
        found = quantities(ir, blueprint.sizes, device)
        bounds.append(BoundFigure(constraint, getattr(found, constraint.quantity)))
    return ir, figures, tuple(bounds)


def modified(requirements: Requirements, registry: Registry | None, ladder: Ladder | None) -> Made:
    """`existing_architecture`, edited until it keeps the limits. Raises as `synthesize` does."""
    ir_hash = requirements.existing_architecture
    if registry is None or ir_hash is None:
        raise NoRegistry()
    registry.versions.require_blueprint(ir_hash)
    version = registry.versions.of(ir_hash)[-1]
    blueprint = version.blueprint
    ir = graph_of(blueprint)
    wanted = requirements.input_shape, requirements.output_shape
    found = shapes_of(ir, blueprint.sizes)
    if found != wanted:
        found_words, wanted_words = (
            " to ".join(str(list(shape)) for shape in pair) for pair in (found, wanted)
        )
        raise OtherShapes(blueprint=blueprint.name, found=found_words, wanted=wanted_words)
    repair = enforce_graph(ir, requirements.bounds(), blueprint.sizes)
    learned = first_accurate(requirements, ladder, [(repair.ir, None)])
    if not repair.edits:
        return Made(blueprint, "existing architecture", (), learned, version.number)
    doc = [
        f"`{blueprint.name}` of the registry, version {version.number}, with",
        *(f"  {e}" for e in repair.edits),
    ]
    written = write_source(repair.ir, doc)
    stems = {symbol.partition(".")[0] for symbol in written.ir.symbols}
    sizes = {name: size for name, size in blueprint.sizes.items() if name in stems}
    made = Blueprint(written.ir.hash, repair.ir.name, written.text, {}, sizes)
    return Made(made, "edits of the existing architecture", repair.edits, learned, version.number)
