"""The stack machine that reads a pickle, and the objects that it may hold.

The instructions are in `pickles.py`. The file is not copied. A long text stays a view
of the file until it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from byol_bnfree.errors import InputError

MOST_INSTRUCTIONS = 1 << 21
"""Limit of instructions. A checkpoint of a ResNet-200 has about 120,000."""
STOP = ord(".")


class Refused(InputError):
    """The file contains something that no checkpoint contains."""


@dataclass(frozen=True)
class Span:
    """A long text, kept as UTF-8 bytes of the file."""

    data: memoryview


@dataclass(frozen=True)
class Inert:
    """A name of the table, and our function that stands for it."""

    name: str
    function: Callable[..., Any]


class Buildable:
    """An object that the file may give a state (`BUILD`)."""

    def build(self, state: Any) -> None:
        """Keep the needed parts of a state."""


class Stranger(Buildable):
    """Stands for an object of an unknown class, where this is allowed."""

    def __init__(self, name: str):
        self.name = name


Names = Mapping[tuple[str, str], Inert]


def shown(value: Any) -> str:
    """Return a value for a message. Only texts, because nested ones may never end."""
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__


class Machine:
    """The bytes of a pickle, a stack, and remembered values; see `pickles.load`."""

    def __init__(
        self,
        data: memoryview,
        names: Names,
        persistent: Callable[[Any], Any] | None = None,
        strangers: bool = False,
    ):
        self.names, self.persistent, self.strangers = names, persistent, strangers
        self._data = data
        self.at = 0
        """Number of bytes that have been read."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, instructions: Mapping[int, Callable[["Machine"], None]]) -> Any:
        """Return the object of the file. Raise `Refused` for anything unexpected."""
        if self._data[:2] != b"\x80\x02":
            raise Refused("does not begin as a pickle of protocol 2")
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)[0]
            if code == STOP:
                return self._finish()
            if code not in instructions:
                raise self.refused(f"has the instruction {bytes([code])!r}")
            instructions[code](self)
        raise self.refused(f"has more than {MOST_INSTRUCTIONS:,} instructions")

    def refused(self, what: str) -> Refused:
        """Return the error for this place in the file."""
        return Refused(f"{what} at byte {self.at:,}")

    def take(self, count: int) -> memoryview:
        """The next bytes of the file."""
        if count > len(self._data) - self.at:
            raise self.refused("ends too early")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, count: int, signed: bool = False) -> int:
        """The next bytes as a little-endian number."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> str:
        """A name up to the next line break, at most 256 bytes."""
        start = bytes(self._data[self.at : self.at + 256])
        length = start.find(b"\n")
        if length < 0:
            raise self.refused("has a name without end")
        return self.text(self.take(length + 1)[:-1])

    def text(self, data: memoryview) -> str:
        """Decode bytes of the file."""
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError:
            raise self.refused("has a text that is not UTF-8") from None

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the top of the stack, but nothing below the last mark."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.refused("takes from an empty stack")
        return self._stack.pop()

    def top(self) -> Any:
        """The top of the stack, which stays."""
        self.push(value := self.pop())
        return value

    def mark(self) -> None:
        """Remember the height of the stack."""
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        if not self._marks:
            raise self.refused("takes up to a mark that is not there")
        height = self._marks.pop()
        values = self._stack[height:]
        del self._stack[height:]
        return values

    def remember(self, index: int) -> None:
        """Keep the top of the stack under a number."""
        self._memo[index] = self.top()

    def recall(self, index: int) -> None:
        """Push what was kept under a number."""
        if index not in self._memo:
            raise self.refused(f"recalls {index}, which was not kept")
        self.push(self._memo[index])

    def _finish(self) -> Any:
        if self.at != len(self._data):
            raise self.refused("goes on after its end")
        if self._marks or len(self._stack) != 1:
            raise self.refused("ends with other than one object")
        return self._stack[0]
