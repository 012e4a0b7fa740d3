"""Reads pickles as data. Nothing in the file is ever called or imported.

A pickle is a program for a stack machine. `pickle_machine.py` is such a machine. This
module has its instructions: only those that arrays need. A name in the file
(`numpy.ndarray`) is looked up in a table of exact names. Its values are our own
functions, which only keep their arguments.

`pickle.Unpickler.find_class` is not enough, because it decides about names only. A file
of 60 bytes could still take any memory (by the number of a remembered value) or time
(by a key of nested tuples), and the numbers of every array would be decoded as text.
"""

import struct
from collections.abc import Callable
from typing import Any

from byol_bnfree.interop.pickle_machine import (
    Buildable,
    Inert,
    Machine,
    Names,
    Refused,
    Span,
    Stranger,
)

SHORT = 4096
"""Longest text, in bytes, that is decoded at once. Longer ones are data of arrays."""

# One letter for each instruction, as in CPython's pickletools.
PLAIN = frozenset(b"\x80}()tR\x81bsNuX\x85\x86\x87\x88\x89hjqrKMJc\x8a")
"""PROTO EMPTY_DICT MARK EMPTY_TUPLE TUPLE REDUCE NEWOBJ BUILD SETITEM NONE SETITEMS
BINUNICODE TUPLE1-3 NEWTRUE NEWFALSE BINGET LONG_BINGET BINPUT LONG_BINPUT BININT1
BININT2 BININT GLOBAL LONG1."""
LISTS = frozenset(b"]aeGQ")
"""EMPTY_LIST APPEND APPENDS BINFLOAT BINPERSID: PyTorch's files have them too."""


def load(
    data: memoryview,
    names: Names,
    allowed: frozenset[int] = PLAIN,
    persistent: Callable[[Any], Any] | None = None,
    strangers: bool = False,
) -> Any:
    """Return the object of a pickle of protocol 2.

    Args:
      data: the file.
      names: the names that the file may use, and our functions for them.
      allowed: the instructions that the file may use.
      persistent: finds an object outside the pickle. None refuses such objects.
      strangers: replace objects of unknown classes by stand-ins.

    Raises:
      Refused: for anything unexpected.
    """
    machine = Machine(data, names, persistent, strangers)
    return machine.run({code: INSTRUCTIONS[code] for code in allowed})


def _protocol(machine: Machine) -> None:
    """Pass the first two bytes, which `run` has compared. They must not come again."""
    if machine.number(1) != 2 or machine.at != 2:
        raise machine.refused("declares its protocol twice")


def _unicode(machine: Machine) -> None:
    """Push a text; a long one as a view of the file."""
    data = machine.take(machine.number(4))
    machine.push(Span(data) if len(data) > SHORT else machine.text(data))


def _name(machine: Machine) -> None:
    """Push the table's entry of a name in the file."""
    pair = (machine.line(), machine.line())
    if pair in machine.names:
        machine.push(machine.names[pair])
    elif machine.strangers:
        machine.push(Inert(".".join(pair), _stranger(".".join(pair))))
    else:
        raise machine.refused(f"names {'.'.join(pair)!r}")


def _stranger(name: str) -> Callable[..., Stranger]:
    return lambda *arguments: Stranger(name)


def _call(machine: Machine) -> None:
    """Push the result of a function of ours (REDUCE and NEWOBJ)."""
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise machine.refused("calls something that is not a known name")
    try:
        machine.push(function.function(*arguments))
    except Refused as error:
        raise machine.refused(str(error)) from None
    except Exception:  # the file may pass arguments of any kind
        raise machine.refused(f"gives {function.name} unusual arguments") from None


def _build(machine: Machine) -> None:
    """Give the object on the stack its state."""
    state, target = machine.pop(), machine.top()
    if not isinstance(target, Buildable):
        raise machine.refused("gives a state to an object that has none")
    try:
        target.build(state)
    except Refused as error:
        raise machine.refused(str(error)) from None
    except Exception:  # the file may pass a state of any kind
        raise machine.refused("gives an object an unusual state") from None


def _store(machine: Machine, pairs: list[Any]) -> None:
    """Put keys and values into the dict on the stack."""
    target = machine.top()
    if not isinstance(target, dict) or len(pairs) % 2:
        raise machine.refused("stores items in something that is not a dict")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # Other keys are refused: hashing nested tuples can take exponential time.
        if not isinstance(key, str | int | Stranger):
            raise machine.refused("has a key that is neither text nor a number")
        target[key] = value


def _pair(machine: Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _extend(machine: Machine, values: list[Any]) -> None:
    """Append values to the list on the stack."""
    target = machine.top()
    if type(target) is not list:
        raise machine.refused("appends to something that is not a list")
    target.extend(values)


def _tuple(machine: Machine, count: int) -> None:
    """Push a tuple of the last values."""
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(values)))


def _external(machine: Machine) -> None:
    """Push an object that lies outside the pickle, such as a tensor's numbers."""
    if machine.persistent is None:
        raise machine.refused("refers to an object outside the file")
    try:
        machine.push(machine.persistent(machine.pop()))
    except Refused as error:
        raise machine.refused(str(error)) from None
    except Exception:  # the file may name the object by a value of any kind
        raise machine.refused("refers to an unknown object outside") from None


def _long(machine: Machine) -> None:
    """Push a number of at most eight bytes."""
    count = machine.number(1)
    if count > 8:
        raise machine.refused(f"has a number of {count} bytes")
    machine.push(machine.number(count, signed=True))


def _float(machine: Machine) -> None:
    """Push a float, whose eight bytes are big-endian in the file."""
    machine.push(struct.unpack(">d", machine.take(8))[0])


INSTRUCTIONS: dict[int, Callable[[Machine], None]] = {
    0x80: _protocol,
    ord("c"): _name,
    ord("("): Machine.mark,
    ord("R"): _call,
    0x81: _call,
    ord("b"): _build,
    ord("X"): _unicode,
    ord("Q"): _external,
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    ord("J"): lambda m: m.push(m.number(4, signed=True)),
    0x8A: _long,
    ord("G"): _float,
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    ord("s"): lambda m: _store(m, _pair(m)),
    ord("u"): lambda m: _store(m, m.since_mark()),
    ord("a"): lambda m: _extend(m, [m.pop()]),
    ord("e"): lambda m: _extend(m, m.since_mark()),
}
