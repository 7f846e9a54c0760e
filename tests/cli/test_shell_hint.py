"""Words that look like a shell's."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.shell_hint import shell_hint


class ShellHintTests(SynchronousTestCase):
    def test_not_found(self) -> None:
        """A builtin, an operator within the executable, an assignment: the command is repeated for bash."""
        table = {
            ("cd", "/tmp"): "'cd /tmp'",
            ("source venv/bin/activate",): "'source venv/bin/activate'",
            ("export A=1",): "'export A=1'",
            ("ls;pwd",): "'ls;pwd'",
            ("A=1 make",): "'A=1 make'",
            ("alias",): "alias",
        }
        for argv, command in table.items():
            self.assertEqual(f"no shell here: use `bash -c {command}`", shell_hint(argv, not_found=True))
            self.assertEqual("", shell_hint(argv, not_found=False), argv)

    def test_operators(self) -> None:
        """Operators that stand alone look like a shell's whatever the executable is."""
        for argv in (["ls | wc -l"], ["ls", "|", "wc", "-l"]):
            self.assertEqual("no shell here: use `bash -c 'ls | wc -l'`", shell_hint(argv, not_found=False))
        self.assertIn("'make && echo '", shell_hint(["make", "&&", "echo", "a b"], not_found=False))

    def test_none(self) -> None:
        """Other words do not, and neither does find's semicolon."""
        for argv in (
            ["no-such-program"],
            ["find", ".", "-exec", "ls", "{}", ";"],
            ["grep", "a|b"],
            ["bash", "-c", "a; b"],
        ):
            self.assertEqual("", shell_hint(argv, not_found=False))
        self.assertEqual("", shell_hint(["no-such-program", "a|b"], not_found=True))
        self.assertEqual("", shell_hint(["'"], not_found=True))

    def test_long(self) -> None:
        """A long command is not repeated."""
        self.assertEqual("no shell here: use `bash -c`", shell_hint(["cd", "x" * 500], not_found=True))
