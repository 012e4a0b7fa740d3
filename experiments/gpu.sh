#!/usr/bin/env bash
# norm_comparison on one GPU: ResNet-18, CIFAR-10, both arms, in a given time.
#
#     bash experiments/gpu.sh DATA SECONDS [SCALE]
#
# DATA is the root of prepared tensorflow-datasets. A smoke run comes first and must
# pass. Then the grid of SCALE (gpu30; gpu100 and gpu200 are longer) runs seed by seed
# until it is done or the time is up. A run that is cut off saves, and the same command
# goes on with it. Rows are in experiments/norm_comparison/results.jsonl.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash experiments/gpu.sh DATA SECONDS [SCALE]" >&2; exit 2; }
data=$1 seconds=$2 scale=${3:-gpu30}
cd "$(dirname "$0")/.."
began=$SECONDS
python3 -c 'import jax; d = jax.devices()[0]; print("device:", d.device_kind, d.platform)'
python3 -m byol_bnfree.train --config=configs/smoke.py --workdir="$(mktemp -d)/smoke"
left=$((seconds - SECONDS + began))
[ "$left" -gt 0 ] || { echo "no time is left after the smoke run" >&2; exit 1; }
echo "== $left s for norm_comparison at $scale"
timeout --signal=TERM --kill-after=30 "$left" python3 -m experiments norm_comparison \
  --scale "$scale" --arms bn gn_ws --seeds 0 1 2 --data-dir "$data" ||
  echo "stopped with status $?; the same command goes on"
python3 - "$scale" <<'PY'
import json, pathlib, sys

path = pathlib.Path("experiments/norm_comparison/results.jsonl")
for line in path.read_text().splitlines() if path.exists() else []:
    row = json.loads(line)
    if row["scale"] == sys.argv[1] and row["summary"]:
        knn, linear = (row["summary"][k]["trained"] for k in ("knn", "linear"))
        seen = [v for v in row["curves"].get("knn/top1", [[], []])[1] if v is not None]
        best = f", largest over epochs {100 * max(seen):.1f} %" if seen else ""
        print(f"{row['arm']} seed {row['seed']}: kNN {100 * knn:.1f} %{best}, "
              f"linear {100 * linear:.1f} %, {row['wall_seconds']:.0f} s")
PY
