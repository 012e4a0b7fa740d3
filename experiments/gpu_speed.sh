#!/usr/bin/env bash
# Speed on one GPU, in a given time: steps, whole runs, PyTorch beside them.
#
#     bash experiments/gpu_speed.sh SECONDS [PEER_COMMAND]
#
# PEER_COMMAND is as of `experiments.throughput --device`, such as "python3 peer.py". A
# smoke run comes first and must pass, on the GPU and again with the cache that it left.
# Every result is a line of experiments/throughput/device.jsonl as soon as it is there.
# DEVICE=cpu and TINY=--tiny try all of it without a GPU.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: bash experiments/gpu_speed.sh SECONDS [PEER]" >&2; exit 2; }
seconds=$1 peer=${2:-} device=${DEVICE:-gpu} python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
began=$SECONDS
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for run in first second; do
  before=$SECONDS
  XDG_CACHE_HOME="$scratch/cache" timeout 300 "$python" -m byol_bnfree.train \
    --config=configs/smoke.py --workdir="$scratch/$run"
  echo "== $run smoke run: $((SECONDS - before)) s"
done
left=$((seconds - SECONDS + began))
[ "$left" -gt 0 ] || { echo "no time is left after the smoke runs" >&2; exit 1; }
"$python" -m experiments.throughput --device "$device" --budget "$left" ${TINY:-} \
  ${peer:+--peer "$peer"}
