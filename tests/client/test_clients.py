"""What the blocking and the asyncio client promise alike, each over real gRPC to a worker that does as it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.client.drivers import AsyncioDriver, BlockingDriver
from tests.client.scripted_worker import LIMIT, ScriptedWorker, Silence, block, cut, event, refuses, says
from txworker.client import (
    AmbiguousJob,
    Closed,
    JobResult,
    JobState,
    NoSuchExecutable,
    NoSuchJob,
    Unreachable,
)
from txworker.client.requests import PAGE
from txworker.jobs import errors
from txworker.pb import worker_pb2 as pb

SOURCE = "source must be bytes, a file in binary mode or an iterable of bytes"
RUNNING, FAILED = pb.JOB_STATE_RUNNING, pb.JOB_STATE_FAILED

OTHER_TYPES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("wait", ["1"], {"timeout": "5"}, "timeout must be a number of seconds, not '5'"),
    ("watch", [], {"timeout": [5]}, r"timeout must be a number of seconds, not \[5\]"),
    ("watch", [], {"labels": ["a"]}, r"labels must be a mapping of strings to strings, not \['a'\]"),
    ("jobs", ["running"], {}, "states must be a list of JobState, not 'running'"),
    ("jobs", [["running"]], {}, r"states must be a list of JobState, not \['running'\]"),
    ("jobs", [JobState.RUNNING], {}, "states must be a list of JobState, not <JobState.RUNNING: 2>"),
    ("jobs", [], {"labels": {"a": 1}}, "labels must be a mapping of strings to strings, not {'a': 1}"),
    ("jobs", [], {"limit": "5"}, "limit must be a whole number, not '5'"),
    ("jobs", [], {"since": 5.0}, "since must be a datetime, not 5.0"),
    ("jobs", [], {"until": "2026"}, "until must be a datetime, not '2026'"),
    ("stop", ["1"], {"grace": "5"}, "grace must be a number of seconds, not '5'"),
    ("signal", ["1", "HUP"], {}, "number must be a whole number, not 'HUP'"),
    ("resize", ["1", 5, "5"], {}, "columns must be a whole number, not '5'"),
    ("follow", ["1", "5"], {}, "offset must be a whole number, not '5'"),
    ("follow", ["1"], {"tail": 1.5}, "tail must be a whole number, not 1.5"),
    ("follow", ["1"], {"tail": False}, "tail must be a whole number, not False"),
    ("follow", ["1"], {"stderr": "no"}, "stderr must be True or False, not 'no'"),
    ("follow", ["1"], {"live": "no"}, "live must be True or False, not 'no'"),
    ("stop", ["1"], {"wait": "no"}, "wait must be True or False, not 'no'"),
    ("jobs", [], {"labels": []}, r"labels must be a mapping of strings to strings, not \[\]"),
    ("jobs", [], {"limit": None}, "limit must be a whole number, not None"),
    ("get", [5], {}, "job_id must be a string, not 5"),
    ("job", [5], {}, "job_id must be a string, not 5"),
    ("job", ["1"], {"lease": "5"}, "lease must be a number of seconds, not '5'"),
    ("stop", [b"1"], {}, "job_id must be a string, not b'1'"),
    ("wait", [None], {}, "job_id must be a string, not None"),
    ("feed", [5, b""], {}, "job_id must be a string, not 5"),
    ("feed", ["1", b""], {"end": "no"}, "end must be True or False, not 'no'"),
    ("feed", ["1", "text"], {}, f"{SOURCE}, not str"),
    ("feed", ["1", 5], {}, f"{SOURCE}, not int"),
    ("renew", [5], {}, "job_ids must be a list of strings, not 5"),
    ("renew", [["1", 5]], {}, r"job_ids must be a list of strings, not \['1', 5\]"),
    ("usage", [b"1"], {}, "job_ids must be a list of strings, not b'1'"),
    ("start", [None], {}, "command must be a string, not None"),
    ("start", ["true"], {"limits": {}}, "limits must be Limits, not {}"),
]
"""Calls with an argument of another type: method, arguments, keywords, and the sentence."""


class Promises:
    """One client's tests; `driver` makes it."""

    driver: Callable[..., Any]

    def setUp(self) -> None:
        self.worker = ScriptedWorker()
        self.told: list[str] = []
        self.client = self.made()

    def tearDown(self) -> None:
        self.client.end()
        self.worker.close()

    def made(self, **options: Any) -> Any:
        """A client; of the test's, if there is another."""
        if hasattr(self, "client"):
            self.client.end()
        self.client = type(self).driver(self.worker.addr, tell=self.told.append, **options)
        return self.client

    def asked(self, kind: Any) -> list[Any]:
        """The requests of that kind."""
        return [request for request in self.worker.requests if isinstance(request, kind)]

    def test_resumes(self: Any) -> None:
        """A stream goes on at the byte where it was cut."""
        self.worker.on("StreamJob", says(block(0, b"ab"), then=cut), cut, says(block(2, b"cd")))
        self.assertEqual([b"ab", b"cd"], self.client.ask("follow", "1").result(LIMIT))
        self.assertEqual([0, 2, 2], [request.offset for request in self.asked(pb.StreamJobReq)])
        self.assertIn("following job 1: connection lost, resuming at byte 2: Socket closed", self.told)

    def test_patience_of_a_stream(self: Any) -> None:
        """A worker that stays away while a job is followed is given up; what came before was passed on."""
        self.made(patience=0.2)
        self.worker.probed = cut
        self.worker.on("StreamJob", says(block(0, b"ab"), then=cut))
        with self.assertRaisesRegex(Unreachable, "^following job 1: no worker answered for . s: Socket closed$"):
            self.client.ask("follow", "1").result(LIMIT)

    def test_slow_attempt(self: Any) -> None:
        """The patience of a call begins with it: an attempt that takes longer is the only one."""
        self.made(patience=0.1, deadline=1.0)
        self.worker.on("QueryJob", Silence(), Silence())
        with self.assertRaises(Unreachable) as caught:
            self.client.ask("get", "1").result(LIMIT)
        self.assertGreater(caught.exception.waited, 0.2)
        self.assertEqual(1, len(self.asked(pb.QueryJobReq)))

    def test_no_patience(self: Any) -> None:
        """Without patience the first lost connection is the last."""
        self.made(patience=0)
        for method, args in (("get", ["1"]), ("follow", ["1"]), ("wait", ["1"]), ("jobs", [])):
            with self.assertRaises(Unreachable):
                self.client.ask(method, *args).result(LIMIT)

    def test_quiet_stream(self: Any) -> None:
        """Patience is for workers that do not answer: a job that prints nothing between two cuts is none."""
        self.made(patience=1)
        silence = Silence()
        self.worker.on("StreamJob", cut, silence, says(block(0, b"at last")))
        following = self.client.ask("follow", "1")
        self.assertTrue(silence.began.wait(LIMIT))
        self.assertFalse(silence.ended.wait(1.1))
        silence.over.set()
        self.assertEqual([b"at last"], following.result(LIMIT))

    def test_timeouts(self: Any) -> None:
        """A timeout of 0 asks once how the job is; one that never ends is none."""
        done, runs = (pb.QueryJobRes(job=pb.Job(jobID="1", state=state)) for state in (FAILED, RUNNING))
        self.worker.on("QueryJob", says(runs), says(done))
        with self.assertRaisesRegex(TimeoutError, "^not done after 0 s$"):
            self.client.ask("wait", "1", 0).result(LIMIT)
        self.assertIsInstance(self.client.ask("wait", "1", 0).result(LIMIT), JobResult)
        self.worker.on("WatchJobs", says(event("1", FAILED)))
        self.assertIsInstance(self.client.ask("wait", "1", math.inf).result(LIMIT), JobResult)
        self.made(deadline=math.inf)
        self.worker.on("QueryJob", says(done))
        self.assertIsInstance(self.client.ask("get", "1").result(LIMIT), JobResult)

    def test_one_string(self: Any) -> None:
        """An id in the place of a list of ids would be one id for each character."""
        for method in ("renew", "usage", "watch"):
            with self.assertRaisesRegex(TypeError, "job_ids is one string; it must be a list of strings"):
                self.client.ask(method, "abcd").result(LIMIT)

    def test_other_types(self: Any) -> None:
        """An argument of another type is a TypeError that names it and its value, before anything is asked."""
        for method, args, more, sentence in OTHER_TYPES:
            with self.assertRaisesRegex(TypeError, f"^{sentence}$"):
                self.client.ask(method, *args, **more).result(LIMIT)
        with self.assertRaisesRegex(TypeError, "^lease must be a number of seconds, not '5'$"):
            self.client.ask_of("1", "5", "wait").result(LIMIT)
        with self.assertRaisesRegex(ValueError, "^timeout must be a number of seconds, not nan$"):
            self.client.ask("wait", "1", math.nan).result(LIMIT)
        with self.assertRaisesRegex(ValueError, "^timeout: int too large"):
            self.client.ask("wait", "1", 10**400).result(LIMIT)
        with self.assertRaisesRegex(ValueError, "^limit: -1 is negative$"):
            self.client.ask("jobs", limit=-1).result(LIMIT)
        self.assertEqual([], self.worker.requests)

    def test_same_request_id(self: Any) -> None:
        """A start is sent again with the id that it had, so that nothing is started twice; the next one has another."""
        self.worker.on("StartJob", cut, cut, cut, cut, says(pb.StartJobRes(jobID="7")), says(pb.StartJobRes(jobID="8")))
        self.assertEqual("7", self.client.ask("start", "true").result(LIMIT).id)
        self.assertEqual("8", self.client.ask("start", "true").result(LIMIT).id)
        *first, last = [request.requestID for request in self.asked(pb.StartJobReq)]
        self.assertEqual((5, 1), (len(first), len(set(first))))
        self.assertNotIn(last, first)

    def test_pages(self: Any) -> None:
        """jobs() asks for page after page, until there is no next one."""
        pages = [pb.ListJobsRes(jobs=[pb.Job(jobID=str(n))], nextPageToken=str(n) if n < 3 else "") for n in (1, 2, 3)]
        self.worker.on("ListJobs", says(pages[0]), cut, *map(says, pages[1:]))
        found = self.client.ask("jobs", [JobState.RUNNING], {"a": "b"}).result(LIMIT)
        self.assertEqual(["1", "2", "3"], [record.id for record in found])
        asked = self.asked(pb.ListJobsReq)
        self.assertEqual(["", "1", "1", "2"], [request.pageToken for request in asked])
        self.assertEqual({(PAGE, 2, "b")}, {(one.pageSize, one.states[0], one.labels["a"]) for one in asked})

    def test_limit(self: Any) -> None:
        """With a limit no more is asked for."""
        self.worker.on("ListJobs", says(pb.ListJobsRes(jobs=[pb.Job(), pb.Job()], nextPageToken="more")))
        self.assertEqual(2, len(self.client.ask("jobs", limit=2).result(LIMIT)))
        self.assertEqual([2], [request.pageSize for request in self.asked(pb.ListJobsReq)])

    def test_changes_come_once(self: Any) -> None:
        """After a cut watch() leaves out the jobs that stand as they stood."""
        first, second = event("1", RUNNING), event("2", RUNNING)
        self.worker.on("WatchJobs", says(first, second, then=cut), says(first, event("2", FAILED)))
        found = self.client.ask("watch", ["1", "2"]).result(LIMIT)
        self.assertEqual(["1", "2", "2"], [record.id for record in found])
        self.assertEqual([False, False, True], [isinstance(record, JobResult) for record in found])

    def test_wait(self: Any) -> None:
        """wait() is over with the job's end, and its call, too."""
        rest = Silence()
        self.worker.on("WatchJobs", says(event("1", RUNNING), event("1", FAILED, exitCode=3), then=rest))
        self.assertEqual(3, self.client.ask("wait", "1").result(LIMIT).exit_code)
        self.assertTrue(rest.ended.wait(LIMIT))

    def test_timeout(self: Any) -> None:
        """A job that runs longer than is waited for is no outage: nothing is told, whatever the patience."""
        for patience in (0, 60):
            self.made(patience=patience)
            self.worker.on("WatchJobs", says(event("1", RUNNING), then=Silence()))
            with self.assertRaisesRegex(TimeoutError, "^not done after 0.1 s$"):
                self.client.ask("wait", "1", timeout=0.1).result(LIMIT)
        self.assertEqual([], self.told)

    def test_timeout_in_an_outage(self: Any) -> None:
        """A timeout that is shorter than the patience counts while the worker is away."""
        self.worker.probed = cut
        with self.assertRaises(TimeoutError):
            self.client.ask("wait", "1", timeout=0.2).result(LIMIT)

    def test_closed_in_a_stream(self: Any) -> None:
        """close() ends a stream that waits for output, and one that is between two pieces of it."""
        rest = Silence()
        self.worker.on("StreamJob", says(block(0, b"ab"), then=rest))
        following = self.client.ask("follow", "1")
        self.assertTrue(rest.began.wait(LIMIT))
        self.client.close()
        with self.assertRaises(Closed):
            following.result(LIMIT)
        self.assertTrue(rest.ended.wait(LIMIT))

    def test_closed_between_two_pieces(self: Any) -> None:
        """A generator that is asked for more after close() says so."""
        self.worker.on("StreamJob", says(block(0, b"ab"), then=Silence()))
        with self.assertRaises(Closed):
            self.client.first_and_close("follow", "1").result(LIMIT)

    def test_closed_in_a_call(self: Any) -> None:
        """close() ends a call that waits for its answer; what is called later fails at once."""
        answer = Silence()
        self.worker.on("StartJob", answer)
        starting = self.client.ask("start", "true")
        self.assertTrue(answer.began.wait(LIMIT))
        self.client.close()
        with self.assertRaises(Closed):
            starting.result(LIMIT)
        for method, args in (("get", ["1"]), ("follow", ["1"]), ("watch", []), ("jobs", [])):
            with self.assertRaises(Closed):
                self.client.ask(method, *args).result(LIMIT)
        self.client.close()

    def test_closed_in_an_outage(self: Any) -> None:
        """close() does not wait for the next attempt, at however bad a moment it comes."""
        for _ in range(5):
            asking = [self.client.ask("follow", "1"), self.client.ask("get", "1"), self.client.ask("watch")]
            self.client.close()
            for one in asking:
                with self.assertRaises(Closed):
                    one.result(LIMIT)
            self.made()

    def test_probe_is_refused(self: Any) -> None:
        """A client that may not list jobs goes on, too: a worker that refuses has answered."""
        self.worker.probed = refuses(errors.NotPermitted("method", "ListJobs"))
        self.worker.on("StreamJob", cut, says(block(0, b"ab")))
        self.assertEqual([b"ab"], self.client.ask("follow", "1").result(LIMIT))

    def test_stopping_worker(self: Any) -> None:
        """A start that a stopping worker refuses is made at the next worker; a refusal of another kind is final."""
        self.worker.on("StartJob", *[refuses(errors.WorkerStopping())] * 4, says(pb.StartJobRes(jobID="7")))
        self.assertEqual("7", self.client.ask("start", "true").result(LIMIT).id)
        self.worker.on("StartJob", refuses(errors.NoSuchExecutable("x")))
        with self.assertRaises(NoSuchExecutable):
            self.client.ask("start", "x").result(LIMIT)

    def test_prefix(self: Any) -> None:
        """get() takes the beginning of an id, of one job only."""
        missing = refuses(errors.NoSuchJob("0123"))
        one, other = (pb.Job(jobID=f"0123-{n}") for n in "ab")
        self.worker.on("QueryJob", missing, says(pb.QueryJobRes(job=one)), missing, missing)
        self.worker.on("ListJobs", says(pb.ListJobsRes(jobs=[one])), says(pb.ListJobsRes(jobs=[one, other])))
        self.worker.on("ListJobs", says(pb.ListJobsRes()))
        self.assertEqual("0123-a", self.client.ask("get", "0123").result(LIMIT).id)
        self.assertRaises(AmbiguousJob, self.client.ask("get", "0123").result, LIMIT)
        self.assertRaises(NoSuchJob, self.client.ask("get", "0123").result, LIMIT)
        self.assertEqual({"0123"}, {request.idPrefix for request in self.asked(pb.ListJobsReq)})

    def test_left_early(self: Any) -> None:
        """A generator that is closed ends its call."""
        rest = Silence()
        self.worker.on("StreamJob", says(block(0, b"ab"), then=rest))
        self.assertEqual(b"ab", self.client.first("follow", "1"))
        self.assertTrue(rest.ended.wait(LIMIT))

    def test_text(self: Any) -> None:
        """Text comes in pieces that are never empty, and no character is lost between two of them."""
        euro = "€".encode()
        self.worker.on("StreamJob", says(block(0, euro[:1]), block(1, euro[1:]), block(3, euro[:2])))
        self.assertEqual(["€", "�"], self.client.text("1"))

    def test_renew(self: Any) -> None:
        """renew() is sent again after a cut, and tells which jobs run no longer."""
        self.worker.on("RenewLeases", cut, cut, cut, says(pb.RenewLeasesRes(gone=["2"])))
        self.assertEqual(["2"], self.client.ask("renew", ["1", "2"]).result(LIMIT))
        self.assertEqual({("1", "2")}, {tuple(request.jobIDs) for request in self.asked(pb.RenewLeasesReq)})

    def test_renewed_while_followed(self: Any) -> None:
        """A lease is renewed while the job is followed or waited for, over cuts."""
        for method, answer, ends in (
            ("follow", "StreamJob", block(0, b"ab")),
            ("text", "StreamJob", block(0, b"ab")),
            ("wait", "WatchJobs", event("1", FAILED)),
        ):
            renewals = [cut, *[says(pb.RenewLeasesRes())] * 5]
            renewed, silence = Silence(), Silence()
            self.worker.on("RenewLeases", *renewals, renewed)
            self.worker.on(answer, silence, says(ends))
            following = self.client.ask_of("1", 0.15, method)
            self.assertTrue(renewed.began.wait(LIMIT))
            renewed.over.set()
            silence.over.set()
            self.assertTrue(following.result(LIMIT))
            self.assertTrue(renewed.ended.wait(LIMIT))
        self.assertEqual({("1",)}, {tuple(request.jobIDs) for request in self.asked(pb.RenewLeasesReq)})

    def test_lease_of_a_start(self: Any) -> None:
        """The handle of a job that was started with a lease renews it; without one nothing is renewed."""
        self.worker.on("StartJob", *[says(pb.StartJobRes(jobID="7"))] * 2)
        leased, other = self.client.ask("start", "true", lease=30).result(LIMIT), self.client.ask("start", "true")
        self.assertEqual((30, None), (leased.lease, other.result(LIMIT).lease))
        self.assertEqual([30, 0], [request.lease.seconds for request in self.asked(pb.StartJobReq)])

    def test_one_string_as_args(self: Any) -> None:
        """A string is no list of arguments, though Python would take it for one."""
        with self.assertRaisesRegex(TypeError, "list of strings"):
            self.client.ask("start", "echo", args="--all").result(LIMIT)


class BlockingTests(Promises, SynchronousTestCase):
    driver = BlockingDriver


class AsyncioTests(Promises, SynchronousTestCase):
    driver = AsyncioDriver

    def test_cancelled(self) -> None:
        """A cancelled task ends its call, and is cancelled itself."""
        rest = Silence()
        self.worker.on("StreamJob", says(block(0, b"ab"), then=rest))
        following = self.client.ask("follow", "1")
        self.assertTrue(rest.began.wait(LIMIT))
        self.assertTrue(following.cancel())
        self.assertTrue(rest.ended.wait(LIMIT))
