"""Dashboards beside metrics.jsonl: TensorBoard, and Weights & Biases on request.

Both receive rows, pictures, settings and final figures of a run.
"""

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byol_bnfree.data.names import printable
from byol_bnfree.errors import InputError, first_line
from byol_bnfree.files import flatten, write_atomically

Settings = Mapping[str, Any]


class TensorBoard:
    """TensorBoard events in a folder.

    Every event is flushed; disk errors are raised.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._events: Any = None
        self._resumed: int | None = None

    def resume(self, step: int) -> None:
        """Tell TensorBoard to drop events after `step`.

        A resumed run writes them again.
        """
        self._resumed = step

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Write the scalars of a step."""
        self._write(step, [_scalar(name, value) for name, value in values.items()])

    def finish(
        self,
        step: int,
        settings: Settings,
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Write pictures, final figures and the settings (TensorBoard: HPARAMS)."""
        # Imported here because it takes 0.4 s.
        from tensorboardX.summary import hparams

        values = [_scalar(f"final/{name}", value) for name, value in figures.items()]
        values += [_picture(name, path) for name, path in pictures.items()]
        self._write(step, values)
        named = {f"final/{name}": value for name, value in figures.items()}
        for summary in hparams(dict(settings), named):
            self._write(step, summary.value)

    def close(self) -> None:
        """Close the file. Call it however the run ends."""
        if self._events is not None:
            self._events.close()

    def _write(self, step: int, values: Any) -> None:
        """Write one event.

        tensorboardX's SummaryWriter would lose errors in a thread.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        if self._events is None:
            self._events = _new_event_file(self._folder)
        if self._resumed is not None:
            # A START event makes TensorBoard drop all later steps of earlier files.
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=self._resumed + 1, session_log=start))
            self._resumed = None
        event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
        self._events.write_event(event)
        self._events.flush()


def _new_event_file(folder: Path) -> Any:
    """Open an event file. tensorboardX's names can collide within a second."""
    from tensorboardX.event_file_writer import EventsWriter

    folder.mkdir(exist_ok=True)
    return EventsWriter(str(folder / "events"), f".{time.time_ns()}")


def _scalar(name: str, value: float) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    return Summary.Value(tag=name, simple_value=value)


def _picture(name: str, path: Path) -> Any:
    from PIL import Image
    from tensorboardX.proto.summary_pb2 import Summary

    with Image.open(path) as image:
        width, height = image.size
    png = path.read_bytes()
    image = Summary.Image(height=height, width=width, encoded_image_string=png)
    return Summary.Value(tag=name, image=image)


def import_wandb() -> Any:
    """Import the package wandb. Raise `InputError` if it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise InputError(
            "--run.wandb needs the package wandb; install it with pip install "
            "'.[wandb]', or remove --run.wandb."
        ) from error


class Wandb:
    """A run of Weights & Biases, named as the work folder. Resuming continues it."""

    def __init__(self, project: str, workdir: Path, settings: Settings):
        """Start or resume the run.

        Raises:
          InputError: if the package wandb is not installed, or it cannot start a run,
            for instance without a key or a network.
        """
        self._wandb = import_wandb()
        try:
            self._run = self._wandb.init(
                project=project,
                name=workdir.name,
                dir=str(workdir),
                id=_identity(workdir),
                resume="allow",
                config=dict(settings),
            )
        except Exception as error:  # it has many, and they share no class
            raise InputError(
                f"--run.wandb {project}: wandb cannot start a run "
                f"({first_line(error)}); log in with `wandb login`, set "
                f"WANDB_MODE=offline, or remove --run.wandb."
            ) from error

    def row(self, row: Mapping[str, Any]) -> None:
        """Log the scalars of a row of metrics.jsonl."""
        values = {name: value for name, value in row.items() if value is not None}
        self._run.log(values, step=row["step"])

    def finish(
        self,
        step: int,
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Log pictures, and put final figures into the run's summary."""
        images = {name: self._wandb.Image(str(p)) for name, p in pictures.items()}
        self._run.log(images, step=step)
        for name, value in figures.items():
            self._run.summary[f"final/{name}"] = value

    def close(self) -> None:
        """End the run. Call it however the run ends."""
        self._run.finish()


def _identity(workdir: Path) -> str:
    """Return the run's id, which the work folder keeps for resuming."""
    path = workdir / "wandb_id"
    if not path.exists():
        write_atomically(path, f"{time.time_ns():x}".encode())
    return path.read_text().strip()


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten settings to dotted names with numbers and texts, as dashboards need."""
    return {
        # A path may be no UTF-8, and their files must be.
        name: value if isinstance(value, bool | int | float) else printable(str(value))
        for name, value in flatten(config).items()
        if value is not None
    }


def figures_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the final figures of summary.json by names such as knn_trained."""
    found = {
        f"{measure}_{network}": summary[measure][network]
        for measure in ("knn", "linear")
        for network in ("trained", "untrained")
    }
    found["images_per_s"] = summary["images_per_s"]
    return {name: float(value) for name, value in found.items() if value is not None}
