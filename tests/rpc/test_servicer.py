"""StartJob: what it tells of a traced request, and a user that is another one now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import JobSpec
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Bridge
from txworker.rpc.servicer import WorkerServicer
from txworker.worker.policy import Policy


class SameThread(Clock):
    """A reactor whose thread is the test's."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        callable(*args)


class Aborted(Exception):
    """The call has ended with a status."""


class FakeTracer:
    """Traces jobs; `begun` is called when a job's span begins."""

    def __init__(self) -> None:
        self.begun: Callable[[], None] = lambda: None
        self.dropped: list[JobSpec] = []
        self.traced: list[JobSpec] = []

    def call(self, *call: Any) -> Any:
        raise NotImplementedError

    def job(self, spec: JobSpec) -> JobSpec:
        self.traced.append(spec)
        self.begun()
        return spec

    def not_submitted(self, spec: JobSpec) -> None:
        self.dropped.append(spec)


class StartJobTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tracer = FakeTracer()
        self.fixture = worker_fixture()
        reactor: Any = SameThread()
        self.bridge = Bridge(reactor)
        self.servicer = WorkerServicer(
            self.fixture.worker, self.bridge, mock.Mock(), ["root"], lambda kind: False, tracer=self.tracer
        )
        self.context: Any = mock.Mock()
        self.context.time_remaining.return_value = None
        self.context.abort_with_status.side_effect = Aborted

    def start(self) -> None:
        self.servicer.StartJob(pb.StartJobReq(command="true"), self.context)

    def test_submitted(self) -> None:
        """The span of a job that was submitted is the observer's affair."""
        self.start()
        self.assertEqual((1, []), (len(self.tracer.traced), self.tracer.dropped))

    def test_the_user_changed(self) -> None:
        """A repeated request may name the user that its job was started as; a new one or a wrong name is refused."""
        self.fixture.worker.set_policy(Policy(0, 10, user="then"))
        job = self.successResultOf(self.fixture.worker.submit(JobSpec("true", request_id="before")))

        def start(request_id: str, user: str) -> str:
            request = pb.StartJobReq(command="true", requestID=request_id, user=user)
            return self.servicer.StartJob(request, self.context).jobID

        self.assertEqual([job.id] * 3, [start("before", user) for user in ("", "root", "then")])
        for refused in (("before", "another"), ("new", "then"), ("", "then")):
            self.assertRaises(Aborted, start, *refused)

    def test_caller_that_leaves_before(self) -> None:
        """A request that never reaches the worker, since its client leaves or the worker stops, has no job's span."""

        def leave() -> None:
            self.context.add_callback.call_args.args[0]()

        for begun in (leave, self.bridge.close):
            self.tracer.begun = begun
            self.assertRaises(Aborted, self.start)
        self.assertEqual((2, self.tracer.traced), (len(self.tracer.traced), self.tracer.dropped))
        self.assertEqual({}, self.fixture.launcher.running)
