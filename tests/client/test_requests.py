"""The requests that every client sends."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.client.errors import AmbiguousJob, NoSuchJob
from txworker.client.requests import PAGE, list_request, next_page, only_job, prefix_request, query_request
from txworker.client.starts import MOST_BYTES, StartDetails, start_request
from txworker.client.values import Limits
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


class PrefixTests(SynchronousTestCase):
    def test_only_one(self) -> None:
        """The beginning of an id stands for it where that is of one job only, also to a worker that knows no such."""
        ids = ("abcd1", "abcd2", "abce")
        answer = pb.ListJobsRes(jobs=[pb.Job(jobID=job_id) for job_id in ids])
        self.assertEqual(["abcd1", "abce", ""], [only_job(prefix, answer) for prefix in ("abcd1", "abce", "ffff")])
        with self.assertRaisesRegex(AmbiguousJob, "several jobs' ids begin with 'abcd'"):
            only_job("abcd", answer)

    def test_what_is_asked(self) -> None:
        """Only what may be the beginning of an id is asked for, and no more than shows that there are two."""
        missing = NoSuchJob("no job", "JOB_NOT_FOUND", "NOT_FOUND")
        request = prefix_request("0f9e-", missing)
        self.assertEqual(("0f9e-", 2), (request.idPrefix, request.pageSize))
        for word in ("", "nobody", "x" * 36, "scripts/a.sh", "ABCD"):
            with self.assertRaises(NoSuchJob) as caught:
                prefix_request(word, missing)
            self.assertIs(missing, caught.exception)

    def test_too_short(self) -> None:
        """A beginning that many ids may have is not asked for; the error says how many characters are needed."""
        with self.assertRaisesRegex(NoSuchJob, "no job; .* at least 4 characters") as caught:
            prefix_request("0f9", NoSuchJob("no job", "JOB_NOT_FOUND", "NOT_FOUND"))
        self.assertEqual("JOB_NOT_FOUND", caught.exception.reason)


class StartTests(SynchronousTestCase):
    def test_cannot_be_sent(self) -> None:
        """A time that is not finite, and a text that is not UTF-8, are ValueErrors."""
        for seconds in (math.inf, -math.inf, math.nan, 1e12):
            for name in ("timeout", "quiet_timeout", "lease"):
                with self.assertRaisesRegex(ValueError, f"a time of {seconds} seconds cannot be sent"):
                    start_request("true", "", {name: seconds})  # type: ignore[misc]  # one of those names
        with self.assertRaises(UnicodeEncodeError):
            start_request("true", "\udc80", {})
        with self.assertRaisesRegex(ValueError, "tty: .*out of range"):
            start_request("true", "", {"tty": (2**40, 1)})
        start_request("true", "", {"stdin": bytes(MOST_BYTES - 100)})
        with self.assertRaisesRegex(ValueError, "a start of [0-9]+ bytes cannot be sent: 4194304 at most"):
            start_request("true", "", {"stdin": bytes(MOST_BYTES)})

    def test_other_types(self) -> None:
        """A value of another type is a TypeError, which names the keyword and the value, unless that is secret."""
        table: list[tuple[str, Any, str]] = [
            ("args", [1], r"args must be a list of strings, not \[1\]"),
            ("args", "ab", "args must be a list of strings, not 'ab'"),
            ("env", {"A": 1}, "env must be a mapping of strings to strings$"),
            ("env", ["A=1"], "env must be a mapping of strings to strings$"),
            ("labels", ["a"], r"labels must be a mapping of strings to strings, not \['a'\]"),
            ("directory", Path("/"), r"directory must be a string, not PosixPath\('/'\)"),
            (
                "timeout",
                timedelta(seconds=5),
                r"timeout must be a number of seconds, not datetime.timedelta\(seconds=5\)",
            ),
            ("lease", "5", "lease must be a number of seconds, not '5'"),
            ("stdin", "text", "stdin must be bytes$"),
            ("limits", {"max_open_files": 64}, "limits must be Limits, not {'max_open_files': 64}"),
            ("tty", True, r"tty must be \(rows, columns\), not True"),
            ("tty", (1, 2, 3), r"tty must be \(rows, columns\), not \(1, 2, 3\)"),
            ("feed", "yes", "feed must be True or False, not 'yes'"),
        ]
        for name, value, sentence in table:
            with self.assertRaisesRegex(TypeError, sentence):
                start_request("true", "", {name: value})  # type: ignore[misc]  # one of those names
        with self.assertRaisesRegex(TypeError, r"command must be a string, not \['ls'\]"):
            start_request(["ls"], "", {})  # type: ignore[arg-type]  # what is tested

    def test_every_keyword(self) -> None:
        """Each keyword reaches the request; None is as if it were not there."""
        details = StartDetails(
            args=["a"],
            env={"A": "1"},
            directory="/",
            request_id="r",
            timeout=1,
            quiet_timeout=2,
            stdin=b"x",
            feed=True,
            limits=Limits(max_open_files=5),
            labels={"l": "2"},
            separate_stderr=True,
            leftovers="keep",
            tty=(3, 4),
            lease=6,
        )
        self.assertEqual(set(StartDetails.__annotations__), set(details))
        request = start_request("bash", "p", details)
        self.assertEqual(
            {"command", "path", "requestID", "ttyRows", "ttyColumns", "separateStderr", "quietTimeout"}
            | set(details) - {"request_id", "separate_stderr", "quiet_timeout"},
            {field.name for field, _ in request.ListFields()},
        )
        nothing: Any = dict.fromkeys(details)
        self.assertEqual(
            ["command", "requestID"], [field.name for field, _ in start_request("b", "", nothing).ListFields()]
        )

    def test_a_handle_for_an_id(self) -> None:
        """Anything but a string is refused as a job's id."""
        for wrong in (None, b"abc", object()):
            with self.assertRaisesRegex(TypeError, "job_id must be a string, not "):
                query_request(wrong)  # type: ignore[arg-type]  # what is tested

    def test_terminal(self) -> None:
        """A job has a terminal if its size is given; a side of 0 is the worker's default."""
        for size in ((24, 80), (0, 0)):
            request = start_request("bash", "", {"tty": size})
            self.assertEqual((True, *size), (request.tty, request.ttyRows, request.ttyColumns))
        self.assertFalse(start_request("bash", "", {}).tty)


class ListTests(SynchronousTestCase):
    def test_window(self) -> None:
        """Times of any zone select jobs by their creation."""
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
        request = list_request((), None, since=at)
        self.assertEqual("2026-01-02T02:04:05Z", request.since.ToJsonString())
        self.assertFalse(request.HasField("until"))

    def test_edges_of_time(self) -> None:
        """A time that has no place in a request is refused with a sentence."""
        for text in ("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"):
            with self.assertRaises(ValueError) as caught:
                list_request((), None, until=datetime.fromisoformat(text))
            self.assertEqual(
                f"until: the time {text} cannot be sent: in UTC its year is not one of 1 to 9999", str(caught.exception)
            )

    def test_pages(self) -> None:
        """No page is larger than what is missing."""
        table = {0: [PAGE] * 3, 700: [PAGE, 200], 500: [PAGE], 50: [50], 5000: [PAGE] * 3}
        self.assertEqual(table, {limit: sizes(1200, limit) for limit in table})
