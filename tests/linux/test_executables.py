"""Which file a job's argv[0] names."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.executables import candidates, execute, find_executable


class ExecutableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp()).resolve()
        for directory in ("first", "second"):
            (self.place / directory).mkdir(parents=True)

    def a_file(self, name: str, mode: int) -> None:
        (self.place / name).touch()
        (self.place / name).chmod(mode)

    def find(self, executable: str, path: str) -> str:
        return find_executable(executable, {"PATH": path}, str(self.place))

    def test_slash(self) -> None:
        """A name with a slash is a path, and is not searched for."""
        self.assertEqual("./x", self.find("./x", "/bin"))
        self.assertEqual(["a/b"], list(candidates("a/b", {"PATH": "/bin"})))

    def test_candidates(self) -> None:
        """Each directory of the job's own PATH in order; an empty one is the job's directory; the usual without one."""
        self.assertEqual(["/a/x", "./x", "/b/x"], list(candidates("x", {"PATH": "/a::/b"})))
        self.assertEqual([f"{place}/x" for place in os.defpath.split(":")], list(candidates("x", {})))

    def test_first_that_can_be_executed(self) -> None:
        """A file that may not be executed is skipped, as by a shell; paths are relative to the job's directory."""
        self.a_file("first/x", 0o644)
        self.a_file("second/x", 0o755)
        self.assertEqual(f"{self.place}/second/x", self.find("x", f"{self.place}/first:{self.place}/second"))
        self.assertEqual("second/x", self.find("x", "first:second"))

    def test_errors(self) -> None:
        """An error that says "permission denied" is preferred to "no such file"; a directory is no file."""
        self.a_file("first/x", 0o644)
        self.assertRaises(PermissionError, self.find, "x", f"{self.place}/first:/nowhere")
        self.assertRaises(FileNotFoundError, self.find, "y", f"{self.place}/first")
        self.assertRaises(FileNotFoundError, self.find, "first", str(self.place))

    def test_execute_passes_over(self) -> None:
        """A directory of PATH that cannot be followed hides no program in the next one; nothing is executed here."""
        os.symlink("circle", self.place / "circle")
        self.a_file("file", 0o644)
        self.a_file("second/x", 0o644)
        missing = [self.place / "circle", self.place / "file", self.place / ("x" * 300), self.place / "nowhere"]
        for last, error in ((self.place / "second", PermissionError), (self.place / "first", OSError)):
            self.assertRaises(error, execute, ["x"], {"PATH": ":".join(map(str, [*missing, last]))})
