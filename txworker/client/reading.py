"""The position of a reader of output, or of changes: what to ask for next after a lost connection. No I/O."""

from __future__ import annotations

import codecs
from collections import OrderedDict

from txworker.client.parameters import TRUE_OR_FALSE, WHOLE_NUMBER, check_type, parameter
from txworker.client.requests import id_of
from txworker.client.values import JobRecord, record_of
from txworker.pb import worker_pb2 as pb


class Reading:
    """
    One reader of a job's output. After any number of lost connections every byte is taken exactly once.

    tail: begin that many lines before the current end; 0: only what comes from now on. live: go on until the job
    is done, not only to the end of what is there.
    """

    def __init__(
        self, job_id: str, offset: int = 0, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> None:
        check_type("live", TRUE_OR_FALSE, live, int)
        self._request = pb.StreamJobReq(jobID=id_of(job_id), raw=True, noFollow=not live)
        with parameter("offset", WHOLE_NUMBER, offset):
            self._request.offset = offset
        with parameter("stderr", TRUE_OR_FALSE, stderr):
            self._request.stderr = stderr
        with parameter("tail", WHOLE_NUMBER, tail):
            self._request.tailLines = 0 if tail is None else tail
        self._request.fromEnd = tail == 0

    @property
    def position(self) -> int:
        """The offset of the next byte."""
        return self._request.offset

    def request(self) -> pb.StreamJobReq:
        """The request that continues where the reader is."""
        return self._request

    def take(self, message: pb.StreamJobRes) -> bytes:
        """The bytes of a message that the reader does not have yet."""
        request = self._request
        if request.tailLines or request.fromEnd:  # the first message tells where the reader is
            request.offset, request.tailLines, request.fromEnd = message.offset, 0, False
        known = max(0, request.offset - message.offset)
        data = message.data[known:]
        request.offset += len(data)
        return data


MOST_KNOWN = 100_000
"""How many finished jobs a reader of changes remembers, about 20 MB: it may read for months."""


class Changes:
    """
    One reader of jobs' changes. After a lost connection only what has changed meanwhile is told again, and of more than
    `most` finished jobs those that were told first.
    """

    def __init__(self, request: pb.WatchJobsReq, most: int = MOST_KNOWN) -> None:
        self._request = request
        self._most = most
        self._unfinished: dict[str, int] = {}
        self._done: OrderedDict[str, int] = OrderedDict()

    def request(self) -> pb.WatchJobsReq:
        """The request that continues where the reader is."""
        return self._request

    def take(self, event: pb.JobEvent) -> JobRecord | None:
        """The record of an event; None if it was reported before."""
        job = event.job
        content = hash(job.SerializeToString(deterministic=True))
        if content in (self._unfinished.get(job.jobID), self._done.get(job.jobID)):
            return None
        record = record_of(job)
        self._unfinished.pop(job.jobID, None)
        (self._done if record.done else self._unfinished)[job.jobID] = content
        if len(self._done) > self._most:
            self._done.popitem(last=False)
        return record


def decoder() -> codecs.IncrementalDecoder:
    """Decodes pieces that may end within a character; invalid UTF-8 becomes U+FFFD."""
    return codecs.getincrementaldecoder("utf-8")("replace")
