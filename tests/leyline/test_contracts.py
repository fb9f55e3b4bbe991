"""Leyline stands alone: no torch, and structural protocols that an ordinary class satisfies."""

import subprocess
import sys
from collections.abc import Sequence

from esper.leyline.actions import ACTION_KINDS, Action, AdvanceStage, Cull, Germinate, Wait
from esper.leyline.gates import GateCheck, GateLevel, GateResult
from esper.leyline.protocols import TamiyoPolicy
from esper.leyline.signals import TrainingSignals


def test_importing_leyline_imports_no_torch() -> None:
    names = "actions errors events gates protocols reports signals stages"
    imports = "; ".join(f"import esper.leyline.{name}" for name in names.split())
    check = f"{imports}; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_five_actions() -> None:
    assert ACTION_KINDS == ("WAIT", "GERMINATE", "ADVANCE_STAGE", "CULL", "CHANGE_BLUEPRINT")
    assert Germinate("norm", "body") == Germinate("norm", "body", {})
    actions: set[Action] = {AdvanceStage("body"), Cull("body", "plateau"), Wait(), Wait()}
    assert len(actions) == 3


def test_any_class_that_decides_is_a_policy() -> None:
    class Never:
        def decide(self, signals: TrainingSignals) -> Sequence[Action]:
            return (Wait(),)

    assert isinstance(Never(), TamiyoPolicy)


def test_a_gate_passes_when_every_check_does() -> None:
    met = GateCheck("age_steps", 120.0, ">=", 100.0, passed=True)
    unmeasured = GateCheck("descent", None, ">", 0.0, passed=False)
    assert GateResult(GateLevel.G2, (met,)).passed
    refused = GateResult(GateLevel.G2, (met, unmeasured))
    assert not refused.passed
    assert refused.failures == (unmeasured,)
    assert str(unmeasured) == "descent is not measured, expected > 0"
