"""The twistd plugin: the options of `twistd worker`, and the service. Imports no gRPC before twistd forks."""

from __future__ import annotations

import atexit
import faulthandler
import gc
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from txworker.base.logs import Logger
from txworker.base.printable import printable
from txworker.base.standard_streams import finish, print_on_stderr, print_on_stdout
from txworker.config import Config, ConfigError, load
from txworker.config.warnings import warnings_of
from txworker.daemon.later_user import rights_of
from txworker.daemon.lifetime import StagedServices
from txworker.daemon.log_output import LogOutput, log_output_for
from txworker.daemon.notify import Notifier, notifier_of, unset_service_manager
from txworker.daemon.refusals import CannotStart, check_identity, check_twistd
from txworker.daemon.signals import hold_signals
from txworker.daemon.start_context import StartContext
from txworker.daemon.surroundings import open_standard_descriptors, remove_stale_pidfile
from txworker.daemon.version import own_version
from txworker.linux.procfs import ProcessTable
from txworker.process.environ import environment_as_started
from txworker.store.lease import has_lease

_COLLECTED_OBJECTS = 5_000
"""
New objects that start a collection of garbage (gc.set_threshold()). A job leaves no garbage that needs one, but dozens
of jobs on their way have more than Python's 700 objects, so that each burst of starts was interrupted for nothing.
"""


class Options(usage.Options):
    """The command line of `twistd worker`."""

    synopsis = "[options]"
    longdesc = (
        "Runs jobs for a remote scheduler. In the foreground: `twistd -n worker`; as a daemon: "
        "`twistd --pidfile worker.pid --logfile worker.log worker`. SIGTERM and SIGINT end every job, then the worker "
        '(with jobs.at_stop = "leave" the jobs run on); SIGHUP reads the configuration again; SIGUSR1 opens the log '
        "file again; SIGQUIT drains the worker: it takes no new jobs, and ends after its last one; SIGUSR2 ends the "
        "worker and leaves its jobs to the next one."
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
    log_output: LogOutput | None = None
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    def __init__(self) -> None:
        open_standard_descriptors()
        atexit.register(finish)
        super().__init__()

    def opt_help(self) -> NoReturn:
        """Display this help and exit."""
        _print(str(self))
        raise SystemExit(0)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        _print(f"txworker {own_version()}, Twisted {version('twisted')}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration here, where errors still reach the terminal."""
        if self.parent is not None:
            check_twistd(self.parent)
        if self["config"] == "":
            raise CannotStart("txworker: --config: needs the name of a file")
        try:
            path = Path(self["config"]) if self["config"] else None
            self.worker_config = load(path, rights=self._rights())
            self.directory = Path.cwd()
        except ConfigError as error:
            raise CannotStart(f"txworker: {error}") from error
        self.umask = _umask() if self.parent is None or self.parent["umask"] is None else self.parent["umask"]
        if self["check"]:
            _print(printable(f"txworker: {self.worker_config.source or 'the default configuration'} is good"))
            with self._rights():
                warnings = warnings_of(self.worker_config)
            for warning in warnings:
                print_on_stderr(printable(f"txworker: warning: {warning}"))
            raise SystemExit(0)
        if self.parent is not None:
            self.log_output = log_output_for(self.parent, self.worker_config.log)
            _remove_stale_pidfile(self.parent, self.worker_config.jobs.state_directory)

    def _rights(self) -> AbstractContextManager[None]:
        """The rights that the worker will have: twistd changes the user only later."""
        return nullcontext() if self.parent is None else rights_of(self.parent.get("uid"), self.parent.get("gid"))


class WorkerService(Service):
    """The whole worker, which is assembled when the service starts."""

    _log = Logger()

    def __init__(self, config: Config, umask: int, directory: Path, log_output: LogOutput | None = None) -> None:
        self._config = config
        self._umask = umask
        self._directory = directory
        self._is_log_ours = log_output is not None
        self._log_output = log_output or LogOutput(lambda event: None, config.log.level)
        self._services: StagedServices | None = None
        self._notifier = Notifier()

    def setServiceParent(self, parent: Any) -> None:
        """Join twistd's application, and give it the log observer, which twistd then uses instead of its own."""
        super().setServiceParent(parent)
        if self._is_log_ours and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_output)

    def startService(self) -> None:
        """
        Assemble the worker and start it. SIGTERM and SIGINT stop it with exit status 0.

        Raises:
            CannotStart: an address, a directory or a certificate cannot be used.
        """
        super().startService()
        check_identity()
        hold_signals()
        environment = environment_as_started()
        self._notifier = notifier_of(os.environ, os.getpid())
        unset_service_manager()
        if self._notifier.watchdog_seconds:
            faulthandler.enable(file=2)  # systemd's watchdog ends the worker by SIGABRT: shows where it hangs
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # its fork handlers can block a fork
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # otherwise each failed handshake prints lines on stderr
        from twisted.internet import reactor

        use_monotonic_clock(reactor)
        try:
            from txworker.daemon.startup import start  # not before: it imports gRPC, and twistd has forked only now
        except ImportError as error:  # twistd may have changed the user (--uid)
            raise CannotStart(f"txworker: Python's modules cannot be read by uid {os.geteuid()}: {error}") from error

        context = StartContext(environment, self._umask, self._directory, self._log_output, self._notifier)
        self._services = start(self._config, reactor, context)
        self._log.info(
            "txworker {version}, configuration {source}, state in {state}, output in {output}.",
            version=own_version(),
            source=self._config.source or "by default",
            state=self._config.jobs.state_directory,
            output=self._config.jobs.output_directory,
        )
        for warning in warnings_of(self._config):
            self._log.warn("{warning}.", warning=warning)
        gc.collect()
        gc.freeze()  # these objects stay; to scan them in each collection would cost a twentieth of a launch
        gc.set_threshold(_COLLECTED_OBJECTS)

    def stopService(self) -> Deferred[None]:
        """Stop everything in order; fires when that is done, in bounded time."""
        super().stopService()
        self._notifier.stopping()
        services, self._services = self._services, None
        if services is None:
            return succeed(None)
        return services.stopService().addCallback(lambda _: self._log.info("The worker has ended; goodbye."))


def use_monotonic_clock(reactor: Any) -> None:
    """
    Make the reactor use a clock that cannot be set. Twisted's default is the wall clock (twisted.python.runtime).

    Call it before any delayed call is scheduled: the due times of earlier ones are on the other clock.
    """
    reactor.seconds = time.monotonic


def makeService(options: Options) -> Service:
    """Twisted: the service for these options."""
    return WorkerService(options.worker_config, options.umask, options.directory, options.log_output)


def _remove_stale_pidfile(twistd_options: Mapping[str, Any], state_directory: Path) -> None:
    name = twistd_options.get("pidfile")
    pid = remove_stale_pidfile(Path(name), ProcessTable(), partial(has_lease, state_directory)) if name else 0
    if pid:
        text = f"txworker: removed the stale pidfile {name}: process {pid} is not the worker that wrote it"
        print_on_stderr(printable(text))


def _print(text: str) -> None:
    """
    Print what was asked for.

    Raises:
        CannotStart: writing failed.
    """
    try:
        print_on_stdout(text)
    except OSError as error:
        raise CannotStart(f"txworker: cannot write to standard output: {error.strerror or error}") from error


def _umask() -> int:
    """The umask at start, which jobs inherit. twistd sets another one for a daemon, for the sake of its log files."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
