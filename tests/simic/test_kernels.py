"""Kernel tables: only for what was kept, and a reason instead where a blueprint cannot be compiled."""

from typing import Any

from esper.leyline.events import Event, SeedFossilized, SeedGerminated
from esper.nissa.history import history_of
from esper.simic.kernels import kernel_tables


def life(blueprint: str, kept: bool, **params: Any) -> list[Event]:
    seed: dict[str, Any] = {"epoch": 1, "step": 1, "slot": "s", "seed_id": blueprint, "params": 16}
    planted = SeedGerminated(blueprint_id=blueprint, blueprint_params=params, shape=[4, 8], **seed)
    figures: dict[str, Any] = {
        "improvement": 0.1,
        "standard_error": 0.01,
        "grown_loss": 0.9,
        "control_loss": 1.0,
    }
    passes: dict[str, Any] = {
        "params_added": 16,
        "control_passes": 1,
        "incubation_passes": 1,
        "reason": "G5 passed",
    }
    end = SeedFossilized(blueprint_id=blueprint, **figures, **passes, **seed)
    return [planted, end] if kept else [planted]


def test_only_kept_blueprints_are_compiled() -> None:
    assert kernel_tables(history_of(life("norm", kept=False, features=8))) == []


def test_kept_blueprint_has_its_kernels() -> None:
    (compiled,) = kernel_tables(history_of(life("norm", kept=True, features=8)))
    assert compiled.title == "norm(features=8)"
    assert {row["direction"] for row in compiled.rows} == {"forward", "backward"}
    assert "No library calls" in compiled.remark


def test_blueprint_that_is_gone_has_its_reason_told() -> None:
    (compiled,) = kernel_tables(history_of(life("vanished", kept=True)))
    assert compiled.rows == ()
    assert compiled.remark.startswith("not compiled here")
