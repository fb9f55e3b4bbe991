"""Where the slots of a host are found: a mapping of names to slots that travels with the host.

Seeds live here, unregistered in the host, until they fossilize: the host's `parameters()`,
`state_dict()` and whatever walks them see the host alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from esper.kasmina.errors import NotAttached, UnknownSlot
from esper.kasmina.lifecycle.ground import Ground
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.leyline.stages import SeedStage

ATTRIBUTE = "_esper_slots"

ATTACHED: weakref.WeakSet[MorphogeneticModel] = weakref.WeakSet()
"""Every host with slots, copies included; through it an optimizer finds the seeds beside its parameters."""


class MorphogeneticModel(Mapping[str, SeedSlot]):
    """The slots of one host, in the order of its modules."""

    def __init__(
        self, ground: Ground, slots: Mapping[str, SeedSlot], handles: Mapping[str, RemovableHandle]
    ) -> None:
        self.ground = ground
        self._slots = dict(slots)
        self._handles = dict(handles)
        ATTACHED.add(self)

    @property
    def model(self) -> nn.Module:
        """The host."""
        return self.ground.model

    def __getitem__(self, name: str) -> SeedSlot:
        """The slot at the module called `name`, by any name that the host has for it.

        Raises UnknownSlot with what was probably meant.
        """
        try:
            return self._slots[name]
        except KeyError:
            module = dict(self.model.named_modules(remove_duplicate=False)).get(name)
            for slot in self._slots.values():
                if slot.host is module:
                    return slot
            close = get_close_matches(name, self._slots, n=1)
            suggestion = f"did you mean `{close[0]}`?" if close else f"the slots are {', '.join(self._slots)}"
            raise UnknownSlot(kind="slot", name=name, suggestion=suggestion) from None

    def __contains__(self, name: object) -> bool:
        return name in self._slots

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def in_stages(self, stages: frozenset[SeedStage] | set[SeedStage]) -> list[SeedSlot]:
        """The slots whose seed is in one of `stages`."""
        return [slot for slot in self._slots.values() if slot.stage in stages]

    def remove_hooks(self) -> None:
        """Takes every slot out of its module."""
        for handle in self._handles.values():
            handle.remove()
        ATTACHED.discard(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        ATTACHED.add(self)


def slots(model: nn.Module) -> MorphogeneticModel:
    """The slots of `model`, or of what it wraps: a compiled module, or one that trains in several processes.

    Raises NotAttached if it has none.
    """
    while ATTRIBUTE not in model.__dict__:
        children = dict(model.named_children())
        inner = children.get("_orig_mod", children.get("module"))
        if inner is None:
            raise NotAttached()
        model = inner
    found = model.__dict__.get(ATTRIBUTE)
    if not isinstance(found, MorphogeneticModel):
        raise NotAttached()
    return found
