"""The requests that every client sends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.client.requests import PAGE, list_request, next_page
from txworker.pb import worker_pb2 as pb


def sizes(jobs: int, limit: int) -> list[int]:
    """How many jobs each request asks for, of a worker that has so many."""
    request, asked, begin = list_request((), None, limit), [], 0
    while True:
        asked.append(request.pageSize)
        begin += request.pageSize
        left = limit and limit - begin
        answer = pb.ListJobsRes(nextPageToken=str(begin) if begin < jobs else "")
        if (limit and left <= 0) or not next_page(request, answer, left):
            return asked


class ListTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """No page is larger than what is missing."""
        table = {0: [PAGE] * 3, 700: [PAGE, 200], 500: [PAGE], 50: [50], 5000: [PAGE] * 3}
        self.assertEqual(table, {limit: sizes(1200, limit) for limit in table})
