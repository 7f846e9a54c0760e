"""The same lines as twistd's own, made faster."""

from __future__ import annotations

import io
from typing import Any

from twisted.logger import FileLogObserver, Logger, textFileLogObserver
from twisted.logger import LogPublisher as TypedPublisher
from twisted.trial.unittest import SynchronousTestCase

from txworker.logs import QuickText, quicken

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

    def test_others_stay(self) -> None:
        """An observer of the operator's own, or with another format of time, is left alone."""
        own: list[object] = []
        publisher = LogPublisher(
            own.append,
            FileLogObserver(io.StringIO(), lambda event: "mine"),
            textFileLogObserver(io.StringIO(), timeFormat="%H:%M"),
        )
        self.assertEqual(0, quicken(publisher))
