"""What a feeding keeps until it is known to be taken."""

from __future__ import annotations

import io

from twisted.trial.unittest import SynchronousTestCase

from txworker.client.errors import FeedInProgress, JobNotRunning, OutOfResources
from txworker.client.feeding import CALL_BYTES, MESSAGE_BYTES, Patience, Unacknowledged, pieces


class PiecesTests(SynchronousTestCase):
    def test_sources(self) -> None:
        """Bytes, files and iterables come in pieces that fit into a message, and nothing is lost or added."""
        data = bytes(range(256)) * 3000
        for source in (data, io.BytesIO(data), [data[:5], b"", data[5:]]):
            found = list(pieces(source))
            self.assertEqual(data, b"".join(found))
            self.assertTrue(all(0 < len(piece) <= MESSAGE_BYTES for piece in found))

    def test_text(self) -> None:
        """Text is refused, also an empty file in text mode, whose reading would never end."""
        for source in ("text", io.StringIO(""), io.StringIO("x"), ["text"]):
            with self.assertRaisesRegex(TypeError, "fed with bytes, not with str; open files in binary mode"):
                list(pieces(source))  # type: ignore[arg-type]  # what is tested


class UnacknowledgedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.feeding = Unacknowledged("id", end=True)
        self.feeding.resume(100)

    def sent(self) -> list[tuple[bytes, bool]]:
        """The messages of a call, until it waits or is complete."""
        found = []
        while not self.feeding.complete() and (message := self.feeding.message()) is not None:
            found.append((message.data, message.end))
        return found

    def test_in_order(self) -> None:
        """Bytes are sent once, then the end; the answer is what was taken."""
        self.feeding.add(b"abc")
        self.assertEqual([(b"abc", False)], self.sent())
        self.feeding.add(b"de")
        self.feeding.no_more()
        self.assertEqual([(b"de", False), (b"", True)], self.sent())
        self.assertFalse(self.feeding.answered(105))
        self.assertEqual(5, self.feeding.taken)

    def test_many_small_ones(self) -> None:
        """Bytes that come one by one while nothing is sent make few messages."""
        for _ in range(100_000):
            self.feeding.add(b"ab")
        self.assertEqual([(b"ab" * 100_000, False)], self.sent())

    def test_cut_off(self) -> None:
        """What was not taken is sent again, from the middle of a piece, too; the end is sent again."""
        for data in (b"abc", b"defg", b"h"):
            self.feeding.add(data)
            self.sent()
        self.feeding.no_more()
        self.sent()
        self.feeding.resume(105)
        self.assertEqual((5, [(b"fg", False), (b"h", False), (b"", True)]), (self.feeding.taken, self.sent()))
        self.feeding.resume(108)
        self.assertEqual((8, [(b"", True)]), (self.feeding.taken, self.sent()))

    def test_long_calls(self) -> None:
        """A call sends so much at most; the next one goes on."""
        piece = bytes(MESSAGE_BYTES)
        count = CALL_BYTES // MESSAGE_BYTES
        for _ in range(count):
            self.assertFalse(self.feeding.full)
            self.feeding.add(piece)
        self.assertTrue(self.feeding.full)
        self.assertEqual((count, True), (len(self.sent()), self.feeding.complete()))
        self.assertTrue(self.feeding.answered(100 + CALL_BYTES))
        self.assertEqual((CALL_BYTES, False, False), (self.feeding.taken, self.feeding.full, self.feeding.complete()))
        self.feeding.no_more()
        self.assertEqual([(b"", True)], self.sent())

    def test_end_behind_a_full_call(self) -> None:
        """Where the last bytes fill a call, the end is sent by one more."""
        for _ in range(CALL_BYTES // MESSAGE_BYTES):
            self.feeding.add(bytes(MESSAGE_BYTES))
        self.feeding.no_more()
        self.sent()
        self.assertTrue(self.feeding.answered(100 + CALL_BYTES))
        self.assertEqual([(b"", True)], self.sent())
        self.assertFalse(self.feeding.answered(100 + CALL_BYTES))

    def test_job_takes_no_more(self) -> None:
        """An answer that comes before the last message, or tells of fewer bytes, ends the feeding."""
        self.feeding.add(b"abc")
        self.sent()
        self.assertFalse(self.feeding.answered(103))
        self.feeding = Unacknowledged("id", end=True)
        self.feeding.resume(0)
        self.feeding.add(b"abc")
        self.feeding.no_more()
        self.sent()
        self.assertFalse(self.feeding.answered(1))
        self.assertEqual(1, self.feeding.taken)


class PatienceTests(SynchronousTestCase):
    def test_own_call(self) -> None:
        """A call of one's own that the worker has not missed yet is waited for; another's at the beginning is not."""
        patience, error = Patience(10.0), FeedInProgress("busy", "FEED_IN_PROGRESS", "ABORTED")
        self.assertIs(error, patience.failure(error, False, 0.0))
        self.assertEqual("", patience.failure(error, True, 0.0).reason)
        self.assertEqual("UNAVAILABLE", patience.failure(error, True, 9.0).code)
        self.assertIs(error, patience.failure(error, True, 10.0))
        other = JobNotRunning("done", "JOB_NOT_RUNNING", "FAILED_PRECONDITION")
        self.assertIs(other, patience.failure(other, True, 11.0))
        self.assertEqual("UNAVAILABLE", patience.failure(error, True, 12.0).code)

    def test_no_room(self) -> None:
        """A worker that has no room for the call is waited for from the beginning on: the source is being read."""
        patience, error = Patience(10.0), OutOfResources("no further stream", "MAX_STREAMS", "RESOURCE_EXHAUSTED")
        self.assertEqual("UNAVAILABLE", patience.failure(error, False, 0.0).code)
        self.assertEqual("UNAVAILABLE", patience.failure(error, True, 9.0).code)
        self.assertIs(error, patience.failure(error, True, 10.0))
