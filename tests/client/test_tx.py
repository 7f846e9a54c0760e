"""The Twisted client: Deferreds that fire in the reactor thread, and a thread that ends with close()."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.scripted_worker import LIMIT, ScriptedWorker, Silence, block, cut, event, says
from txworker.client import TLS, Closed, NoSuchJob, Unreachable
from txworker.client.tx import TwistedClient
from txworker.pb import worker_pb2 as pb

RUNNING, FAILED = pb.JOB_STATE_RUNNING, pb.JOB_STATE_FAILED


class QueueReactor:
    """What threads ask for is done in the test's thread, when the test says."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, call: Callable[..., object], *args: Any) -> None:
        self.calls.put((call, args))

    def run_until(self, true: Callable[[], object]) -> None:
        """Do it, until something is true."""
        while not true():
            call, args = self.calls.get(timeout=LIMIT)
            call(*args)


class TwistedClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.worker = ScriptedWorker()
        self.addCleanup(self.worker.close)
        self.reactor = QueueReactor()
        self.told: list[tuple[str, threading.Thread]] = []
        self.client = self.made(patience=60)
        self.addCleanup(lambda: self.result(self.client.close()))

    def made(self, **options: Any) -> TwistedClient:
        """A client of the worker's."""
        return TwistedClient(self.reactor, self.worker.addr, tell=self.tell, **options)

    def tell(self, sentence: str) -> None:
        self.told.append((sentence, threading.current_thread()))

    def result(self, deferred: Deferred[Any]) -> Any:
        """What it fires with."""
        self.reactor.run_until(lambda: deferred.called)
        return self.successResultOf(deferred)

    def failure(self, deferred: Deferred[Any], *kinds: type[Exception]) -> None:
        """It fires with one of these."""
        self.reactor.run_until(lambda: deferred.called)
        self.failureResultOf(deferred, *kinds)

    def threads(self) -> int:
        """How many threads of clients there are; the one that setUp() has made has one."""
        return sum(thread.name == "txworker-client" for thread in threading.enumerate())

    def test_fires_in_the_reactor_thread(self) -> None:
        """A Deferred fires when the reactor gets to it, not before; what is told and heard is so, too."""
        heard: list[tuple[bytes, threading.Thread]] = []
        self.worker.on("StreamJob", says(block(0, b"ab")), says(block(2, b"cd")))
        self.worker.on("WatchJobs", says(event("1", FAILED)))
        following = self.client.follow("1", lambda data: heard.append((data, threading.current_thread())))
        self.assertNoResult(following)
        self.result(following)
        self.assertEqual([(b"ab", threading.current_thread())], heard)
        records: list[Any] = []
        self.result(self.client.watch(records.append, ["1"]))
        self.assertEqual(["1"], [record.id for record in records])

    def test_tell(self) -> None:
        """tell() is called in the reactor thread, before the Deferred fires."""
        client = self.made(patience=0.1)
        self.worker.probed = cut
        self.failure(client.follow("1", lambda data: None), Unreachable)
        self.assertEqual([threading.current_thread()], [thread for _, thread in self.told])
        self.result(client.close())

    def test_leases(self) -> None:
        """A lease that is named is renewed while the job is followed or waited for; renew() renews many at once."""
        begin: tuple[tuple[str, Any, Callable[[], Deferred[Any]]], ...] = (
            ("StreamJob", block(0, b"ab"), lambda: self.client.follow("1", lambda data: None, lease=30)),
            ("WatchJobs", event("2", FAILED), lambda: self.client.wait("2", lease=30)),
        )
        for method, answer, call in begin:
            renewed, silence = Silence(), Silence()
            self.worker.on("RenewLeases", renewed)
            self.worker.on(method, silence, says(answer))
            following = call()
            self.assertTrue(renewed.began.wait(LIMIT))
            silence.over.set()
            self.result(following)
            self.assertTrue(renewed.ended.wait(LIMIT))
        self.worker.on("RenewLeases", says(pb.RenewLeasesRes(gone=["4"])))
        self.assertEqual(["4"], self.result(self.client.renew(["3", "4"])))
        asked = [list(one.jobIDs) for one in self.worker.requests if isinstance(one, pb.RenewLeasesReq)]
        self.assertEqual([["1"], ["2"], ["3", "4"]], asked)

    def test_jobs(self) -> None:
        """All pages at once."""
        self.worker.on("ListJobs", says(pb.ListJobsRes(jobs=[pb.Job(jobID="1")], nextPageToken="2")))
        self.worker.on("ListJobs", says(pb.ListJobsRes(jobs=[pb.Job(jobID="2")])))
        self.assertEqual(["1", "2"], [record.id for record in self.result(self.client.jobs())])

    def test_cancelled(self) -> None:
        """Cancelling ends the call at the worker, and fires at once."""
        silence = Silence()
        self.worker.on("StreamJob", silence)
        following = self.client.follow("1", lambda data: None)
        self.assertTrue(silence.began.wait(LIMIT))
        following.cancel()
        self.failureResultOf(following, CancelledError)
        self.assertTrue(silence.ended.wait(LIMIT))

    def test_cancelled_at_once(self) -> None:
        """A call that has not begun may be cancelled, too."""
        asking = self.client.get("1")
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_cancelled_when_the_answer_is_there(self) -> None:
        """An answer that the reactor has not got to yet is dropped; one that has fired stays."""
        self.worker.on("QueryJob", *[says(pb.QueryJobRes(job=pb.Job(jobID="1")))] * 2)
        early = self.client.get("1")
        call, args = self.reactor.calls.get(timeout=LIMIT)
        early.cancel()
        self.failureResultOf(early, CancelledError)
        call(*args)
        late = self.client.get("1")
        self.reactor.run_until(lambda: late.called)
        late.cancel()
        self.assertEqual("1", self.successResultOf(late).id)

    def test_cancelled_while_it_is_heard(self) -> None:
        """What was on its way to the reactor when its Deferred was cancelled is not heard any more."""
        heard: list[bytes] = []
        silence = Silence()
        self.worker.on("StreamJob", says(block(0, b"ab"), then=silence))
        following = self.client.follow("1", heard.append)
        call, args = self.reactor.calls.get(timeout=LIMIT)  # that is it
        following.cancel()
        self.failureResultOf(following, CancelledError)
        self.assertTrue(silence.ended.wait(LIMIT))
        call(*args)
        self.assertEqual([], heard)

    def test_listener_fails(self) -> None:
        """An exception of the function that hears ends the call, and the Deferred fails with it."""
        silence = Silence()
        self.worker.on("StreamJob", says(block(0, b"ab"), then=silence))

        def fail(data: bytes) -> None:
            raise RuntimeError(data)

        self.failure(self.client.follow("1", fail), RuntimeError)
        self.assertTrue(silence.ended.wait(LIMIT))

    def test_went_away(self) -> None:
        """wait() of a job that retention removes meanwhile fails; so does a timeout."""
        self.worker.on("WatchJobs", says(event("1", RUNNING)), says(event("1", RUNNING), then=Silence()))
        self.failure(self.client.wait("1"), NoSuchJob)
        self.failure(self.client.wait("1", timeout=0.05), TimeoutError)

    def test_close(self) -> None:
        """It fires last, with every other Deferred and the thread ended; after that each call fails at once."""
        client = self.made()
        silences = [Silence() for _ in range(20)]
        self.worker.on("StreamJob", *silences)
        following = [client.follow("1", lambda data: None) for _ in silences]
        asking = client.get("1")
        closed, again = client.close(), client.close()
        self.failureResultOf(client.get("1"), Closed)
        self.result(closed)
        self.result(again)
        for deferred in [*following, asking]:
            self.failureResultOf(deferred, Closed)
        self.assertEqual(1, self.threads())
        self.failureResultOf(client.start("true"), Closed)
        self.successResultOf(client.close())

    def test_other_types(self) -> None:
        """An argument of another type fails the Deferred, with a TypeError that names it; nothing is raised."""
        other: Any = "x"
        table = [
            (self.client.wait("1", lease=other), "lease must be a number of seconds, not 'x'"),
            (self.client.wait("1", other), "timeout must be a number of seconds, not 'x'"),
            (self.client.wait(5), "job_id must be a string, not 5"),  # type: ignore[arg-type]  # what is tested
            (self.client.follow("1", other), "received must be callable, not 'x'"),
            (self.client.watch(other), "received must be callable, not 'x'"),
            (self.client.jobs(limit=other), "limit must be a whole number, not 'x'"),
        ]
        for deferred, sentence in table:
            self.reactor.run_until(lambda deferred=deferred: deferred.called)  # type: ignore[misc]  # mypy wants none
            self.assertEqual(sentence, self.failureResultOf(deferred, TypeError).getErrorMessage())

    def test_cannot_be_made(self) -> None:
        """A client that cannot be made leaves no thread behind."""
        with self.assertRaises(FileNotFoundError):
            self.made(tls=TLS(ca="/no/such/file"))
        self.assertEqual(1, self.threads())
