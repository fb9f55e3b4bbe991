#!/bin/sh
# The whole path in one go: blueprints to GPU code, then a network that grows. `make demo` runs it.
# Nothing here needs a GPU. What it makes stays in runs/demo-N.
set -eu

number=1
while [ -e "runs/demo-$number" ]; do number=$((number + 1)); done
out="runs/demo-$number"
mkdir -p "$out/seeds"

echo "== The compiler: each blueprint to kernels, forward and backward, for two GPUs that need not be here"
for blueprint in mlp_block norm conv_enhance depthwise attention; do
    esperc compile "blueprints/$blueprint.esp" --target sm_80 --target sm_90 -o "$out/seeds/$blueprint.seed"
done

echo
echo "== Growth: a small network meets MNIST-1D, and grows where it helps"
esper train --task mnist1d --seed 0 --out "$out/growth"

echo
echo "== The report, one HTML file"
esper report "$out/growth" -o "$out/report.html"
