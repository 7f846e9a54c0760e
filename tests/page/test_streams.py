"""Server-sent events: the live list, a job, and its output, which goes on where a browser was."""

from __future__ import annotations

import base64
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.page.fakes import NOW, Answer, FakeBrowser, away, record
from txworker.client import JobRemoved, LiveUsage, OffsetBeyondEnd, OutOfResources, OutputGone, WorkerError
from txworker.page.event_stream import MOST_STREAMS, PING_SECONDS
from txworker.page.history import BUCKET_SECONDS
from txworker.page.list_stream import MOST_CHANGES, RELIST_SECONDS
from txworker.page.output_stream import BUDGET_BYTES, KEPT_BYTES, MOST_BEHIND
from txworker.page.selection import Selection
from txworker.page.serving import Page
from txworker.page.worker_link import IDLE_POLL_SECONDS, MOST_POLLED, POLL_SECONDS, RECONCILE_SECONDS
from txworker.pb import worker_pb2 as pb

FAILED, SUCCEEDED = pb.JOB_STATE_FAILED, pb.JOB_STATE_SUCCEEDED
JOB = "/api/job/events?worker=w&id=j1"


def printed(answer: Answer) -> list[tuple[int, bytes]]:
    """The output events: offset and data."""
    return [(one["offset"], base64.b64decode(one["data"])) for one in answer.events("output")]


class Streams(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = FakeBrowser()
        self.page.client.add(record(labels={"night": "1"}))
        self.page.start()


class ListStreamTests(Streams):
    def changes(self, answer: Answer) -> list[tuple[list[str], list[Any], int]]:
        """Ids, those that are gone, and the number of all, of each change."""
        return [
            ([job["id"] for job in one["jobs"]], [key[1] for key in one["gone"]], one["total"])
            for one in answer.events("changes")
        ]

    def test_list_then_changes(self) -> None:
        """First the whole list; then only what has changed, and only of jobs that are meant."""
        answer = self.page.get("/api/events?state=running")
        (first,) = answer.events("list")
        self.assertEqual((["j1"], 1), ([job["id"] for job in first["jobs"]], first["total"]))
        self.page.client.tell(record("j2"))
        self.page.client.tell(record("other", SUCCEEDED))
        self.page.after(0.3)
        self.page.client.tell(record("j2", FAILED))
        self.page.after(0.3)
        self.assertEqual([(["j2"], [], 2), ([], ["j2"], 1)], self.changes(answer))

    def test_places_that_become_free(self) -> None:
        """When jobs leave a list that is cut, the next newest take their places."""
        answer = self.page.get("/api/events?limit=2&state=running")
        for job_id, ago in (("j0", 30.0), ("j2", 5.0), ("j3", 2.0)):
            self.page.client.tell(record(job_id, ago=ago))
        self.page.after(0.3)
        self.page.client.tell(record("j3", SUCCEEDED, ago=2.0))
        self.page.after(0.3)
        last = answer.events("list")[-1]
        self.assertEqual((["j2", "j1"], 3), ([job["id"] for job in last["jobs"]], last["total"]))

    def test_many_changes(self) -> None:
        """When much has changed at once, the list is sent anew, as long as it is wanted."""
        answer = self.page.get("/api/events?limit=3")
        for number in range(MOST_CHANGES + 1):
            self.page.client.tell(record(f"n{number}"))
        self.page.after(0.3)
        self.assertEqual([], self.changes(answer))
        last = answer.events("list")[-1]
        self.assertEqual((3, MOST_CHANGES + 2), (len(last["jobs"]), last["total"]))

    def test_slow_browser(self) -> None:
        """One that reads nothing is sent nothing more; once it reads, it gets what there is then."""
        answer = self.page.get("/api/events")
        transport: Any = self.page.transports[-1]
        transport.producer.pauseProducing()
        before = len(answer.body)
        for number in range(MOST_CHANGES + 1):
            self.page.client.tell(record(f"n{number}"))
        self.page.after(60)
        self.assertEqual(before, len(answer.body))
        transport.producer.resumeProducing()
        self.page.after(0.3)
        self.assertEqual(MOST_CHANGES + 2, answer.events("list")[-1]["total"])

    def test_since(self) -> None:
        """A job becomes too old without any change."""
        answer = self.page.get("/api/events?since=15s")
        self.page.after(RELIST_SECONDS + 1)
        self.assertEqual([1, 0], [one["total"] for one in answer.events("list")])

    def test_series(self) -> None:
        """The plots get the last hour, and every ten seconds again."""
        answer = self.page.get("/api/events")
        self.page.after(BUCKET_SECONDS + 0.5, 0.1)
        self.assertEqual([1, 1], [one["running"][-1] for one in answer.events("series")])

    def test_workers(self) -> None:
        """A worker that goes away is shown so, with the reason, and back when it is."""
        answer = self.page.get("/api/events")
        self.page.client.problem = away("connection refused")
        self.page.after(POLL_SECONDS + 0.5)
        self.page.client.problem = None
        self.page.after(POLL_SECONDS + 0.5)
        shown = [(one[0]["state"], one[0]["problem"]) for one in answer.events("workers")]
        self.assertEqual([("connected", ""), ("away", "connection refused"), ("connected", "")], shown)

    def test_ceiling(self) -> None:
        """More streams than may be are refused; one that ends makes room."""
        for _ in range(MOST_STREAMS):
            self.page.get("/api/events")
        answer = self.page.get("/api/events")
        self.assertEqual(503, answer.status)
        self.assertIn("close one", answer.json["error"])
        self.page.leave(0)
        self.assertEqual(200, self.page.get(JOB).status)

    def test_stop(self) -> None:
        """
        A page that stops ends its streams, and opens no more, before its calls end: no browser is told that the output
        is at its end, or lost, and each goes on with the page's next server.
        """
        page = Page(self.page.site.resource, self.page.streams, self.page.links)
        answers = [self.page.get(JOB), self.page.get("/api/events")]
        self.page.client.when_closed = WorkerError("the client is closed", code="CANCELLED")
        before = [answer.events() for answer in answers]
        self.successResultOf(page.stop())
        self.page.after(1)
        self.assertEqual(before, [answer.events() for answer in answers])
        self.assertEqual((503, "the page is stopping"), ((late := self.page.get(JOB)).status, late.json["error"]))
        self.assertEqual(0, self.page.links[0].viewers)

    def test_leaving(self) -> None:
        """A browser that leaves leaves nothing behind: no timer, no subscriber, no viewer."""
        timers = len(self.page.clock.getDelayedCalls())
        self.page.get("/api/events")
        self.page.leave()
        self.page.get(JOB)
        self.page.after(1)
        self.page.leave()
        self.assertEqual(0, self.page.links[0].viewers)
        self.assertEqual([], self.page.jobs._subscribers)
        self.assertEqual(timers, len(self.page.clock.getDelayedCalls()))

    def test_pings(self) -> None:
        """A silent stream is kept alive by comments."""
        answer = self.page.get("/api/events")
        self.page.after(2 * PING_SECONDS + 0.1, 0.1)
        self.assertEqual(3, answer.body.count(b": ping\n\n"))


class JobStreamTests(Streams):
    def test_record(self) -> None:
        """The record, then what changes, then the record again when the job is done."""
        answer = self.page.get(JOB)
        self.page.client.tell(record(outputBytes=7))
        self.page.after(0.5)
        self.page.client.tell(record(state=FAILED, exitCode=3))
        self.page.after(0.5)
        self.assertEqual(["running", "failed"], [row["state"] for row in answer.events("row")][-2:])
        first, last = answer.events("record")
        self.assertEqual(("running", "failed", "3"), (first["state"], last["state"], last["outcome"]))

    def test_samples(self) -> None:
        """What the job uses is sent as it is sampled, each sample once; a later browser gets all."""
        answer = self.page.get(JOB)
        for second in range(4):
            self.page.client.usages = {"j1": LiveUsage(1, 1000, second * POLL_SECONDS, 0.0)}
            self.page.after(POLL_SECONDS)
        sent = [sample for one in answer.events("samples") for sample in one["cpu"]]
        self.page.after(0.3)
        (late,) = self.page.get(JOB).events("samples")
        self.assertGreaterEqual(len(sent), 2)
        self.assertAlmostEqual(1.0, sent[-1], places=1)
        self.assertEqual(sent, late["cpu"][: len(sent)])

    def test_removed(self) -> None:
        """A job that the worker has removed is told of, and leaves the list."""
        removed = JobRemoved("job 'j1' was removed", "JOB_REMOVED", "NOT_FOUND")
        self.page.client.problems = {"get": removed}
        answer = self.page.get(JOB)
        self.page.after(0.3)
        self.assertEqual(["job 'j1' was removed"], answer.events("gone"))
        self.assertEqual("connected", answer.events("worker")[-1]["state"])
        self.assertIsNone(self.page.jobs.get(("w", "j1")))

    def test_away(self) -> None:
        """While the worker is away the job is shown as it was known; its record comes when the worker is back."""
        self.page.client.problem = away()
        self.page.after(IDLE_POLL_SECONDS)
        answer = self.page.get(JOB)
        self.assertEqual(
            ("away", ["j1"]), (answer.events("worker")[-1]["state"], [r["id"] for r in answer.events("row")])
        )
        self.assertEqual([], answer.events("record"))
        self.page.client.problem = None
        self.page.after(POLL_SECONDS + 0.5)
        self.assertEqual(("connected", 1), (answer.events("worker")[-1]["state"], len(answer.events("record"))))


class OutputStreamTests(Streams):
    def test_live(self) -> None:
        """What the job prints comes within a moment, put together; each event's id is where to go on."""
        answer = self.page.get(f"{JOB}&offset=0")
        for piece in (b"a", b"b\n"):
            self.page.client.prints(piece)
        self.page.after(0.1)
        self.page.client.prints(b"\xff<b>")
        self.page.after(0.1)
        self.assertEqual([(0, b"ab\n"), (3, b"\xff<b>")], printed(answer))
        self.assertEqual(["3", "7"], [id for event, id, _ in answer.events() if event == "output"])

    def test_resume(self) -> None:
        """A browser that was cut off goes on at the byte that it names."""
        self.page.client.output = b"0123456789"
        answer = self.page.get(f"{JOB}&offset=0", Last_Event_ID="4")
        self.page.after(0.1)
        self.assertEqual([(4, b"456789")], printed(answer))

    def test_begins_near_the_end(self) -> None:
        """Without an offset only the end of a long output is sent, and the browser is told where that is."""
        size = 100 * 2**20
        self.page.client.add(record(outputBytes=size))
        answer = self.page.get(JOB)
        self.assertEqual([size - KEPT_BYTES], answer.events("skip"))
        self.assertIn(("follow", "j1", size - KEPT_BYTES, True), self.page.client.asked)

    def test_end(self) -> None:
        """When the job is done, the stream says so; the connection stays for the record."""
        answer = self.page.get(f"{JOB}&offset=0")
        self.page.client.prints(b"last")
        self.page.client.followings[0][1].callback(None)
        self.page.after(0.1)
        self.assertEqual(([(0, b"last")], [4]), (printed(answer), answer.events("end")))

    def test_worker_away(self) -> None:
        """Following goes on at the same byte when the worker is back."""
        answer = self.page.get(f"{JOB}&offset=0")
        self.page.client.prints(b"first")
        following = self.page.client.followings.pop()[1]
        self.page.client.problem = away()
        following.errback(away())
        self.page.after(5)
        self.page.client.problem = None
        self.page.client.output = b"firstsecond"
        self.page.after(1.1)
        self.assertEqual([(0, b"first"), (5, b"second")], printed(answer))
        self.assertEqual([], answer.events("lost"))

    def test_flood(self) -> None:
        """A job that prints more than a browser can use costs a bounded amount; the browser skips to its end."""
        answer = self.page.get(f"{JOB}&offset=0")
        piece = b"x" * 2**16
        for _ in range(100):
            self.page.client.prints(piece)
        self.page.after(0.1)
        self.assertEqual(BUDGET_BYTES, sum(len(data) for _, data in printed(answer)))
        size = BUDGET_BYTES + MOST_BEHIND + 1
        self.page.client.add(record(outputBytes=size))
        self.page.after(1.1)
        self.assertEqual([size - KEPT_BYTES], answer.events("skip"))

    def test_slow_browser(self) -> None:
        """One that reads nothing holds no output in memory: following ends, and begins again when it reads."""
        answer = self.page.get(f"{JOB}&offset=0")
        transport: Any = self.page.transports[-1]
        transport.producer.pauseProducing()
        self.page.client.prints(b"one")
        self.assertEqual([], self.page.client.followings)
        self.page.client.output += b"two"
        self.page.after(10)
        transport.producer.resumeProducing()
        self.page.after(1.2)
        self.assertEqual([(0, b"one"), (3, b"two")], printed(answer))

    def test_gone(self) -> None:
        """Output that another program has taken away is told of."""
        self.page.client.problem = OutputGone("the output was deleted", "OUTPUT_GONE", "DATA_LOSS")
        self.assertEqual(["the output was deleted"], self.page.get(f"{JOB}&offset=0").events("lost"))

    def test_no_room(self) -> None:
        """A worker that has no room for another stream is asked again until it has, and the browser told why."""
        self.page.client.output = b"hello"
        full = OutOfResources("256 streams are open", "MAX_STREAMS", "RESOURCE_EXHAUSTED")
        with mock.patch.object(self.page.client, "follow", side_effect=lambda *_, **more: fail(full)):
            answer = self.page.get(f"{JOB}&offset=0")
            self.page.after(0.5)
            self.assertEqual(["256 streams are open"], answer.events("waiting"))
        self.page.after(1.1)
        self.assertEqual([(0, b"hello")], printed(answer))
        self.assertEqual([], answer.events("lost"))

    def test_cut(self) -> None:
        """A worker that has less output than its record says, because the file was cut, is asked once a second."""
        asked: list[int] = []

        def follow(_: str, received: Any, offset: int, **more: Any) -> Deferred[None]:
            asked.append(offset)
            beyond = OffsetBeyondEnd("beyond", "OFFSET_BEYOND_END", "OUT_OF_RANGE")
            return fail(beyond) if len(asked) < 100 else Deferred()

        self.page.client.add(record(state=SUCCEEDED, outputBytes=10))
        self.patch(self.page.client, "follow", follow)
        answer = self.page.get(f"{JOB}&offset=99")
        self.page.after(3.1)
        self.assertEqual(([99, 10, 10, 10, 10], [10]), (asked, answer.events("skip")))


class WorkerLinkTests(Streams):
    def test_one_watch(self) -> None:
        """However many browsers look, the worker has one watch and one poll."""
        for _ in range(20):
            self.page.get("/api/events")
            self.page.get(f"{JOB}&output=0")
        self.page.after(POLL_SECONDS * 5)
        polls = [call for call in self.page.client.asked if call[0] == "jobs"]
        self.assertEqual(1, len(self.page.client.watches))
        self.assertLess(len(polls), 5 + 40 + 2)

    def test_polls(self) -> None:
        """Polled often while a browser looks, seldom while none does, and never for more than so many jobs."""

        def polls_in(seconds: float) -> int:
            self.page.client.asked.clear()
            self.page.after(seconds)
            return [call[0] for call in self.page.client.asked].count("jobs")

        self.assertLessEqual(polls_in(60), 60 // IDLE_POLL_SECONDS)
        self.page.get("/api/events")
        self.assertGreaterEqual(polls_in(60), 60 // POLL_SECONDS - 2)
        self.assertIn(("jobs", MOST_POLLED), self.page.client.asked)

    def test_watch_again(self) -> None:
        """A watch that breaks is begun again, and so is that of a worker that comes back."""
        self.page.client.watches[0][1].errback(away())
        self.assertEqual([], self.page.client.watches)
        self.page.after(1.5)
        self.assertEqual(1, len(self.page.client.watches))

    def test_retention(self) -> None:
        """A job that the worker has removed leaves the list in the end; one that runs, or is new, stays."""
        for job_id, state in (("old", SUCCEEDED), ("kept", FAILED)):
            self.page.client.tell(record(job_id, state))
        del self.page.client.records["old"]
        answer = self.page.get("/api/events")
        self.page.after(RECONCILE_SECONDS + IDLE_POLL_SECONDS, 0.25)
        self.assertEqual([["w", "old"]], [key for one in answer.events("changes") for key in one["gone"]])
        self.assertEqual({"j1", "kept"}, {row.id for row in self.page.jobs.matching(Selection(), NOW)})

    def test_end_stays(self) -> None:
        """An answer that is older than the job's end does not bring the job back to life."""
        self.page.client.tell(record(state=FAILED))
        self.page.links[0].learn(record())
        row = self.page.jobs.get(("w", "j1"))
        assert row is not None
        self.assertEqual("FAILED", row.state.name)

    def test_stop(self) -> None:
        """A page that ends leaves its workers, and no timer."""
        self.successResultOf(self.page.links[0].stop())
        self.assertTrue(self.page.client.closed)
        self.assertEqual([], self.page.clock.getDelayedCalls())

    def test_several(self) -> None:
        """A worker that is away takes nothing from the others."""
        page = FakeBrowser("one", "two")
        page.clients["one"].add(record("a"))
        page.clients["two"].problem = away()
        page.start()
        answer = page.get("/api/events")
        self.assertEqual(["a"], [job["id"] for job in answer.events("list")[0]["jobs"]])
        self.assertEqual(["connected", "away"], [one["state"] for one in answer.events("workers")[0]])
        self.assertEqual(NOW, answer.events("list")[0]["now"])
