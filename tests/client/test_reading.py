"""A reader that resumes takes every byte, and every change, once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.client.reading import Changes, Reading, decoder
from txworker.pb import worker_pb2 as pb


def message(offset: int, data: bytes) -> pb.StreamJobRes:
    return pb.StreamJobRes(offset=offset, data=data)


class ReadingTests(SynchronousTestCase):
    def test_from_the_beginning(self) -> None:
        """It asks for the bytes after those that it has."""
        reading = Reading("job")
        self.assertEqual(b"one", reading.take(message(0, b"one")))
        self.assertEqual(3, reading.request().offset)
        self.assertTrue(reading.request().raw)

    def test_tail(self) -> None:
        """The first message says where the last lines begin; from then on it is offsets that count."""
        reading = Reading("job", tail=2)
        self.assertEqual(2, reading.request().tailLines)
        reading.take(message(100, b"a\nb\n"))
        self.assertEqual((104, 0), (reading.request().offset, reading.request().tailLines))

    def test_from_now_on(self) -> None:
        """A tail of no lines is what comes from now on."""
        reading = Reading("job", tail=0)
        self.assertTrue(reading.request().fromEnd)
        reading.take(message(50, b"x"))
        self.assertEqual((51, False), (reading.request().offset, reading.request().fromEnd))

    def test_known_bytes(self) -> None:
        """Bytes that come a second time are left out."""
        reading = Reading("job", offset=2)
        self.assertEqual(b"cd", reading.take(message(0, b"abcd")))
        self.assertEqual(4, reading.position)

    def test_characters(self) -> None:
        """A character that is cut between two messages is one character; what is none is marked."""
        decode = decoder().decode
        self.assertEqual("ä", decode("ä".encode()[:1]) + decode("ä".encode()[1:]))
        self.assertEqual("�", decode(b"\xff", final=True))


class ChangesTests(SynchronousTestCase):
    def test_told_once(self) -> None:
        """After a lost connection the jobs as they stand are told anew; only what has changed is passed on."""
        changes = Changes(pb.WatchJobsReq())
        running = pb.JobEvent(job=pb.Job(jobID="1", state=pb.JOB_STATE_RUNNING))
        self.assertIsNotNone(changes.take(running))
        self.assertIsNone(changes.take(running))
        done = changes.take(pb.JobEvent(job=pb.Job(jobID="1", state=pb.JOB_STATE_FAILED, exitCode=3)))
        assert done is not None
        self.assertEqual((True, 3), (done.done, done.exit_status))

    def test_for_months(self) -> None:
        """Only so many finished jobs are remembered, and every job that is not done."""
        changes = Changes(pb.WatchJobsReq(), most=3)
        events = [pb.JobEvent(job=pb.Job(jobID=str(n), state=pb.JOB_STATE_FAILED)) for n in range(4)]
        running = pb.JobEvent(job=pb.Job(jobID="running", state=pb.JOB_STATE_RUNNING))
        for event in (running, *events):
            changes.take(event)
        told = [changes.take(event) is not None for event in (running, events[0], events[-1])]
        self.assertEqual([False, True, False], told)
