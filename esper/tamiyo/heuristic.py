"""The rule-based policy: the baseline that a learned one has to beat.

Rules, in this order, at each decision:

1. A seed whose gate has refused it `patience` times since its least age was reached is culled; in
   PROBATIONARY one refusal is a verdict, since asking again and again would let chance decide.
2. Every other live seed is put forward for its next stage; the gate decides.
3. If fewer than `max_active` seeds are live, the host is past its `warmup_epochs`, and the validation
   loss has stood still for `plateau_epochs` (or `wait_epochs` have gone by since the start or since
   the last seed was decided, plateau or not), one seed is germinated.

Ties are broken by order alone: the first available slot in the order in which slots were attached,
then the first blueprint in the order in which blueprints were given, or the one planted least. A
blueprint has one chance in a slot; a slot where every blueprint has had its chance is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esper.leyline.actions import Action, AdvanceStage, Cull, Germinate
from esper.leyline.signals import SlotSignals, TrainingSignals
from esper.leyline.stages import SeedStage, is_active_stage


@dataclass(frozen=True)
class HeuristicParameters:
    """The rules' numbers. Epochs count decisions; every default suits runs of 20 to 100 epochs."""

    warmup_epochs: int = 3
    """No seed before this epoch: a host that has learned nothing yet cannot show what it lacks."""
    plateau_epochs: int = 2
    """So many epochs without improvement call for a seed."""
    wait_epochs: int = 6
    """So many epochs without a decision call for a seed even while the host improves: late growth
    leaves the grown network too little of the schedule to settle in."""
    patience: int = 4
    """So many refusals by one gate, its least age reached, and the seed is given up."""
    max_active: int = 1
    """Seeds alive at once. With one, what happens to the host is that seed's doing."""
    takes_turns: bool = False
    """Whether the blueprint that was planted least, in any slot, goes before one that stands further in
    front: what one blueprint lacks, another of the same kind may lack too."""
    last_epoch: int | None = None
    """No germination after this epoch; None sets no limit."""


def cull_or_advance(slot: SlotSignals, patience: int) -> Action:
    """The first two rules for one live seed."""
    allowed = 1 if slot.stage is SeedStage.PROBATIONARY else patience
    if slot.refusals >= allowed:
        times = "once" if slot.refusals == 1 else f"{slot.refusals} times"
        return Cull(slot.name, f"refused {times} in {slot.stage.name}")
    return AdvanceStage(slot.name)


class HeuristicTamiyo:
    """Germinates on a plateau, puts seeds forward, culls what does not learn."""

    def __init__(
        self, blueprints: Sequence[str], parameters: HeuristicParameters = HeuristicParameters()
    ) -> None:
        self.blueprints = tuple(blueprints)
        self.parameters = parameters
        self._tried: set[tuple[str, str]] = set()
        self._decided = 0
        self._last_decision_epoch = 0

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        """The actions for this epoch, in the order in which they are to be carried out."""
        live = [slot for slot in signals.slots if is_active_stage(slot.stage)]
        self._note_decisions(signals, live)
        actions: list[Action] = [cull_or_advance(slot, self.parameters.patience) for slot in live]
        if len(live) < self.parameters.max_active and self._calls_for_a_seed(signals):
            seed = self._next_seed(signals.slots)
            if seed is not None:
                self._tried.add((seed.slot, seed.blueprint))
                actions.append(seed)
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Which seeds had their chance, and when the last one was decided."""
        return {"tried": self._tried, "decided": self._decided, "last": self._last_decision_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self._tried, self._decided = set(state["tried"]), state["decided"]
        self._last_decision_epoch = state["last"]

    def _note_decisions(self, signals: TrainingSignals, live: Sequence[SlotSignals]) -> None:
        decided = len(self._tried) - len(live)
        if decided != self._decided:
            self._decided = decided
            self._last_decision_epoch = signals.epoch

    def _calls_for_a_seed(self, signals: TrainingSignals) -> bool:
        rules = self.parameters
        if signals.epoch < rules.warmup_epochs:
            return False
        if rules.last_epoch is not None and signals.epoch > rules.last_epoch:
            return False
        waited = signals.epoch - self._last_decision_epoch
        return signals.plateau_epochs >= rules.plateau_epochs or waited >= rules.wait_epochs

    def _in_turn(self) -> list[str]:
        if not self.parameters.takes_turns:
            return list(self.blueprints)
        planted = Counter(blueprint for _, blueprint in self._tried)
        return sorted(self.blueprints, key=lambda blueprint: planted[blueprint])

    def _next_seed(self, slots: Sequence[SlotSignals]) -> Germinate | None:
        for slot in slots:
            if not slot.is_available:
                continue
            for blueprint in self._in_turn():
                if (slot.name, blueprint) not in self._tried and blueprint not in slot.culled_blueprints:
                    return Germinate(blueprint, slot.name)
        return None
