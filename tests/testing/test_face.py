"""What a script reaches after `import esper` alone, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

TEXT = "blueprint b {\n  %x = input() : f32[N]\n  %y = exp(%x) : f32[N]\n  output y = %y\n}"


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        (f"esper.BlueprintIR.from_text({TEXT!r}).parameters", "0"),
        (f"esper.run_passes(esper.BlueprintIR.from_text({TEXT!r}), 'cse,dce').name", "b"),
        ("callable(esper.testing.blueprint_irs)", "True"),
    ],
)
def test_the_python_face_works_by_itself(expression: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import esper; print({expression})"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (printed, 0), done.stderr


def test_reading_and_rewriting_a_graph_needs_no_torch() -> None:
    read = f"esper.run_passes(esper.BlueprintIR.from_text({TEXT!r}))"
    code = f"import sys, esper; {read}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
