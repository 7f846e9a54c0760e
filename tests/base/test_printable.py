"""Text from outside, made safe: it cannot move a cursor, hide itself or change the writing direction."""

from __future__ import annotations

import unicodedata

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.printable import cut, printable

TABLE = {
    "\x1b[31m": r"\x1b[31m",
    "a\rb\nc\td": r"a\rb\nc\td",
    "\x00\x07\x08\x7f": r"\x00\x07\x08\x7f",
    "\x9b2J\x85": r"\x9b2J\x85",  # C1: CSI and NEL
    "\u202etxt.exe\u2066\u200f\u061c": r"\u202etxt.exe\u2066\u200f\u061c",  # change the writing direction
    "\u2028\u2029": r"\u2028\u2029",
    "a\u200bb\u200d\u2060\ufeff\u00ad": r"a\u200bb\u200d\u2060\ufeff\xad",  # without width
    "\ud800\udcff": r"\ud800\udcff",  # surrogates: bytes of a file name that are not UTF-8
    "\u3164\u115f\ufe0f\U000e0041\U000e0101\u2800": r"\u3164\u115f\ufe0f\U000e0041\U000e0101\u2800",  # blank letters
    "\u00a0\u3000": r"\xa0\u3000",
}


class PrintableTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Each kind of unprintable character becomes an escape in ASCII."""
        self.assertEqual(TABLE, {text: printable(text) for text in TABLE})

    def test_printable_is_unchanged(self) -> None:
        """Printable text is returned unchanged, also if it contains escapes already."""
        for text in ["", "plain ASCII ~", r"C:\x", "größe 漢字 😀 é עברית", *TABLE.values()]:
            self.assertIs(text, printable(text))

    def test_every_character(self) -> None:
        """No character of an unprintable Unicode category passes."""
        shown = [char for code in (*range(0x30000), *range(0xE0000, 0xE0200)) if printable(char := chr(code)) == char]
        self.assertEqual([], [char for char in shown if unicodedata.category(char)[0] == "C"])
        self.assertEqual([" "], [char for char in shown if unicodedata.category(char)[0] == "Z"])
        directional = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN", "B", "S")
        self.assertEqual([], [char for char in shown if unicodedata.bidirectional(char) in directional])

    def test_keep(self) -> None:
        """Characters in `keep` stay, all others are still escaped."""
        self.assertEqual("a\n\tb\\x1b", printable("a\n\tb\x1b", keep="\n\t"))

    def test_cut(self) -> None:
        """A long text is cut and tells its full length."""
        self.assertEqual("x" * 200, cut("x" * 200))
        self.assertEqual(f"{'x' * 190}… (201 characters)", cut("x" * 201))
        self.assertEqual(f"{'x' * 20}… (31 characters)", cut("x" * 31, 30))
