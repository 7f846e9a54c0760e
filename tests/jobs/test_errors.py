"""Values of any content in error messages and logs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import InvalidRequest, NoSuchJob, OutOfResources, RequestReused, shown, shown_words


class ShownTests(SynchronousTestCase):
    def test_words(self) -> None:
        """An argument vector is one line, quoted as for a shell, whatever it contains."""
        self.assertEqual("bash -c 'sleep 1; true' 'ü' ''", shown_words(["bash", "-c", "sleep 1; true", "ü", ""]))
        self.assertEqual(r"a 'b\nc\x1b[31m'", shown_words(["a", "b\nc\x1b[31m"]))

    def test_cut(self) -> None:
        """A long value is cut, and its length is shown."""
        self.assertEqual(f"{'x' * 190}… (5000 characters)", shown_words(["x" * 5000]))
        self.assertEqual(f"'{'x' * 189}… (5002 characters)", shown("x" * 5000))
        self.assertLess(len(shown("\x1b" * 10**6)), 1000)

    def test_printable(self) -> None:
        """Control, invisible and direction-changing characters are escaped."""
        evil = "\x1b\r\n\x9b\u202e\u2028\ufeff\ufe0f"
        self.assertEqual(r"'\x1b\r\n\x9b\u202e\u2028\ufeff\ufe0f'", shown(evil))
        self.assertEqual(r"echo '\x1b\r\n\x9b\u202e\u2028\ufeff\ufe0f'", shown_words(["echo", evil]))


class SentenceTests(SynchronousTestCase):
    def test_printable(self) -> None:
        """Every sentence is printable, whatever values it repeats."""
        evil = "\x1b[31m\r\n\x9b\u202e\ud800"
        for error in [
            NoSuchJob(evil),
            InvalidRequest(f"env[{evil}]", evil, "is wrong"),
            OutOfResources(f"no output file can be made: {OSError(28, 'No space left', evil)}"),
            RequestReused(evil, evil, f"path ({evil})"),
        ]:
            self.assertTrue(str(error).isprintable(), str(error))

    def test_long(self) -> None:
        """No sentence is longer than a gRPC status can carry."""
        self.assertLess(len(str(OutOfResources("x" * 10**6))), 2100)
