"""`esperc`, the compiler: from a blueprint's source to kernels that can be checked and planted."""

from __future__ import annotations

from esper.cli.program import Program

COMMANDS = {
    "analyze": "esper.cli.analyze:analyze",
    "bench": "esper.cli.bench:bench",
    "cache": "esper.cli.cache:cache",
    "calibrate": "esper.cli.calibrate:calibrate",
    "check": "esper.cli.check:check",
    "compile": "esper.cli.compile:compile",
    "explain": "esper.cli.explain:explain",
    "fmt": "esper.cli.fmt:fmt",
    "inspect": "esper.cli.inspect:inspect",
    "lsp": "esper.cli.lsp:lsp",
    "modify": "esper.cli.modify:modify",
    "opt": "esper.cli.opt:opt",
    "registry": "esper.cli.registry:registry",
    "search": "esper.cli.search:search",
    "templates": "esper.cli.templates:templates",
    "verify": "esper.cli.verify:verify",
}

main = Program(
    "esperc",
    COMMANDS,
    help="Compile blueprints of small neural network modules to Triton kernels.",
    example="esperc compile mlp_block --precision bf16 --target sm_90 -o mlp.seed",
    is_brief=True,
)

if __name__ == "__main__":
    main()
