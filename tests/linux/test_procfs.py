"""How the files of /proc are read: made-up files, and this process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.procfs import Process, ProcessTable


def stat(pid: int, state: str = "S", threads: int = 1) -> bytes:
    name = "a) b (c\n"
    return f"{pid} ({name}) {state} 1 4 5 {'0 ' * 13}{threads} 0 99 0 0".encode()


class ProcfsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.root.mkdir()
        self.table = ProcessTable(str(self.root))

    def file(self, name: str, contents: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)

    def test_stat(self) -> None:
        """The fields are found whatever the name of the program contains."""
        self.file("7/stat", stat(7))
        self.assertEqual((Process(7, 1, 5, 99, False), None), (self.table.read(7), self.table.read(8)))

    def test_stopped(self) -> None:
        """A process that a signal or a debugger has stopped; one that is not there is not stopped."""
        for pid, state in enumerate("STtZ", 1):
            self.file(f"{pid}/stat", stat(pid, state))
        self.assertEqual([False, True, True, False, False], [self.table.is_stopped(pid) for pid in range(1, 6)])

    def test_pids(self) -> None:
        """Every directory whose name is a number is a process; the newest pid is in loadavg."""
        for name in ("7/stat", "8/stat", "self/stat", "bus/x"):
            self.file(name, b"")
        self.file("loadavg", b"0.00 0.01 0.05 1/200 4711\n")
        self.assertEqual(([7, 8], 4711), (sorted(self.table.pids()), self.table.newest_pid()))

    def test_zombie(self) -> None:
        """A process that has exited is a zombie; one that runs on without its first thread is not."""
        self.file("7/stat", stat(7, "Z"))
        self.file("8/stat", stat(8, "Z", threads=2))
        self.file("9/stat", stat(9, "X"))
        found = [self.table.read(pid) for pid in (7, 8, 9)]
        self.assertEqual([True, False, True], [process is not None and process.zombie for process in found])

    def test_environment_tag(self) -> None:
        """It is the variable of that name, not one whose name ends with it; another thread may have it, too."""
        self.file("7/environ", b"A=1\0TAG=the-id\0B=2\0")
        self.file("8/environ", b"NOT_TAG=x\0")
        self.file("9/environ", b"TAG=\xff\0")
        self.file("10/environ", b"")
        self.file("10/task/10/environ", b"")
        self.file("10/task/11/environ", b"TAG=of a thread\0")
        found = [self.table.environment_tag(pid, "TAG") for pid in (7, 8, 9, 10, 12)]
        self.assertEqual(["the-id", None, "\ufffd", "of a thread", None], found)

    def test_rlimit_tag(self) -> None:
        """It is the soft limit of file locks; an unlimited one is no tag."""
        line = b"Limit   Soft Hard Units\nMax file locks %s unlimited locks\nMax pending signals 1 1 signals\n"
        self.file("7/limits", line % b"123")
        self.file("8/limits", line % b"unlimited")
        self.assertEqual([123, 0, 0], [self.table.rlimit_tag(pid) for pid in (7, 8, 9)])

    def test_cgroup(self) -> None:
        """It is that of the v2 hierarchy, whatever others there are."""
        self.file("7/cgroup", b"9:pids:/x\n0::/a/b\n")
        self.file("8/cgroup", b"9:pids:/x\n")
        self.assertEqual(["/a/b", "", ""], [self.table.cgroup(pid) for pid in (7, 8, 9)])

    def test_uid(self) -> None:
        """It is the effective one."""
        self.file("7/status", b"Name:\tx\nUid:\t1\t2\t3\t4\n")
        self.assertEqual((2, None), (self.table.uid(7), self.table.uid(8)))

    def test_long_list(self) -> None:
        """A list that is longer than one read is read to its end."""
        pids = list(range(10_000, 20_000))
        self.file("7/task/8/children", b"".join(b"%d " % pid for pid in pids))
        children = self.table.children_of_thread(7, 8)
        self.assertEqual(pids, children())
        children.close()
        self.assertEqual(pids, self.table.children(7))

    def test_tree(self) -> None:
        """Parents come first, at any depth; a child that was listed and has gone is reported."""
        depth = 1000
        for pid in range(1, depth):
            self.file(f"{pid}/task/{pid}/children", b"%d" % (pid + 1))
            if pid != 600:
                self.file(f"{pid}/stat", stat(pid))
        gone: set[int] = set()
        self.assertEqual(list(range(1, 600)), [process.pid for process in self.table.tree(1, gone)])
        self.assertEqual({600}, gone)

    def test_own(self) -> None:
        """This process is found."""
        own = ProcessTable().read(os.getpid())
        assert own is not None
        self.assertEqual((os.getppid(), os.getsid(0), False), (own.parent, own.session, own.zombie))

    def test_cannot_read(self) -> None:
        """No descriptor left must not look as if the process had gone."""
        with patch.object(os, "open", side_effect=OSError(24, "Too many open files")):
            self.assertRaises(OSError, self.table.read, os.getpid())


class SendTests(SynchronousTestCase):
    def test_send(self) -> None:
        """The signal reaches the process that is meant, here this one."""
        heard: list[int] = []
        before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        own = ProcessTable().read(os.getpid())
        assert own is not None
        ProcessTable().send(own, signal.SIGUSR2)
        self.assertEqual([signal.SIGUSR2], heard)
