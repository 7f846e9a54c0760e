"""Random invalid requests for any method: bytes that cannot be parsed, and values out of range."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

COMMANDS = ("true", "echo", "true", "no-such-program", "", "a 'b", "\0")
"""Commands that a request may start. None runs for long, reads or writes."""

_NUMBERS = (0, 1, 2, -1, 7, 1000, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
_FRACTIONS = (0.0, -0.0, 0.5, -1.0, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    "\0",
    "nobody",
    "/",
    "../../../etc/shadow",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe\u009b31m",
    "\ue000\U0010ffff\ufffe",
    "%s%n{0}{error!r}",
    "'; DROP TABLE jobs; --",
    "AAAAAAAAAAAAAAAAAAAAAA==",
    "\n\r\t ",
    "é" * 300,
    "x" * 5000,
)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Nonsense:
    """
    Requests from one random generator. job_ids: ids that exist; the first `lasting` of them are never stopped or
    signalled.
    """

    def __init__(self, rng: random.Random, job_ids: list[str], lasting: int = 1) -> None:
        self._rng = rng
        self._job_ids = job_ids
        self._lasting = lasting

    def request(self, method: MethodDescriptor) -> bytes:
        """The bytes of one request for that method."""
        message = self.message(method.input_type, method.name not in ("StopJob", "SignalJob"))
        if method.name == "StartJob":
            message.command = self._rng.choice(COMMANDS)
        ways: tuple[tuple[int, Callable[[bytes], bytes]], ...] = (
            (30, lambda good: good),
            (15, self._cut),
            (15, self._flipped),
            (10, self._garbage),
            (10, lambda good: good + self._not_utf8(method.input_type)),
            (5, self._too_long),
            (5, lambda good: b""),
            (3, lambda good: b"\x1b" * self._rng.choice((3, 200, 20_000))),
            (3, lambda good: good + b"\xba\x7d\xa0\x8d\x06" + bytes(100_000)),  # field 2007, unknown
            (1, lambda good: good + bytes(self._rng.choice((1, 5, 100_000)))),
        )
        (way,) = self._rng.choices([way for _, way in ways], [weight for weight, _ in ways])
        return way(message.SerializeToString())

    def unparsable(self) -> bytes:
        """Bytes that no message type can parse."""
        return b"\xff" * self._rng.choice((1, 10, 1000))

    def message(self, kind: Descriptor, any_job: bool = True) -> Any:
        """A message in which each field is unset or has a random value of its type."""
        message: Any = GetMessageClass(kind)()
        share = self._rng.choice((0.05, 0.2, 0.5))
        for field in kind.fields:
            if self._rng.random() < share:
                self._fill(message, field, any_job)
        return message

    def _fill(self, message: Any, field: FieldDescriptor, any_job: bool) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            for _ in range(self._count()):
                entries[self._text(any_job)] = self._text(any_job)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(self._count()):
                values.append(self._value(field, any_job))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self.message(field.message_type, any_job))
        else:
            setattr(message, field.name, self._value(field, any_job))

    def _value(self, field: FieldDescriptor, any_job: bool) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, any_job)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(any_job)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._rng.randbytes(self._rng.choice((0, 1, 100, 10_000)))
        if field.cpp_type in _RANGES:
            least, most = _RANGES[field.cpp_type]
            return min(most, max(least, self._rng.choice(_NUMBERS)))
        return self._rng.choice(_FRACTIONS) if field.type != FieldDescriptor.TYPE_BOOL else self._rng.random() < 0.5

    def _text(self, any_job: bool) -> str:
        if self._rng.random() < 0.4:
            return self._rng.choice(self._job_ids if any_job else self._job_ids[self._lasting :])
        return self._rng.choice(_TEXTS)

    def _count(self) -> int:
        return self._rng.choice((0, 1, 1, 2, 3, 50))

    def _cut(self, good: bytes) -> bytes:
        return good[: self._rng.randrange(len(good) + 1)]

    def _flipped(self, good: bytes) -> bytes:
        changed = bytearray(good)
        for _ in range(self._rng.choice((1, 1, 3, 10))):
            if changed:
                changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _garbage(self, good: bytes) -> bytes:
        return self._rng.randbytes(self._rng.choice((1, 3, 10, 100, 10_000)))

    def _not_utf8(self, kind: Descriptor) -> bytes:
        numbers = [field.number for field in kind.fields if field.type == FieldDescriptor.TYPE_STRING]
        if not numbers:
            return b"\xff"
        key = self._rng.choice(numbers) << 3 | 2
        tag = bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
        return tag + b"\x03" + self._rng.choice((b"\xff\xfe\xfd", b"a\xc3(", b"\xed\xa0\x80"))

    def _too_long(self, good: bytes) -> bytes:
        """A field with a length beyond the end of the message."""
        length = self._rng.choice(
            (b"\x7f", b"\xff\xff\x7f", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
        )
        return good + b"\x0a" + length + b"abc"
