"""The argument vector of a JobSpec, and what JobSpec refuses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JobSpec
from txworker.jobs.errors import InvalidRequest


class ArgvTests(SynchronousTestCase):
    def test_argv(self) -> None:
        """The command is split as a shell splits words, path and args are not, and an empty path is left out."""
        table = [
            (JobSpec("bash", "scripts/count.sh"), ("bash", "scripts/count.sh")),
            (JobSpec("python3 -u", "a b.py", ("x y", "")), ("python3", "-u", "a b.py", "x y", "")),
            (JobSpec("'my prog' \"two words\" a\\ b"), ("my prog", "two words", "a b")),
            (JobSpec("", "./run me"), ("./run me",)),
            (JobSpec("echo", "", ("$HOME", ";", "#")), ("echo", "$HOME", ";", "#")),
            (JobSpec("echo '' # no"), ("echo", "", "#", "no")),
        ]
        for spec, argv in table:
            self.assertEqual(argv, spec.argv)


class RefusalTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A spec with an impossible value is refused at once, by an error that names the field."""
        table: list[tuple[dict[str, object], str]] = [
            ({}, "command"),
            ({"command": "  "}, "command"),
            ({"command": "'' x"}, "command"),
            ({"command": "a 'b"}, "command"),
            ({"command": "a\0b"}, "command"),
            ({"path": "a\0b"}, "path"),
            ({"command": "a", "args": ("fine", "\0")}, "args[1]"),
            ({"command": "a", "args": ("x" * 131072,)}, "args[0]"),
            ({"command": "a", "env": {"": "x"}}, "env"),
            ({"command": "a", "env": {"A=B": "x"}}, "env"),
            ({"command": "a", "env": {"A\0": "x"}}, "env"),
            ({"command": "a", "env": {"A": "\0"}}, "env[A]"),
            ({"command": "a", "env": {"A" * 131072: "x"}}, "env"),
            ({"command": "a", "labels": {str(number): "" for number in range(101)}}, "labels"),
            ({"command": "a", "labels": {"a": "x" * 4096}}, "labels"),
            ({"command": "a", "request_id": "x" * 4097}, "requestID"),
            ({"command": "a", "env": {"TXWORKER_JOB_ID": "x"}}, "env"),
            ({"command": "a", "directory": "\0"}, "directory"),
            ({"command": "a", "directory": "x" * 4096}, "directory"),
            ({"command": "a", "timeout_seconds": 0.0}, "timeout"),
            ({"command": "a", "quiet_timeout_seconds": -1.0}, "quietTimeout"),
            ({"command": "a", "lease_seconds": 0.9}, "lease"),
            ({"command": "a", "lease_seconds": float("nan")}, "lease"),
            ({"command": "a", "tty": True, "tty_rows": 65536}, "ttyRows"),
            ({"command": "a", "tty": True, "tty_columns": -1}, "ttyColumns"),
            ({"command": "a", "tty_columns": 80}, "ttyColumns"),
            ({"command": "a", "tty": True, "separate_stderr": True}, "separateStderr"),
            ({"command": "a", "tty": True, "stdin": b"x"}, "stdin"),
        ]
        for fields, name in table:
            error = self.assertRaises(InvalidRequest, lambda fields=fields: JobSpec(**fields))
            self.assertEqual(name, error.field)
            self.assertTrue(str(error).startswith(f"{name}: "), str(error))
            self.assertLess(len(str(error)), 400)
        error = self.assertRaises(InvalidRequest, lambda: JobSpec("a", env={"A" * 130_000: "\0"}))
        self.assertLess(len(str(error)), 700)

    def test_terminal_size(self) -> None:
        """A side that is not given has its default; without tty there is no terminal."""
        table = [((0, 0), (24, 80)), ((50, 0), (50, 80)), ((0, 132), (24, 132)), ((1, 65535), (1, 65535))]
        for (rows, columns), size in table:
            self.assertEqual(size, JobSpec("a", tty=True, tty_rows=rows, tty_columns=columns).terminal_size)
        self.assertIsNone(JobSpec("a").terminal_size)

    def test_no_secrets(self) -> None:
        """The error for an unusable environment variable names it and hides its value: clients log errors."""
        for value in ("password\0", "password" * 20_000):
            error = self.assertRaises(InvalidRequest, lambda value=value: JobSpec("a", env={"TOKEN": value}))
            self.assertIn("env[TOKEN]: 'TOKEN=…' ", str(error))
            self.assertNotIn("password", str(error))
