"""What a study found, in sentences made of its figures, whichever way they fell."""

from __future__ import annotations

from esper.simic.study.comparison import ArmFigures, Comparison, Verdict
from esper.simic.study.statistics import Interval


def summary(found: Comparison) -> list[str]:
    """One paragraph an entry: what growth reached, each claim, what it cost, and what became of the seeds."""
    grown = found.grown
    question = found.study.question
    count = found.study.config.seeds
    paragraphs = [
        f"{question.title} Over {count} paired seeds of {found.study.config.task}, growth "
        f"({_plain(grown.title)}) reached {percents(grown.accuracy)} with "
        f"{grown.parameters.mean:,.0f} parameters and {grown.flops.mean / 1e9:.1f} GFLOP."
    ]
    paragraphs += [_claim(found, verdict) for verdict in found.verdicts]
    holds = [verdict.holds for verdict in found.verdicts]
    if found.forgotten is not None and question.most_forgotten is not None:
        bound = question.most_forgotten
        holds.append(found.forgotten.high <= bound)
        verdict = "Met" if holds[-1] else "Not met"
        lost = points(found.forgotten)
        paragraphs.append(
            f"{verdict}: growth loses at most {bound:g} points of the first task. It lost {lost}."
        )
    total, failed = len(holds), holds.count(False)
    if failed:
        paragraphs.append(f"Of {total} claims, {total - failed} hold and {failed} do not.")
    else:
        paragraphs.append(f"All {total} claims hold.")
    paragraphs.append(_others(found))
    paragraphs.append(_costs(grown))
    paragraphs.append(_seeds(grown))
    return paragraphs


def _claim(found: Comparison, verdict: Verdict) -> str:
    rival = found.arm(verdict.claim.rival)
    bound = verdict.claim.above
    claim = (
        f"growth beats {_plain(rival.title)}"
        if bound == 0
        else f"growth falls less than {-bound:g} points short of {_plain(rival.title)}"
    )
    return (
        f"{'Met' if verdict.holds else 'Not met'}: {claim}. The difference is {points(verdict.difference)}, "
        f"{_p(verdict.p)} ({_p(verdict.p_holm)} after Holm) that it is {bound:g} points, against "
        f"{percents(rival.accuracy)} with {rival.parameters.mean:,.0f} parameters and "
        f"{rival.flops.mean / 1e9:.1f} GFLOP."
    )


def _others(found: Comparison) -> str:
    """Growth against the arms that no claim is about."""
    claimed = {verdict.claim.rival for verdict in found.verdicts}
    differences = [
        f"{_plain(arm.title)} {points(arm.versus.test.difference.in_points)}"
        for arm in found.arms
        if arm.versus is not None and arm.name not in claimed
    ]
    return f"Growth minus each of the other arms: {'; '.join(differences)}."


def _costs(grown: ArmFigures) -> str:
    total = sum(grown.purposes.values())
    own = total - grown.purposes.get("training", 0.0)
    shares = ", ".join(
        f"{purpose} {100 * count / total:.1f} %"
        for purpose, count in sorted(grown.purposes.items(), key=lambda item: -item[1])
    )
    return f"What growth did beside training took {100 * own / total:.0f} % of its operations: {shares}."


def _seeds(grown: ArmFigures) -> str:
    if grown.planted == 0:
        return "It planted no seed."
    return (
        f"Of {grown.planted} seeds that it planted, {grown.kept} were kept, and {grown.starved} starved "
        "(their gradient below a thousandth of the host's)."
    )


def percents(found: Interval) -> str:
    """An accuracy with its interval, in percent."""
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def points(found: Interval) -> str:
    """A difference in points with its interval."""
    return f"{found.mean:+.2f} points [{found.low:+.2f}, {found.high:+.2f}]"


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def _plain(title: str) -> str:
    """A title without its letter in front."""
    return title.partition(") ")[2] if title.startswith("(") else title
