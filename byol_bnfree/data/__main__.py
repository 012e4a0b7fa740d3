"""`python -m byol_bnfree.data prepare NAME --data-dir=DIR`, `... list`, `... views`."""

import argparse
import shlex
from collections.abc import Sequence

from byol_bnfree import __version__
from byol_bnfree.command_line import exit_on_error, parse_args
from byol_bnfree.config import DataConfig, EvalConfig, TrainConfig
from byol_bnfree.data.prepared import data_root, list_sets
from byol_bnfree.data.preparing import known_as, prepare
from byol_bnfree.errors import InputError, flag
from byol_bnfree.machine.signals import signals_end_as_errors_do

PREPARING = (
    "Prepare a data set once, so that runs read it fast. CIFAR and folders need no "
    "other package. tensorflow-datasets prepares all other names."
)

FOLDER_FLAGS = {
    "--data.unlabelled": {
        "action": "store_true",
        "help": "all pictures at any depth, without classes",
    },
    "--data.train-split": {"metavar": "NAME", "help": "folder of the training split"},
    "--data.test-split": {"metavar": "NAME", "help": "folder of the test split"},
    "--data.max-pixels": {
        "type": int,
        "metavar": "N",
        "help": "pictures with more pixels are refused",
    },
    "--data.white": {
        "type": float,
        "metavar": "X",
        "help": "value of white in pictures of more than 8 bits",
    },
    "--on-bad-image": {
        "choices": ("stop", "skip"),
        "help": "skip leaves pictures with a bad header out",
    },
    "--evaluation.skip": {
        "action": "store_true",
        "help": "do without a test split, if there is none",
    },
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare a data set, list prepared sets, or draw views."""
    parser = argparse.ArgumentParser(
        prog="python -m byol_bnfree.data", description=main.__doc__
    )
    version = f"byol_bnfree {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser(
        "prepare", help="make one set fast to read", description=PREPARING
    )
    preparing.add_argument(
        "name", help="NAME[/CONFIG][:VERSION], such as cifar10, or folder:PATH"
    )
    preparing.add_argument(
        "--archive", help="cifar10, cifar100: the .tar.gz, if it is downloaded already"
    )
    _add_folder_flags(preparing)
    listing = commands.add_parser("list", help="list the data sets on disk")
    for command in (preparing, listing):
        command.add_argument(
            "--data-dir",
            help="root of the prepared data sets; default: $TFDS_DATA_DIR, or "
            "~/tensorflow_datasets",
        )
    drawing = commands.add_parser(
        "views",
        help="draw the views of some images; takes all flags of byol_bnfree.train",
        description="Draw the views of the first images of a run, without the run. "
        "All flags of `python -m byol_bnfree.train` are allowed too.",
    )
    drawing.add_argument(
        "--out", default="views.png", help="picture to write; default: views.png"
    )
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "views":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for name in ("data_dir", "archive", "out"):
        if getattr(arguments, name, None) == "":
            raise InputError(f"{flag(name)} is ''; it must be a non-empty text.")
    if arguments.command == "views":
        config = parse_args(rest)
        from byol_bnfree.whole_run.sheet import draw_views  # only this needs JAX

        draw_views(arguments.out, config)
        print(arguments.out)
    elif arguments.command == "prepare":
        of_folder = _folder_settings(arguments)
        given = arguments.name, arguments.data_dir, arguments.archive
        print(prepare(*given, of_folder))
        print(f"train on it with {_training_flags(arguments)}")
    else:
        _print_sets(arguments.data_dir)


def _add_folder_flags(preparing: argparse.ArgumentParser) -> None:
    """Add the flags of a run that its messages about folders name."""
    group = preparing.add_argument_group("folder:PATH", "as in a run")
    for name, options in FOLDER_FLAGS.items():
        group.add_argument(name, default=argparse.SUPPRESS, **options)


def _folder_settings(arguments: argparse.Namespace) -> TrainConfig | None:
    """Return the settings that these flags ask for; None if none was given."""
    names = [name[2:].replace("-", "_") for name in FOLDER_FLAGS]
    given = {name: value for name, value in vars(arguments).items() if name in names}
    if not given:
        return None
    data = {name[5:]: given[name] for name in given if name.startswith("data.")}
    return TrainConfig(
        on_bad_image=given.get("on_bad_image", "stop"),
        data=DataConfig(**data),
        evaluation=EvalConfig(skip="evaluation.skip" in given),
    )


def _training_flags(arguments: argparse.Namespace) -> str:
    """Return the flags of a run on the prepared set, as a shell reads them.

    The set has the pictures, splits and classes that were asked for. A run must still
    be told how to read the pictures, and that there may be no test split.
    """
    root = data_root(arguments.data_dir)
    flags = [f"--dataset={known_as(arguments.name)}", f"--data-dir={root}"]
    given = vars(arguments)
    for name in ("data.white", "data.max_pixels"):
        if name in given:
            flags.append(f"{flag(name)}={given[name]}")
    if "evaluation.skip" in given:
        flags.append("--evaluation.skip")
    return shlex.join(flags)


def _print_sets(data_dir: str | None) -> None:
    root = data_root(data_dir)
    if not root.is_dir():
        raise InputError(f"--data-dir {root} is not a folder; give --data-dir=DIR.")
    sets = list_sets(root)
    if not sets:
        print(f"no prepared data set in {root}")
    for found in sets:
        splits = ", ".join(f"{name} {count:,}" for name, count in found.splits.items())
        print(f"{found.name} {found.version}: {splits} ({found.file_format})")


def command() -> None:
    """`byol-data` and `python -m byol_bnfree.data`."""
    with signals_end_as_errors_do():  # a part of a set is removed
        exit_on_error(main)


if __name__ == "__main__":
    command()
