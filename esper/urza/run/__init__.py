"""What runs: `CompiledSeed`, its tiers, where its kernels come from, and how they are launched.

It plans and generates nothing itself; `esper.urza.compiler` does.
"""
