"""
Where the worker's log goes and how it looks: what twistd's options and the section [log] say.

The functions text, json and journald are for `twistd --logger`, for example
`twistd -n --logger txworker.daemon.log_output.json worker`.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from txworker.base.journal import JOURNAL_SOCKET, JournalObserver, is_journal
from txworker.base.log_file import AppendedLogFile
from txworker.base.log_formats import FormatEvent, format_json, with_priorities
from txworker.base.logs import Logger, file_observer, text_format
from txworker.base.quantities import counted
from txworker.config import Log
from txworker.daemon.refusals import CannotStart

_log = Logger()

Observer = Callable[[dict[str, Any]], None]

_LEVELS = (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical)


_FACTORIES: Mapping[object, str] = {f"{__name__}.{name}": name for name in ("text", "json", "journald")}


@implementer(ILogObserver)
class LogOutput:
    """
    The log observer that twistd is given: passes on what is of its level or above. file: what reopen() opens again;
    None: the log is not a file of the worker's. Reactor thread.
    """

    def __init__(self, observer: Observer, level: str, file: AppendedLogFile | None = None) -> None:
        self._observer = observer
        self._file = file
        self.set_level(level)

    def __call__(self, event: dict[str, Any]) -> None:
        """Pass the event on, unless it is below the level."""
        if event.get("log_level") in self._shown:
            self._observer(event)

    @property
    def directory(self) -> Path | None:
        """Where the log file is; None: the log is not a file of the worker's."""
        return None if self._file is None else Path(self._file.directory)

    def set_level(self, level: str) -> None:
        """The lowest level that is passed on, by its name."""
        self._shown = frozenset({None, *_LEVELS[_LEVELS.index(LogLevel.levelWithName(level)) :]})

    def reopen(self) -> None:
        """Open the log file again, which another program may have renamed. If that fails, the present one is kept."""
        if self._file is None:
            _log.info("The log is not a file of the worker's: there is nothing to open again.")
            return
        try:
            self._file.reopen()
        except OSError as error:
            text = "{path} cannot be opened again, the log goes on in the file that is open: {error}."
            _log.error(text, path=self._file.path, error=error.strerror)
        else:
            _log.info("The log file {path} was opened again.", path=self._file.path)


def log_output_for(twistd_options: dict[str, Any], log: Log) -> LogOutput | None:
    """
    The output that twistd's options (--logger, --logfile, --nodaemon) and [log] name. One of our own names as --logger
    stands for that format, and is taken out of the options; so its level can be changed, and --logfile counts.

    None where twistd must choose: with another --logger, with --syslog, and where a daemon is to log to stdout, which
    it refuses.

    Raises:
        CannotStart: the log file cannot be opened, or there is no journal.
    """
    name = twistd_options.get("logfile") or ""
    foreground = bool(twistd_options.get("nodaemon"))
    if format_name := _FACTORIES.get(twistd_options.get("logger")):
        twistd_options["logger"] = None
        log = replace(log, format=format_name)
    if twistd_options.get("logger") or twistd_options.get("syslog") or (name == "-" and not foreground):
        return None
    if log.format == "journald":
        return LogOutput(journald(), log.level)
    if name == "-" or (foreground and not name):
        return LogOutput(_standard_output(log.format), log.level)
    return _to_file(name or "twistd.log", log)


def _to_file(name: str, log: Log) -> LogOutput:
    try:
        file = AppendedLogFile(name, log.rotate_bytes, _log_cut)
    except OSError as error:
        raise CannotStart(f"txworker: twistd --logfile: {name}: {error.strerror}") from error
    as_file: Any = file  # as much of a file as the observer needs
    return LogOutput(file_observer(as_file, _formatter(log.format)), log.level, file)


def _log_cut(lines: int) -> None:
    text = "The log file was cut by another program; its last {written} again, because a copy may be incomplete."
    Logger(namespace=__name__).info(text, written=counted(lines, "line is written", "lines are written"), lines=lines)


def _formatter(name: str) -> FormatEvent:
    return format_json if name == "json" else text_format()


def _standard_output(format_name: str, file: TextIO | None = None) -> Observer:
    """Standard output. Where that is the journal, each line has its priority."""
    file = sys.stdout if file is None else file
    formatter = _formatter(format_name)
    with suppress(OSError, ValueError):  # a StringIO has no descriptor
        if is_journal(file.fileno(), os.environ):
            formatter = with_priorities(formatter)
        _append_only(file.fileno())
    return file_observer(file, formatter)


def _append_only(fd: int) -> None:
    """
    Make writes to a regular file go to its end: with `twistd -n worker > log` the shell has opened it otherwise, and
    after a cut (logrotate's copytruncate) the next line would come after NULs.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def text() -> Observer:
    """For `twistd --logger`: lines of text on standard output."""
    return _standard_output("text")


def json() -> Observer:
    """For `twistd --logger`: an object of JSON for each event, on standard output."""
    return _standard_output("json")


def journald() -> Observer:
    """
    For `twistd --logger`: entries in systemd's journal, with fields. What the journal does not take goes to stderr.

    Raises:
        CannotStart: there is no journal.
    """
    try:
        return JournalObserver(_standard_output("text", sys.stderr))
    except OSError as error:
        raise CannotStart(
            f"txworker: there is no journal on this machine ({JOURNAL_SOCKET}): {error.strerror}"
        ) from error
