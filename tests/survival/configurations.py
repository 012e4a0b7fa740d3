"""Generated configurations: each runs one step, or is refused in one sentence.

    JAX_NUM_CPU_DEVICES=2 python tests/survival/configurations.py 500

A configuration is the smallest run with up to 12 fields drawn anew, of all there are,
and up to two of them strange: of another type, out of range, not finite, not a name.
Half are given as flags, half as a config file gives them: as objects. Each then goes
the way of `byol_bnfree.train`: data, program and batch are made and the step is traced
and lowered; every third is compiled and taken too, and every fifteenth is a whole run
of one step. Networks deeper than resnet20 are lowered only: they compile for minutes.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from byol_bnfree.config import TrainConfig

BASE = (
    "--steps=1 --batch-size=4 --model.name=resnet8 --model.width=0.25 "
    "--model.stem=small --model.projector.hidden=8 --model.projector.out=4 "
    "--model.predictor.hidden=8 --model.predictor.out=4 --optim.warmup-epochs=0 "
    "--data.image-size=8 --data.shapes-train=16 --data.shapes-test=8 "
    "--evaluation.skip --augment.view1.jitter=0 --augment.view2.jitter=0"
).split()
SMALL: dict[str, tuple] = {  # what may work, beside every choice of a Literal
    "batch_size": (1, 2, 3, 4, 8, 12),
    "micro_batches": (1, 2, 4),
    "bn_stat_groups": (1, 2, 4),
    "steps": (1, None),
    "epochs": (0.1, 0.25, 1),
    "base_lr": (1e-3, 1.0, 100.0),
    "seed": (1, 2**20),
    "model.width": (0.125, 0.25, 0.5, 0.3),
    "model.groups": (1, 2, 3, 16),
    "model.min_group_channels": (1, 4, 100),
    "model.last_scale_init": (0.0, 1),
    "model.projector.hidden": (1, 16, 20),
    "model.predictor.hidden": (1, 16, 20),
    "model.projector.out": (4, 1),
    "model.projector.depth": (1, 2, 3),
    "model.predictor.depth": (1, 2, 3),
    "optim.momentum": (0.0, 0.5),
    "optim.weight_decay": (0.0, 1e-2),
    "optim.warmup_epochs": (0.1, 1.0),
    "optim.tau_base": (0.0, 1.0),
    "augment.view1.crop_area": ((0.5, 1.0), (1e-3, 1e-3)),
    "augment.view2.crop_aspect": ((1.0, 1.0), (0.1, 10.0)),
    "augment.view1.blur": (0.0, 0.5),
    "augment.view2.jitter": (0.5,),  # off in BASE: half of the time to compile
    "augment.view1.blur_sigma": ((0.5, 0.5), (0.1, 30.0)),
    "augment.mean": ((0.0, 0.0, 0.0),),
    "data.image_size": (1, 2, 7, 16, 24, None),
    "data.in_memory_gib": (1e-9, 1),
    "data.shapes_train": (1, 5, 40),
    "data.shapes_test": (1, 5),
    "evaluation.knn_k": (1, 100),
    "evaluation.batch_size": (1, 7),
    "evaluation.knn_every_epochs": (0.25,),
    "run.log_every": (1, 7),
    "run.checkpoint_steps": (1,),
    "run.keep": (1,),
    "run.model_devices": (1, 2, 3),
}
NUMBERS = (-1, 0, 0.5, 3, 1e-30, 1e30, 1e300, 2**31, 10**30, 2**40, -0.0)
NUMBERS += (float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    "foo",
    "~nosuchuser/x",
    "/proc/x",
    "/dev/null/x",
    "x" * 300,
    "a\0b",
    "folder:",
)
WRONG = (None, True, "foo", 1.5, (), (1, 2), [0.5, 0.5], {}, "1", np.float32("nan"))
DEEP = 20  # layers; beyond, a network is lowered only
DEPTHS = ("ran whole", "lowered", "lowered", *("compiled", "lowered", "lowered") * 4)


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from fields_of(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint


KINDS = dict(fields_of(TrainConfig))


def ordinary(name: str) -> tuple:
    """Values that are allowed by themselves."""
    kind, literals = KINDS[name], []
    for part in (kind, *typing.get_args(kind)):
        if typing.get_origin(part) is typing.Literal:
            literals += typing.get_args(part)
    if kind is bool:
        literals = [True, False]
    return SMALL.get(name, tuple(literals))


def strange(name: str) -> st.SearchStrategy:
    """Values that may not be allowed."""
    text = str(KINDS[name])
    if "tuple" in text:
        number = st.sampled_from(NUMBERS)
        return st.tuples(*[number] * (text.count("float"))) | st.sampled_from(WRONG)
    if "float" in text or "int" in text:
        return st.sampled_from(NUMBERS + NUMBERS + WRONG)
    return st.sampled_from(TEXTS + WRONG)


@st.composite
def changes(draw, folder: str) -> tuple[dict[str, Any], bool]:
    """Values by name, and whether they are given as flags."""
    choices = {name: values for name in KINDS if (values := ordinary(name))}
    choices["dataset"] = ("shapes", f"folder:{folder}")
    names = draw(st.lists(st.sampled_from(sorted(choices)), unique=True, max_size=12))
    drawn = {name: draw(st.sampled_from(choices[name])) for name in names}
    count = draw(st.sampled_from((0, 0, 0, 0, 1, 1, 1, 2)))
    for _ in range(count):
        name = draw(st.sampled_from(sorted(KINDS)))
        drawn[name] = draw(strange(name))
    return drawn, draw(st.booleans())


def flags(drawn: dict[str, Any]) -> list[str]:
    """As a shell would give them."""
    found = []
    for name, value in drawn.items():
        flag = "--" + name.replace("_", "-")
        if KINDS[name] is bool and isinstance(value, bool):
            start, _, last = flag.rpartition("." if "." in flag else "--")
            mark = "." if "." in flag else "--"
            found.append(flag if value else f"{start}{mark}no-{last}")
        elif isinstance(value, tuple | list):
            found += [flag, *map(str, value)]
        else:
            found.append(f"{flag}={value}")
    return found


def replaced(config: Any, name: str, value: Any) -> Any:
    """The configuration with one setting changed, not validated before the last."""
    first, _, rest = name.partition(".")
    if rest:
        value = replaced(getattr(config, first), rest, value)
    changed = object.__new__(type(config))
    changed.__dict__.update(config.__dict__ | {first: value})
    return changed


def configuration(drawn: dict[str, Any], by_flags: bool) -> TrainConfig:
    """The configuration of the changes; raises as a command line would."""
    from byol_bnfree.command_line import parse_args

    if by_flags:
        return parse_args([*BASE, *flags(drawn)])
    config = parse_args(BASE)
    for name, value in drawn.items():
        config = replaced(config, name, value)
    return dataclasses.replace(config)  # validates


def try_one(drawn: dict[str, Any], by_flags: bool, depth: str) -> str:
    """What became of it; raises what is neither a step nor a sentence."""
    import jax

    from byol_bnfree.command_line import exit_on_error
    from byol_bnfree.whole_run.run import train

    def command() -> None:
        nonlocal depth
        config = configuration(drawn, by_flags)
        if "workdir" not in drawn:
            config = dataclasses.replace(config, workdir=tempfile.mkdtemp(dir="."))
        deep = int(re.findall(r"\d+", config.model.name)[0]) > DEEP
        if deep and depth != "built":
            depth = "lowered"
        train(config) if depth == "ran whole" else first_step(config, depth)

    cache = jax.config.jax_compilation_cache_dir
    quiet, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(errors):
            exit_on_error(command)
    except SystemExit as ended:
        return check_sentence(ended.code, errors.getvalue())
    finally:
        jax.config.update("jax_compilation_cache_dir", cache)  # a setting of some
    return depth


def check_sentence(status: int, errors: str) -> str:
    """How it ended, if what was printed is a sentence that a user can read."""
    assert "Traceback" not in errors, errors
    sentences = [x for x in errors.splitlines() if x.startswith("error: ")]
    if not sentences:  # the parser has framed what is wrong with a flag
        assert status == 2 and "--help" in errors, errors
        return "refused by the parser"
    sentence = sentences[-1]
    assert errors.strip().endswith(sentence), errors  # one line, and nothing after it
    assert 20 < len(sentence) < 1000, errors
    if os.environ.get("SHOW"):
        print(sentence, file=sys.__stdout__)
    return "refused" if status == 2 else "stopped"


def first_step(config: TrainConfig, depth: str) -> None:
    """What `train` does up to the first step, without pictures and checkpoints."""
    import jax

    from byol_bnfree.data.pipeline import Batches
    from byol_bnfree.data.sources import find_data
    from byol_bnfree.training.mesh import batch_sharding
    from byol_bnfree.training.program import build_program
    from byol_bnfree.training.workdir import prepare_workdir
    from byol_bnfree.whole_run.inputs import open_data

    data = open_data(find_data(config))
    program = build_program(config, data.shape)
    prepare_workdir(config.workdir, "survey")
    batch = Batches(
        data.train, config.batch_size, config.seed, batch_sharding(program.mesh)
    )(0)
    if depth == "built":
        return
    lowered = program.step.lower(program.abstract_state, batch)
    if depth == "compiled":
        state, metrics, _ = lowered.compile()(program.init(batch), batch)
        jax.block_until_ready((state, metrics))


def pictures(root: Path) -> Path:
    """A few pictures of two classes and several sizes."""
    for index in range(12):
        path = root / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + index, 12), (20 * index,) * 3).save(path)
    return root


def survey(
    count: int, number: int = 0, depths: tuple[str, ...] = DEPTHS, say=print
) -> tuple[Counter, list[str]]:
    """Outcomes of so many configurations, and a description of each that failed.

    Writes into the current folder. `depths` are taken in turn.
    """
    outcomes, failures, began = Counter(), [], time.monotonic()
    folder = str(pictures(Path("pictures").absolute()))

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(changes(folder))
    def each(example):
        drawn, by_flags = example
        Path("now.txt").write_text(repr(example))  # should the process be killed
        try:
            outcome = try_one(drawn, by_flags, depths[outcomes.total() % len(depths)])
        except Exception:
            outcome = "FAILED"
            failures.append(f"{drawn} {by_flags}\n{traceback.format_exc(limit=-4)}")
        outcomes[outcome] += 1
        if outcomes.total() % 20 == 0:
            seconds = time.monotonic() - began
            say(f"{outcomes.total()} in {seconds:.0f} s: {dict(outcomes)}")

    each()
    return outcomes, failures


def main() -> None:
    """Survey in a temporary folder; exits with 1 if a configuration failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    limit = 16 * 2**30  # beyond it memory is refused, as on a smaller machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        outcomes, failures = survey(arguments.count, arguments.seed)
        os.chdir("/")
    print(dict(outcomes), *failures, sep="\n\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
