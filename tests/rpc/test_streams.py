"""The messages of one viewer and its waiting, without threads: the test decides how long its caller stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import JobSpec
from txworker.jobs.errors import CallerGone, InvalidRequest, OffsetBeyondEnd, OutOfResources, OutputGone
from txworker.output import tail
from txworker.output.tail import Tail
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller
from txworker.rpc.streams import job_of, stream


class FakeCaller:
    """Leaves after so many checks, or where it would have to wait; records what it waited for."""

    def __init__(self, looks: int = 1000) -> None:
        self.looks = looks
        self.waited: list[int] = []

    def check(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise CallerGone

    @contextmanager
    def following(self, thing: object, ask: object) -> Iterator[FakeCaller]:
        yield self

    def pass_on(self) -> None:
        pass

    def wait(self, beyond: int) -> None:
        self.waited.append(beyond)
        raise CallerGone


class PrintingCaller(FakeCaller):
    """Where it has to wait first, the job prints."""

    def __init__(self, more: Callable[[], None]) -> None:
        super().__init__()
        self.more = more

    def wait(self, beyond: int) -> None:
        if self.waited:
            super().wait(beyond)
        self.waited.append(beyond)
        self.more()


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.job = self.successResultOf(self.fixture.worker.submit(JobSpec("true")))
        self.file = Path(self.mktemp())
        self.patch(self.fixture.outputs, "open", lambda job_id, stderr: os.open(self.file, os.O_RDONLY))
        self.print(b"a\nb\nc\n")

    def print(self, data: bytes) -> None:
        output = self.fixture.outputs.by_job[self.job.id]
        output.write(1, data)
        self.file.write_bytes(output.data)

    def messages(self, caller: FakeCaller, **request: Any) -> list[bytes]:
        """The messages until it would have to wait."""
        found: list[bytes] = []
        wanted = pb.StreamJobReq(jobID=self.job.id, raw=True, **request)
        try:
            messages = stream(self.fixture.catalog, cast(Caller, caller), self.job.id, wanted)
            found.extend(pb.StreamJobRes.FromString(message).data for message in messages)
        except CallerGone:
            found.append(b"gone")
        return found

    def test_from_end(self) -> None:
        """fromEnd sends only what is printed from now on. For a done job that is nothing, without an error."""
        caller = FakeCaller()
        self.assertEqual([b"gone"], self.messages(caller, fromEnd=True))
        self.assertEqual([6], caller.waited)
        self.assertEqual([], self.messages(FakeCaller(), fromEnd=True, noFollow=True))
        self.fixture.launcher.running[self.job.id].exit()
        self.assertEqual([], self.messages(FakeCaller(), fromEnd=True))

    def test_from_end_of_another_size(self) -> None:
        """
        Where the file was cut, or has more than the job printed: fromEnd begins where the output ends, not the file,
        and the lines of tailLines are the job's.
        """
        for content in (b"", b"a\n", b"a\nb\nc\nnot\nours\n"):
            self.file.write_bytes(content)
            caller = FakeCaller()
            self.assertEqual([b"gone"], self.messages(caller, fromEnd=True))
            self.assertEqual([6], caller.waited)
            self.assertEqual([], self.messages(FakeCaller(), fromEnd=True, noFollow=True))
        caller = FakeCaller()
        self.assertEqual([b"c\n", b"gone"], self.messages(caller, tailLines=1))
        self.assertEqual([6], caller.waited)

    def test_from_end_of_a_file_that_is_gone(self) -> None:
        """fromEnd wants nothing of a file that was deleted: it goes on in the new one, and is over for a done job."""
        self.file.unlink()
        self.assertRaises(OutputGone, self.messages, FakeCaller())
        caller = PrintingCaller(lambda: self.print(b"after\n"))
        self.assertEqual([b"after\n", b"gone"], self.messages(caller, fromEnd=True))
        self.assertEqual([6, 12], caller.waited)
        self.assertEqual(2, self.fixture.outputs.by_job[self.job.id].checks)  # or the next bytes would be lost, too
        self.file.unlink()
        self.assertEqual([], self.messages(FakeCaller(), fromEnd=True, noFollow=True))
        self.fixture.launcher.running[self.job.id].exit()
        self.assertEqual([], self.messages(FakeCaller(), fromEnd=True))

    def test_cannot_be_read(self) -> None:
        """A disk that fails to read is told to the viewer in a sentence, as one that fails to open the file is."""

        def fail(*args: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "pread", fail)
        for request in ({}, {"tailLines": 1}):
            error = self.assertRaises(OutOfResources, self.messages, FakeCaller(), **request)
            self.assertIn("cannot be read: [Errno 5] Input/output error", str(error))

    def test_done_and_of_another_size(self) -> None:
        """A viewer of a done job that has seen all of it misses nothing, whatever became of the file."""
        self.fixture.launcher.running[self.job.id].exit()
        for content in (b"", b"a\n", b"a\nb\nc\nnot ours\n"):
            self.file.write_bytes(content)
            self.assertEqual([], self.messages(FakeCaller(), offset=6))
            self.assertEqual([], self.messages(FakeCaller(), fromEnd=True))
            beyond = self.assertRaises(OffsetBeyondEnd, self.messages, FakeCaller(), offset=7)
            self.assertIn("beyond the 6 bytes", str(beyond))

    def test_one_beginning(self) -> None:
        """A stream has one beginning: fromEnd with an offset or tailLines is refused."""
        for more in (pb.StreamJobReq(offset=1), pb.StreamJobReq(tailLines=1)):
            request = pb.StreamJobReq(jobID=self.job.id, fromEnd=True)
            request.MergeFrom(more)
            refusal = self.assertRaises(InvalidRequest, job_of, self.fixture.catalog, request)
            self.assertEqual("fromEnd", refusal.field)

    def test_far_away(self) -> None:
        """An offset beyond the end waits for the next byte, as other viewers do, and does not keep them awake."""
        for offset in (7, 2**40, 2**63 - 1):
            caller = FakeCaller()
            self.assertEqual([b"gone"], self.messages(caller, offset=offset))
            self.assertEqual([6], caller.waited)

    def test_nothing_new(self) -> None:
        """What the viewer of an unfinished job has already is not looked for in the file before it waits."""
        reads: list[int] = []
        read = Tail.read

        def counted(opened: Tail, offset: int, end: int | None = None) -> bytes:
            reads.append(offset)
            return read(opened, offset, end)

        self.patch(Tail, "read", counted)
        self.assertEqual([b"a\nb\nc\n", b"gone"], self.messages(FakeCaller()))
        self.assertEqual([0], reads)

    def test_left_before(self) -> None:
        """For a viewer that left before its thread began, no file is opened."""
        self.file.unlink()
        self.assertEqual([b"gone"], self.messages(FakeCaller(looks=0)))

    def test_leaves_while_lines_are_counted(self) -> None:
        """When a viewer leaves while lines are counted, the rest of the file is not read."""
        self.patch(tail, "BLOCK_BYTES", 1)
        caller = FakeCaller(looks=3)
        self.assertEqual([b"gone"], self.messages(caller, tailLines=3))
        self.assertEqual(-1, caller.looks)
