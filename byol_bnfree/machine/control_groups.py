"""The control groups of this process, which limit its memory and cores on Linux."""

import contextlib
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def groups_of(controller: str, root: Path = ROOT, own: Path = OWN) -> list[Path]:
    """Return the folders of this process's group and of all groups above it.

    Limits of every one of them apply. Version 1 has a tree for each controller, such as
    "memory" or "cpu". Version 2 has one tree. Within a container its own group may be
    the root, whatever the path says, so folders that do not exist are left out.
    """
    found: dict[Path, None] = {}
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = own.read_text().splitlines()
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        tree = root / controller if names else root
        place = Path(path.lstrip("/"))
        found |= {tree / part: None for part in (place, *place.parents)}
    found |= {root: None, root / controller: None}
    return [folder for folder in found if folder.is_dir()]
