"""Why an exec failed: what is looked at, and how much of it."""

from __future__ import annotations

import errno
import os
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.exec_diagnosis import real_path
from txworker.process.launch_errors import to_worker_error

MOST_CALLS = 1000


class BoundTests(SynchronousTestCase):
    """A failed launch is explained in the reactor, so it takes milliseconds whatever the request names."""

    def calls(self, number: int, executable: str, directory: str, environment: dict[str, str]) -> int:
        """How often the file system is asked."""
        count = 0

        def counting(real: Any) -> Any:
            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                return real(*args, **kwargs)

            return counted

        names = ("stat", "lstat", "readlink", "access")
        with mock.patch.multiple(os, **{name: counting(getattr(os, name)) for name in names}):
            to_worker_error(OSError(number, os.strerror(number), executable), executable, directory, environment)
        return count

    def test_deep_path(self) -> None:
        """A path may have two thousand directories, and each link may lead as far again."""
        deep = "/".join(["d"] * 2000)
        link = os.path.abspath(self.mktemp())
        os.symlink(f"/{deep}", link)
        for path in (f"/{deep}/prog", f"{link}/prog", "/" * 4000 + "prog"):
            for number in (errno.ENOENT, errno.EACCES):
                self.assertLess(self.calls(number, path, "/", {}), MOST_CALLS, (path[:20], number))
                self.assertLess(self.calls(number, "prog", path, {}), MOST_CALLS, (path[:20], number))

    def test_long_search_path(self) -> None:
        """PATH is the request's, too."""
        for number in (errno.ENOENT, errno.EACCES):
            self.assertLess(self.calls(number, "prog", "/", {"PATH": ":x" * 60_000}), MOST_CALLS)


class RealPathTests(SynchronousTestCase):
    def test_as_the_library(self) -> None:
        """Links are followed as os.path.realpath() does, to where a path leads or would lead."""
        base = os.path.abspath(self.mktemp())
        os.makedirs(f"{base}/a/b")
        for name, target in {"to_b": "a/b", "up": "a/../a", "far": f"{base}/to_b", "gone": "none/x"}.items():
            os.symlink(target, f"{base}/{name}")
        for path in ("a", "to_b", "to_b/..", "up/b/./c", "far/x", "gone", "gone/y", ".", "a//b/", "none/x"):
            self.assertEqual(os.path.realpath(f"{base}/{path}"), real_path(f"{base}/{path}"), path)
        self.assertEqual(os.path.realpath("/"), real_path("/"))

    def test_endless(self) -> None:
        """A link that leads back to itself is left as it is."""
        link = os.path.abspath(self.mktemp())
        os.symlink(link, link)
        self.assertEqual(f"{link}/x", real_path(f"{link}/x"))
