"""Our words and the wire's."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import EndReason, EndRequested, Exit, Exited, Job, JobSpec, JobState, Started, Usage, after, errors
from txworker.jobs.errors import InvalidRequest, TxWorkerError
from txworker.pb import worker_pb2 as pb
from txworker.wire.jobs import job_to_pb, query_to_pb, seconds_from_pb, spec_from_pb
from txworker.wire.status import code_of, status_of


class SpecTests(SynchronousTestCase):
    def test_all_fields(self) -> None:
        """Every field of a request reaches the order."""
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
            separateStderr=True,
        )
        spec = spec_from_pb(request)
        self.assertEqual(
            ("a b", "p", ("1", ""), {"K": "V"}, "/d"), (spec.command, spec.path, spec.args, spec.env, spec.directory)
        )
        self.assertEqual(
            ("r", 1.5, b"\xff", {"l": "m"}), (spec.request_id, spec.timeout_seconds, spec.stdin, spec.labels)
        )
        self.assertEqual(
            (2.0, True, (1, 2, 3.0, 4, 5)), (spec.quiet_timeout_seconds, spec.separate_stderr, _values(spec.limits))
        )

    def test_old_request(self) -> None:
        """What an old client sends means no limit of any kind."""
        self.assertEqual(JobSpec("bash", "x.sh"), spec_from_pb(pb.StartJobReq(command="bash", path="x.sh")))

    def test_durations(self) -> None:
        """A duration that no clock could keep is refused by the field's name."""
        for duration in (Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=315_576_000_001)):
            error = self.assertRaises(InvalidRequest, seconds_from_pb, "grace", duration)
            self.assertEqual("grace", error.field)

    def test_negative_limit(self) -> None:
        """A negative limit is refused."""
        with self.assertRaises(InvalidRequest):
            spec_from_pb(pb.StartJobReq(command="a", limits=pb.Limits(maxOpenFiles=-1)))


class JobTests(SynchronousTestCase):
    def test_whole_record(self) -> None:
        """A finished job's record arrives whole."""
        job = Job("id", JobSpec("c", "p", ("a",), labels={"k": "v"}, request_id="r"), 1.5)
        job = after(after(job, Started(2.25, 77), 2), EndRequested(EndReason.REQUESTED), 3)
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

    def test_running(self) -> None:
        """A running job has no end, and its three old words say so."""
        job = after(Job("id", JobSpec("c"), 1.0), Started(2.0, 77), 2)
        answer = query_to_pb(job)
        self.assertEqual((False, False, ""), (answer.done, answer.error, answer.errorText))
        self.assertFalse(answer.job.HasField("finishedAt"))

    def test_shortened(self) -> None:
        """A record that has not all that it shows says so; what it never shows, as the environment, is not missed."""
        table = [
            (JobSpec("c", args=("x" * 9_000,)), True),
            (JobSpec("c", labels={str(number): "x" * 900 for number in range(9)}), True),
            (JobSpec("c", "x" * 9_000), True),
            (JobSpec("c", env={"A": "x" * 9_000}), False),
            (JobSpec("c", stdin=b"x" * 9_000), False),
            (JobSpec("c", args=("x",)), False),
        ]
        for spec, shortened in table:
            self.assertEqual(
                [False, shortened], [job_to_pb(Job("id", one, 1.0)).shortened for one in (spec, spec.shortened())]
            )

    def test_more_than_a_message(self) -> None:
        """Of an order that fits into no message a question gets the brief one, for a client could take no other."""
        for count, shortened in ((40, False), (42, True)):
            answer = query_to_pb(Job("id", JobSpec("c", args=("x" * 100_000,) * count), 1.0))
            self.assertEqual((shortened, True), (answer.job.shortened, answer.ByteSize() < 4 * 2**20))

    def test_states(self) -> None:
        """Our states are the wire's, by number and by name."""
        self.assertEqual(
            {f"JOB_STATE_{state.name}": state.value for state in JobState} | {"JOB_STATE_UNSPECIFIED": 0},
            dict(pb.JobState.items()),
        )


class StatusTests(SynchronousTestCase):
    def test_every_error_has_its_code(self) -> None:
        """No error that a caller may meet is left to INTERNAL, and each says its reason to programs."""
        for error_class in TxWorkerError.__subclasses__():
            if error_class is errors.WrongState:
                continue  # a mistake of ours, not of a caller's
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


def _values(limits: object) -> tuple[object, ...]:
    return tuple(vars(limits).values())


def _at(message: object) -> float:
    return float(message.seconds + message.nanos / 1e9)  # type: ignore[attr-defined]
