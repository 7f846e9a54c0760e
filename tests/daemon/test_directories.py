"""Directories that other users can write to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.directories import NotUsable, check_state_directory, open_output_directory, warn_of_log_directory


class UnsafeDirectoriesTests(SynchronousTestCase):
    def test_writable_by_others(self) -> None:
        """A worker that is not root starts with a warning; a worker that is root refuses."""
        parent = Path("parent").absolute()
        parent.mkdir()
        parent.chmod(0o777)
        directories: list[tuple[Callable[[Path], object], str]] = [
            (open_output_directory, "jobs.output_directory"),
            (check_state_directory, "jobs.state_directory"),
        ]
        for open_directory, key in directories:
            problem = f"{parent} can be written by others (mode 0777)"
            with capturedLogs() as events, mock.patch("os.geteuid", return_value=os.geteuid() or 1000):
                open_directory(parent / "below")
            expected = f"{key}: others can change what is in {parent}/below: {problem}."
            self.assertEqual([expected], [formatEvent(event) for event in events])
            with mock.patch("os.geteuid", return_value=0):
                refused = self.assertRaises(NotUsable, open_directory, parent / "below")
            text = f"{key}: {parent}/below: not safe for a worker that is root: "
            self.assertEqual(text, str(refused)[: len(text)])  # and the first directory that is not root's

    def test_log(self) -> None:
        """Where others can replace the log file there is a warning, whoever the worker is; otherwise there is none."""
        place = Path("log").absolute()
        place.mkdir(0o755)
        with capturedLogs() as events:
            warn_of_log_directory(place)
            place.chmod(0o1777)
            warn_of_log_directory(place)
            warn_of_log_directory(place / "not there")
        problem = f"{place} can be written by others (mode 1777)"
        expected = f"twistd --logfile: others can change what is in {place}: {problem}."
        self.assertEqual([expected], [formatEvent(event) for event in events])
