"""The keys by which a user leaves a job."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.local_terminal import Escapes


def typed(*pieces: bytes) -> tuple[bytes, bool]:
    """What the job gets, and whether it was left."""
    escapes = Escapes()
    return b"".join(map(escapes.typed, pieces)), escapes.left


class EscapesTests(SynchronousTestCase):
    def test_leave(self) -> None:
        """`~.` at the beginning of a line leaves, however its keys come; what comes after it is dropped."""
        for pieces in ([b"~."], [b"~", b"."], [b"ls\r~.more"], [b"ls\n", b"~", b"."]):
            self.assertTrue(typed(*pieces)[1])
        self.assertEqual((b"ls\r", True), typed(b"ls\r~.more"))

    def test_others(self) -> None:
        """A `~` elsewhere, or before another key, is itself; two are one."""
        table = {
            b"a~.": b"a~.",
            b"~~.": b"~.",
            b"~/x\r": b"~/x\r",
            b"\r~\r~": b"\r~\r",
            b"~~~": b"~~",
            b"\x03\x1a\x1c\x11": b"\x03\x1a\x1c\x11",
        }
        for keys, passed in table.items():
            self.assertEqual((passed, False), typed(keys), keys)
            self.assertEqual((passed, False), typed(*(bytes([key]) for key in keys)), keys)

    def test_held(self) -> None:
        """A `~` at the beginning of a line waits for the next key."""
        escapes = Escapes()
        self.assertEqual([b"", b"~x"], [escapes.typed(b"~"), escapes.typed(b"x")])
