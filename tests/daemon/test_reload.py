"""Reading the configuration again: what changes live, what needs a restart, and that a mistake changes nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.config import Config, ConfigError, GrpcServer, Jobs, Log, Scheduler, Web
from txworker.daemon.reload import Change, Reload, RunningConfig, changes, with_live
from txworker.jobs import Limits
from txworker.jobs.errors import ReloadRefused

HERE = Path("/here")
JOBS = Jobs(HERE, HERE / "output", HERE / "state")
CONFIG = Config(GrpcServer(), Scheduler(), JOBS, HERE / "worker.toml")
TLS = GrpcServer(use_tls=True, crt_file=HERE / "a.pem", key_file=HERE / "a.key")


class ChangesTests(SynchronousTestCase):
    def test_none(self) -> None:
        """The same file again changes nothing."""
        self.assertEqual([], changes(CONFIG, CONFIG))

    def test_live_and_not(self) -> None:
        """Each key that differs is named with both values; those that apply live are marked."""
        new = replace(
            CONFIG,
            grpc_server=replace(CONFIG.grpc_server, port=1),
            jobs=replace(JOBS, max_running=5, limits=Limits(max_open_files=9), nice=3, keep_days=1.5, shim=False),
            log=Log(level="debug", format="json"),
        )
        self.assertEqual(
            [
                Change("grpc_server.addr", '"127.0.0.1:30000"', '"127.0.0.1:1"', False),
                Change("jobs.keep_days", "0.0", "1.5", True),
                Change("jobs.max_running", "0", "5", True),
                Change("jobs.shim", "true", "false", False),
                Change("jobs.nice", "0", "3", False),
                Change("jobs.limits.max_open_files", "0", "9", True),
                Change("log.format", '"text"', '"json"', False),
                Change("log.level", '"info"', '"debug"', True),
            ],
            changes(CONFIG, new),
        )
        merged = with_live(CONFIG, new)
        self.assertEqual([change for change in changes(CONFIG, new) if change.live], changes(CONFIG, merged))

    def test_web_address(self) -> None:
        """The address of the web server is told as the file has it, and needs a restart."""
        one, other = replace(CONFIG, web=Web("::1", 1)), replace(CONFIG, web=Web("127.0.0.1", 2))
        self.assertEqual([Change("web.addr", '"[::1]:1"', '"127.0.0.1:2"', False)], changes(one, other))
        self.assertEqual([Change("web.addr", "", '"[::1]:1"', False)], changes(CONFIG, one))

    def test_lists(self) -> None:
        """A list is told as the file has it."""
        new = replace(CONFIG, scheduler=Scheduler(addrs=("a:1", "b:2")))
        self.assertEqual([Change("scheduler.addrs", "[]", '["a:1", "b:2"]', False)], changes(CONFIG, new))

    def test_secrets(self) -> None:
        """Variables of jobs may be secrets: their names are told, their values never."""
        old = replace(CONFIG, jobs=replace(JOBS, environment={"KEY": "secret", "GONE": "secret"}))
        new = replace(CONFIG, jobs=replace(JOBS, environment={"KEY": "other", "NEW": "other"}))
        self.assertEqual(
            [
                Change("jobs.environment.KEY", "(hidden)", "(hidden)", False),
                Change("jobs.environment.GONE", "(hidden)", "", False),
                Change("jobs.environment.NEW", "", "(hidden)", False),
            ],
            changes(old, new),
        )

    def test_certificates(self) -> None:
        """Other certificate files are served without a restart, as long as clients are asked for as much as before."""
        other = replace(TLS, crt_file=HERE / "b.pem")
        mutual = replace(other, client_ca_file=HERE / "ca.pem")
        for old, new, live in ((TLS, other, True), (TLS, mutual, False), (GrpcServer(), other, False)):
            found = changes(replace(CONFIG, grpc_server=old), replace(CONFIG, grpc_server=new))
            self.assertEqual({live}, {change.live for change in found}, found)

    def test_every_section(self) -> None:
        """A key of any section that is not known to change live needs a restart: none is passed by in silence."""
        for section in fields(Config):
            if section.name in ("source", "jobs"):
                continue
            kind = type(getattr(CONFIG, section.name))
            values = {field.name: f"other {field.name}" for field in fields(kind)}
            new = replace(CONFIG, **{section.name: kind(**values)})
            keys = {change.key.partition(".")[0] for change in changes(CONFIG, new)}
            self.assertEqual({section.name}, keys)


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.running = RunningConfig(CONFIG)
        self.applied: list[Config] = []
        self.order: list[str] = []
        self.told: list[bool] = []
        self.answer: Deferred[Config] = succeed(CONFIG)

    def a_reload(self, runs_shim: bool = True) -> Reload:
        return Reload(
            self.running,
            lambda: self.answer,
            self.applied.append,
            runs_shim,
            lambda: self.order.append("before"),
            lambda: self.order.append("after"),
            self.told.append,
        )

    def test_applied(self) -> None:
        """What can change live is in force afterwards; what cannot stays, and is told again the next time."""
        new = replace(CONFIG, jobs=replace(JOBS, max_running=5, nice=3))
        reload = self.a_reload()
        for live in ([True, False], [False]):
            self.answer = succeed(new)
            found = self.successResultOf(reload.begin())
            self.assertEqual(live, [change.live for change in found])
            self.assertEqual((5, 0), (self.running.config.jobs.max_running, self.running.config.jobs.nice))
        self.assertEqual(self.running.config, self.applied[-1])
        self.assertEqual(["before", "after"] * 2, self.order)

    def test_file_that_was_made_later(self) -> None:
        """A worker that has started without a file names the one that it has read since."""
        self.running = RunningConfig(replace(CONFIG, source=None))
        with capturedLogs() as events:
            self.successResultOf(self.a_reload().begin())
        self.assertEqual(CONFIG.source, self.running.config.source)
        self.assertIn("/here/worker.toml was read again", str(formatEvent(events[-1])))

    def test_mistake(self) -> None:
        """A mistake in the file changes nothing; it is told in the sentence of --check, and a later reload works."""
        self.answer = fail(ConfigError("jobs.nice", "must be an integer", HERE / "worker.toml"))
        reload = self.a_reload()
        error = self.failureResultOf(reload.begin(), ReloadRefused).value
        self.assertEqual("/here/worker.toml: jobs.nice: must be an integer", str(error))
        self.assertEqual(([], CONFIG), (self.applied, self.running.config))
        self.assertEqual(["before", "after"], self.order)
        self.answer = succeed(CONFIG)
        self.assertEqual([], self.successResultOf(reload.begin()))
        self.assertEqual([False, True], self.told)

    def test_own_mistake(self) -> None:
        """A reload that fails for any other reason has failed as well: it is told so, and the log has the traceback."""
        self.answer = fail(ZeroDivisionError())
        self.failureResultOf(self.a_reload().begin(), ZeroDivisionError)
        self.assertEqual(([False], ["before", "after"]), (self.told, self.order))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_check(self) -> None:
        """A check tells the same, and changes nothing."""
        self.answer = succeed(replace(CONFIG, jobs=replace(JOBS, max_running=5)))
        (change,) = self.successResultOf(self.a_reload().check())
        self.assertEqual(("jobs.max_running", True), (change.key, change.live))
        self.assertEqual(([], CONFIG, [], []), (self.applied, self.running.config, self.order, self.told))

    def test_without_the_shim(self) -> None:
        """A worker that runs without the shim refuses what needs it, as at its start."""
        self.answer = succeed(replace(CONFIG, jobs=replace(JOBS, at_stop="leave")))
        error = self.failureResultOf(self.a_reload(runs_shim=False).begin(), ReloadRefused).value
        self.assertEqual("jobs.at_stop needs the shim, and this worker runs without it", str(error))
        self.assertEqual([], self.applied)

    def test_one_after_another(self) -> None:
        """A second request waits for the first, and reads the file anew."""
        first: Deferred[Config] = Deferred()
        self.answer = first
        reload = self.a_reload()
        began = reload.begin()
        self.answer = succeed(replace(CONFIG, jobs=replace(JOBS, max_running=5)))
        later = reload.begin()
        self.assertNoResult(later)
        first.callback(CONFIG)
        self.assertEqual(([], 1), (self.successResultOf(began), len(self.successResultOf(later))))
        self.assertEqual(5, self.running.config.jobs.max_running)

    def test_defect(self) -> None:
        """An unexpected error is logged with its traceback."""
        self.answer = fail(ZeroDivisionError())
        self.failureResultOf(self.a_reload().begin(), ZeroDivisionError)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_caller_gone(self) -> None:
        """A caller that gives up is no mistake to log, and the next reload works."""
        self.answer = Deferred()
        reload = self.a_reload()
        for waiting in [reload.begin(), reload.begin()][::-1]:
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual([], self.flushLoggedErrors())
        self.answer = succeed(CONFIG)
        self.successResultOf(reload.begin())
