"""The error for a request that cannot be parsed."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from twisted.trial.unittest import SynchronousTestCase

from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.unreadable import unreadable

START = pb.StartJobReq.DESCRIPTOR


class UnreadableTests(SynchronousTestCase):
    def message(self, request: bytes) -> str:
        self.assertRaises(DecodeError, pb.StartJobReq.FromString, request)
        return str(unreadable(START, request))

    def test_no_message(self) -> None:
        """The error shows the beginning of the request, its length, and the message type that was expected."""
        text = r"request: b'\xff\xff' is how 2 bytes begin that cannot be read as a jobscheduler.StartJobReq"
        self.assertEqual(text, self.message(b"\xff\xff"))
        self.assertLess(len(self.message(b"\xff" * 1_000_000)), 300)

    def test_not_utf8(self) -> None:
        """The field is named, also in a map or a list, and after good and unknown fields."""
        table = {
            r"command: b'\xff\xfe' is not UTF-8": b"\x0a\x02\xff\xfe",
            r"path: b'\xc3' is not UTF-8": b"\x0a\x02ls\x12\x01\xc3",
            r"args: b'\xed\xa0\x80' is not UTF-8": b"\xf8\x3f\x01" + b"\x52\x01a" + b"\x52\x03\xed\xa0\x80",
            r"env.value: b'\xff' is not UTF-8": b"\x5a\x06\x0a\x01A\x12\x01\xff",
        }
        for text, request in table.items():
            self.assertEqual(text, self.message(request))

    def test_long(self) -> None:
        """The field of a long request is not named, because finding it is expensive."""
        request = pb.StartJobReq(args=["x"] * 10_000).SerializeToString() + b"\x0a\x02\xff\xfe"
        self.assertIn("30004 bytes", self.message(request))
