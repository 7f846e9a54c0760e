"""The worker's configuration, and what of it is in force for a job."""

from __future__ import annotations

import os
from dataclasses import dataclass

from txworker.jobs import JobSpec, Limits, Settings
from txworker.jobs.limits import effective


@dataclass(frozen=True)
class Policy:
    """
    max_running: the most jobs at once; 0: no ceiling. grace_seconds: the default time
    between TERM and KILL. keeps_leftovers: leftovers of a job stay alive unless its spec says otherwise.

    directory, user: where jobs run, and as which user; empty: as the worker.
    """

    max_running: int
    grace_seconds: float
    default_limits: Limits = Limits()
    ceilings: Limits = Limits()
    keeps_leftovers: bool = False
    directory: str = ""
    user: str = ""

    def settings(self, spec: JobSpec) -> Settings:
        """
        What is in force for a job with that spec.

        Raises:
            InvalidRequest: a limit in the spec is above its ceiling.
        """
        directory = os.path.join(self.directory, spec.directory) if spec.directory else self.directory
        return Settings(_as_text(directory), effective(spec.limits, self.default_limits, self.ceilings), self.user)


def _as_text(path: str) -> str:
    """A path for the store and the wire, which take text only: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode(errors="replace")
