#!/usr/bin/env bash
# What needs a GPU, in a given time. Each mode takes at most SECONDS. The
# times are estimates:
#
#     bash experiments/gpu.sh speed SECONDS [PEER]
#         About 10 minutes. A smoke run, the time to the first step of
#         configs/cifar10_resnet18.py, then steps of ResNet-18 at 32 pixels and ResNet-50
#         at 224, whole runs, and PyTorch beside them. PEER is as of
#         `experiments.throughput --device`, such as "python3 /path/to/peer.py"; paths in
#         it are relative to the repository. Without $DATA the first step is taken on
#         generated pictures. With FINISHED=FILE, a device.jsonl of an earlier call, only
#         what it lacks of this device and commit is measured.
#     bash experiments/gpu.sh memory SECONDS
#         About 5 minutes. Both networks with and without --remat: speed, the memory
#         estimated before the run, and the peak.
#     bash experiments/gpu.sh verify SECONDS [FLAG ...]
#         About 2 minutes. FLAGs are as of byol_bnfree.verify. Without --claims, those that
#         use the GPU. The others run on CPU devices, on any machine.
#     bash experiments/gpu.sh tests SECONDS [FOLDER]
#         The fast tests of a folder of tests/ (default: models) on the GPU. A test of two
#         devices fails there. diagnostics, models and objectives take about 2 minutes
#         each.
#     bash experiments/gpu.sh loaders SECONDS
#         About 2 minutes, on the CPU cores alone, with grain.
#     bash experiments/gpu.sh train SECONDS DATA [WHAT]
#         ResNet-18 on CIFAR-10. DATA is the root of prepared tensorflow-datasets. A run
#         that is cut off saves, and the same command goes on with it. WHAT is one of
#           gpu30 (default), gpu100, gpu200
#                                        norm_comparison, both arms, seeds 0 to 2. The
#                                        steps of gpu30 take about 70 s a run; compiling
#                                        and evaluation come on top
#           views30, views100, views200  views, all arms, seed 0; their lengths follow
#                                        the costs of views on a CPU
#           lightly, lightly800          configs/cifar10_lightly.py, 200 or 800 epochs
#           sololearn                    configs/cifar10_sololearn.py, 1000 epochs
#
# With $OUT, rows, the log and a tar of the runs' summaries are there at all times, at
# most five files. The status is 2 if JAX does not run on a GPU, and 1 if all failed.
# Rows have the commit. Where git gives none, as in a copy without .git, set BYOL_COMMIT.
# DEVICE=cpu tries a mode without a GPU, TINY=1 with small networks and no smoke run.
set -euo pipefail
usage() { sed -n '2,/^# With/{/^# With/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
mode=$1 seconds=$2
shift 2
case $seconds in '' | *[!0-9]*) usage ;; esac
seconds=$((10#$seconds)) # a leading 0 would make it octal
grid='' scale=''  # set before the copies begin: those run in a process of their own
case $mode in
  train)
    [ $# -ge 1 ] || usage
    what=${2:-gpu30}
    case $what in
      gpu30 | gpu100 | gpu200) grid=norm_comparison scale=$what ;;
      views30 | views100 | views200) grid=views scale=gpu${what#views} ;;
      lightly | lightly800 | sololearn) ;;
      *) echo "$what is unknown; the head of $0 has the choices" >&2; exit 2 ;;
    esac
    [ -d "$1" ] || { echo "$1 is not a folder; give the root of data sets" >&2; exit 2; }
    data=$(realpath -- "$1")
    ;;
  speed | memory | verify | tests | loaders) ;;
  *) usage ;;
esac
root=$(dirname "$0")/..
[ -n "${BYOL_COMMIT:-}" ] ||
  { [ -e "$root/.git" ] && git -C "$root" rev-parse --verify -q HEAD >/dev/null 2>&1; } || {
  echo "git gives no commit here, so rows would have none; set BYOL_COMMIT" >&2
  exit 2
}
if [ -n "${FINISHED:-}" ]; then
  [ -f "$FINISHED" ] || {
    echo "FINISHED is $FINISHED, which is not a file; give a device.jsonl, or unset it" >&2
    exit 2
  }
  FINISHED=$(realpath -- "$FINISHED")
fi
if [ -n "${DATA:-}" ]; then
  [ -d "$DATA" ] || {
    echo "DATA is $DATA, which is not a folder; give the root of data sets, or unset it" >&2
    exit 2
  }
  DATA=$(realpath -- "$DATA")
fi
[ -z "${OUT:-}" ] || OUT=$(realpath -m -- "$OUT")
cd "$root"
device=${DEVICE:-gpu} python=${PYTHON:-python3} tiny=''
[ "${TINY:-0}" != 1 ] || tiny=--tiny
began=$SECONDS
scratch=$(mktemp -d)
rows=${OUT:-experiments/throughput}
mkdir -p "$rows"
touch "$scratch/start"
failed=0 done_=0
REPORT=30 # seconds in which the command starts, and prints its tables
SAVE=30   # seconds in which a run that is ended saves; a third of what is left, if less

# Sets left, the seconds of the mode that are left, and grace, those of them for saving.
clock() {
  left=$((seconds - SECONDS + began))
  grace=$(((left + 2) / 3 < SAVE ? (left + 2) / 3 : SAVE))
}

# Runs a command in the time that is left; a failure ends nothing else.
step() {
  local left grace status=0
  clock
  if [ "$left" -le 1 ]; then # timeout takes 0 as no limit
    echo "== no time is left for: $*"
    return 0
  fi
  echo "== $left s left: $*"
  timeout --signal=TERM --kill-after="$grace" $((left - grace)) "$@" || status=$?
  if [ "$status" -eq 0 ]; then
    done_=$((done_ + 1))
  else
    echo "== status $status of: $*"
    failed=$((failed + 1))
  fi
}

# Copies what is there so far to $OUT.
save() {
  [ -n "${OUT:-}" ] || return 0
  case $mode in
    train) [ -z "$grid" ] || cp -f "experiments/$grid/results.jsonl" "$OUT/" 2>/dev/null || true ;;
    loaders) cp -f experiments/decoding/loaders.jsonl "$OUT/" 2>/dev/null || true ;;
  esac
  [ -d runs ] || return 0
  find runs \( -name '*.json' -o -name '*.jsonl' -o -name '*.log' \) -newer "$scratch/start" \
    -not -path '*/checkpoints/*' -print0 |
    tar --null -czf "$scratch/runs.tar.gz" -T - 2>/dev/null || true
  cp -f "$scratch/runs.tar.gz" "$OUT/runs.tar.gz.new" 2>/dev/null &&
    mv -f "$OUT/runs.tar.gz.new" "$OUT/runs.tar.gz" || true
}

if [ -n "${OUT:-}" ]; then
  exec > >(tee -a "$OUT/$mode.log") 2>&1
  # The last sleep goes on after the end, and must not hold the output open.
  (while sleep 10; do save; done) >/dev/null 2>&1 &
  saving=$!
fi
trap '[ -z "${saving:-}" ] || kill "$saving" 2>/dev/null; save; rm -rf "$scratch"' EXIT

if [ "$mode" != loaders ]; then
  found=$("$python" -c 'import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)') ||
    found="no device"
  echo "device: $found"
  [ "${found%% *}" = "$device" ] || {
    echo "JAX runs on $found and not on a $device; install the extra cuda or cuda12," \
      "or give DEVICE=cpu." >&2
    exit 2
  }
fi
smoke() {
  step "$python" -m byol_bnfree.train --config=configs/smoke.py --workdir="$scratch/smoke"
  [ "$failed" -eq 0 ] || { echo "the smoke run failed" >&2; exit 1; }
  done_=0
}

# The figures of these modes are of one device.
case $mode in
  speed | memory)
    one=${CUDA_VISIBLE_DEVICES:-0}
    export CUDA_VISIBLE_DEVICES=${one%%,*}
    ;;
esac

case $mode in
  speed)
    [ -n "$tiny" ] || smoke
    start="--config=configs/cifar10_resnet18.py"
    if [ -n "$tiny" ]; then
      start="--norm=bn --steps=3 --batch-size=8 --model.name=resnet8 --model.width=0.25"
      start="$start --model.projector.hidden=8 --optim.warmup-epochs=0"
    elif [ -n "${DATA:-}" ]; then
      start="$start --data-dir=$DATA"
    else
      start="$start --dataset=shapes --data.image-size=32"
    fi
    step "$python" -m experiments.throughput.first_step "--settings=$start" --rounds=1 \
      --out="$rows"
    clock
    step "$python" -m experiments.throughput --device "$device" $tiny --out "$rows" \
      --budget "$((left - grace - REPORT))" \
      ${FINISHED:+--finished "$FINISHED"} ${1:+--peer "$1"}
    ;;
  memory)
    workloads=${tiny:+tiny}
    for workload in ${workloads:-resnet18_32 resnet50_224}; do
      for remat in --no-remat --remat; do
        step "$python" -m experiments.throughput.device_step --workload="$workload" \
          --norm=gn_ws --platform="$device" $tiny "$remat"
      done
    done
    ;;
  verify) step "$python" -m byol_bnfree.verify --claims=independence,program,loss,control "$@" ;;
  tests)
    # Four processes share the device, so none may take its memory at once. Status 1 of
    # pytest means that some tests failed, such as those of two devices.
    TESTS_ON=$([ "$device" = cpu ] && echo cpu || echo cuda,cpu) \
      XLA_PYTHON_CLIENT_PREALLOCATE=false step sh -c '"$@" || [ $? -eq 1 ]' sh \
      "$python" -m pytest -q -n 4 -m "not slow" -p no:cacheprovider "tests/${1:-models}"
    ;;
  loaders) step "$python" -m experiments.decoding.loaders ;;
  train)
    smoke
    preset=("$python" -m byol_bnfree.train --data-dir "$data" --compute-dtype=bfloat16
      --workdir "runs/$what")
    case $what in
      gpu*)
        step "$python" -m experiments "$grid" --scale "$scale" --arms bn gn_ws --seeds 0 1 2 \
          --data-dir "$data"
        ;;
      views*)
        step "$python" -m experiments "$grid" --scale "$scale" --seeds 0 --data-dir "$data"
        ;;
      lightly) step "${preset[@]}" --config=configs/cifar10_lightly.py:200 ;;
      lightly800) step "${preset[@]}" --config=configs/cifar10_lightly.py:800 ;;
      sololearn) step "${preset[@]}" --config=configs/cifar10_sololearn.py:1000 ;;
    esac
    # A grid that is cut off has rows, and a preset has its measurements so far.
    if "$python" - "$grid" "$scale" "runs/$what/metrics.jsonl" <<'PY'; then
import json, pathlib, sys

grid, scale, metrics = sys.argv[1:]
path = pathlib.Path(f"experiments/{grid}/results.jsonl" if grid else metrics)
rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
said = 0
if grid:
    for row in rows:
        if row["scale"] != scale or not row["summary"]:
            continue
        said += 1
        knn, linear = (row["summary"][k]["trained"] for k in ("knn", "linear"))
        seen = [v for v in row["curves"].get("knn/top1", [[], []])[1] if v is not None]
        best = f", largest over epochs {100 * max(seen):.1f} %" if seen else ""
        print(f"{row['arm']} seed {row['seed']}: kNN {100 * knn:.1f} %{best}, "
              f"linear {100 * linear:.1f} %, {row['wall_seconds']:.0f} s")
elif seen := [row["knn/top1"] for row in rows if row.get("knn/top1") is not None]:
    said = len(seen)
    print(f"kNN: newest {100 * seen[-1]:.1f} %, largest over epochs {100 * max(seen):.1f} %")
sys.exit(not said)
PY
      done_=1
    fi
    ;;
esac
[ "$done_" -gt 0 ] || { echo "nothing succeeded" >&2; exit 1; }
