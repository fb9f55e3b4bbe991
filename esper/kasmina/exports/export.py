"""An ordinary module out of a grown host: no slots, the fossilized seeds where they act.

The result is a copy; each grown module becomes a `Grown`, the module followed by its seed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from esper.kasmina.attach import detach
from esper.kasmina.errors import LiveSeeds
from esper.kasmina.host.blending import blend
from esper.kasmina.host.hook import replace, select
from esper.kasmina.host.nested import dense, shaped_like
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import slots
from esper.leyline.stages import IN_PLACE_STAGES, SeedStage


class Grown(nn.Module):
    """A host module and the seed that acts on its output, or on the part of it that `output` selects.

    By mode `lerp` the seed's output takes the host's place, by `add` it is added to it. What else the host
    module has, such as its weights, is found here too, for hosts that look into their modules.
    """

    def __init__(
        self, host: nn.Module, seed: nn.Module, output: int | str | None, mode: str = "lerp"
    ) -> None:
        super().__init__()
        self.host = host
        self.seed = seed
        self.output = output
        self.mode = mode

    def forward(self, *arguments: Any, **named: Any) -> Any:
        result = self.host(*arguments, **named)
        given = select(result, self.output)
        tensor = dense(given)
        grown = self.seed(tensor).to(tensor.dtype)
        if self.mode == "add":
            grown = blend(tensor, grown, torch.ones((), device=tensor.device), self.mode)
        return replace(result, self.output, shaped_like(given, grown))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("host", "seed"):
                raise
            return getattr(self.host, name)


def export(model: nn.Module) -> nn.Module:
    """A copy of `model` with its fossilized seeds built in, computing what `model` computes.

    Seeds that are not in place yet leave no trace. Raises LiveSeeds while one is being blended in or
    judged, since its fate is open.
    """
    undecided = slots(model).in_stages(IN_PLACE_STAGES - {SeedStage.FOSSILIZED})
    if undecided:
        names = ", ".join(f"`{slot.name}`" for slot in undecided)
        raise LiveSeeds(slots=names, way_out="export once they are fossilized or culled")
    plain = copy.deepcopy(model)
    grown = [(slot.host, slot.hook) for slot in slots(plain).in_stages({SeedStage.FOSSILIZED})]
    detach(plain, force=True)
    assert fossils.ROOT_NAME not in plain._modules
    replaced = {
        id(host): Grown(host, hook.seed, hook.output, hook.mode)
        for host, hook in grown
        if hook.seed is not None
    }
    for parent in list(plain.modules()):
        for name, child in parent._modules.items():
            if id(child) in replaced and replaced[id(child)] is not parent:
                parent._modules[name] = replaced[id(child)]
    for layer in list(plain.modules()):
        inner = layer.modules() if isinstance(layer, nn.TransformerEncoderLayer) else ()
        if any(isinstance(module, Grown) for module in inner):
            layer.register_forward_hook(run_modules)
    return plain


def run_modules(module: nn.Module, arguments: Any, result: Any) -> None:
    """Does nothing: torch's encoder layer computes past its modules and their seeds unless one has a hook."""
