"""Commands for single jobs and for operators, with a fake worker."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.fakes import FakeClient
from tests.cli.test_failures import broken, refused
from txworker.cli.failures import UNREACHABLE, Failed
from txworker.cli.operator_commands import drain
from txworker.cli.parser import parse
from txworker.cli.query_command import inspect, query
from txworker.cli.renew_command import renew
from txworker.cli.start_command import start
from txworker.cli.stop_command import stop
from txworker.cli.stream_command import Merged, lines_of, stream
from txworker.jobs.errors import NoSuchJob
from txworker.pb import control_pb2
from txworker.pb import worker_pb2 as pb


class FakeControl:
    """The control service of a worker with so many jobs."""

    def __init__(self, running: int) -> None:
        self.running = running

    def Drain(self, request: control_pb2.DrainReq, timeout: float) -> control_pb2.DrainRes:
        return control_pb2.DrainRes(running=self.running)


def call(command: Any, client: object, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = command(client, parse(list(words)))
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
        _, out, _ = call(query, FakeClient([job]), "query", EVIL)
        self.assert_plain(out, lines=len([line for line in out.split("\n") if line]))
        for word in ("job", "argv", "error", "labels", "request id"):
            self.assertEqual(1, len([line for line in out.split("\n") if line.startswith(f"{word:<12}")]), out)
        self.assertNotIn("\nforged", out)
        self.assert_plain(call(query, FakeClient([job]), "query", EVIL, "--json")[1], lines=1)

    def test_long(self) -> None:
        """Long texts are cut, but not with --json."""
        job = pb.Job(jobID="a", args=["x" * 10**6], errorText="y" * 10**6, labels={"z": "z" * 10**6})
        out = call(query, FakeClient([job]), "query", "a")[1]
        self.assertEqual((3, True), (out.count("… (1000"), len(out) < 13_000))
        self.assertGreater(len(call(query, FakeClient([job]), "query", "a", "--json")[1]), 3 * 10**6)

    def test_start(self) -> None:
        """A job id is escaped."""
        self.assert_plain(call(start, FakeClient(started=EVIL), "start", "true")[1], lines=1)

    def test_refusal(self) -> None:
        """An error text is escaped and cut."""
        for text in (EVIL, EVIL * 10_000):
            error = broken(grpc.StatusCode.FAILED_PRECONDITION, text)
            _, _, err = call(stop, FakeClient(errors={"a": error}), "stop", "a")
            self.assert_plain(err, lines=1)
            self.assertLess(len(err), 12_000)


class RenewTests(SynchronousTestCase):
    def test_renew(self) -> None:
        """All leases are renewed by one call; a job that is done or unknown is an error, and the others are renewed."""
        states = (pb.JOB_STATE_RUNNING, pb.JOB_STATE_FAILED, pb.JOB_STATE_RUNNING)
        jobs = [pb.Job(jobID=f"{number}" * 36, state=state) for number, state in enumerate(states)]
        running, done, other = jobs
        client = FakeClient(jobs)
        self.assertEqual((0, "", ""), call(renew, client, "renew", running.jobID, other.jobID))
        self.assertEqual([running.jobID, other.jobID], client.renewed)
        status, out, err = call(renew, client, "renew", running.jobID, done.jobID, "x")
        sentences = [
            "txworker: there is no job 'x' on this worker (NOT_FOUND)",
            f"txworker: job {done.jobID} is no longer running",
        ]
        self.assertEqual((1, "", sentences), (status, out, err.splitlines()))
        self.assertEqual([running.jobID, done.jobID], client.renewed)
        json = f'{{"gone": ["{done.jobID}"]}}\n'
        self.assertEqual((1, json, ""), call(renew, client, "renew", "--json", done.jobID))


class StopTests(SynchronousTestCase):
    def test_several(self) -> None:
        """Each job is stopped independently of errors for the others; each error is a sentence, and the status is 1."""
        jobs = [pb.Job(jobID=name) for name in ("a", "d")]
        client = FakeClient(jobs, errors={name: refused(NoSuchJob(name)) for name in ("b", "c")})
        status, out, err = call(stop, client, "stop", "a", "b", "c", "d", "--grace", "2")
        self.assertEqual([("a", 2), ("d", 2)], client.stopped)
        sentences = [f"txworker: there is no job '{name}' on this worker (NOT_FOUND)" for name in ("b", "c")]
        self.assertEqual((1, "", sentences), (status, out, err.splitlines()))
        self.assertEqual((0, "{}\n{}\n", ""), call(stop, client, "stop", "a", "d", "--json"))

    def test_kill(self) -> None:
        """`kill` is `stop` without a grace period."""
        client = FakeClient([pb.Job(jobID="a")])
        self.assertEqual((0, "", ""), call(stop, client, "kill", "a"))
        self.assertEqual([("a", 0.0)], client.stopped)

    def test_signal(self) -> None:
        """`kill -s` sends that signal and does not stop; each of several jobs has its own error."""
        jobs = [pb.Job(jobID=name * 36, state=pb.JOB_STATE_RUNNING) for name in ("a", "b")]
        client = FakeClient(jobs, errors={"c": refused(NoSuchJob("c"))})
        ids = [job.jobID for job in jobs]
        status, out, err = call(stop, client, "kill", "-s", "HUP", ids[0], "c", ids[1])
        self.assertEqual((1, "", "txworker: there is no job 'c' on this worker (NOT_FOUND)\n"), (status, out, err))
        self.assertEqual(([(ids[0], 1), (ids[1], 1)], []), (client.signalled, client.stopped))
        self.assertEqual((0, "{}\n", ""), call(stop, client, "kill", "--json", "--signal", "9", ids[0]))
        self.assertEqual((0, f"{ids[1]}\n{ids[0]}\n", ""), call(stop, client, "kill", "--all", "-s", "USR1"))

    def test_selected(self) -> None:
        """--label and --all stop what is not done, and print the ids; --wait waits for the ends."""
        states = (pb.JOB_STATE_PENDING, pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_RUNNING)
        client = FakeClient([pb.Job(jobID=f"{number}" * 36, state=state) for number, state in enumerate(states)])
        ids = ["2" * 36, "0" * 36]
        self.assertEqual((0, "\n".join([*ids, ""]), ""), call(stop, client, "stop", "--all", "--wait"))
        self.assertEqual([(job_id, None) for job_id in ids], client.stopped)
        self.assertEqual(ids, client.waited)
        call(stop, client, "stop", "--label", "night=1")
        self.assertEqual({"night": "1"}, client.asked[-1][1])

    def test_no_worker(self) -> None:
        """If no worker answers, that is said once and no further job is tried."""
        error = broken(grpc.StatusCode.UNAVAILABLE, "failed to connect to x")
        client = FakeClient(errors={"a": error, "b": error})
        with self.assertRaises(Failed) as caught:
            call(stop, client, "stop", "a", "b")
        self.assertEqual((UNREACHABLE, 1), (caught.exception.status, len(client.asked)))


class StreamTests(SynchronousTestCase):
    def test_beginning(self) -> None:
        """Without --tail all output, with a number the last lines, with 0 only new output."""
        client = FakeClient([pb.Job(jobID="a")])
        for words in ((), ("--tail", "3"), ("--tail", "0"), ("--tail=0", "--no-follow", "--stderr")):
            self.assertEqual((0, "", ""), call(stream, client, "stream", "a", *words))
        found = [asked[2] for asked in client.asked if asked != "a"]
        self.assertEqual([None, 3, 0, 0], [how["tail"] for how in found])
        self.assertEqual([(False, True)] * 3 + [(True, False)], [(how["stderr"], how["live"]) for how in found])

    def test_path(self) -> None:
        """What is no id is a path: that of the newest job that was started with it."""
        jobs = [pb.Job(jobID=name, path=path) for name, path in (("3", "y.sh"), ("2", "x.sh"), ("1", "x.sh"))]
        client = FakeClient(jobs)
        self.assertEqual(0, call(stream, client, "stream", "x.sh")[0])
        self.assertEqual("2", client.asked[-1][0])
        sentence = "txworker: there is no job 'z.sh' on this worker (NOT_FOUND)\n"
        self.assertEqual((1, "", sentence), call(stream, client, "stream", "z.sh"))

    def test_several(self) -> None:
        """The lines of several jobs have their jobs' short ids before them."""
        ids = ["11111111-aaaa", "22222222-bbbb"]
        client = FakeClient([pb.Job(jobID=job_id) for job_id in ids], output=[b"a\nb", b"c\nd"])
        copied: list[bytes] = []
        with mock.patch("txworker.cli.console.copy", lambda lines, to: copied.extend(lines)):
            self.assertEqual((0, "", ""), call(stream, client, "logs", *ids))
        self.assertEqual(
            [f"{name} | {line}\n".encode() for name in ("11111111", "22222222") for line in ("a", "bc", "d")],
            sorted(copied),
        )

    def test_several_with_an_error(self) -> None:
        """One that there is not takes nothing from the others, and the status says so."""
        client = FakeClient([pb.Job(jobID=name * 36) for name in ("1", "2")], output=[b"x"])
        copied: list[bytes] = []
        with mock.patch("txworker.cli.console.copy", lambda lines, to: copied.extend(lines)):
            status, _, err = call(stream, client, "logs", "1" * 36, "3", "2" * 36)
        self.assertEqual((1, "txworker: there is no job '3' on this worker (NOT_FOUND)\n"), (status, err))
        self.assertEqual([b"11111111 | x\n", b"22222222 | x\n"], sorted(copied))

    def test_since(self) -> None:
        """All of what started later, nothing of what was done before, and what cannot be told is said."""
        early, late = (Timestamp(seconds=1_800_000_000 + seconds) for seconds in (0, 100))
        jobs = [
            pb.Job(jobID="a" * 36, startedAt=late),
            pb.Job(jobID="b" * 36, startedAt=early, finishedAt=early),
            pb.Job(jobID="c" * 36, startedAt=early, finishedAt=late),
            pb.Job(jobID="d" * 36, startedAt=early),
        ]
        since = "2027-01-15T09:00:50+01:00"
        told = (
            "was running at 2027-01-15T08:00:50Z, and the worker does not record when a byte was printed: "
            "here is all of its output (--tail: the last lines)\n"
        )
        table = {"a": (1, ""), "b": (0, ""), "c": (1, told), "d": (1, told)}
        for name, (asked, sentence) in table.items():
            client = FakeClient(jobs)
            status, _, err = call(stream, client, "logs", "--since", since, name * 36)
            self.assertEqual((0, asked), (status, len(client.asked) - 1), name)
            self.assertEqual(f"txworker: job {name * 36} {sentence}" if sentence else "", err)

    def test_lines(self) -> None:
        """Pieces become whole lines; a very long one is cut in two."""
        self.assertEqual([b"ab\n", b"\n", b"c\n"], list(lines_of([b"a", b"b\n\n", b"c"])))
        self.assertEqual([b"x" * 70_000 + b"\n", b"y\n"], list(lines_of([b"x" * 70_000, b"y\n"])))

    def test_left_early(self) -> None:
        """When the lines of several jobs are not wanted any more, the threads that read them end."""
        outputs: dict[str, Iterator[bytes]] = {name * 36: itertools.repeat(b"y\n") for name in "ab"}
        before = set(threading.enumerate())
        lines = Merged(parse(["logs", *outputs]), outputs).lines()
        self.assertIn(b" | y\n", next(lines))
        threads = set(threading.enumerate()) - before
        lines.close()
        for thread in threads:
            thread.join(30)
        self.assertEqual((2, []), (len(threads), [thread for thread in threads if thread.is_alive()]))

    def test_logs(self) -> None:
        """`logs` ends at what is there, and follows with -f."""
        client = FakeClient([pb.Job(jobID="a")])
        for words in ((), ("-f",)):
            call(stream, client, "logs", "a", *words)
        self.assertEqual([False, True], [asked[2]["live"] for asked in client.asked if asked != "a"])


class InspectTests(SynchronousTestCase):
    def test_all(self) -> None:
        """`inspect` prints how the job was started, too, and cuts nothing; --json is the record itself."""
        job = pb.Job(jobID="a", args=["x" * 10_000], directory="/srv", envNames=["A", "B"], separateStderr=True)
        job.timeout.FromSeconds(90)
        job.limits.maxOpenFiles = 64
        out = call(inspect, FakeClient([job]), "inspect", "a")[1]
        for line in ("directory   /srv", "environment A B", "timeout     90.000 s", "limits      maxOpenFiles=64"):
            self.assertIn(f"{line}\n", out)
        self.assertIn("x" * 10_000, out)
        self.assertEqual("a", json.loads(call(inspect, FakeClient([job]), "inspect", "a", "--json")[1])["jobID"])

    def test_several(self) -> None:
        """Several records are apart from each other; one that there is not has its own sentence."""
        status, out, err = call(query, FakeClient([pb.Job(jobID="a"), pb.Job(jobID="b")]), "query", "a", "c", "b")
        self.assertEqual((1, 2), (status, out.count("\n\n")))
        self.assertEqual("txworker: there is no job 'c' on this worker (NOT_FOUND)\n", err)


class WordsTests(SynchronousTestCase):
    def test_left_over(self) -> None:
        """One process, several processes."""
        for count, words in ((1, "1 process, ended"), (2, "2 processes, ended")):
            client = FakeClient([pb.Job(jobID="a", leftoversEnded=count)])
            self.assertIn(f"left over   {words}\n", call(query, client, "query", "a")[1])
        self.assertNotIn("left over", call(query, FakeClient([pb.Job(jobID="a")]), "query", "a")[1])

    def test_running(self) -> None:
        """No job, one job, several jobs."""
        table = {0: "no job is running", 1: "1 job is still running", 7: "7 jobs are still running"}
        for count, words in table.items():
            self.assertEqual(
                (0, f"draining: {words}\n", ""), call(drain, FakeControl(count), "drain", "--addr", "unix:/w")
            )

    def test_json(self) -> None:
        """An exit code of 0 is included in JSON."""
        client = FakeClient([pb.Job(jobID="a", state=pb.JOB_STATE_SUCCEEDED)])
        answer = json.loads(call(query, client, "query", "a", "--json")[1])
        self.assertEqual((0, False, ""), (answer["job"]["exitCode"], answer["error"], answer["errorText"]))


class StartTests(SynchronousTestCase):
    def test_standard_input(self) -> None:
        """Stdin that does not fit into a request is refused before the call, and not read to its end."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.truncate(2**22 - 100)
        client = FakeClient()
        self.assertEqual((0, "a\n", ""), call(start, client, "start", "--stdin", path, "cat"))
        table = [
            (path, ["x" * 200], "has 4194204 bytes; at most about 4 MiB fit into a request"),
            ("/dev/zero", [], "has more than 4194304 bytes; at most about 4 MiB fit into a request"),
        ]
        for name, more, sentence in table:
            with self.assertRaises(Failed) as caught:
                call(start, client, "start", "--stdin", name, "cat", *more)
            self.assertEqual((f"--stdin: {name} {sentence}", 1), (str(caught.exception), caught.exception.status))
        self.assertEqual(1, len(client.asked))

    def test_arguments(self) -> None:
        """Arguments that do not fit into a request are refused as well."""
        with self.assertRaisesRegex(Failed, r"^the request has \d+ bytes; at most about 4 MiB fit into one$"):
            call(start, FakeClient(), "start", "cat", *["x" * 100_000] * 50)
