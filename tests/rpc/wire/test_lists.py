"""Which jobs a list selects, and where its pages begin and end."""

from __future__ import annotations

import base64
from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import Job, JobSpec, JobState, Query
from txworker.jobs.errors import InvalidRequest
from txworker.jobs.query import BEYOND_NEWEST
from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.jobs import job_to_pb
from txworker.rpc.wire.lists import page_size, page_start, page_to_pb, query_from_pb

ALL = Query()
TRUE = JobSpec("true")
MINE = Query(frozenset([JobState.RUNNING, JobState.FAILED]), {"team": "mine", "a": "b"})


def jobs(count: int, spec: JobSpec = TRUE) -> list[Job]:
    """Newest first, as on a page."""
    return [Job(f"job-{number}", spec, 1.0, number) for number in range(count, 0, -1)]


def ids(page: pb.ListJobsRes) -> list[str]:
    return [job.jobID for job in page.jobs]


def token(page: pb.ListJobsRes, query: Query = ALL) -> int:
    return page_start(pb.ListJobsReq(pageToken=page.nextPageToken), query)


class RequestTests(SynchronousTestCase):
    def test_query(self) -> None:
        """States and labels arrive unchanged; without any the query selects every job."""
        states = [pb.JOB_STATE_RUNNING, pb.JOB_STATE_FAILED, pb.JOB_STATE_RUNNING]
        request = pb.ListJobsReq(states=states, labels={"a": "b", "team": "mine"})
        self.assertEqual((MINE, ALL), (query_from_pb(request), query_from_pb(pb.ListJobsReq())))

    def test_no_state(self) -> None:
        """A number that is not a job state is refused."""
        for number in (0, 9, -1):
            request = pb.ListJobsReq()
            request.states.append(number)  # type: ignore[arg-type]
            self.assertIn("states", str(self.assertRaises(InvalidRequest, query_from_pb, request)))

    def test_too_many_labels(self) -> None:
        """More labels than a job can have are refused."""
        request = pb.ListJobsReq(labels={str(number): "" for number in range(101)})
        self.assertIn("labels: 101", str(self.assertRaises(InvalidRequest, query_from_pb, request)))

    def test_long_labels(self) -> None:
        """A longer label than a job can have is refused: a watcher would hold it in memory as long as it watches."""
        for labels in ({"a": "x" * 4096}, {"x" * 4097: ""}):
            refusal = self.assertRaises(InvalidRequest, query_from_pb, pb.ListJobsReq(labels=labels))
            self.assertEqual("labels", refusal.field)
            self.assertLess(len(str(refusal)), 400)
        query_from_pb(pb.ListJobsReq(labels={"a": "x" * 4095}))

    def test_prefix_and_window(self) -> None:
        """The beginning of an id and the window of time arrive; the bounds are exact to what a job's record shows."""
        since, until = Timestamp(seconds=1_700_000_000, nanos=250_000_000), Timestamp(seconds=1_700_000_001)
        query = query_from_pb(pb.ListJobsReq(idPrefix="0af-9", since=since, until=until))
        self.assertEqual(Query(id_prefix="0af-9", since=1_700_000_000.25, until=1_700_000_001.0), query)
        self.assertEqual(Query(since=0.0), query_from_pb(pb.ListJobsReq(since=Timestamp())))
        for at in (1_700_000_000.1, 1_700_000_000.123457, 1_764_251_234.999999):
            shown = job_to_pb(Job("j", TRUE, at)).createdAt
            self.assertEqual(at, query_from_pb(pb.ListJobsReq(since=shown)).since)

    def test_owner(self) -> None:
        """The owner arrives. It selects no job, because all are anonymous; an empty one selects every job."""
        query = query_from_pb(pb.ListJobsReq(owner="me"))
        self.assertEqual(Query(owner="me"), query)
        self.assertEqual((False, True), (query.matches(jobs(1)[0]), ALL.matches(jobs(1)[0])))

    def test_no_prefix(self) -> None:
        """What begins no id of a job is refused, and the error shows it."""
        for text in ("A", "0x", "%", "_", "\0", "é", "g", "'", "a" * 37, " a", "a\n"):
            refusal = self.assertRaises(InvalidRequest, query_from_pb, pb.ListJobsReq(idPrefix=text))
            self.assertEqual(("idPrefix", text), (refusal.field, refusal.value))
            self.assertIn("idPrefix: ", str(refusal))

    def test_no_time(self) -> None:
        """Times that do not exist are refused, and so is an empty window."""
        for field in ("since", "until"):
            for seconds, nanos in ((0, -1), (0, 10**9), (2**62, 0), (-(2**62), 0), (253_402_300_800, 0)):
                request = pb.ListJobsReq(**{field: Timestamp(seconds=seconds, nanos=nanos)})  # type: ignore[arg-type]
                refusal = self.assertRaises(InvalidRequest, query_from_pb, request)
                self.assertEqual(field, refusal.field)
                self.assertIn(f"seconds: {seconds} nanos: {nanos}", str(refusal))
        one, two = Timestamp(seconds=1), Timestamp(seconds=2)
        for since, until in ((two, one), (one, one)):
            refusal = self.assertRaises(InvalidRequest, query_from_pb, pb.ListJobsReq(since=since, until=until))
            self.assertIn("until: '1970-01-01T00:00:01Z' is not after since, 1970-01-01T00:00:0", str(refusal))

    def test_page_size(self) -> None:
        """The default is 100, the maximum 1000, and a negative size is refused."""
        sizes = [page_size(pb.ListJobsReq(pageSize=size)) for size in (0, 1, 1000, 1001, 2**31 - 1)]
        self.assertEqual([100, 1, 1000, 1000, 1000], sizes)
        self.assertRaises(InvalidRequest, page_size, pb.ListJobsReq(pageSize=-1))


class PageTests(SynchronousTestCase):
    def test_first(self) -> None:
        """Without a token the page begins with the newest job."""
        self.assertEqual(BEYOND_NEWEST, page_start(pb.ListJobsReq(), ALL))

    def test_token(self) -> None:
        """A full page with more jobs to come has a token; the next page begins below the last job."""
        page = page_to_pb(jobs(5)[:4], 3, ALL)
        self.assertEqual((["job-5", "job-4", "job-3"], 3), (ids(page), token(page)))

    def test_last_page(self) -> None:
        """The last page has no token, also when it is exactly full or empty."""
        for count in (0, 2, 3):
            page = page_to_pb(jobs(count), 3, ALL)
            self.assertEqual((count, ""), (len(page.jobs), page.nextPageToken))

    def test_another_list(self) -> None:
        """A token is valid for its states and labels only, in any order."""
        page = page_to_pb(jobs(2), 1, MINE)
        same = Query(frozenset([JobState.FAILED, JobState.RUNNING]), {"a": "b", "team": "mine"})
        self.assertEqual(2, token(page, same))
        for other in (ALL, Query(MINE.states), Query(labels=MINE.labels), Query(MINE.states, {"team": "mine"})):
            refusal = self.assertRaises(InvalidRequest, token, page, other)
            self.assertIn("a list of other jobs", str(refusal))

    def test_another_prefix_or_window(self) -> None:
        """A token is valid for its beginning of an id and its window of time only."""
        query = Query(id_prefix="ab", since=1.0, until=2.0)
        page = page_to_pb(jobs(2), 1, query)
        self.assertEqual(2, token(page, Query(id_prefix="ab", since=1.0, until=2.0)))
        for change in ({"id_prefix": ""}, {"id_prefix": "abc"}, {"since": None}, {"since": 1.5}, {"until": None}):
            refusal = self.assertRaises(InvalidRequest, token, page, replace(query, **change))
            self.assertIn("pageToken", str(refusal))

    def test_another_owner(self) -> None:
        """A token is valid for its owner only."""
        for first, other in (("", "me"), ("me", "")):
            page = page_to_pb(jobs(2), 1, Query(owner=first))
            self.assertEqual(2, token(page, Query(owner=first)))
            refusal = self.assertRaises(InvalidRequest, token, page, Query(owner=other))
            self.assertIn("states, labels, idPrefix, since, until and owner must be the same", str(refusal))

    def test_token_of_an_older_worker(self) -> None:
        """A token that a worker made which did not know owners is good for the next page."""
        made = {"AAAAAAAAAAITkYduY2hbfQ==": ALL, "AAAAAAAAAAJiJpnKoQLEUA==": Query(id_prefix="ab", since=1.0)}
        for text, query in made.items():
            self.assertEqual(2, page_start(pb.ListJobsReq(pageToken=text), query))

    def test_garbage(self) -> None:
        """A token that this worker did not make is refused, by an error that names the field."""
        good = page_to_pb(jobs(2), 1, ALL).nextPageToken
        garbage = ["x", "garbage", "é" * 8, good[:-4], good + "AAAA", "!" + good, base64.b64encode(b"x").decode()]
        for text in garbage:
            refusal = self.assertRaises(InvalidRequest, page_start, pb.ListJobsReq(pageToken=text), ALL)
            self.assertIn("pageToken", str(refusal))

    def test_bytes(self) -> None:
        """A page has no more bytes than allowed, but one job at least; the next pages have the rest."""
        seen: list[str] = []
        rest = jobs(7, JobSpec("echo", args=("x" * 2000,)))
        while rest:
            page = page_to_pb(rest, 100, ALL, 5000)
            self.assertLess(page.ByteSize(), 5100)
            seen += ids(page)
            rest = [job for job in rest if job.number < token(page)] if page.nextPageToken else []
        self.assertEqual([f"job-{number}" for number in range(7, 0, -1)], seen)
        page = page_to_pb(jobs(2, JobSpec("echo", args=("x" * 6000,))), 100, ALL, 5000)
        self.assertEqual((["job-2"], 2), (ids(page), token(page)))
