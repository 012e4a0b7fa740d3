"""Turns a command line into a configuration, and errors into messages."""

import contextlib
import dataclasses
import errno
import os
import select
import sys
from collections.abc import Callable, Sequence

from byol_bnfree import __version__
from byol_bnfree.config import NORMS, PAPERS, TrainConfig
from byol_bnfree.config_files import load_config
from byol_bnfree.errors import (
    InputError,
    Interrupted,
    OutputClosed,
    RunStopped,
    output_closed,
    why_not_written,
)
from byol_bnfree.files import RESTORE, expanded, read_json
from byol_bnfree.flags import cli, given_twice
from byol_bnfree.machine.jax_settings import check_xla_flags, why_jax_does_not_start
from byol_bnfree.machine.own_process import quiet_libraries
from byol_bnfree.machine.signals import write_nowhere
from byol_bnfree.saved_config import config_from_dict, placed

# Errors of a disk. Others, such as a missing file, may be our own fault.
_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
)


def parse_args(argv: Sequence[str] | None = None) -> TrainConfig:
    """Parse a command line into a configuration.

    Flags override the values of `--config=FILE[:ARG]`, which override the defaults.
    Both depend on `--norm`.

    Raises:
      SystemExit: with status 2 and a message for an unknown flag or value (from tyro),
        with status 0 after `--help`.
      InputError: for impossible values, and for anything but a list of texts.
    """
    if isinstance(argv, str):
        raise InputError(f"argv is {argv!r}; give a list of flags: {argv.split()}.")
    argv = sys.argv[1:] if argv is None else list(argv)
    for argument in argv:
        if not isinstance(argument, str):
            raise InputError(
                f"argv has {argument!r}, which is of type {type(argument).__name__}; "
                f"give texts, such as {str(argument)!r}."
            )
    return cli(
        TrainConfig,
        args=argv,
        default=default_config(argv),
        prog="python -m byol_bnfree.train",
        description=f"Pre-train BYOL, with or without batch statistics. {PAPERS}",
    )


def default_config(argv: Sequence[str]) -> TrainConfig:
    """Return the configuration that the flags change, for their norm.

    `--config` gives it, or with `--extend` the run in `--workdir`. Otherwise it has the
    default of every setting. It prints a note if the file of `--config` has no
    recipe for the norm.
    """
    paths = _arguments(list(argv), "--config")
    if len(paths) > 1:
        raise InputError(
            f"config is given {len(paths)} times ({', '.join(paths)}); give it once, "
            f"and other settings as flags."
        )
    path, norm, extend, workdir = (
        _last(argv, name) for name in ("--config", "--norm", "--extend", "--workdir")
    )
    norm = norm if norm in NORMS else None  # tyro reports an unknown norm
    if not path and extend is not None and workdir is not None:
        run = config_of_run(workdir)
        if run is not None:
            return run
    if not path:
        return TrainConfig()
    config = load_config(path, norm)
    if norm not in (None, config.norm):
        print(
            f"note: {path} has one recipe for all norms, written for {config.norm}. It "
            f"was not tuned for {norm}, and may not learn with it.",
            file=sys.stderr,
        )
    return config


def default_typed_in_vain(config: TrainConfig, argv: Sequence[str]) -> str | None:
    """Return a note if --epochs was typed with its default, but the steps count.

    `whole_run.without_effect` names other values. It does not know what was typed.
    """
    by_steps = config.steps is not None and config.extend is None
    usual = config.epochs == TrainConfig().epochs
    if not (by_steps and usual and _arguments(list(argv), "--epochs")):
        return None
    return (
        f"--epochs {config.epochs:g} has no effect: the run has {config.steps} steps; "
        f"give --steps=None to count epochs."
    )


def config_of_run(workdir: str) -> TrainConfig | None:
    """Return the settings of a run without its extensions; None if there is no run.

    The processes of the run are left out: they may not exist any more.
    """
    saved = read_json(expanded(workdir) / "config.json", RESTORE)
    if saved is None:
        return None
    config = config_from_dict(TrainConfig, saved)
    described = read_json(expanded(workdir) / "dataset.json") or {}
    return dataclasses.replace(
        config,
        dataset=placed(config.dataset, described),
        extend=None,
        extend_base_lr=None,
        extensions=(),
        coordinator=None,
        num_processes=None,
        process_id=None,
    )


def _arguments(argv: list[str], flag: str) -> list[str]:
    """Return all values of a flag."""
    found = []
    for index, argument in enumerate(argv):
        if argument.startswith(f"{flag}="):
            found.append(argument.removeprefix(f"{flag}="))
        elif argument == flag and index + 1 < len(argv):
            found.append(argv[index + 1])
    return found


def _last(argv: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag that counts; None without one, and for None."""
    found = _arguments(list(argv), flag)
    return None if not found or found[-1] == "None" else found[-1]


def exit_on_error(main: Callable[[], None]) -> None:
    """Run a command line. Errors for the user are printed without a traceback.

    Notes name the flags that were given twice with different values.

    `InputError` exits with status 2, `RunStopped` with its own status, and a full disk
    or memory with 1. If the reader of standard output has gone, as after `| head`, it
    exits silently with 141, as other commands do.
    """
    _open_closed_streams()
    if sys.argv[1:] == ["--version"]:
        print(f"byol_bnfree {__version__}")
        return
    quiet_libraries()
    for note in given_twice(sys.argv[1:]):
        _tell(f"note: {note}")
    try:
        check_xla_flags()
        main()
        sys.stdout.flush()
    except InputError as error:
        _tell(f"error: {error}")
        sys.exit(2)
    except RunStopped as error:
        error_or_not = "" if isinstance(error, Interrupted) else "error: "
        _tell(f"{error_or_not}{error}")
        if error.at_once:
            _exit_at_once(error.status)
        sys.exit(error.status)
    except BrokenPipeError as error:
        if not isinstance(error, OutputClosed):
            if not _reader_gone():
                raise
            output_closed()
        sys.exit(141)  # 128 + SIGPIPE
    except (OSError, MemoryError, RuntimeError, ValueError, AssertionError) as error:
        is_of_disk = isinstance(error, OSError)
        told = _of_the_disk(error) if is_of_disk else _of_the_machine(error)
        if told is None:
            raise
        sentence, status = told
        _tell(f"error: {sentence}")
        sys.exit(status)
    except KeyboardInterrupt:
        _tell("stopped by Ctrl-C.")
        _exit_at_once(130)


def _open_closed_streams() -> None:
    """Let output to a stream that was closed, as by `>&-`, go nowhere.

    Python has None for it. `print` would fail, or write errors to standard output.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _tell(text: str) -> None:
    """Print a line to stderr. If nobody reads it any more, the status still counts."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        write_nowhere([2])


def _exit_at_once(status: int) -> None:
    """Exit without waiting for other threads. A thread that compiles takes minutes."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def _of_the_disk(error: OSError) -> tuple[str, int] | None:
    """Return a sentence and a status for a path or disk that fails; None for others."""
    if error.errno == errno.ENAMETOOLONG:
        path = f"{error.filename}"
        return f"{path[:60]}... is too long a name for a file; give another path.", 2
    if error.errno not in _DISK:
        return None
    file, why = error.filename or "a file", why_not_written(error)
    return f"{file}: {why}. Checkpoints that were saved are kept.", 1


def _of_the_machine(error: Exception) -> tuple[str, int] | None:
    """Return a sentence and a status for a fault of the machine; None for our own.

    The faults are devices that JAX cannot start, and a full memory.
    """
    if (sentence := why_jax_does_not_start(error)) is not None:
        return sentence, 2
    if isinstance(error, ValueError | AssertionError):
        return None
    # XLA reports a full memory as a RuntimeError.
    reason = str(error).partition("\n")[0]
    if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in reason):
        return None
    return (
        f"out of memory ({reason}); lower --batch-size, or choose a smaller network or "
        f"--data.image-size. Training can also have --remat on an accelerator, "
        f"--shard-state on several, --views.accumulate with several views, and "
        f"--micro-batches without batch statistics.",
        1,
    )


def _reader_gone() -> bool:
    """Return True if nobody reads standard output (and not another pipe)."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in output.poll(0))
