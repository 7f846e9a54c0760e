"""Feeding a job's stdin. Real pipes and files in memory; what watches them is a fake."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.children import held
from txworker.linux.memfd import memory_file
from txworker.shim.feeding import Feeding

FULL = 65536
"""The bytes that a pipe holds (pipe(7))."""


class FakeWatch:
    """Records what is watched."""

    def __init__(self) -> None:
        self.room: dict[int, bool] = {}

    def watch_writer(self, fd: int, ready: Callable[[], None]) -> None:
        self.room[fd] = False

    def watch_room(self, fd: int, wanted: bool) -> None:
        self.room[fd] = wanted

    def unwatch(self, fd: int) -> None:
        del self.room[fd]


class FeedingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = held()
        self.watch = FakeWatch()
        self.told: list[dict[str, object]] = []
        self.reading, writing = os.pipe()
        self.open = True
        self.feeding = Feeding(self.watch, writing, lambda: self.told.append(self.feeding.record()))
        self.addCleanup(self.nothing_open)

    def nothing_open(self) -> None:
        self.feeding.close()
        self.close_reader()
        self.assertEqual(({}, self.before), (self.watch.room, held()))

    def close_reader(self) -> None:
        if self.open:
            os.close(self.reading)
        self.open = False

    def put(self, data: bytes, ends: bool) -> None:
        with memory_file(data, "data") as file:
            self.feeding.put(os.dup(file), ends)

    def add(self, data: bytes, ends: bool = False) -> None:
        with memory_file(data, "data") as file:
            self.feeding.add(os.dup(file) if data else -1, ends)

    def read(self) -> bytes:
        return os.read(self.reading, 10 * FULL)

    def test_fits(self) -> None:
        """What fits into the pipe is written at once; the end follows, and nothing is ever watched."""
        data = os.urandom(FULL)
        self.put(data, ends=True)
        self.feeding.start()
        self.assertEqual((data, b"", {}, False), (self.read(), self.read(), self.watch.room, self.feeding.is_open))

    def test_larger(self) -> None:
        """The rest is written as there is room, to the byte, and room is awaited only as long as bytes wait."""
        data = os.urandom(3 * FULL + 10)
        self.put(data, ends=True)
        self.feeding.start()
        self.assertEqual([True], list(self.watch.room.values()))
        found = b""
        while self.feeding.busy:
            found += self.read()
            self.feeding.ready()
        self.assertEqual((data, b"", {}), (found + self.read(), self.read(), self.watch.room))

    def test_added(self) -> None:
        """Bytes that come later are counted, and told of when they are in the pipe; the input ends when it is told."""
        self.put(b"first", ends=False)
        self.feeding.start()
        self.add(b"second")
        self.assertEqual([{"taken": 6, "busy": False, "open": True}], self.told)
        self.add(bytes(FULL))
        self.assertEqual(({"taken": 6 + FULL, "busy": True, "open": True}, 1), (self.feeding.record(), len(self.told)))
        self.assertTrue(self.read().startswith(b"firstsecond"))
        self.feeding.ready()
        self.assertEqual({"taken": 6 + FULL, "busy": False, "open": True}, self.told[-1])
        self.assertEqual([False], list(self.watch.room.values()))
        self.add(b"", ends=True)
        self.assertEqual({"taken": 6 + FULL, "busy": False, "open": False}, self.told[-1])

    def test_small_pieces(self) -> None:
        """Thousands of bytes that come one by one fit into a pipe."""
        self.feeding.start()
        for _ in range(5000):
            self.add(b"x")
        self.assertEqual((5000, False, 5000), (self.feeding.taken, self.feeding.busy, len(self.read())))

    def test_closed_by_the_job(self) -> None:
        """When the job closes its input, what it cannot get any more does not count, and later bytes are not taken."""
        self.feeding.start()
        self.add(bytes(2 * FULL))
        self.assertTrue(self.feeding.busy)
        self.close_reader()
        self.feeding.ready()
        self.assertEqual([{"taken": FULL, "busy": False, "open": False}], self.told)
        self.add(b"late")
        self.assertEqual({"taken": FULL, "busy": False, "open": False}, self.told[-1])

    def test_closed_while_idle(self) -> None:
        """It is told at once, also while nothing is fed; an event that is not meant changes nothing."""
        self.feeding.start()
        self.feeding.ready()
        self.assertEqual(([], True), (self.told, self.feeding.is_open))
        self.close_reader()
        self.feeding.ready()
        self.assertEqual([{"taken": 0, "busy": False, "open": False}], self.told)

    def test_end(self) -> None:
        """end() closes the input when what was put is written."""
        self.put(bytes(FULL + 1), ends=False)
        self.feeding.start()
        self.feeding.end()
        self.assertTrue(self.feeding.is_open)
        self.read()
        self.feeding.ready()
        self.assertEqual((False, 1), (self.feeding.is_open, len(self.told)))


class EndOfTerminalTests(SynchronousTestCase):
    """An input that has an end of its own, as a terminal's."""

    def setUp(self) -> None:
        self.watch = FakeWatch()
        self.told: list[dict[str, object]] = []
        self.reading, writing = os.pipe()
        self.addCleanup(lambda: os.close(self.reading))
        self.feeding = Feeding(self.watch, writing, lambda: self.told.append(self.feeding.record()), at_end=b"\x04")
        self.addCleanup(self.feeding.close)
        self.feeding.start()

    def add(self, data: bytes, ends: bool = False) -> None:
        with memory_file(data, "data") as file:
            self.feeding.add(os.dup(file) if data else -1, ends)

    def read(self) -> bytes:
        return os.read(self.reading, 10 * FULL)

    def test_after_a_line(self) -> None:
        """The end comes once where a line begins."""
        self.add(b"one\n", ends=True)
        self.assertEqual((b"one\n\x04", False), (self.read(), self.feeding.is_open))

    def test_nothing(self) -> None:
        """An input without bytes has an end, too, and only one."""
        self.add(b"", ends=True)
        self.add(b"", ends=True)
        self.assertEqual((b"\x04", False, False), (self.read(), self.feeding.is_open, self.feeding.busy))

    def test_in_a_line(self) -> None:
        """It comes twice after an unfinished line: the first one passes the line on, the second is the end."""
        self.add(b"one\ntw")
        self.add(b"o")
        self.add(b"", ends=True)
        self.assertEqual((b"one\ntwo\x04\x04", False), (self.read(), self.feeding.is_open))

    def test_no_room(self) -> None:
        """It waits for room as bytes do, and is told of when it is written."""
        self.add(bytes(FULL), ends=True)
        self.assertEqual((True, [], [True]), (self.feeding.busy, self.told, list(self.watch.room.values())))
        self.read()
        self.feeding.ready()
        self.assertEqual((b"\x04\x04", {"taken": FULL, "busy": False, "open": False}), (self.read(), self.told[-1]))

    def test_reader_gone(self) -> None:
        """An end that no process can read any more is not awaited."""
        self.add(bytes(FULL), ends=True)
        os.close(self.reading)
        self.feeding.ready()
        self.reading = os.open(os.devnull, os.O_RDONLY)
        self.assertEqual((False, False), (self.feeding.busy, self.feeding.is_open))
        self.add(b"late", ends=True)
        self.assertFalse(self.feeding.busy)
