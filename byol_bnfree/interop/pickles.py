"""Reads pickles as data. Nothing in the file is ever called or imported.

A pickle is a program for a stack machine. This is such a machine, with only the
instructions that arrays need. A name in the file (`numpy.ndarray`) is looked up in a
table of exact names. Its values are our own functions, which only keep their arguments.
The file is not copied: a long text stays a view of the file until it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from byol_bnfree.errors import InputError

MOST_INSTRUCTIONS = 1 << 21
"""Limit of instructions. A checkpoint of a ResNet-200 has about 120,000."""
SHORT = 4096
"""Longest text, in bytes, that is decoded at once. Longer ones are data of arrays."""


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


# One letter for each instruction, as in CPython's pickletools.
PLAIN = frozenset(b"\x80}()tR\x81b.sNuX\x85\x86\x87\x88\x89hjqrKMJc\x8a")
"""PROTO EMPTY_DICT MARK EMPTY_TUPLE TUPLE REDUCE NEWOBJ BUILD STOP SETITEM NONE
SETITEMS BINUNICODE TUPLE1-3 NEWTRUE NEWFALSE BINGET LONG_BINGET BINPUT LONG_BINPUT
BININT1 BININT2 BININT GLOBAL LONG1."""
LISTS = frozenset(b"]aeGQ")
"""EMPTY_LIST APPEND APPENDS BINFLOAT BINPERSID: PyTorch's files have them too."""


class Machine:
    """Runs one pickle of protocol 2 over `data`; see `load`."""

    def __init__(
        self,
        data: memoryview,
        names: Names,
        allowed: frozenset[int] = PLAIN,
        persistent: Callable[[Any], Any] | None = None,
        strangers: bool = False,
    ):
        self._data, self._at = data, 0
        self._names, self._strangers = names, strangers
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._run = {code: INSTRUCTIONS[code] for code in allowed}

    def load(self) -> Any:
        """Return the object of the file. Raise `Refused` for anything unexpected."""
        if self._data[:2] != b"\x80\x02":
            raise Refused("does not begin as a pickle of protocol 2")
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)[0]
            if code == STOP:
                return self._finish()
            if code not in self._run:
                raise self.refused(f"has the instruction {bytes([code])!r}")
            self._run[code](self)
        raise self.refused(f"has more than {MOST_INSTRUCTIONS:,} instructions")

    def refused(self, what: str) -> Refused:
        """Return the error for this place in the file."""
        return Refused(f"{what} at byte {self._at:,}")

    def take(self, count: int) -> memoryview:
        """The next bytes of the file."""
        if count > len(self._data) - self._at:
            raise self.refused("ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int, signed: bool = False) -> int:
        """The next bytes as a little-endian number."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> str:
        """A name up to the next line break, at most 256 bytes."""
        start = bytes(self._data[self._at : self._at + 256])
        length = start.find(b"\n")
        if length < 0:
            raise self.refused("has a name without end")
        return self._text(self.take(length + 1)[:-1])

    def _text(self, data: memoryview) -> str:
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

    def unicode(self) -> None:
        """Push a text; a long one as a view of the file."""
        data = self.take(self.number(4))
        self.push(Span(data) if len(data) > SHORT else self._text(data))

    def name(self) -> None:
        """Push the table's entry of a name in the file."""
        pair = (self.line(), self.line())
        if pair in self._names:
            self.push(self._names[pair])
        elif self._strangers:
            self.push(Inert(".".join(pair), _stranger(".".join(pair))))
        else:
            raise self.refused(f"names {'.'.join(pair)!r}")

    def call(self) -> None:
        """Push the result of a function of ours (REDUCE and NEWOBJ)."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Inert) or not isinstance(arguments, tuple):
            raise self.refused("calls something that is not a known name")
        try:
            self.push(function.function(*arguments))
        except Refused as error:
            raise self.refused(str(error)) from None
        except Exception:  # arguments of any kind may come
            raise self.refused(f"gives {function.name} unusual arguments") from None

    def build(self) -> None:
        """Give the object on the stack its state."""
        state, target = self.pop(), self.top()
        if not isinstance(target, Buildable):
            raise self.refused("gives a state to an object that has none")
        try:
            target.build(state)
        except Refused as error:
            raise self.refused(str(error)) from None
        except Exception:
            raise self.refused("gives an object an unusual state") from None

    def store(self, pairs: list[Any]) -> None:
        """Put keys and values into the dict on the stack."""
        target = self.top()
        if not isinstance(target, dict) or len(pairs) % 2:
            raise self.refused("stores items in something that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | Stranger):
                raise self.refused("has a key that is neither text nor a number")
            target[key] = value

    def extend(self, values: list[Any]) -> None:
        """Append values to the list on the stack."""
        target = self.top()
        if type(target) is not list:
            raise self.refused("appends to something that is not a list")
        target.extend(values)

    def tuple_of(self, count: int) -> None:
        """Push a tuple of the last values."""
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def external(self) -> None:
        """Push an object that lies outside the pickle, such as a tensor's numbers."""
        if self._persistent is None:
            raise self.refused("refers to an object outside the file")
        try:
            self.push(self._persistent(self.pop()))
        except Refused as error:
            raise self.refused(str(error)) from None
        except Exception:
            raise self.refused("refers to an unknown object outside") from None

    def protocol(self) -> None:
        """The first two bytes, which `load` has compared; never again."""
        if self.number(1) != 2 or self._at != 2:
            raise self.refused("declares its protocol twice")

    def long(self) -> None:
        """Push a number of at most eight bytes."""
        count = self.number(1)
        if count > 8:
            raise self.refused(f"has a number of {count} bytes")
        self.push(self.number(count, signed=True))

    def _finish(self) -> Any:
        if self._at != len(self._data):
            raise self.refused("goes on after its end")
        if self._marks or len(self._stack) != 1:
            raise self.refused("ends with other than one object")
        return self._stack[0]


def _stranger(name: str) -> Callable[..., Stranger]:
    return lambda *arguments: Stranger(name)


def _pair(machine: Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _float(machine: Machine) -> float:
    return memoryview(bytes(machine.take(8))[::-1]).cast("d")[0]


STOP = ord(".")
INSTRUCTIONS: dict[int, Callable[[Machine], None]] = {
    STOP: lambda m: None,  # ends the loop
    0x80: Machine.protocol,
    ord("c"): Machine.name,
    ord("("): Machine.mark,
    ord("R"): Machine.call,
    0x81: Machine.call,
    ord("b"): Machine.build,
    ord("X"): Machine.unicode,
    ord("Q"): Machine.external,
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    ord("J"): lambda m: m.push(m.number(4, signed=True)),
    0x8A: Machine.long,
    ord("G"): lambda m: m.push(_float(m)),
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    ord("s"): lambda m: m.store(_pair(m)),
    ord("u"): lambda m: m.store(m.since_mark()),
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.since_mark()),
}
