"""
A user's program, which is type-checked and never run: mypy --strict has no errors in it.

The lines with `type: ignore` are mistakes that a type checker finds; mypy says so where one is not found.
"""

from __future__ import annotations

import math
from contextlib import aclosing, closing

from twisted.internet.defer import Deferred

from txworker.client import (
    TLS,
    AsyncClient,
    AsyncJob,
    Client,
    Job,
    JobRecord,
    JobResult,
    JobState,
    Limits,
    StartDetails,
    WorkerError,
)
from txworker.client.tx import TwistedClient

DETAILS: StartDetails = {"labels": {"night": "1"}, "limits": Limits(max_open_files=64), "timeout": 3.5, "lease": 30}


def blocking() -> tuple[int, str]:
    """Everything that a program does with a Client."""
    told: list[str] = []
    with Client("worker:30000", tls=TLS(ca="ca.pem"), patience=math.inf, tell=told.append) as worker:
        job: Job = worker.start("python3", "report.py", args=["--all"], env={"A": "b"}, stdin=b"")
        worker.start("bash", tty=(24, 80)).resize(50, 132)
        with open("data", "rb") as file:
            taken: int = job.feed(file) + job.feed([b"a", b"b"], end=False) + worker.feed(job.id, bytearray(b"c"))
        with closing(job.follow(tail=10)) as chunks:
            printed: bytes = b"".join(chunks)
        text: str = "".join(worker.job(job.id).text())
        records: list[JobRecord] = [*worker.jobs([JobState.RUNNING], {"night": "1"}), *worker.watch([job.id])]
        states: set[JobState] = {record.state for record in [*records, worker.get(job.id), job.stop(wait=True)]}
        try:
            result: JobResult = job.wait(timeout=5)
        except (WorkerError, TimeoutError) as error:
            return len(printed), getattr(error, "reason", text)
        with worker.renewing(job.id, job.lease):
            gone: list[str] = worker.renew([job.id, *(record.id for record in records)])
        seconds: float = result.usage.user_cpu
        ran, output = worker.run("true", **DETAILS)
        return ran.exit_status + len(output) + len(states) + len(gone) + int(seconds) + taken, result.error_text


def mistakes(worker: Client, twisted: TwistedClient) -> None:
    """What a type checker finds before the worker does."""
    worker.start("x", lables={})  # type: ignore[call-arg]
    worker.start("x", labels={"night": 1})  # type: ignore[dict-item]
    worker.run("x", timeout="5s")  # type: ignore[arg-type]
    worker.start()  # type: ignore[call-arg]
    worker.wait("x").exitcode  # type: ignore[attr-defined]  # noqa: B018
    twisted.start("x", lables={})  # type: ignore[call-arg]


async def in_a_loop() -> int:
    """The same in asyncio."""
    async with AsyncClient() as worker:
        job: AsyncJob = await worker.start("true", **DETAILS)
        async with aclosing(job.follow()) as chunks:
            lengths: list[int] = [len(data) async for data in chunks]
        text: list[str] = [piece async for piece in job.text()]
        records: list[JobRecord] = [record async for record in worker.watch([job.id], timeout=1)]
        await worker.start("x", lables={})  # type: ignore[call-arg]
        return sum(lengths) + len(text) + len(records) + (await job.wait()).exit_status


def in_twisted(reactor: object) -> Deferred[JobResult]:
    """The same in Twisted."""
    worker = TwistedClient(reactor, "unix:/run/worker.sock", patience=5)
    chunks: list[bytes] = []
    started: Deferred[str] = worker.start("true", args=["a"])
    started.addCallback(lambda job_id: worker.follow(job_id, chunks.append))
    return worker.wait("1", timeout=2)
