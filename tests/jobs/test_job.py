"""Which facts are possible in which state, and the error text of each end."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import (
    EndBlocked,
    EndReason,
    EndRequested,
    Exit,
    Exited,
    Fact,
    Job,
    JobSpec,
    JobState,
    Lost,
    Started,
    Usage,
    after,
)
from txworker.jobs.errors import WrongState


def a_job(*facts: Fact) -> Job:
    job = Job("id-1", JobSpec("true", timeout_seconds=5, quiet_timeout_seconds=2.5, lease_seconds=30), created_at=1.0)
    for revision, fact in enumerate(facts, 1):
        job = after(job, fact, revision)
    return job


def exited(exit_code: int | None = 0, signal: int | None = None) -> Exited:
    return Exited(9.0, Exit(exit_code, signal, Usage(1, 2, 3)), output_bytes=7)


STARTED = Started(2.0, 42)
DUMPED = Exit(None, 11, core_dumped=True)
DUMPED_TEXT = "signal: segmentation fault (core dumped)"


class ChangedTests(SynchronousTestCase):
    """changed() is dataclasses.replace(), faster."""

    def test_same_as_replace(self) -> None:
        """Another record with the new values; the old one stays."""
        before = Job("id", JobSpec("true"), 1.0)
        after = before.changed(pid=5, output_bytes=7)
        self.assertEqual(replace(before, pid=5, output_bytes=7), after)
        self.assertEqual((None, 0), (before.pid, before.output_bytes))

    def test_no_such_field(self) -> None:
        with self.assertRaisesRegex(TypeError, "Job has no pids"):
            Job("id", JobSpec("true"), 1.0).changed(pids=5)


class AfterTests(SynchronousTestCase):
    def test_ends(self) -> None:
        """The reason for ending a job decides its state; the error text keeps the forms that schedulers know."""
        table: list[tuple[tuple[Fact, ...], JobState, str]] = [
            ((exited(0),), JobState.SUCCEEDED, ""),
            ((exited(1),), JobState.FAILED, "exit status 1"),
            ((exited(None, 9),), JobState.FAILED, "signal: killed"),
            ((exited(None, 11),), JobState.FAILED, "signal: segmentation fault"),
            ((Exited(9.0, DUMPED, 7),), JobState.FAILED, "signal: segmentation fault (core dumped)"),
            (
                (Exited(9.0, replace(DUMPED, end_problem="process 7 still runs"), 7),),
                JobState.FAILED,
                f"{DUMPED_TEXT}; process 7 still runs",
            ),
            ((EndBlocked("process 42 still runs"), exited(1)), JobState.FAILED, "exit status 1"),
            ((EndRequested(EndReason.REQUESTED), exited(None, 15)), JobState.STOPPED, "signal: terminated"),
            ((EndRequested(EndReason.REQUESTED), exited(0)), JobState.STOPPED, "stopped: exit status 0"),
            ((EndRequested(EndReason.REQUESTED), exited(3)), JobState.STOPPED, "exit status 3"),
            ((EndRequested(EndReason.WORKER_STOPPING), exited(0)), JobState.STOPPED, "stopped: exit status 0"),
            ((EndRequested(EndReason.WORKER_STOPPING), exited(None, 9)), JobState.STOPPED, "signal: killed"),
            (
                (EndRequested(EndReason.TIMEOUT), exited(None, 9)),
                JobState.TIMED_OUT,
                "timed out after 5 s: signal: killed",
            ),
            ((EndRequested(EndReason.TIMEOUT), exited(0)), JobState.TIMED_OUT, "timed out after 5 s: exit status 0"),
            ((EndRequested(EndReason.QUIET), exited(0)), JobState.TIMED_OUT, "no output for 2.5 s: exit status 0"),
            ((EndRequested(EndReason.QUIET), exited(3)), JobState.TIMED_OUT, "no output for 2.5 s: exit status 3"),
            (
                (EndRequested(EndReason.LEASE), exited(None, 15)),
                JobState.STOPPED,
                "lease of 30 s ran out: signal: terminated",
            ),
            ((EndRequested(EndReason.LEASE), exited(0)), JobState.STOPPED, "lease of 30 s ran out: exit status 0"),
            ((Lost(9.0, "the worker died", 7),), JobState.LOST, "the worker died"),
        ]
        for facts, state, text in table:
            job = a_job(STARTED, *facts)
            self.assertEqual((state, text), (job.state, job.error_text))
            self.assertTrue(job.done)
            self.assertEqual(bool(text), job.failed)
            self.assertEqual((9.0, 7), (job.finished_at, job.output_bytes))

    def test_exit(self) -> None:
        """Every field of Exit becomes the field of Job with the same name."""
        exit = Exit(None, 11, Usage(1, 2, 3), 4, True, "process 7 still runs")
        job = a_job(STARTED, Exited(9.0, exit, 7))
        self.assertEqual(vars(exit), {name: value for name, value in vars(job).items() if name in vars(exit)})

    def test_end_blocked(self) -> None:
        """The error text says why a job that is being stopped does not end; a repeated fact changes nothing."""
        job = a_job(STARTED, EndRequested(EndReason.REQUESTED), EndBlocked("process 42 still runs"))
        self.assertEqual((False, False, "process 42 still runs"), (job.done, job.failed, job.error_text))
        self.assertIs(job, after(job, EndBlocked("process 42 still runs"), 9))
        self.assertEqual("", after(job, EndBlocked(""), 9).error_text)
        self.assertRaises(WrongState, after, a_job(STARTED, exited(0)), EndBlocked("x"), 9)

    def test_first_reason_counts(self) -> None:
        """A job that timed out and is then stopped as well is still timed out."""
        job = a_job(STARTED, EndRequested(EndReason.TIMEOUT), EndRequested(EndReason.REQUESTED))
        self.assertEqual((EndReason.TIMEOUT, 2), (job.end_reason, job.revision))

    def test_every_change_has_a_revision(self) -> None:
        """Each change of the record raises its revision."""
        self.assertEqual([0, 1, 2], [a_job().revision, a_job(STARTED).revision, a_job(STARTED, exited()).revision])

    def test_impossible_facts(self) -> None:
        """An impossible fact is refused, and so is a second end."""
        table: list[tuple[tuple[Fact, ...], Fact]] = [
            ((), exited()),
            ((STARTED,), STARTED),
            ((STARTED, exited()), exited()),
        ]
        for before, fact in table:
            with self.assertRaises(WrongState):
                after(a_job(*before), fact, 9)
