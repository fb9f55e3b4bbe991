"""Which blueprints worked: each one's record over its seeds, and the run's scoreboard.

A blueprint's fossilization rate counts decided seeds alone; one still under way is neither a success
nor a failure. Its gain is what its fossilized seeds won over their controls.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from esper.leyline.events import SeedCulled, SeedFossilized
from esper.nissa.history import RunHistory, SeedLife


@dataclass(frozen=True)
class BlueprintRecord:
    """One blueprint's seeds, counted. Means are over fossilized seeds, None where there is none."""

    blueprint_id: str
    germinated: int
    fossilized: int
    culled: int
    mean_accuracy_change: float | None
    """Held-out accuracy at fossilization less that before blending, in 0..1."""
    mean_gain: float | None
    """Relative gain in held-out loss over the control."""
    params: int
    """Of one seed, the largest planted."""

    @property
    def under_way(self) -> int:
        return self.germinated - self.fossilized - self.culled

    @property
    def fossilization_rate(self) -> float | None:
        decided = self.fossilized + self.culled
        return self.fossilized / decided if decided else None


@dataclass(frozen=True)
class Scoreboard:
    """The run's growth in figures."""

    germinated: int
    fossilized: int
    culled: int
    host_params: int
    params_added: int
    distribution: dict[str, int]
    """Fossilized seeds for each blueprint."""
    live: tuple[str, ...]
    """Blueprints of the seeds under way."""
    control_passes: int
    """Forward-and-backward passes that the controls cost."""
    incubation_passes: int

    @property
    def params_share(self) -> float:
        """Parameters added, as a share of the host's own."""
        return self.params_added / self.host_params if self.host_params else 0.0


def blueprint_records(history: RunHistory) -> tuple[BlueprintRecord, ...]:
    """One record for each blueprint planted, the most often fossilized first, then by gain and name."""
    groups: dict[str, list[SeedLife]] = {}
    for seed in history.seeds:
        groups.setdefault(seed.blueprint_id, []).append(seed)
    records = [_record(history, name, seeds) for name, seeds in groups.items()]
    return tuple(
        sorted(
            records,
            key=lambda r: (-r.fossilized, -(r.mean_gain or 0.0), r.blueprint_id),
        )
    )


def scoreboard(history: RunHistory) -> Scoreboard:
    """The run's scoreboard."""
    kept = [seed.fossilized for seed in history.seeds if seed.fossilized is not None]
    removed = [seed.culled for seed in history.seeds if seed.culled is not None]
    decided: list[SeedFossilized | SeedCulled] = [*kept, *removed]
    distribution: dict[str, int] = {}
    for event in kept:
        distribution[event.blueprint_id] = distribution.get(event.blueprint_id, 0) + 1
    return Scoreboard(
        germinated=len(history.seeds),
        fossilized=len(kept),
        culled=len(removed),
        host_params=history.started.host_params if history.started else 0,
        params_added=sum(event.params_added for event in kept),
        distribution=distribution,
        live=tuple(seed.blueprint_id for seed in history.seeds if not seed.is_decided),
        control_passes=sum(event.control_passes for event in decided),
        incubation_passes=sum(event.incubation_passes for event in decided),
    )


def _record(history: RunHistory, name: str, seeds: Sequence[SeedLife]) -> BlueprintRecord:
    kept = [seed for seed in seeds if seed.fossilized is not None]
    changes = [change for seed in kept if (change := history.accuracy_change(seed)) is not None]
    gains = [
        seed.fossilized.improvement
        for seed in kept
        if seed.fossilized is not None and seed.fossilized.improvement is not None
    ]
    return BlueprintRecord(
        blueprint_id=name,
        germinated=len(seeds),
        fossilized=len(kept),
        culled=sum(seed.culled is not None for seed in seeds),
        mean_accuracy_change=statistics.fmean(changes) if changes else None,
        mean_gain=statistics.fmean(gains) if gains else None,
        params=max(seed.params for seed in seeds),
    )
