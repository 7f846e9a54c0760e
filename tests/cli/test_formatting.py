"""Jobs formatted for a terminal."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.formatting import (
    as_json,
    command_line,
    exit_status,
    header,
    is_done,
    label_widths,
    outcome,
    row,
    size,
    span,
    state_name,
)
from txworker.pb import worker_pb2 as pb

ID = "0f9e3c4a-1111-2222-3333-444455556666"


def a_job(**more: Any) -> pb.Job:
    return pb.Job(**{"jobID": ID, "command": "bash", "path": "count.sh", "state": pb.JOB_STATE_RUNNING, **more})


class RowTests(SynchronousTestCase):
    def test_columns(self) -> None:
        """Cells are aligned with their headings for every job."""
        young = a_job(createdAt=Timestamp(seconds=1000), startedAt=Timestamp(seconds=1001), outputBytes=2048)
        old = a_job(
            state=pb.JOB_STATE_SUCCEEDED,
            createdAt=Timestamp(seconds=1),
            startedAt=Timestamp(seconds=1),
            finishedAt=Timestamp(seconds=90_001),
            outputBytes=3 * 2**40,
        )
        lines = [header(None), row(young, 1013.0, None), row(old, 864_001.0, None)]
        self.assertEqual(
            [
                "JOB                                  STATE     EXIT      AGE    RAN  OUTPUT  COMMAND",
                f"{ID} running   -         13s    12s    2.0K  bash count.sh",
                f"{ID} succeeded 0      10d00h  1d01h    3.0T  bash count.sh",
            ],
            lines,
        )

    def test_width(self) -> None:
        """A line is never wider than the terminal, and an ellipsis shows where it was cut."""
        job = a_job(args=["x" * 500])
        for width in (1, 80, 100):
            line = row(job, 0.0, width)
            self.assertEqual((width, "…"), (len(line), line[-1]))
        self.assertIn("x" * 500, row(job, 0.0, None))
        self.assertNotIn("…", row(a_job(), 0.0, len(row(a_job(), 0.0, None))))

    def test_room_for_the_command(self) -> None:
        """On a narrow terminal columns are left out in a fixed order, so that the command is visible."""
        job = a_job(createdAt=Timestamp(seconds=1000), args=["y" * 50])
        table = {
            95: "JOB                                  STATE     EXIT      AGE    RAN  OUTPUT  COMMAND",
            94: "JOB                                  STATE     EXIT      AGE    RAN  COMMAND",
            80: "JOB                                  STATE     EXIT      AGE  COMMAND",
            66: "JOB                                  STATE      COMMAND",
            30: "JOB                          …",
        }
        self.assertEqual(table, {width: header(width) for width in table})
        for width in (66, 80, 94, 95, 200):
            self.assertIn("  bash count.sh yyy", row(job, 1013.0, width))

    def test_short_ids(self) -> None:
        """With short ids all columns fit into 80 characters, and leave room for the command."""
        line = row(a_job(createdAt=Timestamp(seconds=1000), outputBytes=2048), 1013.0, 80, short=True)
        self.assertEqual("JOB      STATE     EXIT      AGE    RAN  OUTPUT  COMMAND", header(80, short=True))
        self.assertEqual("0f9e3c4a running   -         13s      -    2.0K  bash count.sh", line)

    def test_labels(self) -> None:
        """Labels have columns as wide as their values, before the command; on a terminal long values are cut."""
        jobs = [a_job(labels={"night": "x" * 30, "of": "a\n"}), a_job(labels={"of": "b"})]
        widths = label_widths(["night", "of", "none"], jobs, 10)
        self.assertEqual({"night": 10, "of": 3, "none": 4}, widths)
        self.assertEqual(
            "JOB      STATE     EXIT      AGE    RAN NIGHT      OF  NONE  COMMAND", header(80, True, widths)
        )
        for job, cells in zip(jobs, ("xxxxxxxxx… a\\n -   ", "-          b   -   "), strict=True):
            self.assertIn(f" - {cells}  bash count.sh", row(job, 0.0, 80, True, widths))
        widths = label_widths(["night"], jobs, None)
        self.assertIn(f" {'x' * 30}  bash", row(jobs[0], 0.0, None, True, widths))
        self.assertIn(f" {'x' * 40}  bash", row(a_job(labels={"night": "x" * 40}), 0.0, None, True, widths))

    def test_printable(self) -> None:
        """A row is one printable line, and its columns stay aligned, whatever texts the job has."""
        evil = "\x1b[2J\r\n\x9b\u202e\ufe0f"
        line = row(a_job(command=evil, path=evil, args=[evil], jobID=f"{evil}"), 0.0, None)
        self.assertTrue(line.isprintable(), line)
        self.assertNotIn("\ufe0f", line)
        self.assertEqual(80, len(row(a_job(command=evil * 50), 0.0, 80)))

    def test_not_started(self) -> None:
        """A job that has not started has no duration and no exit code."""
        self.assertIn("pending   -", row(a_job(state=pb.JOB_STATE_PENDING), 0.0, None))
        self.assertIn(" 0s      - ", row(a_job(state=pb.JOB_STATE_PENDING), 0.0, None))


class WordsTests(SynchronousTestCase):
    def test_span(self) -> None:
        """At most two units in at most six characters up to 99 days; negative durations are 0s."""
        table = {-5.0: "0s", 0.9: "0s", 59.0: "59s", 60.0: "1m00s", 3599.0: "59m59s", 3600.0: "1h00m"}
        table |= {86_399.0: "23h59m", 86_400.0: "1d00h", 99 * 86_400.0: "99d00h"}
        self.assertEqual(table, {length: span(length) for length in table})

    def test_size(self) -> None:
        """A number of bytes in at most five characters."""
        table = {0: "0", 999: "999", 1000: "1.0K", 1536: "1.5K", 102_400: "100K", 1_023_000: "999K"}
        table |= {1_023_999: "1.0M", 2**30: "1.0G", 2**63 - 1: "8.0E"}
        self.assertEqual(table, {count: size(count) for count in table})

    def test_command_line(self) -> None:
        """The command line is one printable line, whatever the arguments are."""
        self.assertEqual(
            r"sh -c a\nb \x1b[2J é", command_line(pb.Job(command="sh", path="-c", args=["a\nb", "\x1b[2J é"]))
        )
        self.assertEqual("echo", command_line(pb.Job(command="echo")))
        self.assertEqual("echo a…", command_line(pb.Job(command="echo", args=["a"], shortened=True)))

    def test_json(self) -> None:
        """Fields with default values are included, with the proto's names, on one line."""
        answer = json.loads(as_json(a_job(state=pb.JOB_STATE_SUCCEEDED)))
        self.assertEqual(
            (0, 0, False, {}),
            tuple(answer[name] for name in ("exitCode", "outputBytes", "outputTruncated", "labels")),
        )
        self.assertNotIn("startedAt", answer)
        self.assertEqual("JOB_STATE_SUCCEEDED", answer["state"])
        self.assertEqual({"jobID": ""}, json.loads(as_json(pb.StartJobRes())))

    def test_json_for_programs(self) -> None:
        """Numbers are numbers, durations are seconds, and jq's fromdateiso8601 takes the times."""
        job = a_job(
            state=pb.JobState.ValueType(99),
            createdAt=Timestamp(seconds=1_767_323_045, nanos=999_999_999),
            outputBytes=2**53 + 1,
            userCPU=Duration(seconds=1, nanos=500_000_000),
            args=["a", "ä"],
            labels={"b": "c"},
            limits=pb.Limits(maxMemoryBytes=2**40),
        )
        answer = json.loads(as_json(pb.QueryJobRes(job=job)))["job"]
        self.assertEqual("2026-01-02T03:04:05Z", answer["createdAt"])
        self.assertEqual((2**53 + 1, 1.5, 99), (answer["outputBytes"], answer["userCPU"], answer["state"]))
        self.assertEqual((["a", "ä"], {"b": "c"}), (answer["args"], answer["labels"]))
        self.assertEqual((2**40, 0), (answer["limits"]["maxMemoryBytes"], answer["limits"]["maxOpenFiles"]))


class EndTests(SynchronousTestCase):
    def test_ends(self) -> None:
        """Exit codes, signals as names and as 128 + number, and never status 0 for a job that did not succeed."""
        table = [
            (a_job(state=pb.JOB_STATE_SUCCEEDED), "0", 0),
            (a_job(state=pb.JOB_STATE_FAILED, exitCode=7), "7", 7),
            (a_job(state=pb.JOB_STATE_STOPPED, signal=9), "KILL", 137),
            (a_job(state=pb.JOB_STATE_STOPPED, exitCode=0), "0", 1),
            (a_job(state=pb.JOB_STATE_TIMED_OUT, signal=15), "TERM", 143),
            (a_job(state=pb.JOB_STATE_FAILED, signal=41), "signal 41", 169),
            (a_job(state=pb.JOB_STATE_LOST), "-", 1),
        ]
        for job, shown, status in table:
            self.assertEqual((shown, status), (outcome(job), exit_status(job)), job)

    def test_states(self) -> None:
        """An unknown state is printed as its number and counts as final."""
        self.assertEqual(("timed_out", True), (state_name(a_job(state=7)), is_done(a_job(state=7))))
        self.assertEqual(("12", True), (state_name(a_job(state=12)), is_done(a_job(state=12))))
        self.assertEqual([False] * 3, [is_done(a_job(state=state)) for state in (1, 2, 3)])
