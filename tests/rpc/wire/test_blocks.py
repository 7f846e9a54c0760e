"""Protobuf parses the messages that are serialized without it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.blocks import raw_message, text_message


class BlocksTests(SynchronousTestCase):
    def test_protobuf_parses(self) -> None:
        """Lengths and offsets just below and above the sizes at which a varint gets one byte longer."""
        numbers = [0, 1, *(2**bits + more for bits in (7, 14, 21) for more in (-1, 0, 1))]
        for size in numbers[:-3]:
            for offset in (*numbers, 2**40, 2**63 - 1):
                raw = pb.StreamJobRes.FromString(raw_message(b"\xff" * size, offset))
                self.assertEqual(pb.StreamJobRes(data=b"\xff" * size, offset=offset), raw)
                text = pb.StreamJobRes.FromString(text_message("é" * size, offset))
                self.assertEqual(pb.StreamJobRes(output="é" * size, offset=offset), text)
