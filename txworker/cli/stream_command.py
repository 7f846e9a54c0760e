"""`txworker stream` and `txworker logs`. Both return the exit status."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from queue import Empty, Queue
from typing import Any

from txworker.base.standard_streams import STDOUT
from txworker.cli import console
from txworker.cli.colours import name_of_job
from txworker.cli.connect import with_tls
from txworker.cli.failures import Failed, failure
from txworker.cli.formatting import SHORT_ID
from txworker.cli.named_jobs import for_each
from txworker.cli.since import Printed, cannot_tell, printed_since
from txworker.client import Client, JobRecord, NoSuchJob, WorkerError

_LONGEST_LINE = 2**16
"""A longer line of one of several jobs is split."""

_MOST_WAITING = 100
"""How many lines of several jobs may be read and not yet written."""


def stream(client: Client, options: argparse.Namespace) -> int:
    """
    Copy a job's output to stdout; of several jobs at once, with the job's short id before each line.

    With --since, that of jobs which were not done by then; where it cannot be told which bytes are newer, a sentence
    says so, and all are copied.
    """
    console.check_open()
    records: dict[str, JobRecord] = {}

    def find_record(word: str) -> None:
        record = _job_or_path(client, word)
        records[record.id] = record

    status = for_each(options, options.jobs, find_record)
    ids = [record.id for record in records.values() if _is_meant(options, record)]
    if len(options.jobs) == 1:
        for job_id in ids:
            console.copy(_output(client, options, job_id), STDOUT)
        return status
    merged = Merged(options, {job_id: _output(client, options, job_id) for job_id in ids})
    with closing(merged.lines()) as lines:
        console.copy(lines, STDOUT)
    return max(status, merged.status)


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes as whole lines; the last one gets its end, and so does a part of a very long one."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > _LONGEST_LINE:
            yield rest + b"\n"
            rest = b""
    if rest:
        yield rest + b"\n"


def _output(client: Client, options: argparse.Namespace, job_id: str) -> Iterator[bytes]:
    job = client.job(job_id)
    how: dict[str, Any] = {"stderr": options.stderr, "tail": options.tail, "live": options.follow}
    if options.text:
        return (text.encode() for text in job.text(options.offset, **how))
    return job.follow(options.offset, **how)


def _job_or_path(client: Client, name: str) -> JobRecord:
    """The job with an id that begins with this, or else the newest job that was started with that path."""
    try:
        return client.get(name)
    except NoSuchJob:
        for record in client.jobs():
            if record.path == name:
                return record
        raise


def _is_meant(options: argparse.Namespace, job: JobRecord) -> bool:
    """Whether some of the job's output may be newer than --since."""
    if options.since is None:
        return True
    printed = printed_since(job, options.since)
    if printed is Printed.UNKNOWN:
        console.print_error(cannot_tell(job, options.since))
    return printed is not Printed.NOTHING


class Merged:
    """The output of several jobs, line by line as it comes. `status` is that of the worst error, which is printed."""

    def __init__(self, options: argparse.Namespace, outputs: dict[str, Iterator[bytes]]) -> None:
        self.status = 0
        self._options = options
        self._outputs = outputs
        self._over = False
        self._read: Queue[bytes | Failed | None] = Queue(_MOST_WAITING)

    def lines(self) -> Generator[bytes, None, None]:
        """Each with its job's short id before it; ends with the last job. Closing it ends the threads that read."""
        for number, (job_id, output) in enumerate(self._outputs.items()):
            name = name_of_job(f"{job_id[:SHORT_ID]} |", number, self._options)
            threading.Thread(target=self._read_one, args=(f"{name} ".encode(), output), daemon=True).start()
        try:
            yield from self._lines()
        finally:
            self._over = True
            with suppress(Empty):
                while True:
                    self._read.get_nowait()  # threads that wait for room go on, and end

    def _lines(self) -> Iterator[bytes]:
        left = len(self._outputs)
        while left:
            match self._read.get():
                case bytes() as line:
                    yield line
                case Failed() as failed:
                    console.print_error(str(failed))
                    self.status = max(self.status, failed.status)
                case None:
                    left -= 1

    def _read_one(self, name: bytes, output: Iterator[bytes]) -> None:
        try:
            for line in lines_of(output):
                if self._over:
                    return
                self._read.put(name + line)
        except WorkerError as error:
            self._read.put(failure(error, self._options.addr, with_tls=with_tls(self._options)))
        finally:
            self._read.put(None)
