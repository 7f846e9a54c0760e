"""What a caller or an operator reads of values that may be anything."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import shown, shown_words


class ShownTests(SynchronousTestCase):
    def test_words(self) -> None:
        """An argument vector is one line that a shell could nearly take, whatever is in it."""
        self.assertEqual("bash -c 'sleep 1; true' 'ü' ''", shown_words(["bash", "-c", "sleep 1; true", "ü", ""]))
        self.assertEqual(r"a 'b\nc\x1b[31m'", shown_words(["a", "b\nc\x1b[31m"]))

    def test_cut(self) -> None:
        """What is long is cut, and says how long it was."""
        self.assertEqual(f"{'x' * 190}… (5000 characters)", shown_words(["x" * 5000]))
        self.assertEqual(f"'{'x' * 189}… (5002 characters)", shown("x" * 5000))
