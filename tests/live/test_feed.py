"""FeedJob against a real worker: what comes is what was sent, waiting ends, and one call at a time feeds a job."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.live.test_bad_requests import refused
from tests.live.test_takeover import Again, again
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_bare_pb2_grpc import WorkerStub as BareStub

__all__ = ["again"]

BLOCK = 256 * 1024
Code = grpc.StatusCode


class Requests:
    """The requests of a call, which the test sends one by one."""

    def __init__(self, *messages: pb.FeedJobReq) -> None:
        self._messages = list(messages)
        self._changed = threading.Condition()
        self._over = False

    def send(self, *messages: pb.FeedJobReq) -> None:
        with self._changed:
            self._messages += messages
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def __iter__(self) -> Iterator[pb.FeedJobReq]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._over, LIMIT)
                if not self._messages:
                    return
                message = self._messages.pop(0)
            yield message


def blocks(job_id: str, data: bytes, end: bool = True) -> Iterator[pb.FeedJobReq]:
    """Those bytes in messages."""
    yield pb.FeedJobReq(jobID=job_id)
    for begin in range(0, len(data), BLOCK):
        yield pb.FeedJobReq(data=data[begin : begin + BLOCK])
    if end:
        yield pb.FeedJobReq(end=True)


def feed(daemon: Daemon, *messages: pb.FeedJobReq) -> tuple[int, int]:
    """The answer to those messages: taken, total."""
    answer = daemon.stub.FeedJob(iter(messages), timeout=LIMIT)
    return answer.taken, answer.total


def feed_once_free(daemon: Daemon, *messages: pb.FeedJobReq) -> tuple[int, int]:
    """The answer to those messages, as soon as the worker has seen that the call before is over."""
    answers: list[tuple[int, int]] = []

    def has_answered() -> bool:
        try:
            answers.append(feed(daemon, *messages))
        except grpc.RpcError as error:
            code: Any = error  # a Call, too
            if code.code() not in (Code.ABORTED, Code.RESOURCE_EXHAUSTED):
                raise
        return bool(answers)

    wait_until(has_answered)
    return answers[0]


def test_more_than_a_request_holds(daemon: Daemon) -> None:
    """Many megabytes arrive to the byte, behind those of the request; the answer counts them."""
    first, data = os.urandom(100_000), os.urandom(20_000_000)
    job_id = daemon.start("sha256sum", feed=True, stdin=first)
    answer = daemon.stub.FeedJob(blocks(job_id, data), timeout=LIMIT)
    assert (answer.taken, answer.total) == (len(data), len(data))
    assert daemon.raw(job_id).split()[0].decode() == hashlib.sha256(first + data).hexdigest()
    code, reason, _ = refused(lambda: feed(daemon, pb.FeedJobReq(jobID=job_id, data=b"late")))
    assert (code, reason) == (Code.FAILED_PRECONDITION, "JOB_NOT_RUNNING")


def test_several_calls(daemon: Daemon) -> None:
    """One after another they go on; the total tells where; under the other name of the service, too."""
    job_id = daemon.start("cat", feed=True)
    assert feed(daemon, pb.FeedJobReq(jobID=job_id, data=b"one ")) == (4, 4)
    answer = BareStub(daemon.channel).FeedJob(iter([pb.FeedJobReq(jobID=job_id, data=b"two")]), timeout=LIMIT)
    assert (answer.taken, answer.total) == (3, 7)
    assert feed(daemon, pb.FeedJobReq(jobID=job_id)) == (0, 7)
    assert feed(daemon, pb.FeedJobReq(jobID=job_id, end=True)) == (0, 7)
    assert daemon.raw(job_id) == b"one two"


def test_refused(daemon: Daemon) -> None:
    """A job without feed, a second call, and messages that are wrong; what was taken before stays."""
    plain = daemon.start("sleep", "1000")
    code, reason, sentence = refused(lambda: feed(daemon, pb.FeedJobReq(jobID=plain, data=b"x")))
    assert (code, reason) == (Code.FAILED_PRECONDITION, "NOT_FED")
    assert plain in sentence
    job_id = daemon.start("cat", feed=True)
    requests = Requests(pb.FeedJobReq(jobID=job_id, data=b"x"))
    call = daemon.stub.FeedJob.future(iter(requests), timeout=LIMIT)
    wait_until(lambda: daemon.query(job_id).job.outputBytes == 1)
    code, reason, sentence = refused(lambda: feed(daemon, pb.FeedJobReq(jobID=job_id)))
    assert (code, reason) == (Code.ABORTED, "FEED_IN_PROGRESS")
    requests.send(pb.FeedJobReq(jobID=plain))
    assert refused(call.result)[:2] == (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    large = pb.FeedJobReq(jobID=job_id, data=bytes(1024 * 1024 + 1))
    assert refused(lambda: feed(daemon, large))[:2] == (Code.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert feed(daemon, pb.FeedJobReq(jobID=job_id, data=b"y", end=True)) == (1, 2)
    assert daemon.raw(job_id) == b"xy"
    daemon.stub.StopJob(pb.StopJobReq(jobID=plain))


def test_not_read(daemon: Daemon) -> None:
    """A job that does not read makes the call wait, and nothing else; a client that leaves ends the waiting."""
    job_id = daemon.bash("head -c 1; exec sleep 1000", feed=True)
    call = daemon.stub.FeedJob.future(blocks(job_id, bytes(5_000_000)), timeout=LIMIT)
    wait_until(lambda: daemon.query(job_id).job.outputBytes == 1)  # the first block is there
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.3)
    assert daemon.end(daemon.start("echo", "beside")).done
    call.cancel()
    assert feed_once_free(daemon, pb.FeedJobReq(jobID=job_id)) == (0, BLOCK)
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))
    assert daemon.end(job_id).job.state == pb.JOB_STATE_STOPPED


def test_job_ends(daemon: Daemon) -> None:
    """A call is answered when the job closes its stdin or ends, whether it waits for room or for its client."""
    for script, data in (("head -c 3; exec <&-; sleep 1000", b"a" * 100), ("head -c 3", b"b" * 5_000_000)):
        job_id = daemon.bash(script, feed=True)
        requests = Requests(*blocks(job_id, data, end=False))  # and then it is idle
        answer = daemon.stub.FeedJob(iter(requests), timeout=LIMIT)
        assert 3 <= answer.taken <= 3 + 65536 + BLOCK  # a block that waits for room when the job ends is counted whole
        wait_until(lambda job_id=job_id: daemon.query(job_id).job.outputBytes == 3)  # type: ignore[misc]
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))
        requests.end()


@pytest.mark.slow
def test_worker_killed(a_daemon: Callable[..., Daemon], again: Again) -> None:  # the fixture
    """
    A feeding client gets UNAVAILABLE. The next worker knows the total, behind which the client goes on: the job gets
    each byte once.
    """
    worker = a_daemon()
    data = os.urandom(3_000_000)
    job_id = worker.bash("head -c 100000 | cat; until [ -e go ]; do sleep 0.02; done; cat", feed=True)
    call: Any = worker.stub.FeedJob.future(blocks(job_id, data), timeout=LIMIT)
    wait_until(lambda: worker.query(job_id).job.outputBytes >= 100_000)
    worker.stop(signal.SIGKILL)
    with pytest.raises(grpc.RpcError) as caught:
        call.result(timeout=LIMIT)
    error: Any = caught.value  # a Call, too
    assert error.code() is Code.UNAVAILABLE
    after = again(worker)
    _, total = feed(after, pb.FeedJobReq(jobID=job_id))
    assert 100_000 < total < len(data)
    (worker.place / "go").touch()
    answer = after.stub.FeedJob(blocks(job_id, data[total:]), timeout=LIMIT)
    assert (answer.taken, answer.total) == (len(data) - total, len(data))
    assert after.raw(job_id) == data


def test_ceiling(a_daemon: Callable[..., Daemon]) -> None:
    """A call takes one of the places for streams, and gives it back."""
    worker = a_daemon(server="max_streams = 1")
    job_id = worker.start("cat", feed=True)
    requests = Requests(pb.FeedJobReq(jobID=job_id, data=b"x"))
    call = worker.stub.FeedJob.future(iter(requests), timeout=LIMIT)
    wait_until(lambda: worker.query(job_id).job.outputBytes == 1)
    code, reason, _ = refused(lambda: feed(worker, pb.FeedJobReq(jobID=job_id)))
    assert (code, reason) == (Code.RESOURCE_EXHAUSTED, "MAX_STREAMS")
    requests.end()
    assert call.result().total == 1
    assert feed_once_free(worker, pb.FeedJobReq(jobID=job_id, end=True)) == (0, 1)


@pytest.mark.slow
def test_without_a_shim(a_daemon: Callable[..., Daemon]) -> None:
    """The same where the reactor runs the jobs."""
    worker = a_daemon("[jobs]\nshim = false")
    first, data = os.urandom(100_000), os.urandom(5_000_000)
    job_id = worker.start("sha256sum", feed=True, stdin=first)
    assert worker.stub.FeedJob(blocks(job_id, data), timeout=LIMIT).taken == len(data)
    assert worker.raw(job_id).split()[0].decode() == hashlib.sha256(first + data).hexdigest()
