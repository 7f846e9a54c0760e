"""The far sides of the page: a worker's client that answers as the test says, and a browser without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from txworker.client import JobRecord, Unreachable
from txworker.client.values import record_of
from txworker.page.access import Access
from txworker.page.guard import Guard
from txworker.page.page_resource import PageResource
from txworker.page.routes import Routes
from txworker.page.samples import Samples
from txworker.page.static_files import static_files
from txworker.page.table import JobTable
from txworker.page.values import PageWorker
from txworker.page.worker_link import WorkerLink
from txworker.pb import worker_pb2 as pb

NOW = 1_800_000_000.0
"""The time of day at which tests begin."""


def record(job_id: str = "j1", state: int = pb.JOB_STATE_RUNNING, ago: float = 10.0, **more: Any) -> JobRecord:
    """A job that was created and started so many seconds before NOW."""
    job = pb.Job(jobID=job_id, state=pb.JobState.ValueType(state), **{"command": "true", **more})
    job.createdAt.FromMilliseconds(round((NOW - ago) * 1000))
    if state != pb.JOB_STATE_PENDING:
        job.startedAt.FromMilliseconds(round((NOW - ago) * 1000))
    if state > pb.JOB_STATE_STOPPING:
        job.finishedAt.FromMilliseconds(round((NOW - ago + 1) * 1000))
    return record_of(job)


def away(sentence: str = "connection refused") -> Unreachable:
    """What a client without patience says of a worker that is not there."""
    return Unreachable(sentence, code="UNAVAILABLE")


class FakeClient:
    """
    As TwistedClient (test_fakes.py compares them). Answers at once with `records`, `usages` and `output`, or with
    `problem` if there is one, or that of the method in `problems`. A watch and a following go on until the test ends
    them; with `when_closed`, followings end so when the client is closed.
    """

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.usages: dict[str, Any] = {}
        self.output = b""
        self.problem: Exception | None = None
        self.problems: dict[str, Exception] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.watches: list[tuple[Callable[[JobRecord], object], Deferred[None]]] = []
        self.followings: list[tuple[Callable[[bytes], object], Deferred[None]]] = []
        self.closed = False
        self.when_closed: Exception | None = None

    def add(self, *records: JobRecord) -> None:
        """Jobs that the worker has."""
        self.records |= {one.id: one for one in records}

    def tell(self, one: JobRecord) -> None:
        """A job of the worker changes, and its watchers are told."""
        self.add(one)
        for received, _ in self.watches:
            received(one)

    def prints(self, data: bytes) -> None:
        """The job prints; an exception of the receiver ends the following, as with the real one."""
        self.output += data
        for following in list(self.followings):
            received, ended = following
            try:
                received(data)
            except Exception as error:  # whatever the receiver raises
                self.followings.remove(following)
                ended.errback(error)

    def jobs(
        self, states: Any = (), labels: Any = None, *, limit: int = 0, since: Any = None, until: Any = None
    ) -> Deferred[list[JobRecord]]:
        found = [one for one in self.records.values() if not states or one.state in states]
        return self._answer(("jobs", limit), found[: limit or None])

    def usage(self, job_ids: Any = ()) -> Deferred[dict[str, Any]]:
        return self._answer(("usage", list(job_ids)), {key: self.usages[key] for key in job_ids if key in self.usages})

    def get(self, job_id: str) -> Deferred[JobRecord]:
        return self._answer(("get", job_id), self.records.get(job_id))

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> Deferred[JobRecord]:
        return self._answer(("stop", job_id, grace), self.records.get(job_id))

    def watch(self, received: Any, job_ids: Any = (), labels: Any = None, *, timeout: Any = None) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        self.watches.append((received, ended))
        ended.addBoth(self._unwatched, received)
        for one in self.records.values():
            received(one)
        return ended

    def follow(
        self,
        job_id: str,
        received: Any,
        offset: int = 0,
        *,
        stderr: bool = False,
        tail: int | None = None,
        live: bool = True,
        lease: float | None = None,
    ) -> Deferred[None]:
        self.asked.append(("follow", job_id, offset, live))
        if self.problem is not None:
            return fail(self.problem)
        ended: Deferred[None] = Deferred(lambda _: None)
        try:
            if self.output[offset:]:
                received(self.output[offset:])
        except Exception as error:  # whatever the receiver raises
            ended.errback(error)
            return ended
        if live:
            self.followings.append((received, ended))
        else:
            ended.callback(None)
        return ended

    def close(self) -> Deferred[None]:
        self.closed = True
        for _, ended in self.followings if self.when_closed is not None else []:
            if not ended.called:  # it was cancelled
                ended.errback(self.when_closed)
        return succeed(None)

    def _answer(self, call: tuple[Any, ...], answer: Any) -> Deferred[Any]:
        self.asked.append(call)
        problem = self.problems.get(call[0], self.problem)
        return succeed(answer) if problem is None else fail(problem)

    def _unwatched(self, result: Any, received: Any) -> Any:
        self.watches = [one for one in self.watches if one[0] is not received]
        return result


class Answer:
    """What the server has sent for one request, until now."""

    def __init__(self, transport: StringTransport) -> None:
        self._transport = transport

    @property
    def _parts(self) -> tuple[bytes, bytes]:
        head, _, body = self._transport.value().partition(b"\r\n\r\n")
        return head, body

    @property
    def status(self) -> int:
        """The status of the answer."""
        return int(self._parts[0].split()[1])

    @property
    def headers(self) -> dict[str, str]:
        """With lower-case names."""
        lines = self._parts[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        """What came so far."""
        body = self._parts[1]
        if self.headers.get("transfer-encoding") != "chunked":
            return body
        data = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            data += rest[: int(size, 16)]
            body = rest[int(size, 16) + 2 :]
        return data

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def events(self, name: str = "") -> list[Any]:
        """The data of each event of that name, or of every one as (name, id, data)."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
            if "event" in fields:
                found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
        return [data for event, _, data in found if event == name] if name else found


class FakeBrowser:
    """A page of some workers, and requests to it over a transport in memory."""

    def __init__(self, *names: str, allow_stop: bool = False) -> None:
        self.clock = Clock()
        self.jobs, self.samples = JobTable(), Samples()
        self.clients = {name: FakeClient() for name in names or ("w",)}
        access = Access(allow_stop)
        self.links = [
            WorkerLink(
                self.clock,
                PageWorker(name, f"{name}:1"),
                client,  # type: ignore[arg-type]  # as far as the page uses it; test_fakes.py compares them
                self.jobs,
                self.samples,
                self.now,
            )
            for name, client in self.clients.items()
        ]
        routes = Routes(self.clock, self.now, self.links, self.jobs, self.samples, access)
        self.streams = routes.streams
        guard = Guard({"localhost", "127.0.0.1", "::1", "jobs.example"})
        resource = PageResource(guard, access, static_files(), routes.seen, routes.changes)
        self.site = Site(resource, reactor=self.clock)
        self.transports: list[StringTransport] = []
        self.channels: list[Any] = []

    @property
    def client(self) -> FakeClient:
        """The only worker's."""
        return next(iter(self.clients.values()))

    def now(self) -> float:
        """The time of day."""
        return NOW + self.clock.seconds()

    def start(self) -> None:
        """Connect to the workers."""
        for link in self.links:
            link.start()

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """A request; underscores in the names of headers are hyphens. "" leaves a header out."""
        sent = {"Host": "localhost:1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        channel: Any = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transports.append(transport)
        self.channels.append(channel)
        return Answer(transport)

    def get(self, path: str, **headers: str) -> Answer:
        """A GET."""
        return self.send("GET", path, b"", **headers)

    def leave(self, number: int = -1) -> None:
        """The browser closes that connection."""
        self.channels[number].connectionLost(Failure(ConnectionDone()))

    def after(self, seconds: float, step: float = 0.05) -> None:
        """Time passes."""
        self.clock.pump([step] * round(seconds / step))
