"""One slot: the seed in it, its stage, and what each transition does.

Transitions are Leyline's table; `advance` tries the gate in front of the forward one. A seed in place
carries a snapshot of the host from before blending, to go back to, and a control to be judged against.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from esper.ir.graph import BlueprintIR
from esper.kasmina import fossils
from esper.kasmina.blending import AlphaSchedule
from esper.kasmina.control import Comparison, Control
from esper.kasmina.errors import GateRefused, NothingToAdvance, UnusableOptimizer
from esper.kasmina.gates import GATES, check
from esper.kasmina.germination import build_seed
from esper.kasmina.ground import Ground
from esper.kasmina.hook import Phase, SlotHook
from esper.kasmina.probe import Probe, runs, try_on
from esper.kasmina.rollback import Snapshot
from esper.kasmina.seed_optimizer import SeedOptimizer, mean_square, nearest_group
from esper.leyline.events import GateEvaluated, SeedCulled, SeedFossilized, SeedGerminated, StageChanged
from esper.leyline.gates import GateResult
from esper.leyline.reports import FieldReport, SeedMetrics, StageRecord
from esper.leyline.signals import SlotSignals
from esper.leyline.stages import (
    IN_PLACE_STAGES,
    TRANSITIONS,
    SeedStage,
    check_transition,
    is_active_stage,
)
from esper.urza.run.seed import CompiledSeed

RATIO_WINDOW = 10


class SeedSlot:
    """A place in the host where a seed can grow. Made by `attach`; found by `slots(model)[name]`."""

    def __init__(
        self, name: str, host: nn.Module, hook: SlotHook, probe: Probe, ground: Ground, incubation: str
    ) -> None:
        self.name = name
        self.host = host
        self.hook = hook
        self.probe = probe
        self.incubation = incubation
        self.culled_blueprints: tuple[str, ...] = ()
        self.reports: tuple[FieldReport, ...] = ()
        self._ground = ground
        self._stage = SeedStage.DORMANT
        self._history: list[StageRecord] = []
        self._count = 0
        self._forget()

    def _forget(self) -> None:
        """The state that belongs to one seed, at its beginning."""
        self.blueprint_id: str | None = None
        self.seed_id: str | None = None
        self.age_steps = 0
        self.stage_steps = 0
        self.refusals = 0
        self.skipped_steps = 0
        self.incubation_passes = 0
        self.comparison: Comparison | None = None
        self.control: Control | None = None
        self.snapshot: Snapshot | None = None
        self.optimizer: SeedOptimizer | None = None
        self._blend: AlphaSchedule | None = None
        self.loss_before: float | None = None
        self._ratios: deque[Tensor] = deque(maxlen=RATIO_WINDOW)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the host has no control: that belongs to the run in which the seed is judged."""
        return {**self.__dict__, "control": None}

    # What it is

    @property
    def stage(self) -> SeedStage:
        return self._stage

    @property
    def alpha(self) -> float:
        """The seed's share in the host's tensor, 0 to 1."""
        return self.hook.level

    @property
    def seed(self) -> nn.Module | None:
        return self.hook.seed

    @property
    def history(self) -> tuple[StageRecord, ...]:
        """Every transition and every refusal, oldest first, gate figures included."""
        return tuple(self._history)

    @property
    def params(self) -> int:
        """Parameters of the seed; 0 without one."""
        return 0 if self.seed is None else sum(p.numel() for p in self.seed.parameters())

    @property
    def metrics(self) -> SeedMetrics:
        """The seed's figures at this moment."""
        descent, error = self._descent()
        return SeedMetrics(
            age_steps=self.age_steps,
            stage_steps=self.stage_steps,
            alpha=self.alpha,
            params=self.params,
            gradient_ratio=torch.stack(list(self._ratios)).mean().item() if self._ratios else None,
            descent=descent,
            descent_error=error,
            improvement=self.comparison.gain if self.comparison else None,
            skipped_steps=self.skipped_steps,
            refusals=self.refusals,
        )

    def signals(self, *, is_available: bool) -> SlotSignals:
        """The slot as a policy sees it."""
        return SlotSignals(
            name=self.name,
            stage=self._stage,
            is_available=is_available,
            alpha=self.alpha,
            age_steps=self.age_steps,
            stage_steps=self.stage_steps,
            improvement=self.comparison.gain if self.comparison else None,
            refusals=self.refusals,
            params=self.params,
            seed_id=self.seed_id,
            blueprint_id=self.blueprint_id,
            dimensions=len(self.probe.shape),
            culled_blueprints=self.culled_blueprints,
        )

    # What can be done with it

    def germinate(self, blueprint: BlueprintIR | str | Path, **params: Any) -> CompiledSeed:
        """Compiles `blueprint` for this slot and plants it; returns the seed.

        The slot's shape and dtype give the blueprint's parameters their values; `params` override them.
        Raises InvalidTransition unless the slot is DORMANT, SeedDoesNotFit, and the compiler's errors.
        """
        check_transition(self._stage, SeedStage.GERMINATED)
        generator = torch.Generator().manual_seed(self._random_seed(self._count + 1))
        seed, name, bound = build_seed(blueprint, self.probe, self.name, generator, params)
        self.plant(seed, blueprint_id=name, params=bound, draws_from_torch=False)
        return seed

    def plant(
        self,
        seed: nn.Module,
        *,
        blueprint_id: str,
        params: dict[str, Any] | None = None,
        draws_from_torch: bool = True,
    ) -> None:
        """Puts a module that keeps its input's shape into the slot: DORMANT to GERMINATED, by G0.

        Unless `draws_from_torch` is False, the module runs in a random stream of its own.
        """
        check_transition(self._stage, SeedStage.GERMINATED)
        seed = seed.to(self.probe.device)
        result = check(
            GATES[self._stage], try_on(seed, self.probe, self.name, blueprint_id), self._ground.gates
        )
        self._forget()
        self._count += 1
        self.blueprint_id = blueprint_id
        self.seed_id = f"{self.name}-{self._count}"
        self.hook.put(seed, draws_from_torch=draws_from_torch)
        self.hook.stream.restart(self._random_seed(self._count))
        self._ground.emit(
            SeedGerminated(**self._tag(), blueprint_params=params or {}, shape=list(self.probe.shape))
        )
        self._record(SeedStage.GERMINATED, "planted", result)

    def resume(
        self,
        seed: nn.Module | None,
        stage: SeedStage,
        alpha: float,
        counters: Mapping[str, int],
        *,
        blueprint_id: str | None,
        seed_id: str | None,
        loss_before: float | None = None,
    ) -> None:
        """Puts a DORMANT slot where another run left it: no gate is tried, nothing recorded or emitted.

        The run's snapshot, control and optimizer are not part of it; `counters` are those of `counters`.
        """
        ground = self._ground
        self._forget()
        if seed is not None:
            self.hook.put(seed.to(self.probe.device), draws_from_torch=not isinstance(seed, CompiledSeed))
        self._count = counters["planted"]
        self.hook.stream.restart(self._random_seed(self._count))
        self.age_steps, self.stage_steps = counters["age_steps"], counters["stage_steps"]
        self.refusals, self.skipped_steps = counters["refusals"], counters["skipped_steps"]
        self.incubation_passes = counters["incubation_passes"]
        self.blueprint_id, self.seed_id, self.loss_before = blueprint_id, seed_id, loss_before
        self._stage = stage
        self.hook.set_alpha(alpha)
        if stage is SeedStage.TRAINING and self.incubation == "straight_through":
            self.hook.phase = Phase.LISTENING
        if stage in IN_PLACE_STAGES:
            self.hook.phase = Phase.IN_PLACE
            if stage is SeedStage.FOSSILIZED:
                assert seed is not None
                fossils.register(ground.model, self.name, seed)
            else:
                ground.in_place.add(self.name)
        if stage is SeedStage.BLENDING:
            self._blend = ground.blend

    @property
    def counters(self) -> dict[str, int]:
        """What the slot counts: seeds `planted` in it, and the present seed's steps, refusals and passes."""
        return {
            "planted": self._count,
            "age_steps": self.age_steps,
            "stage_steps": self.stage_steps,
            "refusals": self.refusals,
            "skipped_steps": self.skipped_steps,
            "incubation_passes": self.incubation_passes,
        }

    def advance(self) -> GateResult | None:
        """Makes the forward transition, its gate first; returns what the gate found, if there is one.

        Raises GateRefused, whose `details["result"]` holds the figures, and from DORMANT and FOSSILIZED
        NothingToAdvance.
        """
        if self._stage in (SeedStage.DORMANT, SeedStage.FOSSILIZED):
            way_out = "germinate a blueprint first" if self._stage is SeedStage.DORMANT else "it is final"
            raise NothingToAdvance(slot=self.name, stage=self._stage.name, way_out=way_out)
        target = TRANSITIONS[self._stage][0]
        gate = GATES.get(self._stage)
        if gate is None:
            self._enter(target, "cooled down", None)
            return None
        incubates = self.incubation != "none"
        first = {
            "stage_steps": float(self.stage_steps),
            "alpha": self.alpha,
            "others_in_place": float(len(self._ground.in_place - {self.name})),
        }
        due = check(gate, first, self._ground.gates, incubates=incubates, is_due=True)
        if not due.passed:
            raise self._refusal(due)
        result = check(gate, first | self._figures(), self._ground.gates, incubates=incubates)
        self._ground.emit(
            GateEvaluated(
                **self._tag(),
                level=result.level.name,
                passed=result.passed,
                figures={name: _finite(figure) for name, figure in result.figures.items()},
                failures=[str(failure) for failure in result.failures],
            )
        )
        if not result.passed:
            self.refusals += 1
            self._record(self._stage, f"{result.level.name} refused", result)
            raise self._refusal(result)
        self._enter(target, f"{result.level.name} passed", result)
        return result

    def cull(self, reason: str) -> None:
        """Removes the seed. One in place takes host and optimizers back to before it was blended in."""
        check_transition(self._stage, SeedStage.CULLED)
        rolled_back = self.snapshot is not None
        self.rollback()
        self._ground.emit(
            SeedCulled(
                **self._tag(),
                stage=self._stage.name,
                reason=reason,
                rolled_back=rolled_back,
                improvement=self.metrics.improvement,
                control_passes=self.control.passes if self.control else 0,
                incubation_passes=self.incubation_passes,
            )
        )
        metrics = self.metrics
        self._record(SeedStage.CULLED, reason, None)
        self._leave_report(metrics)
        if self.blueprint_id is not None:
            self.culled_blueprints = (*self.culled_blueprints, self.blueprint_id)
        self._ground.in_place.discard(self.name)
        self.hook.put(None)
        self._forget()

    def rollback(self) -> None:
        """Takes host, seed and their optimizers back to the snapshot at BLENDING; nothing without one."""
        if self.snapshot is not None:
            self.snapshot.restore()

    # What an optimizer step does to it

    def learn(self, scale: float = 1.0) -> None:
        """Steps the seed along its waiting gradients, divided by `scale`, and forgets them."""
        hook, parameters, host_optimizer = self.hook, self.hook.trainable(), self._ground.optimizer
        if not parameters or host_optimizer is None:
            return
        if self.optimizer is None:
            group = nearest_group(host_optimizer, self.host)
            self.optimizer = SeedOptimizer(host_optimizer, group, parameters)
        apart = self._stage is SeedStage.TRAINING
        gradients = list(hook.gradients) if apart else [p.grad for p in parameters]
        if apart and self.incubation == "counterfactual":
            scale *= max(hook.gradient_passes, 1)
        hook.clear_gradients()
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return
        if scale != 1.0:
            torch._foreach_mul_(present, 1.0 / scale)
        if self._ground.measures_gradients and self._ground.gradient_square is not None:
            ratio = mean_square(present) / self._ground.gradient_square
            self._ratios.append(ratio.sqrt())
        if not self.optimizer.step(gradients):
            self.skipped_steps += 1
            for parameter in parameters:
                parameter.grad = None

    def tick(self) -> None:
        """Counts one optimizer step of the host, and moves alpha along its schedule."""
        if is_active_stage(self._stage):
            self.age_steps += 1
            self.stage_steps += 1
        if self._stage is SeedStage.BLENDING and self._blend is not None:
            self.hook.set_alpha(self._blend.at(self.stage_steps))

    # The transitions

    def _enter(self, target: SeedStage, reason: str, gate: GateResult | None) -> None:
        check_transition(self._stage, target)
        match target:
            case SeedStage.TRAINING if self.incubation == "straight_through":
                self.hook.phase = Phase.LISTENING
            case SeedStage.BLENDING:
                self._start_blending()
            case SeedStage.FOSSILIZED:
                self._fossilize(reason)
            case _:
                pass
        metrics = self.metrics
        self._record(target, reason, gate)
        if target is SeedStage.FOSSILIZED:
            self._leave_report(metrics)
            self.snapshot = self.control = self.optimizer = None

    def _start_blending(self) -> None:
        ground, seed = self._ground, self.seed
        if ground.optimizer is None:
            raise UnusableOptimizer(reason="of the host is not known, so blending could not be undone")
        assert seed is not None
        self.hook.clear_gradients()
        if ground.trial is not None:
            self.control = Control(ground.model, ground.optimizer, ground.trial)
        own = [self.optimizer.optimizer] if self.optimizer else []
        self.snapshot = Snapshot([ground.model, seed], [ground.optimizer, *own])
        self.loss_before = ground.val_loss
        self._blend = ground.blend
        self.hook.phase = Phase.IN_PLACE
        ground.in_place.add(self.name)

    def _fossilize(self, reason: str) -> None:
        ground, seed, comparison = self._ground, self.seed, self.comparison
        assert seed is not None and comparison is not None and ground.optimizer is not None
        fossils.register(ground.model, self.name, seed)
        if self.optimizer is not None:
            self.optimizer.join(ground.optimizer, ground.model)
        ground.in_place.discard(self.name)
        ground.emit(
            SeedFossilized(
                **self._tag(),
                params_added=self.params,
                improvement=comparison.gain,
                standard_error=comparison.error,
                grown_loss=comparison.grown_loss,
                control_loss=comparison.control_loss,
                control_passes=self.control.passes if self.control else 0,
                incubation_passes=self.incubation_passes,
                reason=reason,
            )
        )

    def _leave_report(self, metrics: SeedMetrics) -> None:
        """Reports a seed whose fate the last line of history tells; `metrics` as they were before it."""
        gates = tuple(r.gate for r in self._history if r.seed_id == self.seed_id and r.gate is not None)
        decision = self._history[-1]
        report = FieldReport(
            slot=self.name,
            seed_id=self.seed_id or "",
            blueprint_id=self.blueprint_id or "",
            outcome=decision.target,
            reason=decision.reason,
            metrics=metrics,
            gates=gates,
            control_passes=self.control.passes if self.control else 0,
            incubation_passes=self.incubation_passes,
        )
        self.reports = (*self.reports, report)

    def _record(self, target: SeedStage, reason: str, gate: GateResult | None) -> None:
        """Writes one line of history; a target other than the present stage is entered."""
        source = self._stage
        ground = self._ground
        self._history.append(
            StageRecord(self.seed_id or "", ground.epoch, ground.step, source, target, reason, gate)
        )
        if target is source:
            return
        self._stage = target
        self.stage_steps = 0
        self.refusals = 0
        ground.emit(
            StageChanged(
                **self._tag(), source=source.name, target=target.name, reason=reason, alpha=self.alpha
            )
        )

    # The figures

    def _figures(self) -> dict[str, float | None]:
        match self._stage:
            case SeedStage.GERMINATED:
                return {} if self.seed is None else runs(self.seed, self.probe)
            case SeedStage.TRAINING:
                metrics = self.metrics
                descent, error = metrics.descent, metrics.descent_error
                return {
                    "gradient_ratio": metrics.gradient_ratio,
                    "descent_over_error": descent / error if descent is not None and error else None,
                }
            case SeedStage.SHADOWING:
                before, present = self.loss_before, self._ground.val_loss
                measured = before is not None and present is not None and before > 0
                return {"loss_rise": present / before - 1.0 if measured else None}  # type: ignore[operator]
            case SeedStage.PROBATIONARY:
                return self._controlled_gain()
            case _:
                return {}

    def _controlled_gain(self) -> dict[str, float | None]:
        if self.control is None:
            return {}
        self.comparison = comparison = self.control.compare()
        return {
            "heldout_examples": float(comparison.examples),
            "gain": comparison.gain,
            "gain_over_error": comparison.gain_over_error,
            "gain_over_progress": comparison.gain_over_progress,
        }

    def _descent(self) -> tuple[float | None, float | None]:
        """Mean and standard error of the promised decrease in training loss, over the last passes."""
        if len(self.hook.descents) < 2:
            return None, None
        values = torch.stack(list(self.hook.descents)).tolist()
        return fmean(values), stdev(values) / len(values) ** 0.5

    def _refusal(self, result: GateResult) -> GateRefused:
        failures = "; ".join(str(failure) for failure in result.failures)
        return GateRefused(
            level=result.level.name,
            slot=self.name,
            stage=self._stage.name,
            failures=failures,
            result=result,
        )

    def _tag(self) -> dict[str, Any]:
        return {
            "epoch": self._ground.epoch,
            "step": self._ground.step,
            "slot": self.name,
            "seed_id": self.seed_id or "",
            "blueprint_id": self.blueprint_id or "",
            "params": self.params,
        }

    def _random_seed(self, count: int) -> int:
        return (self._ground.random_seed ^ zlib.crc32(f"{self.name}/{count}".encode())) % 2**63


def _finite(figure: float | None) -> float | None:
    """A figure as an event holds it: what is not a number was not measured."""
    return figure if figure is not None and math.isfinite(figure) else None
