"""Boards beside metrics.jsonl: TensorBoard, and Weights & Biases where it is asked for.

Both take the rows, the pictures of a run, and its settings with the final figures.
"""

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError

Settings = Mapping[str, Any]


class TensorBoard:
    """Events in a folder, written at once; errors of the disk are raised."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._events: Any = None
        self._resumed: int | None = None

    def resume(self, step: int) -> None:
        """Forget what was written of later steps."""
        self._resumed = step

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step."""
        self._write(step, [_scalar(name, value) for name, value in values.items()])

    def finish(
        self,
        step: int,
        settings: Settings,
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Pictures, final figures, and the settings that they are of (HPARAMS)."""
        # Imported where it is used: it takes 0.4 s.
        from tensorboardX.summary import hparams

        values = [_scalar(f"final/{name}", value) for name, value in figures.items()]
        values += [_picture(name, path) for name, path in pictures.items()]
        self._write(step, values)
        named = {f"final/{name}": value for name, value in figures.items()}
        for summary in hparams(dict(settings), named):
            self._write(step, summary.value)

    def close(self) -> None:
        """When the run ends, however it does."""
        if self._events is not None:
            self._events.close()

    def _write(self, step: int, values: Any) -> None:
        """tensorboardX's SummaryWriter loses errors in its thread; this raises them."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        if self._events is None:
            self._events = _new_event_file(self._folder)
        if self._resumed is not None:
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=self._resumed + 1, session_log=start))
            self._resumed = None
        event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
        self._events.write_event(event)
        self._events.flush()


def _new_event_file(folder: Path) -> Any:
    """tensorboardX's own name has only the second and the host: two could collide."""
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


class Wandb:
    """A run of Weights & Biases, with the work folder's name; resumed with it."""

    def __init__(self, project: str, workdir: Path, settings: Settings):
        """Raises: InputError without the package."""
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise InputError(
                "--run.wandb needs the package wandb; install it with pip install "
                "'byol_bnfree[wandb]', or leave --run.wandb away."
            ) from error
        self._wandb = wandb
        self._run = wandb.init(
            project=project,
            name=workdir.name,
            dir=str(workdir),
            id=_identity(workdir),
            resume="allow",
            config=dict(settings),
        )

    def row(self, row: Mapping[str, Any]) -> None:
        """Scalars of a step, as in metrics.jsonl."""
        values = {name: value for name, value in row.items() if value is not None}
        self._run.log(values, step=row["step"])

    def finish(
        self,
        step: int,
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Pictures, and final figures in the run's summary."""
        images = {name: self._wandb.Image(str(p)) for name, p in pictures.items()}
        self._run.log(images, step=step)
        for name, value in figures.items():
            self._run.summary[f"final/{name}"] = value

    def close(self) -> None:
        """When the run ends, however it does."""
        self._run.finish()


def _identity(workdir: Path) -> str:
    """The same when a run is resumed: kept in the work folder."""
    path = workdir / "wandb_id"
    if not path.exists():
        path.write_text(f"{time.time_ns():x}")
    return path.read_text().strip()


def settings_of(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by their dotted names, as numbers and texts: what boards take."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= settings_of(value, f"{above}{name}.")
        elif isinstance(value, bool | int | float | str):
            flat[f"{above}{name}"] = value
        elif value is not None:
            flat[f"{above}{name}"] = str(value)
    return flat


def figures_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The final figures of summary.json by names such as knn_trained."""
    found = {
        f"{measure}_{network}": summary[measure][network]
        for measure in ("knn", "linear")
        for network in ("trained", "untrained")
    }
    found["images_per_s"] = summary["images_per_s"]
    return {name: float(value) for name, value in found.items() if value is not None}
