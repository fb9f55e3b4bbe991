"""Growth: what a training loop calls to let a policy plant seeds, and to let gates decide on them.

Each step it watches the loss, and lets the control see the batch; each epoch it turns the loop's figures
into signals, asks the policy, and carries out its actions. An action that a gate or a slot refuses
is reported and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from esper import lang
from esper.errors import EsperError
from esper.kasmina.errors import GateRefused, LossExploded, LossNotFinite, UnusableOptimizer
from esper.kasmina.host.blending import AlphaSchedule, check_mode
from esper.kasmina.host.refusals import check_whole
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Trial
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.ranks import are_several, average_waiting, copy_first, mean, of_first
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.lifecycle.slot_state import ON_TRIAL
from esper.kasmina.training.governor import Governor, GovernorParameters
from esper.kasmina.training.incubation import incubate
from esper.kasmina.training.optimizer import GrowthOptimizer, is_counterfactual
from esper.leyline.actions import (
    Action,
    AdvanceStage,
    ChangeBlueprint,
    Cull,
    Germinate,
    Wait,
    from_record,
    to_record,
)
from esper.leyline.events import ActionRefused, GovernorActed, GrowthStepped
from esper.leyline.protocols import OutputBackend, TamiyoPolicy
from esper.leyline.reports import FieldReport
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage
from esper.tamiyo import SignalTracker, policy_named

WATCHED = frozenset({SeedStage.SHADOWING, SeedStage.PROBATIONARY})


class Growth:
    """Grows `model` while the caller's loop trains it.

    loss: a model's scalar mean loss on a batch, for the control and counterfactual incubation.
    evaluate: a model's losses on held-out examples, one for each and above 0 in their mean, for the last
    gate; neither training nor test data.
    optimizer: the GrowthOptimizer that the loop steps.
    policy: a policy's name, or a TamiyoPolicy; `policy_options` go to the named one.
    clip_norm, clip_value: the norm the loop clips gradients to, or the magnitude of each element, so that the
    control does the same.
    blueprints: names in the library, or paths, for a policy given by its name.
    blend: how fast alpha rises and, if asked, falls; `mode`: one of `blending.MODES`.
    Without `loss` and `evaluate` no seed passes the last gate, since its gain was not measured, unless the
    gates are permissive.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        policy: str | TamiyoPolicy = "heuristic",
        blueprints: Sequence[str] = (),
        *,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
        evaluate: Callable[[nn.Module], Tensor] | None = None,
        gates: GateParameters | None = None,
        blend: AlphaSchedule | None = None,
        mode: str = "lerp",
        governor: GovernorParameters | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        policy_options: Mapping[str, Any] | None = None,
        output: OutputBackend | None = None,
    ) -> None:
        self.slots = slots(model)
        check_whole(self.slots.model)  # it may have been sharded since slots were attached
        check_mode(mode)
        for blueprint in blueprints:
            lang.signature(blueprint)  # an unknown one is refused before training, not in the middle of it
        if not isinstance(optimizer, GrowthOptimizer):
            kind = type(optimizer).__name__
            raise UnusableOptimizer(reason=f"is {kind}, which trains no seeds; expected GrowthOptimizer")
        self.optimizer = optimizer
        self.governor = Governor(governor or GovernorParameters())
        if not optimizer.adopt(self.slots):
            raise UnusableOptimizer(reason="holds no parameter of the model")
        ground = self.slots.ground
        ground.gates, ground.blend = gates or GateParameters(), blend or AlphaSchedule()
        ground.output, ground.mode = output, mode
        ground.embargo = self.governor.parameters.embargo
        if loss is not None and evaluate is not None:
            ground.trial = Trial(loss, evaluate, clip_norm, clip_value)
        self.policy = (
            policy_named(policy, blueprints=blueprints, **(policy_options or {}))
            if isinstance(policy, str)
            else policy
        )
        self.tracker = ground.tracker = SignalTracker()
        for slot in self.slots.in_stages(ON_TRIAL):
            assert slot.blend is not None
            slot.blend.schedule = ground.blend
        self.host_params = sum(p.numel() for p in model.parameters())
        self._losses: list[float] = []
        self._steps_seen = optimizer.steps

    @property
    def reports(self) -> tuple[FieldReport, ...]:
        """One report for each seed that was fossilized or culled, slot by slot."""
        return tuple(report for slot in self.slots.values() for report in slot.reports)

    def observe(self, loss: Tensor | float, batch: Any) -> None:
        """Call once a micro-batch, after its backward pass and, where one is due, the optimizer's step.

        A loss that is not finite, or has exploded for several steps, takes the host back to before the seed
        that is in place, and the run goes on. Without such a seed it raises LossNotFinite, or LossExploded
        where it is also above what the run began with.
        """
        value = mean(loss.detach().item() if isinstance(loss, Tensor) else float(loss))
        stepped = self.optimizer.steps != self._steps_seen
        self._steps_seen = self.optimizer.steps
        diverges = not math.isfinite(value) or self.governor.watch.observe(value)
        self.slots.ground.exploded_steps = self.governor.watch.exploded
        if diverges:
            self._stop_or_roll_back(value)
            return
        self._losses.append(value)
        trial = self.slots.ground.trial
        if trial is None:
            return
        incubating = [slot for slot in self.slots.values() if is_counterfactual(slot)]
        if incubating:
            incubate(self.slots, incubating, trial, batch, value)
            learning = incubating if stepped else []
            average_waiting(learning)
            for slot in learning:
                slot.learn()
        for slot in self.slots.in_stages(ON_TRIAL):
            if slot.control is not None:
                slot.control.observe(batch, stepped=stepped)

    def step(
        self,
        *,
        val_loss: float | None = None,
        val_accuracy: float | None = None,
        train_accuracy: float | None = None,
        class_accuracy: Sequence[float] = (),
    ) -> TrainingSignals:
        """Call once an epoch, or every n optimizer steps; accuracies in 0..1. Returns what the policy saw.

        Without `val_loss` the mean of `evaluate` stands for it.
        """
        ground = self.slots.ground
        ground.epoch += 1
        if val_loss is None and ground.trial is not None:
            val_loss = ground.trial.held_out_losses(ground.model).mean().item()
        val_loss, val_accuracy, train_accuracy = of_first((val_loss, val_accuracy, train_accuracy))
        class_accuracy = of_first(list(class_accuracy))
        copy_first([buffer for slot in self.slots.values() if slot.seed for buffer in slot.seed.buffers()])
        ground.val_loss = val_loss
        train_loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses.clear()
        if self._watch(val_loss):
            val_loss = None  # it was measured on a host that is no more, and earns nobody anything
        self._cool_down()
        signals = self.tracker.update(
            epoch=ground.epoch,
            global_step=ground.step,
            train_loss=train_loss,
            val_loss=_or_nan(val_loss),
            train_accuracy=_or_nan(train_accuracy),
            val_accuracy=_or_nan(val_accuracy),
            gradient_norm=self._gradient_norm(),
            class_accuracy=class_accuracy,
            host_params=self.host_params,
            slots=tuple(
                slot.signals(is_available=slot.stage is SeedStage.DORMANT) for slot in self.slots.values()
            ),
        )
        for action in _agreed(self.policy.decide(signals)):
            self._try(action)
        self._report(signals)
        return signals

    # Actions

    def _try(self, action: Action) -> None:
        """Carries out an action; one that is refused is reported, and the run goes on."""
        try:
            self._carry_out(action)
        except GateRefused:
            return
        except EsperError as error:
            ground = self.slots.ground
            ground.emit(
                ActionRefused(
                    epoch=ground.epoch,
                    step=ground.step,
                    action=action.kind,
                    slot=getattr(action, "slot", None),
                    code=error.code,
                    reason=str(error),
                )
            )

    def _carry_out(self, action: Action) -> None:
        match action:
            case Wait():
                pass
            case Germinate():
                slot = self.slots[action.slot]
                slot.germinate(action.blueprint, **action.params)
                slot.advance()
            case AdvanceStage():
                self.slots[action.slot].advance()
            case Cull():
                self.slots[action.slot].cull(action.reason)
            case ChangeBlueprint():
                self.slots[action.slot].replace(action.blueprint, **action.params)

    # The governor

    def _stop_or_roll_back(self, loss: float) -> None:
        blamed, watch = self.slots.in_stages(ON_TRIAL), self.governor.watch
        diverged = not math.isfinite(loss)
        reason = f"the loss is {loss}" if diverged else f"the loss rose to {loss:.4g} and stayed up"
        for slot in blamed:
            self._roll_back(slot, reason, loss)
        if blamed or not (diverged or watch.is_worse_than_untrained(loss)):
            return
        self._act("stopped", reason, None, loss)
        step = self.slots.ground.step
        if diverged:
            raise LossNotFinite(loss=loss, step=step)
        middle = f"{median(watch.losses):.4g}"
        raise LossExploded(loss=f"{loss:.4g}", step=step, median=middle, count=watch.exploded)

    def _watch(self, val_loss: float | None) -> bool:
        """Rolls a seed back once the validation loss has stayed too high for too long; whether it did."""
        watched = self.slots.in_stages(WATCHED)
        if not watched:
            self.governor.regressions = 0
        for slot in watched:
            before = slot.loss_before
            if before is None or val_loss is None:
                continue
            suspected = self.governor.is_too_high(val_loss, before)
            if self.governor.regresses(is_too_high=suspected and self._is_to_blame(slot, val_loss)):
                reason = f"the validation loss rose from {before:.4g} to {val_loss:.4g}"
                self._roll_back(slot, reason, val_loss)
                return True
        return False

    def _is_to_blame(self, slot: SeedSlot, val_loss: float) -> bool:
        """Whether the control, if there is one, does not lose as much without the seed."""
        if slot.control is None or not math.isfinite(val_loss):
            return True
        comparison = slot.control.compare()
        losses = of_first((comparison.grown_loss, comparison.control_loss))
        return self.governor.is_too_high(*losses)

    def _roll_back(self, slot: SeedSlot, reason: str, loss: float | None) -> None:
        self._act("rolled_back", reason, slot.name, loss)
        slot.cull(reason, rolls_back=True)
        self.governor.restart()
        self.slots.ground.exploded_steps = 0
        self._losses.clear()

    def _act(self, action: str, reason: str, slot: str | None, loss: float | None) -> None:
        ground = self.slots.ground
        finite = loss if loss is not None and math.isfinite(loss) else None
        ground.emit(
            GovernorActed(
                epoch=ground.epoch, step=ground.step, action=action, reason=reason, slot=slot, loss=finite
            )
        )

    def _cool_down(self) -> None:
        """Moves culled slots one stage on, through EMBARGOED for as long as they are closed, to DORMANT."""
        for slot in self.slots.in_stages({SeedStage.CULLED, SeedStage.EMBARGOED, SeedStage.RESETTING}):
            if slot.stage is not SeedStage.EMBARGOED or self.slots.ground.epoch >= slot.closed_until:
                slot.advance()

    # Figures

    def _gradient_norm(self) -> float:
        norm = self.slots.ground.gradient_norm
        return math.nan if norm is None else norm.item()

    def _report(self, signals: TrainingSignals) -> None:
        ground = self.slots.ground
        states: list[dict[str, Any]] = []
        for slot in self.slots.values():
            metrics = slot.metrics
            states.append(
                {
                    "slot": slot.name,
                    "stage": slot.stage.name,
                    "alpha": slot.alpha,
                    "seed_id": slot.seed_id,
                    "blueprint_id": slot.blueprint_id,
                    "params": metrics.params,
                    "gradient_ratio": _or_none(metrics.gradient_ratio),
                    "descent": _or_none(metrics.descent),
                }
            )
        ground.emit(
            GrowthStepped(
                epoch=ground.epoch,
                step=ground.step,
                train_loss=_or_none(signals.train_loss),
                val_loss=_or_none(signals.val_loss),
                val_accuracy=_or_none(signals.val_accuracy),
                gradient_norm=_or_none(signals.gradient_norm),
                slots=states,
            )
        )


def _agreed(actions: Sequence[Action]) -> Sequence[Action]:
    """The actions; of several processes, those of the first."""
    if not are_several():
        return actions
    return [from_record(record) for record in of_first([to_record(action) for action in actions])]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
