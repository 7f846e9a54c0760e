"""Commands about many jobs, with a worker that is none."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.list_commands import ps, wait, watch
from txworker.cli.parser import parse
from txworker.pb import worker_pb2 as pb


class StubWith:
    """These jobs, newest first, in pages; the events of a watch are told after them, and the requests are kept."""

    def __init__(self, jobs: Iterable[pb.Job], events: Iterable[pb.Job] = ()) -> None:
        self.jobs = list(jobs)
        self.events = list(events)
        self.sizes: list[int] = []

    def ListJobs(self, request: pb.ListJobsReq, timeout: float) -> pb.ListJobsRes:
        self.sizes.append(request.pageSize)
        meant = [job for job in self.jobs if not request.states or job.state in request.states]
        begin = int(request.pageToken or 0)
        end = begin + request.pageSize
        return pb.ListJobsRes(jobs=meant[begin:end], nextPageToken=str(end) if end < len(meant) else "")

    def WatchJobs(self, request: pb.WatchJobsReq, timeout: float | None = None) -> Iterator[pb.JobEvent]:
        for job in [*reversed(self.jobs), *self.events]:
            yield pb.JobEvent(job=job)


def a_job(number: int, state: Any) -> pb.Job:
    return pb.Job(jobID=f"job-{number}", state=state, createdAt=Timestamp(seconds=number))


def printed(command: Any, stub: StubWith, *words: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert command(stub, parse(list(words))) == 0
    return out.getvalue().splitlines()


class PsTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """As many as were asked for come, over as many pages as it takes, and no page asks for more."""
        jobs = [a_job(number, pb.JOB_STATE_SUCCEEDED) for number in range(1200, 0, -1)]
        for limit, sizes in (("0", [500] * 3), ("700", [500, 200]), ("500", [500]), ("50", [50]), ("5000", [500] * 3)):
            stub = StubWith(jobs)
            lines = printed(ps, stub, "ps", "-q", "--limit", limit)
            self.assertEqual([job.jobID for job in jobs[: int(limit) or None]], lines)
            self.assertEqual(sizes, stub.sizes)


class HostileTests(SynchronousTestCase):
    def test_printable(self) -> None:
        """Each job is one line that a terminal only shows, whatever is in its texts."""
        evil = "\x1b[2J\r\nforged line\x9b\u202e\u2028"
        job = pb.Job(jobID=evil, state=pb.JOB_STATE_FAILED, command=evil, path=evil, args=[evil], errorText=evil)
        for command, *words in ((ps, "ps"), (ps, "ps", "-q"), (ps, "ps", "--json"), (watch, "watch")):
            lines = printed(command, StubWith([job]), *words)
            self.assertTrue(all(line.isprintable() for line in lines), lines)
            self.assertEqual(1, len([line for line in lines if "forged" in line]))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            stub: Any = StubWith([job])
            wait(stub, parse(["wait", "job"]))
        self.assertTrue(out.getvalue().removesuffix("\n").isprintable(), out.getvalue())


class WatchTests(SynchronousTestCase):
    def test_no_finished(self) -> None:
        """Without those that were done before; one that came and went since then is told, however quick it was."""
        stub = StubWith(
            [a_job(2, pb.JOB_STATE_SUCCEEDED), a_job(1, pb.JOB_STATE_RUNNING)],
            [a_job(3, pb.JOB_STATE_FAILED), a_job(1, pb.JOB_STATE_SUCCEEDED)],
        )
        told = [line.split()[:2] for line in printed(watch, stub, "watch", "--no-finished")]
        self.assertEqual([["job-1", "running"], ["job-3", "failed"], ["job-1", "succeeded"]], told)
        self.assertEqual(4, len(printed(watch, stub, "watch")))

    def test_no_finished_of_none(self) -> None:
        """A worker without jobs is watched as well."""
        stub = StubWith([], [a_job(1, pb.JOB_STATE_FAILED)])
        self.assertEqual(1, len(printed(watch, stub, "watch", "--no-finished")))


class WaitTests(SynchronousTestCase):
    def test_stopped_well(self) -> None:
        """A job that was stopped and exited with 0 did not end well by itself: that is said once, and status 1."""
        job = a_job(1, pb.JOB_STATE_STOPPED)
        job.errorText = "stopped: exit status 0"
        stub: Any = StubWith([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(stub, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 stopped: exit status 0\n"), (status, out.getvalue()))

    def test_lost(self) -> None:
        """That a job was lost is said once, though its errorText says it, too."""
        job = a_job(1, pb.JOB_STATE_LOST)
        job.errorText = "lost: the machine was restarted while it ran"
        stub: Any = StubWith([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(stub, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 lost: the machine was restarted while it ran\n"), (status, out.getvalue()))
