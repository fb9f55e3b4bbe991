"""What a slot is: its seed, stage, counters and figures, and what an optimizer step does to them.

All that changes in a slot's life is held here; `esper.kasmina.lifecycle.slot` says what may be done with it.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.host.blending import Blend
from esper.kasmina.host.compiled_host import forget_compiled_code
from esper.kasmina.host.hook import Phase, SlotHook
from esper.kasmina.host.probe import Probe
from esper.kasmina.lifecycle import figures, fossils
from esper.kasmina.lifecycle.control import LIMIT, Comparison, Control
from esper.kasmina.lifecycle.ground import Ground
from esper.kasmina.lifecycle.logbook import Logbook, SeedLabel
from esper.kasmina.lifecycle.rollback import Snapshot
from esper.kasmina.lifecycle.seed_optimizer import SeedOptimizer, leave, mean_square, nearest_group
from esper.leyline.reports import FieldReport, SeedMetrics, StageRecord
from esper.leyline.signals import SlotSignals
from esper.leyline.stages import ACTIVE_STAGES, IN_PLACE_STAGES, SeedStage, check_transition, is_active_stage
from esper.tamiyo.tracker import TrackerMark
from esper.urza.run.seed import CompiledSeed

APART = frozenset({SeedStage.GERMINATED, SeedStage.TRAINING})
ON_TRIAL = IN_PLACE_STAGES & ACTIVE_STAGES
RATIO_WINDOW = 10


class SlotState:
    """A slot without its transitions, which are `SeedSlot`'s."""

    def __init__(
        self, name: str, host: nn.Module, hook: SlotHook, probe: Probe, ground: Ground, incubation: str
    ) -> None:
        self.name = name
        self.host = host
        self.hook = hook
        self.probe = probe
        self.incubation = incubation
        self.culled_blueprints: tuple[str, ...] = ()
        self.rollbacks = 0
        self.closed_until = 0
        self.log = Logbook(name, ground)
        self._ground = ground
        self._stage = SeedStage.UNKNOWN
        self._role = hook.role
        self._count = 0
        self._forget()

    def open(self) -> None:
        """UNKNOWN to DORMANT: the hook is in its module, and a seed may come."""
        check_transition(self._stage, SeedStage.DORMANT)
        self._stage = SeedStage.DORMANT

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
        self.blend: Blend | None = None
        self.blended_at = 0
        self.loss_before: float | None = None
        self.mark: TrackerMark | None = None
        self._ratios: deque[Tensor] = deque(maxlen=RATIO_WINDOW)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the host has no control: that belongs to the run in which the seed is judged."""
        return {**self.__dict__, "control": None}

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
    def status(self) -> str:
        """`ok`; `irregular`, with what is; or since when the module has never run in training."""
        return self.hook.attendance.status(self._ground.step, self.probe.calls)

    @property
    def history(self) -> tuple[StageRecord, ...]:
        """Every transition and every refusal, oldest first, gate figures included."""
        return tuple(self.log.history)

    @property
    def reports(self) -> tuple[FieldReport, ...]:
        """One for each seed that was fossilized or culled here."""
        return self.log.reports

    @property
    def params(self) -> int:
        """Parameters of the seed; 0 without one."""
        return 0 if self.seed is None else sum(p.numel() for p in self.seed.parameters())

    @property
    def metrics(self) -> SeedMetrics:
        """The seed's figures at this moment."""
        descent, error = figures.descent(self.hook.descents)
        return SeedMetrics(
            age_steps=self.age_steps,
            stage_steps=self.stage_steps,
            alpha=self.alpha,
            params=self.params,
            gradient_ratio=figures.mean_ratio(self._ratios),
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

    def vacate(self) -> None:
        """Takes the seed out, fossilized or not, to make room for what `resume` puts here.

        The host's weights stay as they are; nothing is recorded or emitted.
        """
        ground = self._ground
        if self.seed is not None and self._stage is SeedStage.FOSSILIZED:
            fossils.unregister(ground.model, self.name)
            if ground.optimizer is not None:
                leave(ground.optimizer, self.seed.parameters())
        self.hook.put(None)
        ground.in_place.discard(self.name)
        self._forget()
        self._stage = SeedStage.DORMANT

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
        self._count, self.rollbacks = counters["planted"], counters["rollbacks"]
        self.closed_until = counters["closed_until"]
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
                self.hook.build_in()
            else:
                ground.in_place.add(self.name)
        if stage in ON_TRIAL:
            position, held = counters["blend_position"], counters["blend_held"]
            self.blend = Blend(ground.blend, position, bool(counters["blend_is_rising"]), held)
            self.blended_at = counters["blended_at"]
        self._drop_code_of_another_role()

    def _drop_code_of_another_role(self) -> None:
        if self.hook.role is not self._role:
            self._role = self.hook.role
            forget_compiled_code()

    @property
    def counters(self) -> dict[str, int]:
        """What the slot counts: seeds `planted` in it and rolled back, until which growth step it is closed;
        of the present seed its steps, refusals and passes, and where its blend stands."""
        blend = self.blend
        return {
            "planted": self._count,
            "rollbacks": self.rollbacks,
            "closed_until": self.closed_until,
            "age_steps": self.age_steps,
            "stage_steps": self.stage_steps,
            "refusals": self.refusals,
            "skipped_steps": self.skipped_steps,
            "incubation_passes": self.incubation_passes,
            "blended_at": self.blended_at,
            "blend_position": blend.position if blend else 0,
            "blend_is_rising": int(blend.is_rising) if blend else 1,
            "blend_held": blend.held if blend else 0,
        }

    # What an optimizer step does to it

    @property
    def waiting_gradients(self) -> list[Tensor | None]:
        """What the seed learns from at its next step, one for each of its parameters that learn."""
        parameters = self.hook.trainable()
        if self._stage is not SeedStage.TRAINING:
            return [parameter.grad for parameter in parameters]
        return list(self.hook.gradients) or [None] * len(parameters)

    @waiting_gradients.setter
    def waiting_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        if self._stage is SeedStage.TRAINING:
            self.hook.gradients = list(gradients)
            return
        for parameter, gradient in zip(self.hook.trainable(), gradients, strict=True):
            parameter.grad = gradient

    def learn(self, scale: float = 1.0) -> None:
        """Steps the seed along its waiting gradients, divided by `scale`, and forgets them."""
        hook, parameters, host_optimizer = self.hook, self.hook.trainable(), self._ground.optimizer
        if not parameters or host_optimizer is None:
            return
        if self.optimizer is None:
            group = nearest_group(host_optimizer, self.host)
            self.optimizer = SeedOptimizer(host_optimizer, group, parameters)
        gradients, is_apart = self.waiting_gradients, self._stage is SeedStage.TRAINING
        if is_apart and self.incubation == "counterfactual":
            scale *= max(hook.gradient_passes, 1)
        hook.clear_gradients()
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return
        if scale != 1.0:
            torch._foreach_mul_(present, 1.0 / scale)
        # In place, the host's gradient is also the seed's doing, and says little of whether it starves.
        if is_apart and self._ground.measures_gradients and self._ground.gradient_square is not None:
            ratio = mean_square(present) / self._ground.gradient_square
            self._ratios.append(ratio.sqrt().clamp(max=LIMIT))
        if not self.optimizer.step(gradients):
            self.skipped_steps += 1
            for parameter in parameters:
                parameter.grad = None

    def tick(self) -> None:
        """Counts one optimizer step of the host, and moves alpha along its schedule."""
        if is_active_stage(self._stage):
            self.age_steps += 1
            self.stage_steps += 1
        if self.blend is not None:
            alpha = self.blend.step()
            if alpha != self.hook.level:
                self.hook.set_alpha(alpha)

    def _label(self) -> SeedLabel:
        return SeedLabel(self.seed_id or "", self.blueprint_id or "", self.params)

    def _random_seed(self, count: int) -> int:
        return (self._ground.random_seed ^ zlib.crc32(f"{self.name}/{count}".encode())) % 2**63
