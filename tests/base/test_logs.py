"""The same lines as twistd's own, made faster, and with nothing in them that is not for showing."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any

from twisted.internet.defer import fail
from twisted.logger import FileLogObserver, Logger, globalLogPublisher, textFileLogObserver
from twisted.logger import LogPublisher as TypedPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txworker.base import logs
from txworker.base.logs import QuickText, quicken

LogPublisher: Any = TypedPublisher  # which asks for what zope declares and mypy does not see


class Thing:
    name = "thing"

    def call(self) -> str:
        return "called"


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")


def say_much(log: Logger) -> None:
    log.info("Job {job_id} started as pid {pid}: {argv}.", job_id="a-b", pid=7, argv=("ls", "-l"))
    log.warn("several\nlines {text!r:>10} {thing.name} {list[1]}", text="x\n", thing=Thing(), list=[1, 2])
    log.info("more\nlines: {text}", text="a\nb")
    log.error("{thing.call()} {call()}", thing=Thing(), call=Thing().call)
    log.info("{missing}")
    log.info("{bad}", bad=Unspeakable())
    log.info("{unbalanced")
    log.info("")
    log.info("braces {{}} and {text}", text="{text}")
    log.info("of another", log_system="system")
    log.debug("at another level")
    try:
        raise KeyError("oh")
    except KeyError:
        log.failure("it failed: {text}", text="so")


class QuickTextTests(SynchronousTestCase):
    def test_same_lines(self) -> None:
        """Whatever is said: several lines, calls, failures, sentences that cannot be made: the text is twistd's."""
        events: Any = []
        say_much(Logger("some.where", observer=events.append))
        slow, quick = textFileLogObserver(io.StringIO()), QuickText(textFileLogObserver(io.StringIO()).formatEvent)
        for event in events:
            self.assertEqual(slow.formatEvent(dict(event)), quick(dict(event)))

    def test_time_goes_on(self) -> None:
        """Each second has its own time of day."""
        slow, quick = textFileLogObserver(io.StringIO()), QuickText(textFileLogObserver(io.StringIO()).formatEvent)
        events: Any = []
        Logger("some.where", observer=events.append).info("words")
        for at in (1.0, 1.9, 2.0, 86_401.5, 1.2):
            event = {**events[0], "log_time": at}
            self.assertEqual(slow.formatEvent(event), quick(event))


class QuickenTests(SynchronousTestCase):
    def test_as_twistd_has_it(self) -> None:
        """The observer that twistd sets up goes on writing to its file."""
        file = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(file))
        self.assertEqual(1, quicken(publisher))
        Logger("some.where", observer=publisher).info("words")
        self.assertRegex(file.getvalue(), r"^\S+ \[some.where#info\] words\n$")

    def test_ascii(self) -> None:
        """No line is lost because standard output cannot show a character of it."""
        binary = io.BytesIO()
        file = io.TextIOWrapper(binary, encoding="ascii", write_through=True)
        publisher = LogPublisher(textFileLogObserver(file))
        quicken(publisher)
        Logger("some.where", observer=publisher).info("größe")
        self.assertRegex(binary.getvalue(), rb"^\S+ \[some.where#info\] gr\\xf6\\xdfe\n$")

    def test_others_stay(self) -> None:
        """An observer of the operator's own, or with another format of time, is left alone."""
        own: list[object] = []
        publisher = LogPublisher(
            own.append,
            FileLogObserver(io.StringIO(), lambda event: "mine"),
            textFileLogObserver(io.StringIO(), timeFormat="%H:%M"),
        )
        self.assertEqual(0, quicken(publisher))


EVIL = "\x1b]0;x\x07\r\n2026-01-01 [forged#info] a line\u009b2J\u202e\u2028\ufeff\ud800"
SHOWN = r"\x1b]0;x\x07\r\n2026-01-01 [forged#info] a line\x9b2J\u202e\u2028\ufeff\ud800"


def forget(error: Exception) -> None:
    """A Deferred that fails, and is gone before anybody asked it."""
    fail(error)
    gc.collect()


class LoggerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        observer: Any = self.events.append
        self.log = logs.Logger("some.where", observer=observer)

    def test_fields(self) -> None:
        """Whatever observer an operator has: texts, errors, files' names and lists in a line's fields are printable."""
        self.log.info("{a} {b} {c} {d}", a=EVIL, b=OSError(2, EVIL), c=Path(EVIL), d=[EVIL])
        (event,) = self.events
        self.assertEqual((SHOWN, SHOWN), (event["a"], event["c"]))
        for name in "abcd":
            self.assertTrue(event[name].isprintable(), event[name])

    def test_left_alone(self) -> None:
        """Numbers stay numbers, for those who count with them, and what can be read stays as it is."""
        self.log.info("{a} {b} {c}", a=1, b=0.5, c="größe", d=None, e=True)
        (event,) = self.events
        self.assertEqual((1, 0.5, "größe", None, True), tuple(event[name] for name in "abcde"))

    def test_long(self) -> None:
        """A field that is as long as somebody likes is cut."""
        self.log.info("{a} {b}", a="x" * 10**6, b=list(range(10**5)))
        (event,) = self.events
        self.assertTrue(event["a"].endswith("… (1000000 characters)"))
        self.assertLess(max(len(event["a"]), len(event["b"])), 1100)

    def test_unspeakable(self) -> None:
        """What cannot be said does not stop whoever wanted to say it."""
        self.log.info("{a}", a=Unspeakable())
        self.assertEqual(1, len(self.events))

    def test_namespace(self) -> None:
        """Lines are of the module that says them."""
        self.assertEqual(__name__, logs.Logger().namespace)


class PrintableLinesTests(SynchronousTestCase):
    """What others than our own rooms say, Twisted above all, as twistd's file has it."""

    def written(self, say: Any) -> str:
        file = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(file))
        quicken(publisher)
        say(Logger("twisted.internet.defer", observer=publisher))
        return file.getvalue()

    def assert_plain(self, text: str) -> None:
        """Every line begins an entry of Twisted's, or goes on with one; and each can be read."""
        for line in text.removesuffix("\n").split("\n"):
            self.assertRegex(line, r"^(\t|\S+ \[(twisted|-|\\x1b))")
            self.assertTrue(line.replace("\t", "").isprintable(), line)

    def test_sentence(self) -> None:
        """A line that is made of a text of others' is printable."""
        text = self.written(lambda log: log.info("{log_io}", log_io=EVIL))
        self.assertIn(r"\x1b]0;x\x07\r", text)
        self.assert_plain(text)

    def test_error_not_handled(self) -> None:
        """A traceback keeps its lines, and what the error says is printable."""

        def say(log: Logger) -> None:
            log.failure("Unhandled error in {what}", Failure(OSError(EVIL)), what=EVIL)

        text = self.written(say)
        self.assertIn("builtins.OSError", text)
        self.assertIn(r"\x9b2J\u202e\u2028\ufeff\ud800", text)
        self.assert_plain(text)

    def test_legacy(self) -> None:
        """So is an event of Twisted's older log, and an error in a Deferred that nobody has handled."""
        file = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(file))
        quicken(publisher)
        globalLogPublisher.addObserver(publisher)
        self.addCleanup(globalLogPublisher.removeObserver, publisher)
        for say in (
            lambda: log.err(Failure(OSError(EVIL)), EVIL),
            lambda: log.msg(EVIL),
            lambda: forget(OSError(EVIL)),
        ):
            file.seek(0)
            file.truncate()
            say()
            self.assertIn(r"\x1b]0;x\x07\r", file.getvalue())
            self.assert_plain(file.getvalue())
        self.assertEqual(2, len(self.flushLoggedErrors(OSError)))

    def test_long(self) -> None:
        """An entry is cut at some 20,000 characters."""
        for words in ("{text}", "{text!r}()"):
            self.assertLess(len(self.written(lambda log, words=words: log.info(words, text="x" * 10**6))), 20_200)
