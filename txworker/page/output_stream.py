"""
Streams a job's output to one browser as it is written, from an offset on: as fast as the browser takes it, but no
faster than a person can use. A viewer that is far behind is told to skip; its browser fetches the parts that it shows.
"""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.client import NoSuchJob, OffsetBeyondEnd, OutOfResources, OutputGone, Unreachable, WorkerError
from txworker.page.event_stream import EventStream
from txworker.page.output_reading import Batch, Enough, output_size, until_enough
from txworker.page.worker_link import WorkerLink, sentence_of

FLUSH_SECONDS = 0.05
MOST_BATCH = 128 * 2**10
"""Output is sent when it has waited for that long, or when there are that many bytes."""

BUDGET_BYTES = 2 * 2**20
"""The most bytes that are sent in a second."""

MOST_BEHIND = 2**20
"""A viewer that is further behind when a second's budget is spent skips to the end."""

KEPT_BYTES = 128 * 2**10
"""How much before the end it goes on then; a viewer that names no offset begins there, too."""

RETRY_SECONDS = 1.0


class OutputStream:
    """
    Sends "output" (offset, base64), "skip" (offset) and "waiting" (a sentence: why there is none yet); at last "end"
    (offset) or "lost" (a sentence).
    """

    _log = Logger()

    def __init__(
        self, stream: EventStream, clock: Clock, link: WorkerLink, job_id: str, offset: int | None, stderr: bool
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._client = link.client
        self._link = link
        self._job_id = job_id
        self._stderr = stderr
        self._offset = offset
        self._batch = Batch(offset or 0, self._send)
        self._budget = BUDGET_BYTES
        self._timer: Timer | None = None
        self._readable: Deferred[None] | None = None
        stream.resumed = self._resumed
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._failed)
        stream.on_end(self._end)

    async def _run(self) -> None:
        while not self._stream.over:
            try:
                if self._offset is None:
                    self._skip(max(0, await self._size() - KEPT_BYTES))
                if not await self._follow():
                    self._stream.send("end", self._batch.position)
                    return
                await self._let_catch_up()
            except OffsetBeyondEnd:  # noqa: PERF203  # each turn is an attempt
                await self._skip_back()
            except (NoSuchJob, OutputGone) as error:
                self._stream.send("lost", sentence_of(error))
                return
            except OutOfResources as error:  # the worker has no room for another stream
                self._stream.send("waiting", sentence_of(error))
                await self._sleep(RETRY_SECONDS)
            except Unreachable:
                await self._sleep(RETRY_SECONDS)

    async def _follow(self) -> bool:
        """Send output until the browser or the budget takes no more (True), or until the job is done (False)."""
        try:
            following = self._client.follow(self._job_id, self._received, self._batch.position, stderr=self._stderr)
            return await until_enough(following)
        finally:
            self._flush()

    def _received(self, piece: bytes) -> None:
        self._batch.add(piece)
        self._budget -= len(piece)
        if self._batch.size >= MOST_BATCH:
            self._flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self._flush_late)
        if self._budget <= 0 or self._stream.paused or self._stream.over:
            raise Enough

    async def _let_catch_up(self) -> None:
        """Wait until the browser takes more and a second has passed; then skip what it has missed, if that is a lot."""
        if self._stream.paused and not self._stream.over:
            self._readable = Deferred()
            await self._readable
        await self._sleep(1.0)
        self._budget = BUDGET_BYTES
        size = await self._size()
        if size - self._batch.position > MOST_BEHIND:
            self._skip(size - KEPT_BYTES)

    async def _skip_back(self) -> None:
        """To the end, which is before the position; where that is not so, the file was cut, and may be put right."""
        size = await self._size()
        if size == self._batch.position:
            await self._sleep(RETRY_SECONDS)
        else:
            self._skip(size)

    def _skip(self, offset: int) -> None:
        self._offset = offset
        self._batch = Batch(offset, self._send)
        self._stream.send("skip", offset, id=offset)

    async def _size(self) -> int:
        record = await self._client.get(self._job_id)
        self._link.learn(record)
        return await output_size(self._client, record, self._stderr)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush_late()

    def _flush_late(self) -> None:
        self._timer = None
        self._batch.flush()

    def _send(self, offset: int, data: bytes) -> None:
        event = {"offset": offset, "data": base64.b64encode(data).decode()}
        self._stream.send("output", event, id=offset + len(data))

    def _resumed(self) -> None:
        if self._readable is not None and not self._readable.called:
            self._readable.callback(None)

    async def _sleep(self, seconds: float) -> None:
        over: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, over.callback, None)
        await over

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._running.cancel()

    def _failed(self, failure: Failure) -> Any:
        if failure.check(CancelledError):
            return
        if failure.check(WorkerError):
            self._stream.send("lost", sentence_of(failure.value))
            return
        self._log.failure("Following the output of job {job_id} failed", failure=failure, job_id=self._job_id)
        self._stream.send("lost", "the page has failed; its log says how")
