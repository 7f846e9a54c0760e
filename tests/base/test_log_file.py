"""The log file is complete whoever rotates it. Real files: what they promise is the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.log_file import KEPT_BYTES, KEPT_SECONDS, AppendedLogFile


class LogFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.clock = Clock()
        self.cuts: list[int] = []
        self.file = self.opened()

    def opened(self, rotate_bytes: int = 0) -> AppendedLogFile:
        file = AppendedLogFile(str(self.path), rotate_bytes, self.cuts.append, self.clock.seconds)
        self.addCleanup(file.close)
        return file

    def test_appends(self) -> None:
        """An existing log is continued."""
        self.path.write_text("before\n")
        self.opened().write("after\n")
        self.assertEqual("before\nafter\n", self.path.read_text())

    def test_reopen(self) -> None:
        """After a rename lines go to the renamed file until reopen(), then to the new one, whose mode is kept."""
        self.file.write("one\n")
        renamed = self.path.with_suffix(".1")
        self.path.rename(renamed)
        self.file.write("two\n")
        self.path.touch(0o640)
        self.file.reopen()
        self.file.write("three\n")
        self.assertEqual(("one\ntwo\n", "three\n"), (renamed.read_text(), self.path.read_text()))
        self.assertEqual(0o640, self.path.stat().st_mode & 0o777)
        self.assertEqual([], self.cuts)

    def test_reopen_fails(self) -> None:
        """When the file cannot be opened again, the open one is kept."""
        renamed = self.path.with_suffix(".1")
        self.path.rename(renamed)
        self.path.mkdir()
        self.assertRaises(OSError, self.file.reopen)
        self.file.write("words\n")
        self.assertEqual("words\n", renamed.read_text())

    def test_cut(self) -> None:
        """After a cut there is no NUL, and the last lines are there once more: a copy may lack them."""
        self.file.write("old\n")
        self.clock.advance(KEPT_SECONDS + 1)
        self.file.write("one\n")
        self.file.write("two\n")
        os.truncate(self.path, 0)
        self.clock.advance(3600)  # a silent hour makes the last lines no less last
        self.file.write("three\n")
        self.file.write("four\n")
        self.assertEqual("one\ntwo\nthree\nfour\n", self.path.read_text())
        self.assertEqual([2], self.cuts)

    def test_kept_lines_are_bounded(self) -> None:
        """What is kept for a cut is limited in bytes."""
        line = "x" * 1023 + "\n"
        for _ in range(2 * KEPT_BYTES // 1024):
            self.file.write(line)
        os.truncate(self.path, 0)
        self.file.write("end\n")
        self.assertEqual([KEPT_BYTES // 1024], self.cuts)

    def test_cut_to_a_part(self) -> None:
        """A cut that leaves a part of the file is a cut, too."""
        self.file.write("one\n")
        os.truncate(self.path, 2)
        self.file.write("two\n")
        self.assertEqual("onone\ntwo\n", self.path.read_text())

    def test_no_regular_file(self) -> None:
        """A pipe gets each line once, and is not renamed: it has no size that a cut or a rotation could go by."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        name = f"/proc/self/fd/{writing}"
        file = AppendedLogFile(name, 10, self.cuts.append, self.clock.seconds)
        os.close(writing)
        self.addCleanup(file.close)
        for number in range(3):
            file.write(f"line {number}\n")
        self.assertEqual(b"line 0\nline 1\nline 2\n", os.read(reading, 1000))
        self.assertEqual([], self.cuts)

    def test_own_rotation(self) -> None:
        """With rotate_bytes the file is renamed as twistd does it, and no line is missing or doubled."""
        file = self.opened(rotate_bytes=10)
        for number in range(5):
            file.write(f"line {number}\n")
        names = [f"{self.path}.2", f"{self.path}.1", str(self.path)]
        self.assertEqual(
            "".join(f"line {number}\n" for number in range(5)), "".join(Path(n).read_text() for n in names)
        )
        self.assertEqual([], self.cuts)
