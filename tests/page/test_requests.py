"""What the page answers, over HTTP in memory: whom it serves, and what every answer says to the browser."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from tests.page.fakes import FakeBrowser, away, record
from txworker.client import JobNotRunning, JobRemoved, NoSuchJob
from txworker.page.event_stream import MOST_STREAMS
from txworker.page.guard import HEADERS
from txworker.page.page_resource import MOST_BODY
from txworker.pb import worker_pb2 as pb

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
STOP = {"worker": "w", "id": "j1"}
OURS = {"Origin": "http://localhost:1", "X_Txworker": "stop", "Content_Type": "application/json"}


class RequestsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = FakeBrowser()
        self.page.client.add(record())
        self.page.start()

    def stop(self, body: Any = STOP, **headers: str) -> Any:
        """A request to stop a job, as the page itself sends it but for those headers."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.page.send("POST", "/api/stop", text, **{**OURS, **headers})

    def test_headers(self) -> None:
        """Every answer has the policy and its companions, an error as well; none sets a cookie."""
        for path in ("/", "/job", "/static/list.js", "/api/jobs", "/api/events", "/none", "/api/job"):
            headers = self.page.get(path).headers
            self.assertEqual(POLICY, headers["content-security-policy"], path)
            for name, value in HEADERS.items():
                self.assertEqual(value, headers[name.lower()], path)
            self.assertNotIn("set-cookie", headers)

    def test_files(self) -> None:
        """Pages, scripts and styles have their types, and a tag that answers the next request with 304."""
        for path, kind in (
            ("/", "text/html"),
            ("/job?worker=w&id=j1", "text/html"),
            ("/static/style.css", "text/css"),
            ("/static/list.js", "text/javascript"),
            ("/static/vendor/uPlot.js", "text/javascript"),
            ("/static/vendor/uPlot-LICENSE.txt", "text/plain"),
            ("/static/icon.svg", "image/svg+xml"),
        ):
            answer = self.page.get(path)
            self.assertEqual((200, kind), (answer.status, answer.headers["content-type"].partition(";")[0]), path)
            again = self.page.get(path, If_None_Match=answer.headers["etag"])
            self.assertEqual((304, b""), (again.status, again.body), path)
        self.assertEqual((200, b""), (self.page.send("HEAD", "/").status, self.page.send("HEAD", "/").body))

    def test_head(self) -> None:
        """HEAD gets the headers of GET and ends, also where GET goes on; no line of the log is written for it."""
        with capturedLogs() as events:
            for path in ("/", "/static/list.js", "/none", "/api/jobs", "/api/events", "/api/job/events?worker=w&id=j1"):
                asked, head = self.page.get(path), self.page.send("HEAD", path)
                self.assertEqual((asked.status, b""), (head.status, head.body), path)
                for name in ("content-type", "content-length", "cache-control"):
                    self.assertEqual(asked.headers.get(name), head.headers.get(name), (path, name))
        self.assertEqual([], [formatEvent(event) for event in events])
        streams = [path for path in ("/api/events", "/api/job/events?worker=w&id=j1") for _ in range(MOST_STREAMS)]
        self.assertEqual({200}, {self.page.send("HEAD", path).status for path in streams})

    def test_no_inline(self) -> None:
        """The pages have neither scripts nor styles of their own, which the policy forbids, nor addresses elsewhere."""
        for path in ("/", "/job"):
            html = self.page.get(path).body.decode()
            for forbidden in ("<style", " style=", " onclick", "<script>", "http://", "https://", "//cdn"):
                self.assertNotIn(forbidden, html)

    def test_below_another_resource(self) -> None:
        """Served below another resource, it sends a browser to where its relative links hold."""
        root = Resource()
        root.putChild(b"page", self.page.site.resource)
        self.page.site.resource = root
        answer = self.page.get("/page?state=failed")
        self.assertEqual((308, "page/?state=failed"), (answer.status, answer.headers["location"]))
        for path in ("/page/", "/page/job", "/page/static/list.js", "/page/api/workers"):
            self.assertEqual(200, self.page.get(path).status, path)

    def test_not_there(self) -> None:
        """Nothing but the table of paths is served: no file by any other name."""
        for path in ("/none", "/static/", "/static/../values.py", "/static/%2e%2e/values.py", "/index.html", "/api"):
            self.assertEqual(404, self.page.get(path).status, path)

    def test_hosts(self) -> None:
        """A Host that is not served is refused, whatever is asked for: a name that was rebound is such a one."""
        for host in ("localhost", "localhost:9999", "127.0.0.1:1", "[::1]:1", "jobs.example", "JOBS.example:443"):
            self.assertEqual(200, self.page.get("/api/workers", Host=host).status, host)
        for host in ("evil.example", "localhost.evil.example:1", "localhost@evil.example", "127.0.0.2", "", "a b"):
            for path in ("/", "/api/workers", "/static/list.js", "/api/events"):
                self.assertIn(self.page.get(path, Host=host).status, (400, 421), host)

    def test_other_sites(self) -> None:
        """What another site's page asks for is refused; a link that a user follows is not."""
        for site in ("cross-site", "same-site"):
            self.assertEqual(403, self.page.get("/api/jobs", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors").status)
            self.assertEqual(403, self.page.get("/static/list.js", Sec_Fetch_Site=site).status)
            followed = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
            self.assertEqual(200, self.page.get("/", Sec_Fetch_Site=site, **followed).status)
        self.assertEqual(200, self.page.get("/api/jobs", Sec_Fetch_Site="same-origin").status)

    def test_read_only(self) -> None:
        """Unless it was allowed, nothing is stopped."""
        answer = self.stop()
        self.assertEqual((403, False), (answer.status, self.page.get("/api/workers").json["mayStop"]))
        self.assertIn("--allow-stop", answer.json["error"])
        self.assertNotIn("stop", [call[0] for call in self.page.client.asked])

    def test_stop(self) -> None:
        """Where it is allowed, a stop reaches the worker, with its grace period."""
        self.page = FakeBrowser(allow_stop=True)
        self.page.client.add(record(state=pb.JOB_STATE_STOPPING))
        self.assertTrue(self.page.get("/api/workers").json["mayStop"])
        self.assertEqual("stopping", self.stop().json["state"])
        self.assertEqual(200, self.stop({**STOP, "grace": 2}).status)
        stops = [call for call in self.page.client.asked if call[0] == "stop"]
        self.assertEqual([("stop", "j1", None), ("stop", "j1", 2)], stops)

    def test_stops_are_logged(self) -> None:
        """Each stop is a line of the log, with who asked for it."""
        self.page = FakeBrowser(allow_stop=True)
        self.page.client.add(record(state=pb.JOB_STATE_STOPPING))
        with capturedLogs() as events:
            self.stop()
        lines = [formatEvent(event) for event in events]
        self.assertIn("192.168.1.1 stops job j1 of worker w.", lines)

    def test_forged_stops(self) -> None:
        """A stop that does not come from the page itself is refused before the worker hears of it."""
        self.page = FakeBrowser(allow_stop=True)
        table: list[tuple[int, dict[str, str]]] = [
            (403, {"Origin": "http://evil.example"}),
            (403, {"Origin": "null"}),
            (403, {"Origin": ""}),
            (403, {"Origin": "https://localhost:1"}),
            (403, {"Origin": "http://localhost:2"}),
            (403, {"X_Txworker": ""}),
            (403, {"Sec_Fetch_Site": "cross-site"}),
            (415, {"Content_Type": "text/plain"}),
            (415, {"Content_Type": "application/x-www-form-urlencoded"}),
            (421, {"Host": "evil.example", "Origin": "http://evil.example"}),
        ]
        for status, headers in table:
            self.assertEqual(status, self.stop(**headers).status, headers)
        self.assertEqual(405, self.page.get("/api/stop").status)
        self.assertEqual(405, self.page.send("POST", "/api/jobs", b"{}", **OURS).status)
        self.assertEqual([], self.page.client.asked)

    def test_wrong_stops(self) -> None:
        """A body that cannot be meant is told of, and so is what the worker refuses."""
        self.page = FakeBrowser(allow_stop=True)
        for body, words in (
            (b"[]", "must be a JSON object"),
            (b"{", "must be a JSON object"),
            (b"[" * MOST_BODY, "must be a JSON object"),
            ({"worker": "w"}, "worker and id must be strings"),
            ({**STOP, "id": "\ud800"}, "worker and id must be strings"),
            ({**STOP, "worker": "\udfff"}, "worker and id must be strings"),
            ({**STOP, "grace": True}, "grace must be a number of seconds"),
            ({**STOP, "grace": "1"}, "grace must be a number of seconds"),
            ({**STOP, "grace": -1}, "grace must be from 0 to"),
            ({**STOP, "grace": 1e300}, "grace must be from 0 to"),
            ({**STOP, "grace": float("nan")}, "grace must be from 0 to"),
            ({**STOP, "grace": float("inf")}, "grace must be from 0 to"),
        ):
            answer = self.stop(body)
            self.assertEqual(400, answer.status)
            self.assertIn(words, answer.json["error"])
        self.assertEqual(413, self.stop(b" " * (MOST_BODY + 1)).status)
        self.assertEqual(404, self.stop({**STOP, "worker": "x"}).status)
        self.page.client.problem = JobNotRunning("job 'j1' is done", "JOB_NOT_RUNNING", "FAILED_PRECONDITION")
        self.assertEqual((409, {"error": "job 'j1' is done"}), (self.stop().status, self.stop().json))

    def test_workers_errors(self) -> None:
        """What a worker refuses, and one that is away, have statuses of their own, and the worker's sentence."""
        for problem, status in (
            (NoSuchJob("there is no job 'j1'", "JOB_NOT_FOUND", "NOT_FOUND"), 404),
            (JobRemoved("it was removed", "JOB_REMOVED", "NOT_FOUND"), 410),
            (away(), 503),
        ):
            self.page.client.problem = problem
            answer = self.page.get("/api/job?worker=w&id=j1")
            self.assertEqual((status, str(problem)), (answer.status, answer.json["error"]))

    def test_own_errors(self) -> None:
        """A mistake of the page's own is told without its details, which are in the log."""
        self.page.client.problem = ZeroDivisionError("secret")
        answer = self.page.get("/api/job?worker=w&id=j1")
        self.assertEqual((500, {"error": "the page has failed; its log says how"}), (answer.status, answer.json))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_wrong_parameters(self) -> None:
        """Each is named."""
        for path, words in (
            ("/api/job", "worker is missing"),
            ("/api/job?worker=w", "id is missing"),
            ("/api/jobs?state=lame", "state: 'lame' is not a state"),
            ("/api/events?since=x", "since: 'x' is neither a time"),
            ("/api/jobs?limit=-1", "limit must be a whole number, 0 or more"),
            ("/api/output?worker=w&id=j1&offset=x", "offset must be a whole number, 0 or more"),
        ):
            answer = self.page.get(path)
            self.assertEqual(400, answer.status, path)
            self.assertIn(words, answer.json["error"])
        self.assertEqual(400, self.page.get("/api/job/events?worker=w&id=j1", Last_Event_ID="x").status)

    def test_list(self) -> None:
        """The newest jobs first, as many as are wanted, with the number of all."""
        for number in range(3):
            self.page.client.tell(record(f"n{number}", ago=5 - number))
        answer = self.page.get("/api/jobs?limit=2&state=running").json
        self.assertEqual((["n2", "n1"], 4), ([job["id"] for job in answer["jobs"]], answer["total"]))

    def test_job(self) -> None:
        """The whole record, with the sizes of both streams."""
        job = self.page.get("/api/job?worker=w&id=j1").json
        self.assertEqual(("j1", "running", {"stdout": 0, "stderr": 0}), (job["id"], job["state"], job["sizes"]))

    def test_range(self) -> None:
        """A part of the output, as bytes that no browser takes for a page."""
        self.page.client.output = b"<script>alert(1)</script>" * 10
        answer = self.page.get("/api/output?worker=w&id=j1&offset=8&limit=5")
        self.assertEqual(b"alert", answer.body)
        self.assertEqual("application/octet-stream", answer.headers["content-type"])
        self.assertEqual("attachment", answer.headers["content-disposition"])

    def test_markup(self) -> None:
        """HTML in commands and labels is sent as JSON text; what cannot be seen is escaped."""
        evil = "<img src=x onerror=alert(1)>"
        self.page.client.tell(record("x", command=evil, labels={evil: "\u202e\x1b[2J"}))
        answer = self.page.get("/api/jobs?text=onerror")
        (job,) = answer.json["jobs"]
        self.assertEqual((evil, {evil: "\\u202e\\x1b[2J"}), (job["command"], job["labels"]))
        self.assertEqual("application/json", answer.headers["content-type"])
