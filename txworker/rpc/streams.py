"""Sends a job's output to one viewer, in one thread: what exists, then what is written, until the job is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from txworker.jobs import Job
from txworker.jobs.errors import InvalidRequest, OffsetBeyondEnd, OutOfResources, OutputGone
from txworker.output.tail import Tail, TextDecoder
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller
from txworker.rpc.followers import Follower
from txworker.rpc.output_check import OutputCheck
from txworker.rpc.wire.blocks import raw_message, text_message
from txworker.worker.catalog import Catalog

Encode = Callable[[bytes, int, bool], bytes]
"""(block, its offset, whether it is the last): a serialized message; empty: more bytes are needed for one."""


def job_of(catalog: Catalog, request: pb.StreamJobReq) -> Job:
    """
    The job that a request names.

    Raises:
        InvalidRequest: a field is invalid, or the job has no separate stderr.
        NoSuchJob: there is no such job.
    """
    if request.offset < 0:
        raise InvalidRequest("offset", request.offset, "is negative")
    if request.tailLines < 0:
        raise InvalidRequest("tailLines", request.tailLines, "is negative")
    if request.offset and request.tailLines:
        raise InvalidRequest("tailLines", request.tailLines, "cannot go with an offset: give one of them")
    if request.fromEnd and (request.offset or request.tailLines):
        raise InvalidRequest("fromEnd", True, "cannot go with an offset or tailLines: give one of them")
    if not request.jobID and not request.path:
        raise InvalidRequest("jobID", "", "and path are both empty: there is nothing to stream")
    job = catalog.get(request.jobID) if request.jobID else catalog.find(request.path)
    if request.stderr and not job.spec.separate_stderr:
        raise InvalidRequest(
            "stderr", True, f"of job {job.id!r} is not kept apart: it was started without separateStderr"
        )
    return job


def stream(catalog: Catalog, caller: Caller, job_id: str, request: pb.StreamJobReq) -> Iterator[bytes]:
    """
    The messages of one stream, serialized. Any thread but the reactor's.

    Raises:
        OffsetBeyondEnd: the job is done and printed less than `offset` bytes.
        OutputGone: the file was deleted, cut or replaced, and the viewer wants what was lost.
        OutOfResources: the file cannot be read.
        CallerGone: the viewer left.
    """
    try:
        yield from _stream(catalog, caller, job_id, request)
    except OSError as error:
        raise OutOfResources(f"the output of job {job_id!r} cannot be read: {error}") from error


def _stream(catalog: Catalog, caller: Caller, job_id: str, request: pb.StreamJobReq) -> Iterator[bytes]:
    caller.check()  # the client may have left while the call waited for a thread
    tail = _open(catalog, job_id, request)
    check = OutputCheck(catalog, job_id, request.stderr, tail)
    topic = (job_id, request.stderr)
    with tail, caller.following(topic, lambda beyond: catalog.more_output(job_id, beyond, request.stderr)) as follower:
        offset = _first_offset(tail, check, request, caller)
        encode = _raw if request.raw else _Text(offset)
        output = _Output(catalog, job_id, request.stderr, request.noFollow, tail, check, follower)
        yield from output.messages(offset, encode)


def _open(catalog: Catalog, job_id: str, request: pb.StreamJobReq) -> Tail:
    """The output's file. With fromEnd an empty one if it is gone: what the job prints next is in a new one."""
    try:
        return Tail(catalog.open_output(job_id, request.stderr))
    except OutputGone:
        if not request.fromEnd:
            raise
        return Tail(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _first_offset(tail: Tail, check: OutputCheck, request: pb.StreamJobReq, caller: Caller) -> int:
    if request.fromEnd:
        return check.end
    if request.tailLines:
        return check.after_losses(tail.lines_back(request.tailLines, check.end, caller.check))
    return request.offset


@dataclass(frozen=True)
class _Output:
    """One output of a job, and the viewer that follows it."""

    catalog: Catalog
    job_id: str
    stderr: bool
    no_follow: bool
    tail: Tail
    check: OutputCheck
    follower: Follower

    def messages(self, offset: int, encode: Encode) -> Iterator[bytes]:
        """
        The output from that offset on, each block as encode() makes a message of it, until the job is done, or to the
        end of what is there.

        Raises what the check and the follower raise: OutputGone, CallerGone, WorkerStopping.
        """
        while True:
            recorded = self.catalog.recorded(self.job_id, self.stderr)
            job = self.catalog.get(self.job_id)  # before the end of the file is read: a done job's file is complete
            end = self.tail.size if self.no_follow and not job.done else None
            while self.check.may_have(offset) and (block := self.check.checked(offset, self.tail.read(offset, end))):
                message = encode(block, offset, False)
                offset += len(block)
                del block  # while a slow viewer reads, there is one copy, not two
                self.follower.pass_on()
                if message:
                    yield message
                    del message
            if self.check.switched_file(offset, recorded, job):
                continue
            if job.done and offset > self.check.end:
                raise OffsetBeyondEnd(self.job_id, offset, self.check.end)
            if job.done or self.no_follow:
                yield from filter(None, [encode(b"", offset, job.done)])
                return
            self.follower.wait(min(offset, recorded))  # an offset beyond the end must not raise the group's level


def _raw(block: bytes, offset: int, final: bool) -> bytes:
    return raw_message(block, offset) if block else b""


class _Text:
    def __init__(self, offset: int) -> None:
        self._decoder = TextDecoder(offset)

    def __call__(self, block: bytes, offset: int, final: bool) -> bytes:
        text, first = self._decoder.decode(block, final)
        return text_message(text, first) if text else b""
