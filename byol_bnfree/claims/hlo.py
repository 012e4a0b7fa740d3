"""Reads collective operations from the text of a compiled program (XLA's HLO)."""

import math
import re
from typing import NamedTuple

KINDS = (
    "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|"
    "collective-broadcast"
)
_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_COLLECTIVE = re.compile(rf"^(.*?) (?:{KINDS})(?:-start)?\((.*?)\), ")
_ARRAY = re.compile(r"\b([a-z]+)(\d+)\w*\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")


class Moved(NamedTuple):
    """An array that a collective operation moves. A combined one moves several."""

    collective: str
    """Name of the operation in the program."""
    bytes: int
    """Bytes of the result on one device."""
    elements: int
    operation: str
    """Origin of the array: its path of JAX names, or "" if unknown."""
    functions: tuple[str, ...]
    """Python functions in which it was made, innermost first."""


def collectives(text: str) -> list[Moved]:
    """List every array that the collectives of a compiled program move."""
    lines = dict(m.groups() for m in map(_LINE.match, text.splitlines()) if m)
    frames = _Frames(text)
    found = []
    for name, line in lines.items():
        match = _COLLECTIVE.match(line)
        if match is None:
            continue
        shapes, operands = match.groups()
        arrays = _ARRAY.findall(shapes)
        makers = _OPERAND.findall(operands)
        # A collective may move several arrays. Each has an operand that made it.
        for (_, bits, sizes), maker in zip(arrays, makers, strict=True):
            elements = math.prod(int(size) for size in sizes.split(",") if size)
            origin = _with_metadata(lines, maker) or line
            frame = _FRAME.search(origin)
            operation = _OP_NAME.search(origin)
            found.append(
                Moved(
                    name,
                    bytes=elements * int(bits) // 8,
                    elements=elements,
                    operation=operation.group(1) if operation else "",
                    functions=frames.functions(int(frame.group(1))) if frame else (),
                )
            )
    return found


def _with_metadata(lines: dict[str, str], name: str) -> str | None:
    """Return the instruction, or the one it copies, that names its origin."""
    for _ in range(8):
        line = lines.get(name, "")
        if "op_name=" in line:
            return line
        operands = _OPERAND.findall(line)
        if not operands:
            return None
        name = operands[0]
    return None


class _Frames:
    """The tables of Python stack frames at the top of the text."""

    def __init__(self, text: str):
        names = re.findall(r'^(\d+) "(.*)"$', _table(text, "FunctionNames"), re.M)
        self._names = {int(number): name for number, name in names}
        places = _table(text, "FileLocations")
        located = re.findall(r"^(\d+) \{.*?function_name_id=(\d+)", places, re.M)
        self._functions = {int(a): int(b) for a, b in located}
        pattern = r"^(\d+) \{file_location_id=(\d+) parent_frame_id=(\d+)"
        stacked = re.findall(pattern, _table(text, "StackFrames"), re.M)
        # The text stores a parent's number plus one; 1 means no parent.
        self._frames = {int(a): (int(b), int(c) - 1) for a, b, c in stacked}

    def functions(self, frame: int) -> tuple[str, ...]:
        """Return the names of the functions from this frame outwards."""
        found = []
        while frame in self._frames:
            location, frame = self._frames[frame]
            found.append(self._names.get(self._functions.get(location, 0), ""))
        return tuple(found)


def _table(text: str, title: str) -> str:
    """Return the lines below a title, up to an empty line."""
    _, _, rest = text.partition(f"\n{title}\n")
    return rest.partition("\n\n")[0]
