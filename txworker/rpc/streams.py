"""A job's output on its way to one viewer, in one thread: what is there, then what comes, until the job is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from txworker.jobs import Job
from txworker.jobs.errors import InvalidRequest, NoSuchJob, OffsetBeyondEnd, OutOfResources
from txworker.output.tail import Tail, TextDecoder
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller
from txworker.worker import Worker


class StreamSlots:
    """How many streams may be open at once: each holds a thread, and other calls need theirs. Any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """
        One more stream.

        Raises:
            OutOfResources: the ceiling is reached.
        """
        with self._lock:
            if self._open >= self._most:
                raise OutOfResources(f"grpc_server.max_streams: {self._most} streams are open already", "MAX_STREAMS")
            self._open += 1

    def give_back(self) -> None:
        """One stream is over."""
        with self._lock:
            self._open -= 1


def job_of(worker: Worker, request: pb.StreamJobReq) -> Job:
    """
    The job that a request means.

    Raises:
        InvalidRequest: a number in it cannot be meant, or it asks for a stderr that is not kept apart.
        NoSuchJob: there is none.
    """
    if request.offset < 0:
        raise InvalidRequest("offset", request.offset, "is negative")
    if request.tailLines < 0:
        raise InvalidRequest("tailLines", request.tailLines, "is negative")
    if request.offset and request.tailLines:
        raise InvalidRequest("tailLines", request.tailLines, "cannot go with an offset: give one of them")
    if not request.jobID and not request.path:
        raise InvalidRequest("jobID", "", "and path are both empty: there is nothing to stream")
    job = worker.get(request.jobID) if request.jobID else worker.find(request.path)
    if request.stderr and not job.spec.separate_stderr:
        raise InvalidRequest(
            "stderr", True, f"of job {job.id!r} is not kept apart: it was started without separateStderr"
        )
    return job


def stream(worker: Worker, caller: Caller, job_id: str, request: pb.StreamJobReq) -> Iterator[pb.StreamJobRes]:
    """
    The messages of one stream. Any thread but the reactor's.

    Raises:
        OffsetBeyondEnd: the job is done and printed less than `offset` bytes.
        CallerGone: the viewer left.
    """
    try:
        tail = Tail(worker.output_path(job_id, request.stderr))
    except FileNotFoundError as error:
        raise NoSuchJob(job_id) from error
    except OSError as error:
        raise OutOfResources(f"the output of job {job_id!r} cannot be read: {error}") from error
    with tail:
        offset = tail.lines_back(request.tailLines) if request.tailLines else request.offset
        encode = _raw if request.raw else _Text(offset)
        for block, position, final in _blocks(worker, caller, job_id, tail, offset, request):
            message = encode(block, position, final)
            if message is not None:
                yield message


def _blocks(
    worker: Worker, caller: Caller, job_id: str, tail: Tail, offset: int, request: pb.StreamJobReq
) -> Iterator[tuple[bytes, int, bool]]:
    """Each block with its offset; last an empty one, `final` when the job will print nothing more."""
    while True:
        done = worker.get(job_id).done  # before the end of the file is looked for: what it printed is there by then
        end = tail.size if request.noFollow and not done else None
        for block in tail.blocks(offset, end):
            yield block, offset, False
            offset += len(block)
        if done and offset > tail.size:
            raise OffsetBeyondEnd(job_id, offset, tail.size)
        if done or request.noFollow:
            yield b"", offset, done
            return
        caller.call(lambda beyond=offset: worker.more_output(job_id, beyond, request.stderr))  # type: ignore[misc]


def _raw(block: bytes, offset: int, final: bool) -> pb.StreamJobRes | None:
    return pb.StreamJobRes(data=block, offset=offset) if block else None


class _Text:
    def __init__(self, offset: int) -> None:
        self._decoder = TextDecoder(offset)

    def __call__(self, block: bytes, offset: int, final: bool) -> pb.StreamJobRes | None:
        text, first = self._decoder.decode(block, final)
        return pb.StreamJobRes(output=text, offset=first) if text else None
