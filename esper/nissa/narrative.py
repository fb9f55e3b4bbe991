"""A run told in plain words: what was trained, what happened to each seed and why, how it ended."""

from __future__ import annotations

from esper.leyline.stages import SeedStage
from esper.nissa.analytics import scoreboard
from esper.nissa.history import RunHistory, SeedLife
from esper.nissa.tables import percent


def narrative(history: RunHistory) -> list[str]:
    """Paragraphs of plain text, in the order of events."""
    told = [_opening(history)]
    told.extend(_life(history, seed) for seed in history.seeds)
    told.extend(
        f"Governor, epoch {e.epoch}: {e.action.replace('_', ' ')} ({e.reason})." for e in history.governor
    )
    told.append(_ending(history))
    return [paragraph for paragraph in told if paragraph]


def _opening(history: RunHistory) -> str:
    run = history.started
    if run is None:
        return "The stream does not say how the run began."
    slots = _listed(run.slots)
    return (
        f"The host {run.host}, {run.host_params:,} parameters, was trained on {run.task} for up to "
        f"{run.epochs} epochs with seed {run.seed}. The policy {run.policy} could plant "
        f"{_listed(run.blueprints) or 'nothing'} in {slots}."
    )


def _life(history: RunHistory, seed: SeedLife) -> str:
    planted = seed.germinated.epoch
    sentences = [
        (
            f"After epoch {planted}{_accuracy(history, planted)}, {seed.blueprint_id} with {seed.params:,} "
            f"parameters was planted in {seed.slot}."
        )
    ]
    blended, shadowed = (
        seed.entered(SeedStage.BLENDING),
        seed.entered(SeedStage.SHADOWING),
    )
    training = seed.entered(SeedStage.TRAINING)
    if blended is not None and training is not None:
        sentences.append(
            f"It learned in isolation for {_epochs(blended - training)}, then its gate let it in."
        )
    if blended is not None and shadowed is not None:
        sentences.append(f"It was blended in over {_epochs(shadowed - blended)}{_before(history, blended)}.")
    sentences.append(_verdict(history, seed))
    return " ".join(sentences)


def _verdict(history: RunHistory, seed: SeedLife) -> str:
    if seed.fossilized is not None:
        kept = seed.fossilized
        if kept.improvement is None:
            return (
                f"After epoch {kept.epoch}{_accuracy(history, kept.epoch)}, it was fossilized by permissive "
                "gates, its gain over a control not measured."
            )
        word = "less" if kept.improvement > 0 else "more"
        return (
            f"After epoch {kept.epoch}{_accuracy(history, kept.epoch)}, it was fossilized: held-out loss "
            f"{kept.grown_loss:.3f} with it against {kept.control_loss:.3f} for its control, the same host "
            "trained on the same batches without it, both by averaged weights. That is "
            f"{percent(abs(kept.improvement))} {word} loss, with a standard error of "
            f"{percent(kept.standard_error)}."
        )
    if seed.culled is not None:
        undone = " Host and optimizer went back to where they were." if seed.culled.rolled_back else ""
        gone = seed.culled
        refusal = next((gate for gate in reversed(seed.gates) if not (gate.passed or gate.waived)), None)
        said = f" (gate {refusal.level}: {'; '.join(refusal.failures)})" if refusal is not None else ""
        return f"After epoch {gone.epoch} it was culled in {gone.stage}: {gone.reason}{said}.{undone}"
    return f"It stands in {seed.stages[-1].name if seed.stages else 'no stage'}, undecided."


def _ending(history: RunHistory) -> str:
    cost = scoreboard(history)
    spent = (
        f" Beside the training itself, controls cost {cost.control_passes:,} forward-and-backward passes "
        f"and incubation {cost.incubation_passes:,}."
        if cost.germinated
        else ""
    )
    if history.finished is not None:
        done = history.finished
        grown = f", {done.grown_params:,} of them grown" if done.grown_params else ""
        total = done.host_params + done.grown_params
        return (
            f"It ended with {percent(done.test_accuracy)} on test data, which no decision had seen, and "
            f"{total:,} parameters{grown}.{spent}"
        )
    if history.stopped is not None:
        return f"The run stopped after epoch {history.last_epoch}: {history.stopped.reason}.{spent}"
    return f"The run has come to epoch {history.last_epoch} and is not over.{spent}"


def _accuracy(history: RunHistory, epoch: int) -> str:
    found = history.epoch(epoch)
    return "" if found is None else f", at {percent(found.held_out_accuracy)} on held-out data"


def _before(history: RunHistory, epoch: int) -> str:
    found = history.epoch(epoch)
    return "" if found is None else f", from {percent(found.held_out_accuracy)} without it"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
