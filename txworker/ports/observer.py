"""What the rooms tell of what happens in them, so that it can be counted; monitoring/ does, if metrics are served."""

from __future__ import annotations

from txworker.jobs import Job, JobSpec


class Observer:
    """
    Is told facts, at the places where they happen. This one counts nothing.

    Any thread may call every method. An implementation neither blocks nor raises, and costs microseconds at most: a
    launch tells a dozen facts.
    """

    def started(self, seconds: float) -> None:
        """A job's process runs; `seconds` after the worker accepted the request."""

    def refused(self, reason: str) -> None:
        """A request for a job was refused; `reason` is the error's, one of a few constants."""

    def not_started(self, spec: JobSpec) -> None:
        """No job was made of a request that is traced: it was refused, or was another request's repetition."""

    def taken_over(self) -> None:
        """A job of an earlier worker runs on under this one."""

    def ended(self, job: Job, output_bytes: int) -> None:
        """A job is done, and its end is in the store. output_bytes: of its output, what this worker has recorded."""

    def output_lost(self, cause: str, count: int) -> None:
        """So many bytes of output are lost: "limit" (beyond max_output_bytes), "disk" (refused), "changed" (files)."""

    def call_answered(self, method: str, code: str, waited_seconds: float, seconds: float) -> None:
        """
        A call has ended with that status code, `seconds` after it came. waited_seconds: until a thread served it.

        method: a name that this worker serves, never a text of the client's.
        """

    def stream_opened(self, method: str) -> None:
        """A call that answers with many messages has begun to be served."""

    def stream_closed(self, method: str) -> None:
        """It has ended."""

    def bridged(self, seconds: float) -> None:
        """A call from a thread waited so long for the reactor."""

    def turned(self, late_seconds: float) -> None:
        """A timer of the reactor, due each second, fired so late."""

    def committed(self, seconds: float) -> None:
        """A transaction of the store took so long."""

    def retention_looked(self, removed: int) -> None:
        """Retention has made a pass and removed that many jobs."""

    def retention_failed(self) -> None:
        """Retention could remove nothing."""

    def leftovers_ended(self, count: int) -> None:
        """So many processes of lost jobs still ran and were ended."""

    def shim_ended(self) -> None:
        """The shim has ended although the worker needs it."""

    def reloaded(self, succeeded: bool) -> None:
        """The configuration was read again; not succeeded: it is wrong and changed nothing."""

    def scheduler_answered(self) -> None:
        """The scheduler has registered the worker, or answered a probe."""


NO_OBSERVER = Observer()
"""Where nothing is counted."""
