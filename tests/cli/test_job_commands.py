"""Commands for single jobs and for operators, with a fake worker."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.test_failures import Broken, refused
from txworker.cli.failures import UNREACHABLE, Failed
from txworker.cli.job_commands import query, stop, stream
from txworker.cli.operator_commands import drain
from txworker.cli.parser import parse
from txworker.cli.start_command import start
from txworker.jobs.errors import NoSuchJob
from txworker.pb import control_pb2
from txworker.pb import worker_pb2 as pb


class FakeStub:
    """A worker with fixed answers: a message, or an error by job id."""

    def __init__(self, answer: Any = None, errors: dict[str, Exception] | None = None) -> None:
        self.answer = answer
        self.errors = errors or {}
        self.asked: list[Any] = []

    def _answer(self, request: Any, timeout: float) -> Any:
        self.asked.append(request)
        if request.DESCRIPTOR.name.endswith("JobReq") and getattr(request, "jobID", "") in self.errors:
            raise self.errors[request.jobID]
        return self.answer

    StartJob = StopJob = QueryJob = Drain = _answer


def call(command: Any, stub: FakeStub, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = command(stub, parse(list(words)))
    return status, out.getvalue(), err.getvalue()


EVIL = "\x1b]52;c;x\x07\x1b[2J\r\nforged line\x9b31m\u202e\u2028\ufeff"
"""Sets the clipboard, clears the terminal, starts a line and changes the writing direction, if not escaped."""


class HostileWorkerTests(SynchronousTestCase):
    """Texts from jobs and workers are escaped before they reach the terminal."""

    def assert_plain(self, printed: str, lines: int) -> None:
        self.assertTrue(printed.replace("\n", "").isprintable(), printed)
        self.assertEqual(lines, printed.count("\n"), printed)

    def test_query(self) -> None:
        """Every text in a job's record is escaped."""
        job = pb.Job(jobID=EVIL, command=EVIL, path=EVIL, args=[EVIL], errorText=EVIL, requestID=EVIL)
        job.labels[EVIL] = EVIL
        _, out, _ = call(query, FakeStub(pb.QueryJobRes(done=True, error=True, errorText=EVIL, job=job)), "query", "a")
        self.assert_plain(out, lines=len([line for line in out.split("\n") if line]))
        for word in ("job", "argv", "error", "labels", "request id"):
            self.assertEqual(1, len([line for line in out.split("\n") if line.startswith(f"{word:<12}")]), out)
        self.assertNotIn("\nforged", out)
        self.assert_plain(call(query, FakeStub(pb.QueryJobRes(job=job)), "query", "a", "--json")[1], lines=1)

    def test_long(self) -> None:
        """Long texts are cut, but not with --json."""
        job = pb.Job(jobID="a", args=["x" * 10**6], errorText="y" * 10**6, labels={"z": "z" * 10**6})
        out = call(query, FakeStub(pb.QueryJobRes(job=job)), "query", "a")[1]
        self.assertEqual((3, True), (out.count("… (1000"), len(out) < 13_000))
        self.assertGreater(len(call(query, FakeStub(pb.QueryJobRes(job=job)), "query", "a", "--json")[1]), 3 * 10**6)

    def test_start(self) -> None:
        """A job id is escaped."""
        self.assert_plain(call(start, FakeStub(pb.StartJobRes(jobID=EVIL)), "start", "true")[1], lines=1)

    def test_refusal(self) -> None:
        """An error text is escaped and cut."""
        for text in (EVIL, EVIL * 10_000):
            error = Broken(grpc.StatusCode.FAILED_PRECONDITION, text)
            _, _, err = call(stop, FakeStub(None, {"a": error}), "stop", "a")
            self.assert_plain(err, lines=1)
            self.assertLess(len(err), 12_000)


class StopTests(SynchronousTestCase):
    def test_several(self) -> None:
        """Each job is stopped independently of errors for the others; each error is a sentence, and the status is 1."""
        stub = FakeStub(pb.StopJobRes(), {name: refused(NoSuchJob(name)) for name in ("b", "c")})
        status, out, err = call(stop, stub, "stop", "a", "b", "c", "d", "--grace", "2")
        self.assertEqual(
            [("a", 2), ("b", 2), ("c", 2), ("d", 2)], [(one.jobID, one.grace.seconds) for one in stub.asked]
        )
        sentences = [f"txworker: there is no job '{name}' on this worker (NOT_FOUND)" for name in ("b", "c")]
        self.assertEqual((1, "", sentences), (status, out, err.splitlines()))
        self.assertEqual((0, "{}\n{}\n", ""), call(stop, stub, "stop", "a", "d", "--json"))

    def test_no_worker(self) -> None:
        """If no worker answers, that is said once and no further job is tried."""
        error = Broken(grpc.StatusCode.UNAVAILABLE, "failed to connect to x")
        stub = FakeStub(errors={"a": error, "b": error})
        with self.assertRaises(Failed) as caught:
            call(stop, stub, "stop", "a", "b")
        self.assertEqual((UNREACHABLE, 1), (caught.exception.status, len(stub.asked)))


class StreamTests(SynchronousTestCase):
    def test_beginning(self) -> None:
        """Without --tail all output, with a number the last lines, with 0 only new output."""
        asked: list[pb.StreamJobReq] = []

        class Stub:
            def StreamJob(self, request: pb.StreamJobReq) -> list[pb.StreamJobRes]:
                asked.append(request)
                return []

        for words in ((), ("--tail", "3"), ("--tail", "0"), ("--tail=0", "--no-follow", "--stderr")):
            self.assertEqual(0, stream(Stub(), parse(["stream", "a", *words])))  # type: ignore[arg-type]
        found = [(request.tailLines, request.fromEnd) for request in asked]
        self.assertEqual([(0, False), (3, False), (0, True), (0, True)], found)


class WordsTests(SynchronousTestCase):
    def test_left_over(self) -> None:
        """One process, several processes."""
        for count, words in ((1, "1 process, ended"), (2, "2 processes, ended")):
            stub = FakeStub(pb.QueryJobRes(done=True, job=pb.Job(leftoversEnded=count)))
            self.assertIn(f"left over   {words}\n", call(query, stub, "query", "a")[1])
        self.assertNotIn("left over", call(query, FakeStub(pb.QueryJobRes()), "query", "a")[1])

    def test_running(self) -> None:
        """No job, one job, several jobs."""
        table = {0: "no job is running", 1: "1 job is still running", 7: "7 jobs are still running"}
        for count, words in table.items():
            stub = FakeStub(control_pb2.DrainRes(running=count))
            self.assertEqual((0, f"draining: {words}\n", ""), call(drain, stub, "drain"))

    def test_json(self) -> None:
        """An exit code of 0 is included in JSON."""
        stub = FakeStub(pb.QueryJobRes(done=True, job=pb.Job(state=pb.JOB_STATE_SUCCEEDED)))
        answer = json.loads(call(query, stub, "query", "a", "--json")[1])
        self.assertEqual((0, False, ""), (answer["job"]["exitCode"], answer["error"], answer["errorText"]))


class StartTests(SynchronousTestCase):
    def test_standard_input(self) -> None:
        """Stdin that does not fit into a request is refused before the call, and not read to its end."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.truncate(2**22 - 100)
        stub = FakeStub(pb.StartJobRes(jobID="a"))
        self.assertEqual((0, "a\n", ""), call(start, stub, "start", "--stdin", path, "cat"))
        table = [
            (path, ["x" * 200], "has 4194204 bytes; at most about 4 MiB fit into a request"),
            ("/dev/zero", [], "has more than 4194304 bytes; at most about 4 MiB fit into a request"),
        ]
        for name, more, sentence in table:
            with self.assertRaises(Failed) as caught:
                call(start, stub, "start", "--stdin", name, "cat", *more)
            self.assertEqual((f"--stdin: {name} {sentence}", 1), (str(caught.exception), caught.exception.status))
        self.assertEqual(1, len(stub.asked))

    def test_arguments(self) -> None:
        """Arguments that do not fit into a request are refused as well."""
        with self.assertRaisesRegex(Failed, r"^the request has \d+ bytes; at most about 4 MiB fit into one$"):
            call(start, FakeStub(), "start", "cat", *["x" * 100_000] * 50)
