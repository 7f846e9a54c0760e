"""The log has the same lines as twistd's own, and all of them are printable."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any

from twisted.internet.defer import fail
from twisted.logger import FileLogObserver, Logger, globalLogPublisher, textFileLogObserver
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txworker.base import logs
from txworker.base.logs import file_observer


class Thing:
    name = "thing"

    def call(self) -> str:
        return "called"


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no words")


def log_many_kinds(log: Logger) -> None:
    log.info("Job {job_id} started as pid {pid}: {argv}.", job_id="a-b", pid=7, argv=("ls", "-l"))
    log.warn("several\nlines {text!r:>10} {thing.name} {list[1]}", text="x\n", thing=Thing(), list=[1, 2])
    log.info("more\nlines: {text}", text="a\nb")
    log.error("{thing.call()} {call()}", thing=Thing(), call=Thing().call)
    log.info("{missing}")
    log.info("{bad}", bad=Unprintable())
    log.info("{unbalanced")
    log.info("")
    log.info("braces {{}} and {text}", text="{text}")
    log.info("of another", log_system="system")
    log.debug("at another level")
    try:
        raise KeyError("oh")
    except KeyError:
        log.failure("it failed: {text}", text="so")


class EventFormatterTests(SynchronousTestCase):
    def test_same_lines(self) -> None:
        """Several lines, calls, failures, formats that cannot be filled in: the text is always twistd's."""
        events: Any = []
        log_many_kinds(Logger("some.where", observer=events.append))
        twistds, ours = textFileLogObserver(io.StringIO()), file_observer(io.StringIO())
        for event in events:
            self.assertEqual(twistds.formatEvent(dict(event)), ours.formatEvent(dict(event)))

    def test_time(self) -> None:
        """The cached time of day is replaced when the second changes."""
        twistds, ours = textFileLogObserver(io.StringIO()), file_observer(io.StringIO())
        events: Any = []
        Logger("some.where", observer=events.append).info("words")
        for at in (1.0, 1.9, 2.0, 86_401.5, 1.2):
            event = {**events[0], "log_time": at}
            self.assertEqual(twistds.formatEvent(event), ours.formatEvent(event))


def log_of(observer: FileLogObserver) -> Logger:
    """A logger whose events go to this observer only."""
    receive: Any = observer
    return Logger("some.where", observer=receive)


class ObserverTests(SynchronousTestCase):
    def test_ascii(self) -> None:
        """A character that standard output cannot encode becomes an escape, and the line is not lost."""
        binary = io.BytesIO()
        file = io.TextIOWrapper(binary, encoding="ascii", write_through=True)
        log_of(file_observer(file)).info("größe")
        self.assertRegex(binary.getvalue(), rb"^\S+ \[some.where#info\] gr\\xf6\\xdfe\n$")


EVIL = "\x1b]0;x\x07\r\n2026-01-01 [forged#info] a line\u009b2J\u202e\u2028\ufeff\ud800"
SHOWN = r"\x1b]0;x\x07\r\n2026-01-01 [forged#info] a line\x9b2J\u202e\u2028\ufeff\ud800"


def forget(error: Exception) -> None:
    """Let a failed Deferred be garbage-collected without an errback."""
    fail(error)
    gc.collect()


class LoggerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        observer: Any = self.events.append
        self.log = logs.Logger("some.where", observer=observer)

    def test_fields(self) -> None:
        """Texts, errors, paths and lists in fields are printable for any observer."""
        self.log.info("{a} {b} {c} {d}", a=EVIL, b=OSError(2, EVIL), c=Path(EVIL), d=[EVIL])
        (event,) = self.events
        self.assertEqual((SHOWN, SHOWN), (event["a"], event["c"]))
        for name in "abcd":
            self.assertTrue(event[name].isprintable(), event[name])

    def test_left_alone(self) -> None:
        """Numbers stay numbers, and printable texts stay unchanged."""
        self.log.info("{a} {b} {c}", a=1, b=0.5, c="größe", d=None, e=True)
        (event,) = self.events
        self.assertEqual((1, 0.5, "größe", None, True), tuple(event[name] for name in "abcde"))

    def test_long(self) -> None:
        """A long field is cut."""
        self.log.info("{a} {b}", a="x" * 10**6, b=list(range(10**5)))
        (event,) = self.events
        self.assertTrue(event["a"].endswith("… (1000000 characters)"))
        self.assertLess(max(len(event["a"]), len(event["b"])), 1100)

    def test_str_fails(self) -> None:
        """A field whose str() fails does not make the logging call fail."""
        self.log.info("{a}", a=Unprintable())
        self.assertEqual(1, len(self.events))

    def test_namespace(self) -> None:
        """A logger has the namespace of the module that creates it."""
        self.assertEqual(__name__, logs.Logger().namespace)


class PrintableLinesTests(SynchronousTestCase):
    """Lines that come from outside txworker, above all from Twisted, in the log file."""

    def written(self, say: Any) -> str:
        file = io.StringIO()
        observer: Any = file_observer(file)
        say(Logger("twisted.internet.defer", observer=observer))
        return file.getvalue()

    def assert_plain(self, text: str) -> None:
        """Each line begins an entry or continues one with a tab, and is printable."""
        for line in text.removesuffix("\n").split("\n"):
            self.assertRegex(line, r"^(\t|\S+ \[(twisted|-|\\x1b))")
            self.assertTrue(line.replace("\t", "").isprintable(), line)

    def test_sentence(self) -> None:
        """A field that contains text from outside is printable."""
        text = self.written(lambda log: log.info("{log_io}", log_io=EVIL))
        self.assertIn(r"\x1b]0;x\x07\r", text)
        self.assert_plain(text)

    def test_error_not_handled(self) -> None:
        """A traceback keeps its lines, and the error's text is printable."""

        def say(log: Logger) -> None:
            log.failure("Unhandled error in {what}", Failure(OSError(EVIL)), what=EVIL)

        text = self.written(say)
        self.assertIn("builtins.OSError", text)
        self.assertIn(r"\x9b2J\u202e\u2028\ufeff\ud800", text)
        self.assert_plain(text)

    def test_legacy(self) -> None:
        """Events of twisted.python.log and unhandled errors in Deferreds are printable."""
        evil = EVIL.removesuffix("\ud800")  # trial writes these events to its own log, too, which is UTF-8
        file = io.StringIO()
        observer: Any = file_observer(file)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for say in (
            lambda: log.err(Failure(OSError(evil)), evil),
            lambda: log.msg(evil),
            lambda: forget(OSError(evil)),
        ):
            file.seek(0)
            file.truncate()
            say()
            self.assertIn(r"\x1b]0;x\x07\r", file.getvalue())
            self.assert_plain(file.getvalue())
        self.assertEqual(2, len(self.flushLoggedErrors(OSError)))

    def test_long(self) -> None:
        """An entry is cut at about 20,000 characters."""
        for words in ("{text}", "{text!r}()"):
            self.assertLess(len(self.written(lambda log, words=words: log.info(words, text="x" * 10**6))), 20_200)
