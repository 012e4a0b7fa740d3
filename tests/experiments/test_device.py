"""Speed on a device: failures are told apart from figures, and nothing is lost."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from byol_bnfree import parse_args
from byol_bnfree.assembly import create_network
from byol_bnfree.errors import InputError
from byol_bnfree.training import environment as training_environment
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import build_program
from byol_bnfree.verify import parse
from experiments.throughput import __main__ as throughput
from experiments.throughput import device
from experiments.throughput.__main__ import Arguments, main
from experiments.throughput.device import Plan, arms, result
from experiments.throughput.measure import forward_flops
from experiments.throughput.profile import by_kind
from experiments.throughput.ratios import costs, ratios, slowest

ROOT = Path(__file__).parents[2]
PEER = "import json; print(json.dumps({'images_per_s': 100.0}))"
PLAN = Plan("cpu", "peer", False, 1.0, 60.0, 30.0)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failure_keeps_the_end_of_its_log():
    code = "import sys; [print(n, file=sys.stderr) for n in range(30)]; sys.exit(3)"
    found = result(python(code), 60)
    assert found == {"failed": "status 3", "log": [str(n) for n in range(10, 30)]}


@pytest.mark.parametrize(
    "printed", ["", "no JSON", "[1]", "{}", '{"images_per_s": "1"}']
)
def test_an_answer_must_have_a_number(printed):
    found = result(python(f"print({printed!r})"), 60)
    assert "not JSON with a number of images_per_s" in found["failed"]


def test_a_measurement_has_a_limit():
    found = result(python("import time; time.sleep(60)"), 0.5)
    assert "longer than" in found["failed"]


def test_the_figures_of_the_ratios_come_before_whole_runs():
    names = [(arm.workload, arm.name) for arm in arms(PLAN, device.WORKLOADS)]
    steps = ["bn", "torch eager", "torch compiled", "gn_ws"]
    runs = 2 * ["bn run", "gn_ws run"]
    assert [name for _, name in names] == 2 * steps + runs + 2 * ["gn_ws muon"]
    assert len(set(names)) == len(names)


def test_what_an_earlier_call_has_is_not_measured_again(tmp_path, monkeypatch, capsys):
    measured = []

    def measure(command, seconds):
        measured.append(command)
        return {"images_per_s": 5.0}

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    monkeypatch.setattr(device, "device_kind", lambda wanted: "card")
    monkeypatch.setattr(training_environment, "commit", lambda: "new")
    monkeypatch.setattr(device, "result", measure)
    earlier = tmp_path / "earlier.jsonl"
    here = {"workload": "tiny", "tiny": True, "device": "card", "commit": "new"}
    rows = [
        here | {"arm": "bn", "images_per_s": 7.0},
        here | {"arm": "gn_ws", "failed": "status 1"},
        here | {"arm": "bn run", "images_per_s": 9.0, "tiny": False},
        here | {"arm": "gn_ws run", "images_per_s": 9.0, "commit": "old"},
        here | {"arm": "gn_ws muon", "images_per_s": 9.0, "device": "other card"},
    ]
    earlier.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Plan("cpu", None, True, 1.0, 60.0, 30.0, out=tmp_path, finished=earlier)
    device.measure_device(plan)
    assert "tiny bn: finished before" in capsys.readouterr().out
    assert len(measured) == 4  # all but bn
    written = (tmp_path / "device.jsonl").read_text().splitlines()
    assert [json.loads(line)["arm"] for line in written] == [
        *("bn", "gn_ws", "bn run", "gn_ws run", "gn_ws muon")
    ]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"  # the figures are of one device
    # Its own file: nothing is measured again, and no row stands there twice.
    device.measure_device(plan._replace(finished=tmp_path / "device.jsonl"))
    assert len(measured) == 4
    assert (tmp_path / "device.jsonl").read_text().splitlines() == written
    # Without a commit nobody knows whether the code was the same.
    monkeypatch.setattr(training_environment, "commit", lambda: None)
    earlier.write_text(json.dumps(rows[0] | {"commit": None}) + "\n")
    device.measure_device(plan)
    assert len(measured) == 9


def test_a_finished_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "device_kind", lambda wanted: pytest.fail("measures"))
    plan = PLAN._replace(out=tmp_path, finished=tmp_path / "devise.jsonl")
    with pytest.raises(InputError, match="--finished is .*devise.jsonl, which is not"):
        device.measure_device(plan)


def test_a_folder_for_the_rows_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out cannot be"):
        main(Arguments(device="cpu", out=tmp_path / "file"))


def test_what_cannot_end_in_time_is_not_begun(tmp_path, monkeypatch, capsys):
    clock = {"time": 0.0}

    def measure(command, seconds):
        clock["time"] += 20
        return {"images_per_s": 5.0}

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(device.time, "monotonic", lambda: clock["time"])
    monkeypatch.setattr(device, "device_kind", lambda wanted: "card")
    monkeypatch.setattr(device, "result", measure)
    plan = Plan("cpu", None, True, 1.0, 60.0, 30.0, out=tmp_path)
    device.measure_device(plan)
    rows = (tmp_path / "device.jsonl").read_text().splitlines()
    assert [json.loads(row)["arm"] for row in rows] == ["bn", "gn_ws"]  # 60 and 40 s
    assert capsys.readouterr().out.count("no time is left") == 3


def test_ratios_are_over_the_faster_peer():
    rates = {"torch eager": 50.0, "torch compiled": 80.0, "gn_ws": 100.0}
    found = [{"workload": "w", "arm": a, "images_per_s": r} for a, r in rates.items()]
    found.append({"workload": "w", "arm": "bn run", "failed": "status 1"})
    step = {"images_per_s": 120.0, "with_views_images_per_s": 96.0}
    found.append({"workload": "w", "arm": "bn"} | step)
    _, figures, values = (list(c.cells) for c in ratios(found, {"w": None}).columns)
    measured = dict(zip(figures, values, strict=True))
    assert measured["over the faster PyTorch step"] == "1.500"
    assert measured["with our augmentation, over the same PyTorch step"] == "1.200"
    assert measured["gn_ws over bn, time of a step"] == "1.200"
    assert measured["run by the clock, over its step"] == "?"


def test_every_arm_shows_memory_compile_time_share_and_slowest_operations():
    step = {"part_of_limit": 0.284, "compile_seconds": 31.0}
    step |= {"peak_gib": {"host": 9.0, "device": 2.0}}
    step |= {"images_per_s": 9.0, "top_ms": {f"op {k}": float(k) for k in range(7)}}
    found = [{"workload": "w", "arm": "bn"} | step]
    torch = {"images_per_s": 8.0, "peak_gib": 3.0}
    found.append({"workload": "w", "arm": "torch eager"} | torch)
    found.append({"workload": "w", "arm": "gn_ws", "failed": "status 1"})
    cells = [list(column.cells) for column in costs(found).columns]
    assert list(zip(*cells, strict=True)) == [
        ("w", "bn", "9.0", "2.0", "31.0", "28.4%"),
        ("w", "torch eager", "8.0", "3.0", "", ""),
        ("w", "gn_ws", "failed", "", "", ""),
    ]
    assert costs(found).columns[3].header == "peak GiB"
    assert list(slowest(found).columns[2].cells) == [f"op {k}" for k in (6, 5, 4, 3, 2)]


@pytest.mark.parametrize("given, used", [(None, 4.0), (9.0, 9.0), (2.0, 2.0)])
def test_the_length_of_a_timing_is_what_was_given(monkeypatch, given, used):
    plans = []
    monkeypatch.setattr(throughput, "measure_device", plans.append)
    main(Arguments(device="gpu", seconds=given))
    assert plans[0].seconds == used


@pytest.mark.parametrize(
    "given, words",
    [
        ({"rounds": 3}, "--rounds and --convolution are for CPUs"),
        ({"convolution": "xla"}, "--rounds and --convolution are for CPUs"),
        ({"workload": ("cifar_thin",)}, "'cifar_thin'; on a device choose of resnet18"),
    ],
)
def test_settings_of_cpus_are_refused_for_devices(given, words):
    with pytest.raises(InputError, match=words):
        main(Arguments(device="gpu", **given))


def test_another_platform_is_refused():
    with pytest.raises(InputError, match="--device is gpu, but JAX says cpu"):
        device.device_kind("gpu")


def test_nothing_measured_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "device_kind", lambda wanted: "card")
    monkeypatch.setattr(device, "result", lambda *_: {"failed": "status 1"})
    with pytest.raises(SystemExit) as ended:
        device.measure_device(PLAN._replace(out=tmp_path))
    assert ended.value.code not in (0, None)
    assert len((tmp_path / "device.jsonl").read_text().splitlines()) == 14


def test_events_of_a_gpu_count_once_by_operation_or_by_their_own_name():
    def named(kind, pid, tid, name):
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}

    def event(pid, tid, name, dur, **args):
        ran = {"ph": "X", "pid": pid, "tid": tid, "name": name, "dur": dur}
        return ran | {"args": args}

    events = [
        named("process_name", 1, 0, "/device:GPU:0"),
        named("process_name", 2, 0, "/host:CPU"),
        named("thread_name", 1, 5, "Stream #5(Compute)"),
        named("thread_name", 1, 6, "XLA Ops"),
        event(1, 5, "loop_add_3", 2e6, hlo_op="fusion.3"),
        event(1, 5, "sm90_kernel_7", 3e6),
        event(1, 5, "sm90_kernel_8", 1e6),
        event(1, 6, "fusion.3", 9e6, hlo_op="fusion.3"),
        event(2, 1, "fusion.3", 9e6),
    ]
    kinds = {"fusion.3": "fusion add"}
    assert by_kind(events, kinds) == {"fusion add": 2.0, "sm90_kernel": 4.0}
    assert by_kind(events[-1:], kinds) == {"fusion add": 9.0}  # of a CPU


@pytest.mark.slow
def test_the_script_tries_everything_on_a_cpu(tmp_path):
    peer = tmp_path / "peer.py"
    peer.write_text(PEER)
    environment = os.environ | {"DEVICE": "cpu", "TINY": "1", "OUT": str(tmp_path)}
    environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    script = str(ROOT / "experiments" / "gpu.sh")
    command = ["bash", script, "speed", "1500", f"{sys.executable} {peer}"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, timeout=1600)
    log = (tmp_path / "speed.log").read_text()
    assert done.returncode == 0, log
    rows = [
        json.loads(line)
        for line in (tmp_path / "device.jsonl").read_text().splitlines()
    ]
    steps = ["bn", "torch eager", "torch compiled", "gn_ws"]
    assert [row["arm"] for row in rows] == [*steps, "bn run", "gn_ws run", "gn_ws muon"]
    assert all(row["images_per_s"] > 0 for row in rows)
    assert rows[0]["profile_part"] > 0 and "?" not in log.split("ratios on")[1]
    assert (tmp_path / "first_step.jsonl").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["speed"], ["speed", "soon"], ["fly", "60"], ["train", "60"]]
)
def test_the_script_explains_itself(arguments):
    command = ["bash", str(ROOT / "experiments" / "gpu.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "gpu.sh speed SECONDS [PEER]" in done.stderr


def test_the_script_refuses_a_cpu_for_a_gpu(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path)}
    command = ["bash", str(ROOT / "experiments" / "gpu.sh"), "verify", "60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not on a gpu; install the extra" in done.stdout + done.stderr


# Stands for timeout. It notes the limit, and the time to the kill, and sets neither.
NOTES_LIMITS = """#!/bin/bash
echo "${3} ${2#--kill-after=} $*" >> "$OUT/limits"
shift 3
exec "$@"
"""
GPU_OF_A_TEST = """#!/bin/bash
[ "$1" != -c ] || echo "gpu of a test"
"""


def run_script(
    folder: Path,
    arguments: list[str],
    programs: dict[str, str],
    variables: dict[str, str] | None = None,
    **options,
):
    """Run gpu.sh, with programs of these names and texts before all others."""
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "BYOL_COMMIT": "abc"}
    environment |= {"OUT": str(folder), "PYTHON": str(folder / "python")}
    environment |= variables or {}
    command = ["bash", str(ROOT / "experiments" / "gpu.sh"), *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize("seconds", [3, 20, 85, 200])
def test_a_mode_ends_in_its_time_and_a_budget_before_the_limit(tmp_path, seconds):
    programs = {"python": GPU_OF_A_TEST, "timeout": NOTES_LIMITS}
    done = run_script(tmp_path, ["speed", str(seconds)], programs)
    assert done.returncode == 0, done.stdout
    noted = [line.split() for line in (tmp_path / "limits").read_text().splitlines()]
    for limit, kill, *_ in noted:
        assert int(limit) > 0 and int(kill) > 0  # 0 is no limit
        assert int(limit) + int(kill) <= seconds
    limit, _, *words = noted[-1]
    budget = int(words[words.index("--budget") + 1])
    assert budget + 25 <= int(limit)  # it starts and prints in the rest
    assert seconds < 200 or budget >= seconds - 70


@pytest.mark.parametrize("seconds, read", [("0090", 90), ("060", 60)])
def test_seconds_are_decimal(tmp_path, seconds, read):
    done = run_script(tmp_path, ["verify", seconds], {"python": GPU_OF_A_TEST})
    left = int(re.search(r"== (\d+) s left", done.stdout)[1])
    assert read - 10 <= left <= read  # it takes a while to start


@pytest.mark.parametrize(
    "arguments, variables, said",
    [
        (["train", "60", "/nowhere/x"], {}, "/nowhere/x is not a folder"),
        (["speed", "60"], {"FINISHED": "/nowhere/x"}, "/nowhere/x, which is not a fi"),
        (["speed", "60"], {"DATA": "/nowhere/x"}, "/nowhere/x, which is not a folder"),
    ],
)
def test_the_script_refuses_paths_that_are_not_there(
    tmp_path, arguments, variables, said
):
    done = run_script(tmp_path, arguments, {"python": GPU_OF_A_TEST}, variables)
    assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize("given, tiny", [("0", False), ("", False), ("1", True)])
def test_only_1_makes_the_networks_small(tmp_path, given, tiny):
    programs, variables = {"python": GPU_OF_A_TEST}, {"TINY": given}
    done = run_script(tmp_path, ["memory", "60"], programs, variables)
    assert ("--tiny" in done.stdout) == tiny


def test_the_script_ends_when_its_work_does(tmp_path):
    # Its copies to $OUT wait for ten seconds, and would hold its output that long.
    done = run_script(tmp_path, ["verify", "60"], {"python": GPU_OF_A_TEST}, timeout=8)
    assert done.returncode == 0, done.stdout


def test_verify_checks_the_claims_that_use_the_gpu(tmp_path):
    flags = [[], ["--norm=bn"], ["--claims=pieces"]]
    checked = []
    for given in flags:
        script = ["verify", "60", *given]
        done = run_script(tmp_path, script, {"python": GPU_OF_A_TEST})
        _, _, words = done.stdout.partition("-m byol_bnfree.verify ")
        train, names = parse(words.splitlines()[0].split())
        checked.append((train.norm, names))
    assert checked == [
        ("gn_ws", ["independence", "program", "loss", "control"]),
        ("bn", ["independence", "program", "loss", "control"]),
        ("gn_ws", ["pieces"]),
    ]


@pytest.mark.parametrize("broken", ["gitdir: /nowhere\n", ""])
def test_the_script_asks_for_a_commit_where_git_gives_none(tmp_path, broken):
    (tmp_path / "experiments").mkdir()
    (tmp_path / ".git").write_text(broken)
    script = shutil.copy(ROOT / "experiments" / "gpu.sh", tmp_path / "experiments")
    command = ["bash", script, "verify", "60"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "set BYOL_COMMIT" in done.stderr


# Stands for Python. The grid ends well once its rows are in $OUT while it runs.
WAITS_FOR_ROWS = """#!/bin/bash
case "$*" in
  -c*) echo "gpu of a test" ;;
  "-m experiments "*)
    for _ in $(seq 100); do
      [ ! -s "$OUT/results.jsonl" ] || exit 0
      /bin/sleep 0.1
    done
    exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    "what, grid", [("gpu30", "norm_comparison"), ("views100", "views")]
)
def test_the_script_copies_the_rows_of_a_grid_that_still_runs(tmp_path, what, grid):
    rows = tmp_path / "experiments" / grid / "results.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text("rows\n")
    script = shutil.copy(ROOT / "experiments" / "gpu.sh", tmp_path / "experiments")
    for name, text in (
        ("python", WAITS_FOR_ROWS),
        ("sleep", "#!/bin/bash\n/bin/sleep 0.1"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "OUT": str(tmp_path / "out"),
    }
    environment |= {"PYTHON": str(tmp_path / "python")}
    command = ["bash", script, "train", "60", str(tmp_path), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "set BYOL_COMMIT" in done.stderr  # no .git here
    environment["BYOL_COMMIT"] = "abc"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"experiments {grid}" in done.stdout
    assert (tmp_path / "out" / "results.jsonl").read_text() == "rows\n"


@pytest.mark.parametrize(
    "given",
    [{"tiny": True}, {"budget": 60.0}, {"cap": 60.0}, {"out": "x"}, {"finished": "x"}],
    ids=lambda given: next(iter(given)),
)
def test_flags_of_a_device_are_refused_without_one(given):
    name = next(iter(given))
    given = {k: Path(v) if v == "x" else v for k, v in given.items()}
    with pytest.raises(InputError, match=f"--{name} is for devices; omit it, or give"):
        main(Arguments(**given))


def test_operations_of_an_image_are_those_that_xla_counts():
    """XLA leaves out the zeros around pictures, and counts sums and roots too."""
    config = parse_args(["--config=smoke", "--norm=gn_ws"])
    program = build_program(config, DataShape(1000, 10, (32, 32, 3)))
    network = create_network(config, 10, stat_groups=1)  # XLA's layers
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    params = program.abstract_state.online_params
    forward = jax.jit(lambda params, x: network.online(params, {}, x, True)[0])
    counted = forward.lower(params, image).cost_analysis()["flops"]
    assert forward_flops(program) == pytest.approx(counted, rel=0.1)
