"""`esper`, growth: trains networks that grow, and tells what became of them."""

from __future__ import annotations

from esper.cli.program import Program

COMMANDS = {
    "export": "esper.cli.export:export",
    "report": "esper.cli.report:report",
    "status": "esper.cli.status:status",
    "study": "esper.cli.study:study",
    "train": "esper.cli.train:train",
}

main = Program(
    "esper",
    COMMANDS,
    help="Grow neural networks while they train, and see which seeds were worth keeping.",
    example="esper train --task mnist1d --seed 0",
)

if __name__ == "__main__":
    main()
