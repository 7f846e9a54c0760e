"""/proc as it is read: made-up files, and this process as an example."""

from __future__ import annotations

import os
import signal
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.tags import mark_of
from txworker.linux import procfs
from txworker.linux.procfs import Process, cgroup_of, children, read_process, rlimit_tag_of, send, tree


def stat(pid: int, state: str = "S", parent: int = 1, session: int = 5, threads: int = 1, start: int = 99) -> bytes:
    name = "a) b (c\n"
    return f"{pid} ({name}) {state} {parent} 4 {session} {'0 ' * 13}{threads} 0 {start} 0 0".encode()


class ProcfsTests(SynchronousTestCase):
    def files(self, files: dict[str, bytes]) -> None:
        self.patch(procfs, "_contents", lambda path: files.get(path, b""))

    def test_stat(self) -> None:
        """The fields are found whatever the name of the program holds."""
        self.files({"/proc/7/stat": stat(7)})
        self.assertEqual(Process(7, 1, 5, 99, False), read_process(7))
        self.assertIsNone(read_process(8))

    def test_zombie(self) -> None:
        """Who has ended is a zombie; who goes on without its first thread is none."""
        self.files(
            {"/proc/7/stat": stat(7, "Z"), "/proc/8/stat": stat(8, "Z", threads=2), "/proc/9/stat": stat(9, "X")}
        )
        found = [read_process(pid) for pid in (7, 8, 9)]
        self.assertEqual([True, False, True], [process is not None and process.zombie for process in found])

    def test_mark(self) -> None:
        """The mark is a variable of that name, not one that ends so; without one there is none."""
        self.files(
            {
                "/proc/7/environ": b"A=1\0TXWORKER_JOB_ID=the-id\0B=2\0",
                "/proc/8/environ": b"NOT_TXWORKER_JOB_ID=x\0",
                "/proc/9/environ": b"TXWORKER_JOB_ID=\xff\0",
            }
        )
        self.assertEqual(["the-id", None, "\ufffd", None], [mark_of(pid) for pid in (7, 8, 9, 10)])

    def test_rlimit_tag(self) -> None:
        """The tag is the soft limit; unlimited, or not there, is none."""
        line = b"Limit   Soft Hard Units\nMax file locks %s unlimited locks\nMax pending signals 1 1 signals\n"
        self.files({"/proc/7/limits": line % b"123", "/proc/8/limits": line % b"unlimited"})
        self.assertEqual([123, 0, 0], [rlimit_tag_of(pid) for pid in (7, 8, 9)])

    def test_cgroup(self) -> None:
        """The v2 hierarchy's, whatever others there are."""
        self.files({"/proc/7/cgroup": b"9:pids:/x\n0::/a/b\n", "/proc/8/cgroup": b"9:pids:/x\n"})
        self.assertEqual(["/a/b", "", ""], [cgroup_of(pid) for pid in (7, 8, 9)])

    def test_tree(self) -> None:
        """Parents first, at any depth; who has gone meanwhile is left out."""
        depth = 3000
        self.files({f"/proc/{pid}/stat": stat(pid) for pid in range(1, depth) if pid != 2000})
        self.patch(procfs, "children", lambda pid: [pid + 1] if pid < depth else [])
        gone: set[int] = set()
        self.assertEqual(list(range(1, 2000)), [process.pid for process in tree(1, gone)])
        self.assertEqual({2000}, gone)

    def test_own(self) -> None:
        """This process is found, and nobody below a number that is nobody's."""
        own = read_process(os.getpid())
        assert own is not None
        self.assertEqual((os.getppid(), os.getsid(0), False), (own.parent, own.session, own.zombie))
        self.assertEqual([], children(2**22 + 1))

    def test_cannot_look(self) -> None:
        """No descriptors left must not look as if nobody were there."""
        with patch.object(os, "open", side_effect=OSError(24, "Too many open files")):
            self.assertRaises(OSError, read_process, os.getpid())


class SendTests(SynchronousTestCase):
    def setUp(self) -> None:
        own = read_process(os.getpid())
        assert own is not None
        self.own = own
        self.heard: list[int] = []
        before = signal.signal(signal.SIGUSR2, lambda number, frame: self.heard.append(number))
        self.addCleanup(signal.signal, signal.SIGUSR2, before)

    def test_send(self) -> None:
        """The one that is meant gets the signal."""
        send(self.own, signal.SIGUSR2)
        self.assertEqual([signal.SIGUSR2], self.heard)

    def test_number_given_away(self) -> None:
        """Somebody else with the same number gets none; who is gone is no error."""
        send(Process(self.own.pid, 1, 1, self.own.start - 1, False), signal.SIGUSR2)
        send(Process(2**22 + 1, 1, 1, 1, False), signal.SIGUSR2)
        self.assertEqual([], self.heard)
