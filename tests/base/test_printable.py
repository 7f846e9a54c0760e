"""What others wrote, as it may be shown: nothing of it moves a cursor, hides, or turns what stands beside it."""

from __future__ import annotations

import unicodedata

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.printable import cut, printable

TABLE = {
    "\x1b[31m": r"\x1b[31m",
    "a\rb\nc\td": r"a\rb\nc\td",
    "\x00\x07\x08\x7f": r"\x00\x07\x08\x7f",
    "\x9b2J\x85": r"\x9b2J\x85",  # C1: CSI and NEL
    "\u202etxt.exe\u2066\u200f\u061c": r"\u202etxt.exe\u2066\u200f\u061c",  # what turns the direction of writing
    "\u2028\u2029": r"\u2028\u2029",
    "a\u200bb\u200d\u2060\ufeff\u00ad": r"a\u200bb\u200d\u2060\ufeff\xad",  # what has no width
    "\ud800\udcff": r"\ud800\udcff",  # surrogates: of bytes in a file's name that are no UTF-8
    "\u3164\u115f\ufe0f\U000e0041\U000e0101\u2800": r"\u3164\u115f\ufe0f\U000e0041\U000e0101\u2800",  # blank letters
    "\u00a0\u3000": r"\xa0\u3000",
}


class PrintableTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Each kind of character that is not for showing is an escape, and so nothing but ASCII."""
        self.assertEqual(TABLE, {text: printable(text) for text in TABLE})

    def test_left_alone(self) -> None:
        """What anybody can read stays as it is, the escapes of an earlier time included."""
        for text in ["", "plain ASCII ~", r"C:\x", "größe 漢字 😀 é עברית", *TABLE.values()]:
            self.assertIs(text, printable(text))

    def test_every_character(self) -> None:
        """By its category in Unicode, none is forgotten."""
        shown = [one for code in (*range(0x30000), *range(0xE0000, 0xE0200)) if printable(one := chr(code)) == one]
        self.assertEqual([], [one for one in shown if unicodedata.category(one)[0] == "C"])
        self.assertEqual([" "], [one for one in shown if unicodedata.category(one)[0] == "Z"])
        turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN", "B", "S")
        self.assertEqual([], [one for one in shown if unicodedata.bidirectional(one) in turning])

    def test_but(self) -> None:
        """Those that are wanted stay; the others do not for that."""
        self.assertEqual("a\n\tb\\x1b", printable("a\n\tb\x1b", but="\n\t"))

    def test_cut(self) -> None:
        """What is long says how long it was."""
        self.assertEqual("x" * 200, cut("x" * 200))
        self.assertEqual(f"{'x' * 190}… (201 characters)", cut("x" * 201))
        self.assertEqual(f"{'x' * 20}… (31 characters)", cut("x" * 31, 30))
