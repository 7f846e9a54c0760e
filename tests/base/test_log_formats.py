"""The log for programs: JSON, priorities, the journal's datagrams; whatever an event holds."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.journal import JournalObserver, datagram, is_journal
from txworker.base.log_formats import format_json, with_priorities
from txworker.base.logs import Logger, file_observer, text_format

EVIL = "\x1b[2J\r\nMESSAGE=forged\u2028\ud800"


def events_of(say: Any, kind: type[TwistedLogger] = Logger) -> list[dict[str, Any]]:
    events: Any = []
    say(kind("some.where", observer=events.append))
    return list(events)


class JsonTests(SynchronousTestCase):
    def entry(self, say: Any, kind: type[TwistedLogger] = Logger) -> dict[str, Any]:
        (event,) = events_of(say, kind)
        text = format_json(event)
        assert text is not None
        self.assertEqual(1, text.count("\n"))
        entry: dict[str, Any] = json.loads(text)
        return entry

    def test_fields(self) -> None:
        """An entry has the sentence, and its fields under their names: numbers as numbers."""
        entry = self.entry(lambda log: log.warn("Job {job_id} took {seconds} s.", job_id="a-b", seconds=0.5, code=None))
        self.assertRegex(entry.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        expected = {"level": "warn", "logger": "some.where", "message": "Job a-b took 0.5 s."}
        self.assertEqual({**expected, "job_id": "a-b", "seconds": 0.5, "code": None}, entry)

    def test_own_keys_win(self) -> None:
        """A field cannot replace the entry's own keys, and infinity is no number in JSON."""
        entry = self.entry(lambda log: log.info("words", logger=7, message="forged", x=float("inf")))
        self.assertEqual(("some.where", "words", "inf"), (entry["logger"], entry["message"], entry["x"]))

    def test_text_from_outside(self) -> None:
        """Text from outside is printable, also in the events of Twisted's own loggers."""
        for kind in (Logger, TwistedLogger):
            entry = self.entry(lambda log: log.info("{text}", text=EVIL), kind)
            self.assertTrue(entry["text"].isprintable())
            self.assertTrue(entry["message"].replace("\n", "").isprintable(), entry)

    def test_any_encoding(self) -> None:
        """A line is the same JSON whatever encoding standard output has."""
        for encoding in ("ascii", "latin-1", "utf-8"):
            output = io.TextIOWrapper(io.BytesIO(), encoding)
            observer: Any = file_observer(output, format_json)
            Logger("some.where", observer=observer).info("{text}", text="é😀…")
            output.flush()
            self.assertEqual("é😀…", json.loads(output.buffer.getvalue())["message"])

    def test_traceback(self) -> None:
        """A failure's traceback is a key of its own."""
        entry = self.entry(lambda log: log.failure("it {what}", Failure(KeyError("oh")), what="failed"))
        self.assertEqual("it failed", entry["message"])
        self.assertIn("builtins.KeyError: 'oh'", entry["traceback"])

    def test_no_text(self) -> None:
        """An event without text is no entry."""
        (event,) = events_of(lambda log: log.info(""))
        self.assertIsNone(format_json(event))


class PriorityTests(SynchronousTestCase):
    def test_each_line(self) -> None:
        """Every line of an entry has its priority, as the journal reads them one by one."""

        def say(log: TwistedLogger) -> None:
            log.info("one")
            log.failure("two", Failure(KeyError("oh")))

        file = io.StringIO()
        observe = file_observer(file, with_priorities(text_format()))
        for event in events_of(say):
            observe(event)
        first, *rest = file.getvalue().splitlines()
        self.assertRegex(first, r"^<6>\S+ \[some.where#info\] one$")
        self.assertGreater(len(rest), 2)
        self.assertEqual({"<2>"}, {line[:3] for line in rest})


def fields_in(data: bytes) -> dict[str, str]:
    """A datagram of the journal's protocol, parsed."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


class JournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.bind(self.path)
        self.journal.settimeout(5)
        self.addCleanup(self.journal.close)
        self.elsewhere: list[dict[str, Any]] = []
        self.observer = JournalObserver(self.elsewhere.append, self.path)
        self.addCleanup(self.observer.close)

    def test_fields(self) -> None:
        """The entry has the sentence, the priority and the fields in capitals."""
        for event in events_of(lambda log: log.error("Job {job_id} is bad.", job_id="a-b", seconds=0.5)):
            self.observer(event)
        self.assertEqual(
            {
                "JOB_ID": "a-b",
                "SECONDS": "0.5",
                "MESSAGE": "Job a-b is bad.",
                "PRIORITY": "3",
                "SYSLOG_IDENTIFIER": "txworker",
                "LOGGER": "some.where",
            },
            fields_in(self.journal.recv(65536)),
        )

    def test_several_lines(self) -> None:
        """A text of several lines stays one field, and cannot forge others."""
        for event in events_of(lambda log: log.failure("{text}", Failure(KeyError(EVIL)), text=EVIL), TwistedLogger):
            self.observer(event)
        fields = fields_in(self.journal.recv(65536))
        self.assertIn("builtins.KeyError", fields["TRACEBACK"])
        self.assertIn("\n", fields["TRACEBACK"])
        self.assertEqual({"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "TRACEBACK", "TEXT"}, set(fields))

    def test_names(self) -> None:
        """Names that the journal refuses are left out: _PID and others are its own."""
        self.assertEqual(b"A1=x\n", datagram({"_PID": "1", "A1": "x", "a": "x", "A B": "x", "A=B": "x", "": "x"}))

    def test_journal_gone(self) -> None:
        """What the journal does not take goes elsewhere; when it is back it gets the next entry."""
        (event,) = events_of(lambda log: log.info("words"))
        self.journal.close()
        os.unlink(self.path)
        self.observer(event)
        self.assertEqual([event], self.elsewhere)
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.bind(self.path)
        self.observer(event)
        self.assertEqual("words", fields_in(self.journal.recv(65536))["MESSAGE"])

    def test_none(self) -> None:
        """Where there is no journal, that is told at once."""
        self.assertRaises(FileNotFoundError, JournalObserver, self.elsewhere.append, self.mktemp())

    def test_is_journal(self) -> None:
        """A descriptor is the journal's if JOURNAL_STREAM names it."""
        path = Path(self.mktemp())
        with path.open("w") as file:
            status = os.fstat(file.fileno())
            environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
            self.assertTrue(is_journal(file.fileno(), environment))
            self.assertFalse(is_journal(file.fileno(), {}))
            self.assertFalse(is_journal(-1, environment))
