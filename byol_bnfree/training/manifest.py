"""A manifest of checksums for a folder: written when it is complete, checked on use.

Orbax loads a flipped bit without an error, and reports truncated and missing files with
the same message. The manifest records the committed content of a checkpoint.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from byol_bnfree.files import sync_folder, write_json

MANIFEST = "manifest.json"
Snapshot = dict[str, tuple[int, int]]


def snapshot(folder: Path) -> Snapshot:
    """Return size and modification time of every file in a folder.

    Two snapshots are equal if no file was written in between.
    """
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): (status.st_size, status.st_mtime_ns)
        for path, status in files.items()
    }


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file in `folder`, in `folder/manifest.json`.

    The files are flushed to disk (fsync) before the manifest. After a power cut the
    manifest thus never covers data that was only in memory. SHA-256 of 150 MB takes
    0.2 s (measured on one core with SHA instructions; about 0.4 s without).
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {p.relative_to(folder).as_posix(): _describe(p) for p in paths}
    for directory in {folder.parent, folder, *(p.parent for p in paths)}:
        sync_folder(directory)
    write_json(folder / MANIFEST, {"files": files, "sha256": _own_checksum(files)})


def verify_manifest(folder: Path) -> list[str]:
    """List the differences from the manifest, one phrase per file; empty if intact.

    Files that the manifest does not list are ignored, because nothing reads them.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = manifest["files"]
        intact = manifest["sha256"] == _own_checksum(files)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing (was the save interrupted?)"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{MANIFEST} is unreadable"]
    if not intact:
        return [f"{MANIFEST} does not match its own checksum"]
    problems = (_problem(folder / name, name, files[name]) for name in files)
    return [problem for problem in problems if problem]


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def _problem(path: Path, name: str, expected: dict[str, Any]) -> str | None:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected["size"]:
                return f"{name} has {size} bytes instead of {expected['size']}"
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    if digest != expected["sha256"]:
        return f"{name} does not match its checksum"
    return None


def _own_checksum(files: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
