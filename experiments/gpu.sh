#!/usr/bin/env bash
# Runs for one GPU: CIFAR-10, ResNet-18, in a given time.
#
#     bash experiments/gpu.sh DATA SECONDS [WHAT]
#
# DATA is the root of prepared tensorflow-datasets. A smoke run comes first and must
# pass. Then WHAT runs until it is done or the time is up. A run that is cut off saves,
# and the same command goes on with it. WHAT is one of
#
#     gpu30, gpu100, gpu200       norm_comparison, both arms, seeds 0 to 2
#     views30, views100, views200 views, all arms, seed 0
#     lightly, lightly800         configs/cifar10_lightly.py, 200 or 800 epochs
#     sololearn                   configs/cifar10_sololearn.py, 1000 epochs
#
# Rows of grids are in experiments/NAME/results.jsonl. A preset has the work folder
# runs/WHAT, with summary.json.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash experiments/gpu.sh DATA SECONDS [WHAT]" >&2; exit 2; }
data=$1 seconds=$2 what=${3:-gpu30}
cd "$(dirname "$0")/.."
train=(python3 -m byol_bnfree.train --data-dir "$data" --compute-dtype=bfloat16)
train+=(--workdir "runs/$what")
case $what in
  gpu30 | gpu100 | gpu200)
    name=norm_comparison scale=$what
    command=(python3 -m experiments "$name" --arms bn gn_ws --seeds 0 1 2) ;;
  views30 | views100 | views200)
    name=views scale=gpu${what#views}
    command=(python3 -m experiments "$name" --seeds 0) ;;
  lightly) command=("${train[@]}" --config=configs/cifar10_lightly.py:200) ;;
  lightly800) command=("${train[@]}" --config=configs/cifar10_lightly.py:800) ;;
  sololearn) command=("${train[@]}" --config=configs/cifar10_sololearn.py:1000) ;;
  *) echo "$what is unknown; the head of experiments/gpu.sh has the choices" >&2; exit 2 ;;
esac
[ -z "${scale:-}" ] || command+=(--scale "$scale" --data-dir "$data")
began=$SECONDS
python3 -c 'import jax; d = jax.devices()[0]; print("device:", d.device_kind, d.platform)'
python3 -m byol_bnfree.train --config=configs/smoke.py --workdir="$(mktemp -d)/smoke"
left=$((seconds - SECONDS + began))
[ "$left" -gt 0 ] || { echo "no time is left after the smoke run" >&2; exit 1; }
echo "== $left s for ${command[*]}"
timeout --signal=TERM --kill-after=30 "$left" "${command[@]}" ||
  echo "stopped with status $?; the same command goes on"
[ -n "${scale:-}" ] || exit 0
python3 - "$name" "$scale" <<'PY'
import json, pathlib, sys

path = pathlib.Path(f"experiments/{sys.argv[1]}/results.jsonl")
for line in path.read_text().splitlines() if path.exists() else []:
    row = json.loads(line)
    if row["scale"] == sys.argv[2] and row["summary"]:
        knn, linear = (row["summary"][k]["trained"] for k in ("knn", "linear"))
        seen = [v for v in row["curves"].get("knn/top1", [[], []])[1] if v is not None]
        best = f", largest over epochs {100 * max(seen):.1f} %" if seen else ""
        print(f"{row['arm']} seed {row['seed']}: kNN {100 * knn:.1f} %{best}, "
              f"linear {100 * linear:.1f} %, {row['wall_seconds']:.0f} s")
PY
