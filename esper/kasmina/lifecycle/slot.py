"""One slot: what can be done with its seed, and what each transition does.

Transitions are Leyline's table; `advance` tries the gate in front of the forward one. A seed in place
carries a snapshot of the host from before blending, to go back to, and a control to be judged against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esper.ir.graph import BlueprintIR
from esper.kasmina.errors import (
    ActionOutOfStage,
    GateRefused,
    NothingToAdvance,
    StillEmbargoed,
    UnusableOptimizer,
)
from esper.kasmina.host.blending import Blend, check_mode
from esper.kasmina.host.hook import Phase
from esper.kasmina.host.names import BLUEPRINT_NAME, check_name
from esper.kasmina.host.probe import runs, try_on
from esper.kasmina.lifecycle import figures, fossils
from esper.kasmina.lifecycle.control import Control
from esper.kasmina.lifecycle.gates import GATES, check
from esper.kasmina.lifecycle.germination import build_seed
from esper.kasmina.lifecycle.logbook import SeedLabel
from esper.kasmina.lifecycle.ranks import copy_first, of_first
from esper.kasmina.lifecycle.rollback import Snapshot
from esper.kasmina.lifecycle.slot_state import APART, ON_TRIAL, SlotState
from esper.leyline.events import (
    GateEvaluated,
    SeedCulled,
    SeedEvent,
    SeedFossilized,
    SeedGerminated,
    StageChanged,
)
from esper.leyline.gates import GateResult
from esper.leyline.stages import (
    TRANSITIONS,
    SeedStage,
    check_transition,
)
from esper.urza.run.seed import CompiledSeed

MOST_DOUBLINGS = 10

NOTHING_TO_ADVANCE: Mapping[SeedStage, str] = {
    SeedStage.UNKNOWN: "attach has not finished",
    SeedStage.DORMANT: "germinate a blueprint first",
    SeedStage.FOSSILIZED: "it is final",
}


class SeedSlot(SlotState):
    """A place in the host where a seed can grow. Made by `attach`; found by `slots(model)[name]`."""

    def germinate(self, blueprint: BlueprintIR | str | Path, **params: Any) -> CompiledSeed:
        """Compiles `blueprint` for this slot and plants it; returns the seed.

        The slot's shape and dtype give the blueprint's parameters their values; `params` override them.
        Raises InvalidTransition unless the slot is DORMANT, SeedDoesNotFit, and the compiler's errors.
        """
        check_transition(self._stage, SeedStage.GERMINATED)
        seed, name, bound = self._build(blueprint, params)
        self.plant(seed, blueprint_id=name, params=bound, draws_from_torch=False)
        return seed

    def replace(self, blueprint: BlueprintIR | str | Path, **params: Any) -> CompiledSeed:
        """Culls a seed that is not in place yet, and germinates `blueprint` without a cool-down.

        A seed in place cannot be replaced: culling it takes the host back, and its slot has to cool down.
        Raises InvalidTransition without a seed, ActionOutOfStage for one in place, and what `germinate`
        raises, whereupon the seed stays.
        """
        check_transition(self._stage, SeedStage.CULLED)
        self._check_stage("replacing", APART)
        seed, name, bound = self._build(blueprint, params)
        try_on(seed, self.probe, self.name, name)
        self.cull(f"changed to {name}")
        self.closed_until = self._ground.epoch
        while self._stage is not SeedStage.DORMANT:
            self.advance()
        self.plant(seed, blueprint_id=name, params=bound, draws_from_torch=False)
        return seed

    def _build(
        self, blueprint: BlueprintIR | str | Path, params: Mapping[str, Any]
    ) -> tuple[CompiledSeed, str, dict[str, Any]]:
        generator = torch.Generator().manual_seed(self._random_seed(self._count + 1))
        return build_seed(blueprint, self.probe, self.name, generator, params)

    def plant(
        self,
        seed: nn.Module,
        *,
        blueprint_id: str,
        params: dict[str, Any] | None = None,
        draws_from_torch: bool = True,
        mode: str | None = None,
    ) -> None:
        """Puts a module that keeps its input's shape into the slot: DORMANT to GERMINATED, by G0.

        Unless `draws_from_torch` is False, the module runs in a random stream of its own. `mode`: how it is
        blended in, one of `blending.MODES`; None for the run's. Raises InvalidTransition, SeedDoesNotFit,
        UnknownChoice, WrongArgument.
        """
        check_transition(self._stage, SeedStage.GERMINATED)
        mode = mode or self._ground.mode
        check_mode(mode)
        check_name("blueprint_id", blueprint_id, BLUEPRINT_NAME)
        seed = seed.to(self.probe.device)
        result = check(
            GATES[self._stage], try_on(seed, self.probe, self.name, blueprint_id), self._ground.gates
        )
        copy_first([*seed.parameters(), *seed.buffers()])
        self._forget()
        self._count += 1
        self.blueprint_id = blueprint_id
        self.seed_id = f"{self.name}-{self._count}"
        self.hook.put(seed, draws_from_torch=draws_from_torch)
        self.hook.mode = mode
        self.hook.stream.restart(self._random_seed(self._count))
        self.log.emit(
            SeedGerminated, self._label(), blueprint_params=params or {}, shape=list(self.probe.shape)
        )
        self._record(SeedStage.GERMINATED, "planted", result)

    def advance(self) -> GateResult | None:
        """Makes the forward transition, its gate first; returns what the gate found, if there is one.

        Raises GateRefused, whose `details["result"]` holds the figures, from UNKNOWN, DORMANT and FOSSILIZED
        NothingToAdvance, and while the slot cools down StillEmbargoed.
        """
        if self._stage in NOTHING_TO_ADVANCE:
            valid = ", ".join(stage.name for stage in TRANSITIONS[self._stage]) or "no other stage"
            way_out = f"from {self._stage.name} it can go to {valid}: {NOTHING_TO_ADVANCE[self._stage]}"
            raise NothingToAdvance(slot=self.name, stage=self._stage.name, way_out=way_out)
        target = TRANSITIONS[self._stage][0]
        gate = GATES.get(self._stage)
        if gate is None:
            self._cool_down(target)
            return None
        ground, incubates = self._ground, self.incubation != "none"
        first = {
            "stage_steps": float(self.stage_steps),
            "alpha": self.alpha,
            "blend_steps_left": None if self.blend is None else self.blend.steps_left,
            "others_in_place": float(len(ground.in_place - {self.name})),
            "exploded_steps": float(ground.exploded_steps),
        }
        due = check(gate, first, ground.gates, incubates=incubates, is_due=True)
        if not due.is_open:
            raise self._refusal(due)
        result = check(gate, of_first(first | self._figures()), ground.gates, incubates=incubates)
        event = self.log.event(
            GateEvaluated,
            self._label(),
            level=result.level.name,
            passed=result.passed,
            figures={name: figures.finite(figure) for name, figure in result.figures.items()},
            failures=[str(failure) for failure in result.failures],
            waived=result.waived,
        )
        if not result.is_open:
            self.refusals += 1
            ground.emit(event)
            self._record(self._stage, f"{result.level.name} refused", result)
            raise self._refusal(result)
        self._enter(target, f"{result.level.name} {'passed' if result.passed else 'waived'}", result, event)
        return result

    def _cool_down(self, target: SeedStage) -> None:
        epoch = self._ground.epoch
        if self._stage is SeedStage.EMBARGOED and epoch < self.closed_until:
            raise StillEmbargoed(slot=self.name, until=self.closed_until, epoch=epoch)
        self._enter(target, "cooled down", None)

    def cull(self, reason: str, *, rolls_back: bool | None = None) -> None:
        """Removes the seed. One in place takes host and optimizers back to before it was blended in.

        `rolls_back` None leaves the host as it is where the seed has been blended out, since the host has
        then learned to do without it. A slot that was rolled back stays closed twice as long each time.
        """
        check_transition(self._stage, SeedStage.CULLED)
        is_out = self.blend is not None and not self.blend.is_rising and self.alpha == 0.0
        rolled_back = self.snapshot is not None and (not is_out if rolls_back is None else rolls_back)
        ground, seed, metrics = self._ground, self._label(), self.metrics
        if rolled_back:
            self.rollback()
            ground.val_loss = self.loss_before  # which was measured on the weights that are back
        passes = self.control.passes if self.control else 0
        event = self.log.event(
            SeedCulled,
            seed,
            stage=self._stage.name,
            reason=reason,
            rolled_back=rolled_back,
            improvement=figures.finite(metrics.improvement),
            control_passes=passes,
            incubation_passes=self.incubation_passes,
            lost_steps=ground.step - self.blended_at if rolled_back else 0,
        )
        if self.mark is not None and ground.tracker is not None:
            ground.tracker.take_back(self.mark)
        self.rollbacks += rolled_back
        doublings = min(self.rollbacks - 1, MOST_DOUBLINGS) if rolled_back else 0
        self.closed_until = ground.epoch + bool(ground.embargo) + ground.embargo * 2**doublings
        if self.blueprint_id is not None:
            self.culled_blueprints = (*self.culled_blueprints, self.blueprint_id)
        alpha, incubation_passes = self.alpha, self.incubation_passes
        self.hook.put(None)
        ground.in_place.discard(self.name)
        self._record(SeedStage.CULLED, reason, None, seed, alpha, [event])
        self.log.report(seed, metrics, passes, incubation_passes)
        self._forget()

    def rollback(self) -> None:
        """Takes host, seed and their optimizers back to the snapshot at BLENDING; nothing without one."""
        if self.snapshot is not None:
            self.snapshot.restore()

    def blend_out(self) -> None:
        """Lets alpha fall back to 0, one optimizer step at a time, by the schedule's way down.

        Meanwhile no gate opens; `blend_in` turns back, and once alpha is 0, `cull` leaves the host as it is.
        Raises ActionOutOfStage unless a seed is in place and undecided.
        """
        self._turn("blending out", is_rising=False)

    def blend_in(self) -> None:
        """Turns a seed back that was being blended out: alpha rises again from where it is."""
        self._turn("blending in", is_rising=True)

    def _turn(self, action: str, *, is_rising: bool) -> None:
        self._check_stage(action, ON_TRIAL)
        assert self.blend is not None
        self.blend.is_rising = is_rising

    def _check_stage(self, action: str, stages: frozenset[SeedStage]) -> None:
        if self._stage not in stages:
            valid = ", ".join(stage.name for stage in sorted(stages))
            raise ActionOutOfStage(action=action, slot=self.name, stage=self._stage.name, valid=valid)

    # The transitions

    def _enter(
        self, target: SeedStage, reason: str, gate: GateResult | None, event: SeedEvent | None = None
    ) -> None:
        """Does what the transition takes, then tells of it: what fails before leaves no event."""
        check_transition(self._stage, target)
        metrics, events = self.metrics, [] if event is None else [event]
        match target:
            case SeedStage.TRAINING if self.incubation == "straight_through":
                self.hook.phase = Phase.LISTENING
            case SeedStage.BLENDING:
                self._start_blending()
            case SeedStage.FOSSILIZED:
                events.append(self._fossilize(reason))
            case _:
                pass
        self._record(target, reason, gate, events=events)
        if target is SeedStage.FOSSILIZED:
            passes = self.control.passes if self.control else 0
            self.log.report(self._label(), metrics, passes, self.incubation_passes)
            self.snapshot = self.control = self.optimizer = self.blend = self.mark = None

    def _start_blending(self) -> None:
        """What can fail is made first, so that a seed that cannot be blended in goes on training apart."""
        ground, seed = self._ground, self.seed
        if ground.optimizer is None:
            raise UnusableOptimizer(reason="of the host is not known, so blending could not be undone")
        assert seed is not None
        trial = ground.trial
        control = Control(ground.model, ground.optimizer, trial, seed) if trial is not None else None
        own = [self.optimizer.optimizer] if self.optimizer else []
        snapshot = Snapshot([ground.model, seed], [ground.optimizer, *own])
        self.hook.clear_gradients()
        self.control, self.snapshot = control, snapshot
        self.mark = ground.tracker.mark() if ground.tracker is not None else None
        self.loss_before, self.blended_at = ground.val_loss, ground.step
        self.blend = Blend(ground.blend)
        self.hook.phase = Phase.IN_PLACE
        ground.in_place.add(self.name)

    def _fossilize(self, reason: str) -> SeedEvent:
        ground, seed, comparison = self._ground, self.seed, self.comparison
        assert seed is not None and ground.optimizer is not None
        seed.train(self.host.training)
        fossils.register(ground.model, self.name, seed)
        self.hook.build_in()
        if self.optimizer is not None:
            self.optimizer.join(ground.optimizer, ground.model)
        ground.in_place.discard(self.name)
        return self.log.event(
            SeedFossilized,
            self._label(),
            params_added=self.params,
            improvement=figures.finite(comparison.gain) if comparison else None,
            standard_error=figures.finite(comparison.error) if comparison else None,
            grown_loss=figures.finite(comparison.grown_loss) if comparison else None,
            control_loss=figures.finite(comparison.control_loss) if comparison else None,
            control_passes=self.control.passes if self.control else 0,
            incubation_passes=self.incubation_passes,
            reason=reason,
        )

    def _record(
        self,
        target: SeedStage,
        reason: str,
        gate: GateResult | None,
        seed: SeedLabel | None = None,
        alpha: float | None = None,
        events: Sequence[SeedEvent] = (),
    ) -> None:
        """Writes one line of history and enters another `target`, then emits `events` and the change.

        `seed` and `alpha` are the present ones unless given.
        """
        ground, source, seed = self._ground, self._stage, seed or self._label()
        alpha = self.alpha if alpha is None else alpha
        self.log.record(seed, source, target, reason, gate)
        if target is source:
            return
        self._stage = target
        self.stage_steps = 0
        self.refusals = 0
        self._drop_code_of_another_role()
        for event in events:
            ground.emit(event)
        self.log.emit(StageChanged, seed, source=source.name, target=target.name, reason=reason, alpha=alpha)

    # The figures

    def _figures(self) -> figures.Figures:
        match self._stage:
            case SeedStage.GERMINATED:
                return {} if self.seed is None else runs(self.seed, self.probe)
            case SeedStage.TRAINING:
                metrics = self.metrics
                return figures.learning(metrics.gradient_ratio, metrics.descent, metrics.descent_error)
            case SeedStage.SHADOWING if self.control is not None:
                comparison = self.control.compare()
                return figures.stability(comparison.control_loss, comparison.grown_loss)
            case SeedStage.SHADOWING:
                return figures.stability(self.loss_before, self._ground.val_loss)
            case SeedStage.PROBATIONARY if self.control is not None:
                self.comparison = self.control.compare()
                return figures.controlled_gain(self.comparison)
            case _:
                return {}

    def _refusal(self, result: GateResult) -> GateRefused:
        failures = "; ".join(str(failure) for failure in result.failures)
        return GateRefused(
            level=result.level.name,
            slot=self.name,
            stage=self._stage.name,
            failures=failures,
            result=result,
        )
