"""The table and the screens of `txworker top`, with made-up samples."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.fakes import FakeClient
from txworker.cli.live_usage import SORT_KEYS, JobUse, Sample, sample, sorted_by, uses
from txworker.cli.usage_screen import PLAIN, PlainScreen, Screen, fitting
from txworker.cli.usage_table import View, as_values, lines, summary, view
from txworker.client.values import LiveUsage
from txworker.pb import worker_pb2 as pb

EVIL = "\x1b[2J\r\n[red]x[/red]\u202e"


def a_job(number: int, **more: Any) -> pb.Job:
    started = Timestamp(seconds=1000 + number)
    return pb.Job(jobID=f"{number}" * 36, command="sleep", path=f"{number}", startedAt=started, **more)


def using(cpu: float, rss: int = 2**20, processes: int = 1) -> LiveUsage:
    return LiveUsage(processes, rss, cpu / 2, cpu / 2)


def shown(found: list[JobUse], *workers: str, width: int | None = 80) -> list[str]:
    return lines(view(found, workers, True, {}, "", []), width)


class SampleTests(SynchronousTestCase):
    def test_cpu(self) -> None:
        """CPU is that between two samples, of one CPU; of a job that has started since, all that it has used."""
        jobs = (a_job(1), a_job(2), a_job(3), a_job(4))
        ids = [job.jobID for job in jobs]
        before = Sample(100.0, jobs[:2], {ids[0]: using(5.0), ids[1]: using(3.0)})
        after = Sample(102.0, jobs, {ids[0]: using(8.0), ids[1]: using(2.5), ids[2]: using(1.0)})
        self.assertEqual([150.0, 0.0, 50.0, None], [use.cpu_percent for use in uses("", before, after, 1010.0)])
        self.assertEqual([None] * 4, [use.cpu_percent for use in uses("", None, after, 1010.0)])
        self.assertEqual([9.0, 8.0, 7.0, 6.0], [use.ran_seconds for use in uses("", before, after, 1010.0)])
        self.assertEqual(0.0, uses("", before, after, 900.0)[0].ran_seconds)

    def test_asked(self) -> None:
        """The jobs that are not done, and their usage; of named ones, only theirs."""
        states = (pb.JOB_STATE_RUNNING, pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_STOPPING)
        jobs = [a_job(number, state=state) for number, state in enumerate(states)]
        client: Any = FakeClient(jobs, usages={jobs[0].jobID: using(1.0)})
        found = sample(client, [], {"a": "b"}, lambda: 7.0)
        self.assertEqual((7.0, (jobs[0], jobs[2])), (found.at, found.jobs))
        self.assertEqual({"a": "b"}, client.asked[0][1])
        self.assertEqual((jobs[2],), sample(client, [jobs[2].jobID], {}, lambda: 7.0).jobs)

    def test_sort(self) -> None:
        """Every key puts the largest first, and the ids in their order."""
        one = JobUse("b", a_job(1, outputBytes=9), using(0, rss=3, processes=2), 1.0, 5.0)
        two = JobUse("a", a_job(2, outputBytes=7), using(0, rss=4, processes=1), None, 6.0)
        orders = {key: [use.job.path for use in sorted_by(key, [one, two])] for key in SORT_KEYS}
        expected = {"cpu": "12", "memory": "21", "processes": "12", "ran": "21", "output": "12", "job": "21"}
        self.assertEqual({key: list(order) for key, order in expected.items()}, orders)


class TableTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Columns are aligned; what is not known is a dash; with several workers the first column names them."""
        found = [
            JobUse("one", a_job(1, outputBytes=2048), using(1.0, 3 * 2**30, 12), 1234.56, 7200.0),
            JobUse("second", a_job(2), None, None, 0.0),
        ]
        self.assertEqual(
            [
                "JOB        CPU% MEMORY PROCS    RAN OUTPUT  COMMAND",
                "11111111 1234.6   3.0G    12  2h00m   2.0K  sleep 1",
                "22222222      -      -     -     0s      0  sleep 2",
            ],
            shown(found),
        )
        self.assertEqual("WORKER JOB        CPU% MEMORY PROCS    RAN OUTPUT  COMMAND", shown(found, "one", "second")[0])
        self.assertEqual("one    11111111 1234.6", shown(found, "one", "second")[1][:22])
        self.assertEqual("2 jobs, 12 processes, 1234.6 % CPU, 3.0G memory", summary(found))
        self.assertEqual("1 job, 1 process, 0.0 % CPU, 1.0M memory", summary([JobUse("", a_job(1), using(0), None, 0)]))

    def test_narrow(self) -> None:
        """Columns are left out before the command is, and CPU and memory never."""
        found = [JobUse("", a_job(1, args=["x" * 90]), using(1.0), 1.0, 1.0)]
        for width in (10, 45, 60, 80):
            self.assertEqual([True, True], [len(line) <= width for line in shown(found, width=width)])
        self.assertEqual("JOB        CPU% MEMORY    RAN  COMMAND", shown(found, width=50)[0])

    def test_hostile(self) -> None:
        """Texts of a job are printable."""
        job = pb.Job(jobID=EVIL, command=EVIL, labels={EVIL: EVIL})
        rows = lines(view([JobUse(EVIL, job, None, None, 0)], [], False, {EVIL: 9}, EVIL, [EVIL]), None)
        self.assertTrue(all(line.isprintable() for line in rows), rows)

    def test_json(self) -> None:
        """Numbers are plain, and the job's record is there."""
        values = json.loads(json.dumps(as_values(JobUse("", a_job(1), using(3.0, 5, 2), 33.33333, 1.0))))
        job = values.pop("job")
        expected = {"jobID": "1" * 36, "cpuPercent": 33.333, "rssBytes": 5, "processes": 2}
        self.assertEqual({**expected, "userCPU": 1.5, "systemCPU": 1.5}, values)
        self.assertEqual("1970-01-01T00:16:41Z", job["startedAt"])
        self.assertIsNone(as_values(JobUse("", a_job(1), None, None, 1.0))["rssBytes"])


def a_view(rows: int = 2, command: str = "sleep") -> View:
    """So many jobs, a heading and a note."""
    found = [JobUse("", pb.Job(jobID=f"{n:036}", command=command), using(1.0), float(n), 1.0) for n in range(rows)]
    return view(found, [], True, {}, "the heading", ["a note"])


class ScreenTests(SynchronousTestCase):
    def plain(self, view: View, columns: int = 80, rows: int = 10) -> list[str]:
        """The lines of a frame."""
        stream = io.StringIO()
        with PlainScreen(stream, lambda: os.terminal_size((columns, rows))) as screen:
            self.shown(screen, view)
        text = stream.getvalue()
        self.assertTrue(text.startswith("\x1b[?1049h") and text.endswith("\x1b[?1049l"), "the terminal is given back")
        frame = text.partition("\x1b[H")[2].partition("\x1b[J")[0]
        return [line.removeprefix("\x1b[2K") for line in frame.split("\n")]

    def shown(self, screen: Screen, view: View) -> None:
        screen.show(view)

    def test_plain(self) -> None:
        """The heading, the table, the notes, and how it could be nicer."""
        heading, columns, *rows, note, hint = self.plain(a_view())
        self.assertEqual(("the heading", "a note", PLAIN, 2), (heading, note, hint, len(rows)))
        self.assertTrue(columns.startswith("JOB        CPU%"))

    def test_plain_full(self) -> None:
        """What does not fit is counted; no line is wider than the screen."""
        frame = self.plain(a_view(50, "x" * 500), columns=40, rows=10)
        self.assertEqual((10, "… 45 more"), (len(frame), frame[7]))
        self.assertTrue(all(len(line) <= 40 for line in frame))
        self.assertEqual(["… 2 more"], fitting(["a", "b"], 1))

    def test_rich(self) -> None:
        """By rich the same, with the same texts; square brackets of a command are its own."""
        pytest.importorskip("rich")
        rich_screen = pytest.importorskip("txworker.cli.rich_screen")
        for colours in (False, True):
            stream = io.StringIO()
            with rich_screen.RichScreen(stream, colours, width=80, height=10) as screen:
                self.shown(screen, a_view(30, "[red]x[/red]"))
            text = stream.getvalue()
            for word in ("the heading", "CPU%", "00000000", "[red]x[/red]", "… 24 more", "a note"):
                self.assertIn(word, text)
            self.assertNotIn("\x1b[31m", text)
