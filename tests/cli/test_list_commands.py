"""Commands for several jobs, with a fake worker."""

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


class FakeStub:
    """Lists these jobs in pages, newest first; a watch yields them and then the events. Keeps the page sizes."""

    def __init__(self, jobs: Iterable[pb.Job], events: Iterable[pb.Job] = ()) -> None:
        self.jobs = list(jobs)
        self.events = list(events)
        self.sizes: list[int] = []

    def ListJobs(self, request: pb.ListJobsReq, timeout: float) -> pb.ListJobsRes:
        self.sizes.append(request.pageSize)
        selected = [job for job in self.jobs if not request.states or job.state in request.states]
        begin = int(request.pageToken or 0)
        end = begin + request.pageSize
        return pb.ListJobsRes(jobs=selected[begin:end], nextPageToken=str(end) if end < len(selected) else "")

    def WatchJobs(self, request: pb.WatchJobsReq, timeout: float | None = None) -> Iterator[pb.JobEvent]:
        for job in [*reversed(self.jobs), *self.events]:
            yield pb.JobEvent(job=job)


def a_job(number: int, state: Any) -> pb.Job:
    return pb.Job(jobID=f"job-{number}", state=state, createdAt=Timestamp(seconds=number))


def printed(command: Any, stub: FakeStub, *words: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert command(stub, parse(list(words))) == 0
    return out.getvalue().splitlines()


class PsTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """ps prints as many jobs as requested, over several pages, and no page is larger than needed."""
        jobs = [a_job(number, pb.JOB_STATE_SUCCEEDED) for number in range(1200, 0, -1)]
        for limit, sizes in (("0", [500] * 3), ("700", [500, 200]), ("500", [500]), ("50", [50]), ("5000", [500] * 3)):
            stub = FakeStub(jobs)
            lines = printed(ps, stub, "ps", "-q", "--limit", limit)
            self.assertEqual([job.jobID for job in jobs[: int(limit) or None]], lines)
            self.assertEqual(sizes, stub.sizes)


class HostileTests(SynchronousTestCase):
    def test_printable(self) -> None:
        """Each job is one printable line, whatever its texts are."""
        evil = "\x1b[2J\r\nforged line\x9b\u202e\u2028"
        job = pb.Job(jobID=evil, state=pb.JOB_STATE_FAILED, command=evil, path=evil, args=[evil], errorText=evil)
        for command, *words in ((ps, "ps"), (ps, "ps", "-q"), (ps, "ps", "--json"), (watch, "watch")):
            lines = printed(command, FakeStub([job]), *words)
            self.assertTrue(all(line.isprintable() for line in lines), lines)
            self.assertEqual(1, len([line for line in lines if "forged" in line]))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            stub: Any = FakeStub([job])
            wait(stub, parse(["wait", "job"]))
        self.assertTrue(out.getvalue().removesuffix("\n").isprintable(), out.getvalue())


class WatchTests(SynchronousTestCase):
    def test_no_finished(self) -> None:
        """Jobs that were done before are left out; a short job that started later is not."""
        stub = FakeStub(
            [a_job(2, pb.JOB_STATE_SUCCEEDED), a_job(1, pb.JOB_STATE_RUNNING)],
            [a_job(3, pb.JOB_STATE_FAILED), a_job(1, pb.JOB_STATE_SUCCEEDED)],
        )
        told = [line.split()[:2] for line in printed(watch, stub, "watch", "--no-finished")]
        self.assertEqual([["job-1", "running"], ["job-3", "failed"], ["job-1", "succeeded"]], told)
        self.assertEqual(4, len(printed(watch, stub, "watch")))

    def test_no_finished_of_none(self) -> None:
        """A worker without jobs can be watched."""
        stub = FakeStub([], [a_job(1, pb.JOB_STATE_FAILED)])
        self.assertEqual(1, len(printed(watch, stub, "watch", "--no-finished")))


class WaitTests(SynchronousTestCase):
    def test_stopped_well(self) -> None:
        """A stopped job that exited with 0 has status 1, and its state is printed once."""
        job = a_job(1, pb.JOB_STATE_STOPPED)
        job.errorText = "stopped: exit status 0"
        stub: Any = FakeStub([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(stub, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 stopped: exit status 0\n"), (status, out.getvalue()))

    def test_lost(self) -> None:
        """The word "lost" is printed once, although errorText begins with it."""
        job = a_job(1, pb.JOB_STATE_LOST)
        job.errorText = "lost: the machine was restarted while it ran"
        stub: Any = FakeStub([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(stub, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 lost: the machine was restarted while it ran\n"), (status, out.getvalue()))
