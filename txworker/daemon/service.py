"""What twistd sees: the options of `twistd worker`, and the service. Reads the configuration; nothing of gRPC."""

from __future__ import annotations

import gc
import os
import signal as signals
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.logger import FileLogObserver, ILogObserver
from twisted.logger import Logger as TwistedLogger
from twisted.python import usage
from twisted.python.components import Componentized

from txworker.base.logs import Logger, observer_for
from txworker.base.printable import printable
from txworker.config import Config, ConfigError, load
from txworker.daemon.version import own_version
from txworker.process.environ import environment_as_started


class CannotStart(SystemExit, Exception):
    """
    The worker cannot start; one sentence says why.

    In the foreground the interpreter prints it and exits with status 1, without a traceback; as an Exception
    it is passed by a starting daemon to the twistd that waits for it. Printable, whatever a file's name holds.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))

    def __str__(self) -> str:
        return str(self.code)


class Options(usage.Options):
    """The command line of `twistd worker`."""

    synopsis = "[options]"
    longdesc = (
        "Runs jobs for a remote scheduler. In the foreground: `twistd -n worker`; as a daemon: "
        "`twistd --pidfile worker.pid --logfile worker.log worker`. SIGTERM and SIGINT end every job, then the worker "
        '(with jobs.at_stop = "leave" the jobs run on); SIGUSR1 takes no new jobs, lets those there are come to their '
        "end, then ends the worker; SIGUSR2 ends the worker and leaves its jobs to the next one."
    )
    optParameters = (
        (
            "config",
            "c",
            None,
            "The configuration file. Without it worker.toml in the current directory, or else the defaults.",
        ),
    )
    optFlags = (("check", None, "Only check the configuration, say whether it is good, and exit."),)
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"txworker {own_version()}, Twisted {version('twisted')}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration while mistakes in it can still be told on the terminal."""
        if self.parent is not None:
            check_twistd(self.parent)
        if self["config"] == "":
            raise CannotStart("txworker: --config: needs the name of a file")
        try:
            self.worker_config = load(Path(self["config"]) if self["config"] else None)
        except ConfigError as error:
            raise CannotStart(f"txworker: {error}") from error
        self.umask = _umask() if self.parent is None or self.parent["umask"] is None else self.parent["umask"]
        if self["check"]:
            print(printable(f"txworker: {self.worker_config.source or 'the default configuration'} is good"))
            raise SystemExit(0)


_NOT_WITH = {
    "euid": "the worker could not see and end all that its jobs leave behind: use --uid alone, or jobs.user",
    "chroot": "the worker needs /proc and Python's modules below it: use a container, or systemd's RootDirectory",
    "debug": "the worker would serve while the debugger holds its reactor",
}
"""Options of twistd under which what the worker promises would be untrue, and why."""


def check_twistd(options: Mapping[str, Any]) -> None:
    """
    twistd was not told anything under which the worker cannot keep its promises.

    Raises:
        CannotStart: it was; the sentence names the option.
    """
    for option, why in _NOT_WITH.items():
        if options.get(option):
            raise CannotStart(f"txworker: twistd --{option}: {why}")
    for option, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        wanted = options.get(option)
        if wanted is not None and wanted != own and os.geteuid() != 0:
            raise CannotStart(
                f"txworker: twistd --{option}: only root can become {option} {wanted}, this is uid {os.geteuid()}"
            )
    if getattr(sys.modules.get("twisted.internet.reactor"), "__class__", object).__name__ == "SelectReactor":
        raise CannotStart(
            "txworker: twistd --reactor=select: it knows no more than 1024 descriptors: use epoll, the default"
        )


def check_identity() -> None:
    """
    The worker is one user, by whatever way it was started.

    Raises:
        CannotStart: its real, effective and saved user or group differ.
    """
    for what, ids in (("user", os.getresuid()), ("group", os.getresgid())):
        if len(set(ids)) > 1:
            numbers = ", ".join(map(str, ids))
            raise CannotStart(
                f"txworker: the {what} ids of the worker differ ({numbers}; real, effective, saved): start it as one"
            )


class WorkerService(Service):
    """The whole worker, put together when it is started."""

    _log = Logger()

    def __init__(self, config: Config, umask: int, log_observer: FileLogObserver | None = None) -> None:
        self._config = config
        self._umask = umask
        self._log_observer = log_observer
        self._running: Any = None

    def setServiceParent(self, parent: Any) -> None:
        """Join twistd's application, and give it the log observer, which twistd then uses instead of its own."""
        super().setServiceParent(parent)
        if self._log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_observer)

    def startService(self) -> None:
        """
        Put the worker together and start it; SIGTERM and SIGINT stop it with exit status 0.

        Raises:
            CannotStart: an address, a directory or a certificate cannot be used.
        """
        super().startService()
        check_identity()
        hold_signals()
        environment = environment_as_started()
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # its handlers stand in the way of every fork
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # lines on stderr for every handshake that fails
        from twisted.internet import reactor

        use_monotonic_clock(reactor)

        try:
            from txworker.daemon.assembly import assemble  # only now: it imports gRPC, and a daemon has forked by now
            from txworker.daemon.directories import NotUsable
            from txworker.jobs.errors import StoreBroken
            from txworker.rpc.server import CannotListen
            from txworker.store.errors import Unusable
        except ImportError as error:  # by now we may be another user (--uid)
            raise CannotStart(f"txworker: Python's modules cannot be read by uid {os.geteuid()}: {error}") from error

        try:
            assembled = assemble(self._config, reactor, environment, self._umask)
            self._running = assembled.services
            obey_signals(reactor, assembled.drain.begin, assembled.handover.begin, self._log)
            self._running.startService()
        except CannotListen as error:
            raise CannotStart(f"txworker: grpc_server.addr: {error}") from error
        except NotUsable as error:
            raise CannotStart(f"txworker: {error}") from error
        except (Unusable, StoreBroken) as error:
            raise CannotStart(f"txworker: jobs.state_directory: {error}") from error
        except OSError as error:
            raise CannotStart(f"txworker: {error.filename or 'cannot start'}: {error.strerror or error}") from error
        self._log.info(
            "txworker {version}, configuration {source}, state in {state}, output in {output}.",
            version=own_version(),
            source=self._config.source or "by default",
            state=self._config.jobs.state_directory,
            output=self._config.jobs.output_directory,
        )
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again and again costs a twentieth of a launch

    def stopService(self) -> Deferred[None]:
        """Stop everything, in order; fires when all is over, in bounded time."""
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        stopped: Deferred[None] = running.stopService()
        return stopped.addCallback(lambda _: self._log.info("The worker has ended; goodbye."))


def use_monotonic_clock(reactor: Any) -> None:
    """
    From now on the reactor's time cannot jump. Twisted's is the wall clock (twisted.python.runtime: time.time).

    Before any call is put on it: those would come at another time.
    """
    reactor.seconds = time.monotonic


_SIGNALS = (signals.SIGTERM, signals.SIGINT, signals.SIGHUP, signals.SIGUSR1, signals.SIGUSR2)


def hold_signals() -> None:
    """Those that we obey wait from now on, until obey_signals() has its way: a start is not left half done."""
    signals.pthread_sigmask(signals.SIG_BLOCK, _SIGNALS)


def obey_signals(
    reactor: Any, drain: Callable[[], object], hand_over: Callable[[], object], log: TwistedLogger
) -> None:
    """
    Once the reactor runs SIGTERM, SIGINT and SIGHUP stop it in order, a second one changes nothing; SIGUSR1 drains,
    SIGUSR2 hands over.

    Twisted's own handlers, which are put in place when the reactor starts, would make twistd end by the signal instead
    of with status 0: none is ever reached, for signals are held until ours are there.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(begin, signals.Signals(number).name)

    def begin(name: str) -> None:
        try:
            reactor.stop()
            log.info("{signal}: stopping.", signal=name)
        except ReactorNotRunning:
            log.info("{signal}: already stopping.", signal=name)

    def hand_over_or_not() -> None:
        maybeDeferred(hand_over).addErrback(lambda failure: None)  # the log says why not

    def install() -> None:
        signals.signal(signals.SIGUSR1, lambda number, frame: reactor.callFromThread(drain))
        signals.signal(signals.SIGUSR2, lambda number, frame: reactor.callFromThread(hand_over_or_not))
        signals.signal(signals.SIGTERM, stop)
        signals.signal(signals.SIGINT, stop)
        signals.signal(signals.SIGHUP, stop)  # the terminal is gone; by default that kills us and leaves the jobs
        signals.pthread_sigmask(signals.SIG_UNBLOCK, _SIGNALS)

    reactor.callWhenRunning(install)


def makeService(options: Options) -> Service:
    """Twisted: the service for these options."""
    log_observer = None if options.parent is None else observer_for(options.parent)
    return WorkerService(options.worker_config, options.umask, log_observer)


def _umask() -> int:
    """What we were started with; twistd gives a daemon another one, which is good for its log and not for jobs."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
