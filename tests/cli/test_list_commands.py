"""Commands for several jobs, with a fake worker."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.fakes import FakeClient
from txworker.cli.list_commands import ps, wait, watch
from txworker.cli.parser import parse
from txworker.pb import worker_pb2 as pb


def a_job(number: int, state: Any) -> pb.Job:
    return pb.Job(jobID=f"job-{number}", state=state, createdAt=Timestamp(seconds=number))


def printed(command: Any, client: FakeClient, *words: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert command(client, parse(list(words))) == 0
    return out.getvalue().splitlines()


class PsTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """ps prints as many jobs as requested, the newest, and asks for no more."""
        jobs = [a_job(number, pb.JOB_STATE_SUCCEEDED) for number in range(1200, 0, -1)]
        for limit in ("0", "700", "50", "5000"):
            client = FakeClient(jobs)
            lines = printed(ps, client, "ps", "-q", "--limit", limit)
            self.assertEqual([job.jobID for job in jobs[: int(limit) or None]], lines)
            self.assertEqual(int(limit), client.asked[0][2])

    def test_label_of_any_value(self) -> None:
        """--label KEY selects jobs that have the label, before it counts them."""
        jobs = [a_job(number, pb.JOB_STATE_SUCCEEDED) for number in range(6, 0, -1)]
        for job in jobs[1::2]:
            job.labels["night"] = job.jobID
        client = FakeClient(jobs)
        lines = printed(ps, client, "ps", "-q", "--limit", "2", "--label", "night", "--label", "a=b")
        self.assertEqual((["job-5", "job-3"], {"a": "b"}), (lines, client.asked[0][1]))

    def test_label_columns(self) -> None:
        """-L shows the values of labels, of several in the order in which they were named, each once."""
        jobs = [a_job(number, pb.JOB_STATE_SUCCEEDED) for number in (2, 1)]
        jobs[1].labels.update(night="31", of="us")
        lines = printed(ps, FakeClient(jobs), "ps", "-L", "of,night", "--label-column", "of")
        self.assertEqual([["OF", "NIGHT", "COMMAND"], ["-", "-"], ["us", "31"]], [line.split()[6:] for line in lines])

    def test_window(self) -> None:
        """--since and --until are the worker's to decide."""
        client = FakeClient([])
        printed(ps, client, "ps", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-03T00:00:00Z")
        self.assertEqual([2, 3], [client.asked[0][3][name].day for name in ("since", "until")])


class HostileTests(SynchronousTestCase):
    def test_printable(self) -> None:
        """Each job is one printable line, whatever its texts are."""
        evil = "\x1b[2J\r\nforged line\x9b\u202e\u2028"
        job = pb.Job(jobID=evil, state=pb.JOB_STATE_FAILED, command=evil, path=evil, args=[evil], errorText=evil)
        for command, *words in ((ps, "ps"), (ps, "ps", "-q"), (ps, "ps", "--json"), (watch, "watch")):
            lines = printed(command, FakeClient([job]), *words)
            self.assertTrue(all(line.isprintable() for line in lines), lines)
            self.assertEqual(1, len([line for line in lines if "forged" in line]))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            client: Any = FakeClient([job])
            wait(client, parse(["wait", evil]))
        self.assertTrue(out.getvalue().removesuffix("\n").isprintable(), out.getvalue())


class WatchTests(SynchronousTestCase):
    def test_no_finished(self) -> None:
        """Jobs that were done before are left out; a short job that started later is not."""
        client = FakeClient(
            [a_job(2, pb.JOB_STATE_SUCCEEDED), a_job(1, pb.JOB_STATE_RUNNING)],
            [a_job(3, pb.JOB_STATE_FAILED), a_job(1, pb.JOB_STATE_SUCCEEDED)],
        )
        told = [line.split()[:2] for line in printed(watch, client, "watch", "--no-finished")]
        self.assertEqual([["job-1", "running"], ["job-3", "failed"], ["job-1", "succeeded"]], told)
        self.assertEqual(4, len(printed(watch, client, "watch")))

    def test_no_finished_of_none(self) -> None:
        """A worker without jobs can be watched."""
        client = FakeClient([], [a_job(1, pb.JOB_STATE_FAILED)])
        self.assertEqual(1, len(printed(watch, client, "watch", "--no-finished")))


class WaitTests(SynchronousTestCase):
    def test_stopped_well(self) -> None:
        """A stopped job that exited with 0 has status 1, and its state is printed once."""
        job = a_job(1, pb.JOB_STATE_STOPPED)
        job.errorText = "stopped: exit status 0"
        client: Any = FakeClient([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(client, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 stopped: exit status 0\n"), (status, out.getvalue()))

    def test_lost(self) -> None:
        """The word "lost" is printed once, although errorText begins with it."""
        job = a_job(1, pb.JOB_STATE_LOST)
        job.errorText = "lost: the machine was restarted while it ran"
        client: Any = FakeClient([job])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = wait(client, parse(["wait", "job-1"]))
        self.assertEqual((1, "job-1 lost: the machine was restarted while it ran\n"), (status, out.getvalue()))
