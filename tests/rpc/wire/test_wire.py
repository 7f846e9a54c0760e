"""Values and messages, errors and statuses."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import (
    EndReason,
    EndRequested,
    Exit,
    Exited,
    Job,
    JobSpec,
    JobState,
    Limits,
    Settings,
    Started,
    Usage,
    after,
    errors,
)
from txworker.jobs.errors import InvalidRequest, TxWorkerError
from txworker.jobs.live_usage import LiveUsage
from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.jobs import (
    job_to_pb,
    query_to_pb,
    seconds_from_pb,
    signal_from_pb,
    spec_from_pb,
    terminal_size_from_pb,
    usages_to_pb,
)
from txworker.rpc.wire.status import code_of, status_of

STARTED = Started(2.25, 77)
USER = ("nobody", "65534")
NOT_OFFERED = {"envFiles", "user"}
NOT_KNOWN = {"owner", "memoryPeakBytes"}


class SpecTests(SynchronousTestCase):
    def test_all_fields(self) -> None:
        """Every field of a request reaches the spec."""
        request = pb.StartJobReq(
            command="a b",
            path="p",
            args=["1", ""],
            env={"K": "V"},
            directory="/d",
            requestID="r",
            timeout=Duration(seconds=1, nanos=500_000_000),
            stdin=b"\xff",
            limits=pb.Limits(
                maxOutputBytes=1, maxMemoryBytes=2, maxCPU=Duration(seconds=3), maxOpenFiles=4, maxProcesses=5
            ),
            labels={"l": "m"},
            quietTimeout=Duration(seconds=2),
            lease=Duration(seconds=30),
            separateStderr=True,
            leftovers="keep",
            feed=True,
        )
        terminal = pb.StartJobReq(command="a", tty=True, ttyRows=5, ttyColumns=9)
        spec = JobSpec(
            command="a b",
            path="p",
            args=("1", ""),
            env={"K": "V"},
            directory="/d",
            request_id="r",
            timeout_seconds=1.5,
            stdin=b"\xff",
            limits=Limits(1, 2, 3.0, 4, 5),
            labels={"l": "m"},
            quiet_timeout_seconds=2.0,
            lease_seconds=30.0,
            separate_stderr=True,
            leftovers="keep",
            feed=True,
        )
        self.assertEqual((spec, spec.stdin), (spec_from_pb(request, USER), spec_from_pb(request, USER).stdin))
        self.assertEqual(
            set(pb.StartJobReq.DESCRIPTOR.fields_by_name),
            field_names(request) | field_names(terminal) | NOT_OFFERED,
        )
        self.assertEqual(JobSpec("a", tty=True, tty_rows=5, tty_columns=9), spec_from_pb(terminal, USER))

    def test_old_request(self) -> None:
        """A request with the old fields only has no limits."""
        self.assertEqual(JobSpec("bash", "x.sh"), spec_from_pb(pb.StartJobReq(command="bash", path="x.sh"), USER))

    def test_durations(self) -> None:
        """A negative or too long duration is refused, by an error that names the field."""
        for duration in (Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=315_576_000_001)):
            error = self.assertRaises(InvalidRequest, seconds_from_pb, "grace", duration)
            self.assertEqual("grace", error.field)
        for duration in (Duration(nanos=10**9), Duration(seconds=-1, nanos=2**31 - 1)):
            error = self.assertRaises(InvalidRequest, seconds_from_pb, "grace", duration)
            self.assertEqual(f"grace.nanos: {duration.nanos} is a second or more", str(error))
        self.assertEqual(1.999999999, seconds_from_pb("grace", Duration(seconds=1, nanos=999_999_999)))

    def test_signal(self) -> None:
        """A signal is one of the kernel's."""
        for number in (1, 9, 33, 64):
            self.assertEqual(number, signal_from_pb(pb.SignalJobReq(signal=number)))
        for number in (0, -9, 65, 2**31 - 1):
            error = self.assertRaises(InvalidRequest, signal_from_pb, pb.SignalJobReq(signal=number))
            self.assertEqual(f"signal: {number} is not a signal: signals are 1 to 64", str(error))

    def test_terminal_size(self) -> None:
        """Rows and columns are what the kernel can hold."""
        self.assertEqual((1, 65535), terminal_size_from_pb(pb.ResizeJobReq(rows=1, columns=65535)))
        for rows, columns, field in [(0, 5, "rows"), (5, 65536, "columns"), (-1, 5, "rows"), (5, 0, "columns")]:
            error = self.assertRaises(
                InvalidRequest, terminal_size_from_pb, pb.ResizeJobReq(rows=rows, columns=columns)
            )
            self.assertEqual(field, error.field)

    def test_impossible_limits(self) -> None:
        """A negative limit is refused, and one that is no number, before what is not offered."""
        table: list[tuple[dict[str, Any], str]] = [
            ({"maxOpenFiles": -1}, "limits.maxOpenFiles: -1 is negative"),
            ({"maxTotalProcesses": -1, "maxTotalMemoryBytes": 1}, "limits.maxTotalProcesses: -1 is negative"),
            ({"maxTotalMemoryBytes": -5}, "limits.maxTotalMemoryBytes: -5 is negative"),
            ({"maxTotalCPUs": -0.5}, "limits.maxTotalCPUs: -0.5 is negative"),
            ({"maxTotalCPUs": float("nan")}, "limits.maxTotalCPUs: nan is not a number of CPUs"),
            ({"maxTotalCPUs": float("inf")}, "limits.maxTotalCPUs: inf is not a number of CPUs"),
        ]
        for limits, sentence in table:
            request = pb.StartJobReq(command="a", limits=pb.Limits(**limits), envFiles={"A": "f"}, user="root")
            self.assertEqual(sentence, str(self.assertRaises(InvalidRequest, spec_from_pb, request, USER)))

    def test_not_offered(self) -> None:
        """What the worker does not offer is refused, by a sentence with field and value, but no file of a variable."""
        total = "is a limit of the whole job, which this worker does not offer"
        table: list[tuple[dict[str, Any], str]] = [
            ({"limits": pb.Limits(maxTotalMemoryBytes=2**40)}, f"limits.maxTotalMemoryBytes: {2**40} {total}"),
            ({"limits": pb.Limits(maxTotalCPUs=0.5)}, f"limits.maxTotalCPUs: 0.5 {total}"),
            ({"limits": pb.Limits(maxTotalProcesses=7)}, f"limits.maxTotalProcesses: 7 {total}"),
            (
                {"envFiles": {"B": "/secret", "A": ""}},
                "envFiles: ['A', 'B'] are variables from files, which this worker does not offer",
            ),
            ({"user": "root"}, "user: 'root' is not the user that this worker runs all jobs as, 'nobody'"),
            ({"user": "0"}, "user: '0' is not the user that this worker runs all jobs as, 'nobody'"),
        ]
        for fields, sentence in table:
            request = pb.StartJobReq(command="a", **fields)
            self.assertEqual(sentence, str(self.assertRaises(errors.NotSupported, spec_from_pb, request, USER)))
        status = status_of(errors.NotSupported("user", "root", "is another"))
        self.assertEqual(grpc.StatusCode.FAILED_PRECONDITION, status.code)

    def test_the_jobs_user(self) -> None:
        """The user that jobs run as anyway may be named, by name or number; that is no other request."""
        for user in USER:
            self.assertEqual(JobSpec("a"), spec_from_pb(pb.StartJobReq(command="a", user=user), USER))


DETAILED = Job(
    "id",
    JobSpec(
        "c",
        "p",
        ("x" * 9_000,),
        env={"B": "secret", "A": "secret"},
        directory="asked",
        request_id="r",
        timeout_seconds=60.5,
        labels={"k": "v"},
        quiet_timeout_seconds=7,
        lease_seconds=30,
        separate_stderr=True,
    ).shortened(),
    1.0,
    settings=Settings("/srv/asked", Limits(1, 2, 0.5, 4, 5), "nobody"),
    takeovers=2,
)


class JobTests(SynchronousTestCase):
    def test_how_it_was_started(self) -> None:
        """A record says how the job was started, what was in force, and by how many workers it was taken over."""
        message = job_to_pb(DETAILED)
        self.assertEqual(("/srv/asked", "nobody", 2), (message.directory, message.user, message.takeovers))
        self.assertEqual((60.5, 7.0), tuple(map(_at, (message.timeout, message.quietTimeout))))
        self.assertTrue(message.separateStderr)
        limits = message.limits
        self.assertEqual((1, 2, 4, 5), (limits.maxOutputBytes, limits.maxMemoryBytes, limits.maxOpenFiles, 5))
        self.assertEqual((0.5, 5), (_at(limits.maxCPU), limits.maxProcesses))
        self.assertEqual(["A", "B"], list(message.envNames))
        self.assertNotIn(b"secret", message.SerializeToString())

    def test_nothing_known(self) -> None:
        """A job that sets nothing, and one that an older worker has recorded, have these fields empty."""
        message = job_to_pb(Job("id", JobSpec("c"), 1.0))
        self.assertEqual(set(), field_names(message) - {"jobID", "command", "state", "createdAt"})

    def test_whole_record(self) -> None:
        """Every field of a finished job's record reaches the message."""
        job = Job("id", JobSpec("c", "p", ("a",), labels={"k": "v"}, request_id="r"), 1.5)
        job = after(after(job, STARTED, 2), EndRequested(EndReason.REQUESTED), 3)
        job = after(job, Exited(3.0, Exit(None, 15, Usage(0.5, 0.25, 1024), 2), 99, True), 4)
        message = job_to_pb(job)
        self.assertEqual(("id", "c", "p", ["a"]), (message.jobID, message.command, message.path, list(message.args)))
        self.assertEqual(
            (pb.JOB_STATE_STOPPED, 0, 15, "signal: terminated"),
            (message.state, message.exitCode, message.signal, message.errorText),
        )
        self.assertEqual(
            (1.5, 2.25, 3.0), tuple(_at(at) for at in (message.createdAt, message.startedAt, message.finishedAt))
        )
        self.assertEqual((99, {"k": "v"}, "r"), (message.outputBytes, dict(message.labels), message.requestID))
        self.assertEqual((0.5, 0.25, 1024), (_at(message.userCPU), _at(message.systemCPU), message.maxRSSBytes))
        self.assertEqual((True, 77, 2), (message.outputTruncated, message.pid, message.leftoversEnded))

    def test_every_field(self) -> None:
        """job_to_pb() sets every field that the message has, but for what no worker knows yet."""
        started = after(DETAILED, STARTED, 2)
        ends = [Exit(3, None, Usage(1, 1, 1), 1), Exit(None, 11, core_dumped=True)]
        messages = [job_to_pb(after(started, Exited(3.0, end, 9, True), 3)) for end in ends]
        found = set().union(*map(field_names, messages))
        self.assertEqual(set(pb.Job.DESCRIPTOR.fields_by_name) - NOT_KNOWN, found)

    def test_running(self) -> None:
        """A running job has no end, and the three old fields say so."""
        job = after(Job("id", JobSpec("c"), 1.0), Started(2.0, 77), 2)
        answer = query_to_pb(job)
        self.assertEqual((False, False, ""), (answer.done, answer.error, answer.errorText))
        self.assertFalse(answer.job.HasField("finishedAt"))

    def test_shortened(self) -> None:
        """A record is marked as shortened when a part that it shows was cut."""
        table = [
            (JobSpec("c", args=("x" * 9_000,)), True),
            (JobSpec("c", labels={str(number): "x" * 900 for number in range(9)}), True),
            (JobSpec("c", "x" * 9_000), True),
            (JobSpec("c", env={"A": "x" * 9_000}), True),
            (JobSpec("c", stdin=b"x" * 9_000), False),
            (JobSpec("c", args=("x",)), False),
        ]
        for spec, shortened in table:
            self.assertEqual(
                [False, shortened], [job_to_pb(Job("id", one, 1.0)).shortened for one in (spec, spec.shortened())]
            )

    def test_too_large_for_a_message(self) -> None:
        """QueryJob answers with a shortened record when the whole one is larger than clients accept."""
        for count, shortened in ((40, False), (42, True)):
            answer = query_to_pb(Job("id", JobSpec("c", args=("x" * 100_000,) * count), 1.0))
            self.assertEqual((shortened, True), (answer.job.shortened, answer.ByteSize() < 4 * 2**20))

    def test_states(self) -> None:
        """JobState has the wire's names and numbers."""
        self.assertEqual(
            {f"JOB_STATE_{state.name}": state.value for state in JobState} | {"JOB_STATE_UNSPECIFIED": 0},
            dict(pb.JobState.items()),
        )


class UsageTests(SynchronousTestCase):
    def test_every_field(self) -> None:
        """The usage of each job reaches the message."""
        found = usages_to_pb([LiveUsage("a", 3, 2**40, 1.5, 0.25), LiveUsage("b")])
        self.assertEqual(["a", "b"], [usage.jobID for usage in found.usages])
        usage = found.usages[0]
        self.assertEqual((3, 2**40, 1.5, 0.25), (usage.processes, usage.rssBytes, _at(usage.userCPU), 0.25))
        self.assertEqual(0.25, _at(usage.systemCPU))


class StatusTests(SynchronousTestCase):
    def test_every_error_has_its_code(self) -> None:
        """Every error that a caller may get has a code and a reason other than INTERNAL."""
        for error_class in TxWorkerError.__subclasses__():
            if error_class is errors.WrongState:
                continue  # a mistake in the worker, not of a caller
            error = error_class.__new__(error_class)
            Exception.__init__(error, "why")
            self.assertIsNot(grpc.StatusCode.INTERNAL, code_of(error), error_class)
            self.assertNotEqual("INTERNAL", error.reason, error_class)

    def test_details(self) -> None:
        """A status carries the sentence and an ErrorInfo with the reason."""
        status = status_of(errors.NoSuchJob("x"))
        self.assertEqual(
            (grpc.StatusCode.NOT_FOUND, "there is no job 'x' on this worker"), (status.code, status.details)
        )
        packed = dict(status.trailing_metadata)["grpc-status-details-bin"]
        self.assertIn(b"JOB_NOT_FOUND", packed)


def field_names(message: Message) -> set[str]:
    """The fields of a message that are set."""
    return {field.name for field, _ in message.ListFields()}


def _at(message: object) -> float:
    return float(message.seconds + message.nanos / 1e9)  # type: ignore[attr-defined]
