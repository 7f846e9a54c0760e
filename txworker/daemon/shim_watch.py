"""Looks whether the shim was stopped by a signal: jobs then neither start nor end, and nothing else would say why."""

from __future__ import annotations

from txworker.base.logs import Logger
from txworker.linux.procfs import ProcessTable
from txworker.process.shim_socket import ListeningShim
from txworker.worker.readiness import SHIM, Readiness


class ShimWatch:
    """Reactor thread."""

    _log = Logger()

    def __init__(self, shim: ListeningShim, readiness: Readiness, table: ProcessTable) -> None:
        self._shim = shim
        self._readiness = readiness
        self._table = table
        self._stopped = False

    def look(self) -> None:
        """Call it now and then while the worker runs."""
        pid = self._shim.pid
        try:
            stopped = self._shim.alive and self._table.is_stopped(pid)
        except OSError:  # no descriptor is free: it is not known now
            return
        if stopped == self._stopped:
            return
        self._stopped = stopped
        if stopped:
            sentence = f"the shim (pid {pid}) was stopped by a signal: no job starts or ends before `kill -CONT {pid}`"
            self._readiness.begin(SHIM, sentence)
            self._log.error("No new jobs: {sentence}.", sentence=sentence)
        elif self._shim.alive:
            self._readiness.end(SHIM)
            self._log.info("The shim (pid {pid}) goes on.", pid=pid)
