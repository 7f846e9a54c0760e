"""Where the log goes, by twistd's options and by [log]."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txworker.config import Log, load
from txworker.daemon import log_output
from txworker.daemon.log_output import LogOutput, log_output_for
from txworker.daemon.refusals import CannotStart
from txworker.daemon.service import WorkerService


def log_to(output: LogOutput | None) -> Logger:
    """A logger whose events go to this output only."""
    receive: Any = output
    return Logger("some.where", observer=receive)


class LogOutputTests(SynchronousTestCase):
    def test_twistd_uses_it(self) -> None:
        """twistd finds our log observer on its application and uses it instead of making one."""
        output = log_output_for({"logfile": "worker.log"}, Log())
        application = Application("worker")
        WorkerService(load(None), 0o022, Path.cwd(), output).setServiceParent(application)
        self.assertIs(output, application.getComponent(ILogObserver))

    def test_log_file(self) -> None:
        """Lines go to the file that twistd's --logfile names; a daemon's default is twistd.log."""
        table: list[tuple[str, dict[str, Any]]] = [
            ("a.log", {"logfile": "a.log"}),
            ("b.log", {"logfile": "b.log", "nodaemon": 1}),
            ("twistd.log", {}),
        ]
        for name, options in table:
            log_to(log_output_for(options, Log())).info("words")
            self.assertRegex(Path(name).read_text(), r"^\S+ \[some.where#info\] words\n$")

    def test_standard_output(self) -> None:
        """In the foreground lines go to standard output, unless a file is named."""
        for name in (None, "-"):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                output = log_output_for({"nodaemon": 1, "logfile": name}, Log())
            log_to(output).info("words")
            self.assertRegex(out.getvalue(), r"^\S+ \[some.where#info\] words\n$")

    def test_standard_output_is_cut(self) -> None:
        """Standard output that the shell redirected to a file has no NULs after a cut."""
        with open("out.log", "w", buffering=1) as out, contextlib.redirect_stdout(out):
            log = log_to(log_output_for({"nodaemon": 1}, Log()))
            log.info("one")
            os.truncate("out.log", 0)
            log.info("two")
        self.assertRegex(Path("out.log").read_bytes(), rb"^2\S+ \S+ two\n$")

    def test_json(self) -> None:
        """With format = "json" each line is an object, in a file and on standard output."""
        log_to(log_output_for({"logfile": "j.log"}, Log(format="json"))).info("words", job_id="a-b")
        self.assertEqual("a-b", json.loads(Path("j.log").read_text())["job_id"])

    def test_left_to_twistd(self) -> None:
        """twistd makes the observer of other factories and of --syslog, and refuses a daemon that logs to stdout."""
        table: list[dict[str, Any]] = [{"logger": "some.factory"}, {"syslog": 1, "logfile": "c.log"}, {"logfile": "-"}]
        for options in table:
            self.assertIsNone(log_output_for(options, Log()))
        self.assertFalse(Path("c.log").exists())

    def test_logger(self) -> None:
        """One of our factories as --logger is that format, in the file of --logfile, with the level of [log]."""
        options: dict[str, Any] = {"logger": "txworker.daemon.log_output.json", "logfile": "l.log"}
        log = log_to(log_output_for(options, Log(level="warn")))
        self.assertIsNone(options["logger"])  # or twistd would use what the factory makes
        log.info("small")
        log.warn("big")
        (line,) = Path("l.log").read_text().splitlines()
        self.assertEqual("big", json.loads(line)["message"])

    def test_factories(self) -> None:
        """Our factories for --logger make observers of each format, which twistd takes."""
        for factory, begin in ((log_output.text, "20"), (log_output.json, "{")):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                observer = factory()
            self.assertTrue(ILogObserver.providedBy(observer))
            log_to(observer).info("words")  # type: ignore[arg-type]  # an observer is enough
            self.assertTrue(out.getvalue().startswith(begin))

    def test_no_journal(self) -> None:
        """Without a journal, the factory of its observer says so."""
        self.patch(log_output, "JournalObserver", self.refusing)
        self.assertIn("there is no journal on this machine", str(self.assertRaises(CannotStart, log_output.journald)))

    def refusing(self, elsewhere: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    def test_bad_file(self) -> None:
        """A log file that cannot be opened is named in one sentence."""
        sentence = str(self.assertRaises(CannotStart, log_output_for, {"logfile": "/proc/x/log"}, Log()))
        self.assertEqual("txworker: twistd --logfile: /proc/x/log: No such file or directory", sentence)

    def test_fifo_without_reader(self) -> None:
        """A FIFO that no program reads is refused at once; opening it would wait for a reader for ever."""
        path = self.mktemp()
        os.mkfifo(path)
        sentence = str(self.assertRaises(CannotStart, log_output_for, {"logfile": path}, Log()))
        self.assertEqual(f"txworker: twistd --logfile: {path}: no program reads from it", sentence)

    def test_level(self) -> None:
        """What is below the level is not written; the level can be changed at any time."""
        events: list[Any] = []
        output = LogOutput(events.append, "info")
        log = log_to(output)
        log.debug("1")
        log.info("2")
        output.set_level("error")
        log.warn("3")
        log.failure("4", KeyError)  # type: ignore[arg-type]  # no failure is needed here
        output.set_level("debug")
        log.debug("5")
        self.assertEqual(["2", "4", "5"], [event["log_format"] for event in events])

    def test_cut_is_told(self) -> None:
        """That the log was cut, and how many lines are there twice, is a line of the log."""
        output: Any = log_output_for({"logfile": "cut.log"}, Log())
        globalLogPublisher.addObserver(output)
        self.addCleanup(globalLogPublisher.removeObserver, output)
        log_to(output).info("one")
        Path("cut.log").write_text("")
        log_to(output).info("two")
        self.assertRegex(
            Path("cut.log").read_text(),
            r"(?s)^\S+ \S+ one\n\S+ \S+ two\n\S+ \S+ The log file was cut .* last 1 line ",
        )

    def test_reopen(self) -> None:
        """reopen() says what it has done: in the new file, or that there is nothing to do."""
        output: Any = log_output_for({"logfile": "r.log"}, Log())
        globalLogPublisher.addObserver(output)
        self.addCleanup(globalLogPublisher.removeObserver, output)
        Path("r.log").rename("r.log.1")
        output.reopen()
        self.assertRegex(Path("r.log").read_text(), "The log file .*/r.log was opened again")
        LogOutput(lambda event: None, "info").reopen()
        self.assertIn("there is nothing to open again", Path("r.log").read_text())
