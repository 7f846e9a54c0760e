"""What every process table promises: the real one and the one that tests fill."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from signal import SIGKILL, SIGSTOP

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.jobs import JOB_ID_VARIABLE
from txworker.linux.procfs import Process, ProcessTable
from txworker.linux.rlimit_tag import tagged

NO_PID = 2**22 + 1
RLIMIT_TAG = 12345


class ProcessTableTests:
    """Run with a process of the table, `self.parent`, whose first thread makes children."""

    table: ProcessTable
    parent: int
    thread: int

    assertEqual: Callable[..., None]
    assertTrue: Callable[..., None]
    assertIsNone: Callable[..., None]

    def a_child(self) -> tuple[int, int]:
        """A child that leads its session and has both tags, and a child of that one; their pids."""
        raise NotImplementedError

    def end(self, pid: int, reap: bool) -> None:
        """The child ends; it is reaped or stays a zombie."""
        raise NotImplementedError

    def process(self, pid: int) -> Process:
        found = self.table.read(pid)
        assert found is not None
        return found

    def test_read(self) -> None:
        """A process has its parent, its session and its start; it is in the list and is the same when read again."""
        pid, below = self.a_child()
        one, two = self.process(pid), self.process(below)
        self.assertEqual((pid, self.parent, pid, False), (one.pid, one.parent, one.session, one.zombie))
        self.assertEqual((pid, pid), (two.parent, two.session))
        self.assertTrue(0 < one.start <= two.start <= self.table.now())
        self.assertTrue({pid, below} <= set(self.table.pids()))
        self.assertTrue(self.table.is_same(one))
        self.assertTrue(not self.table.is_same(Process(pid, self.parent, pid, one.start + 1, False)))

    def test_children(self) -> None:
        """Children are listed, by thread the oldest first; a tree has parents before children."""
        (first, below), (second, _) = self.a_child(), self.a_child()
        children = self.table.children_of_thread(self.parent, self.thread)
        self.assertEqual([first, second], [pid for pid in children() if pid in (first, second)])
        children.close()
        self.assertEqual([below], self.table.children(first))
        gone: set[int] = set()
        self.assertEqual([first, below], [process.pid for process in self.table.tree(first, gone)])
        self.assertEqual(set(), gone)

    def test_tags(self) -> None:
        """A process has the tags that its parent had."""
        for pid in self.a_child():
            self.assertEqual(
                ("a-job", RLIMIT_TAG), (self.table.environment_tag(pid, JOB_ID_VARIABLE), self.table.rlimit_tag(pid))
            )

    def test_no_such_process(self) -> None:
        """Every answer about a process that does not exist is empty, and a signal to it is not an error."""
        self.assertIsNone(self.table.read(NO_PID))
        self.assertIsNone(self.table.environment_tag(NO_PID, JOB_ID_VARIABLE))
        self.assertIsNone(self.table.uid(NO_PID))
        found = (self.table.children(NO_PID), self.table.rlimit_tag(NO_PID), self.table.cgroup(NO_PID))
        self.assertEqual(([], 0, ""), found)
        self.assertTrue(self.table.may_signal(NO_PID))
        gone: set[int] = set()
        self.assertEqual(([], {NO_PID}), (list(self.table.tree(NO_PID, gone)), gone))
        self.table.send(Process(NO_PID, 1, 1, 1, False), SIGKILL)
        with pytest.raises(ProcessLookupError):
            self.table.watch_exit(NO_PID)

    def test_exit(self) -> None:
        """An exited process is a zombie without an environment until it is reaped; a watch tells that it exited."""
        pid, _ = self.a_child()
        watch = self.table.watch_exit(pid)
        self.assertEqual(False, watch.exited())
        before = self.process(pid)
        self.end(pid, reap=False)
        self.assertEqual((True, True), (watch.exited(), self.process(pid).zombie))
        self.assertIsNone(self.table.environment_tag(pid, JOB_ID_VARIABLE))
        self.assertTrue(self.table.is_same(before))
        self.end(pid, reap=True)
        self.assertEqual((None, True), (self.table.read(pid), watch.exited()))
        watch.close()

    def test_send(self) -> None:
        """A signal reaches the process that is meant, and never another one with its pid."""
        pid, _ = self.a_child()
        one, watch = self.process(pid), self.table.watch_exit(pid)
        self.table.send(one, SIGSTOP)
        self.table.send(Process(pid, one.parent, one.session, one.start - 1, False), SIGKILL)
        self.assertEqual((True, False), (self.table.may_signal(pid), watch.exited()))
        self.table.send(one, SIGKILL)
        self.end(pid, reap=True)
        self.assertTrue(watch.exited())
        watch.close()


class RealTableTests(ProcessTableTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.table, self.parent, self.thread = ProcessTable(), os.getpid(), threading.get_native_id()
        self.started: dict[int, subprocess.Popen[str]] = {}

    def a_child(self) -> tuple[int, int]:
        with tagged(RLIMIT_TAG):
            child = subprocess.Popen(
                ["sh", "-c", "exec 3<&0; sh -c 'echo $$; read line <&3' & wait"],  # it tells its pid after its exec
                env={"PATH": os.environ["PATH"], JOB_ID_VARIABLE: "a-job"},
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert child.stdin is not None
        assert child.stdout is not None
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)
        below = int(child.stdout.readline())
        self.started[child.pid] = child
        self.addCleanup(self.end, child.pid, True)
        self.addCleanup(self.table.send, self.process(below), SIGKILL)
        return child.pid, below

    def end(self, pid: int, reap: bool) -> None:
        self.started[pid].kill()
        if reap:
            self.started[pid].wait()
        else:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


class FakeTableTests(ProcessTableTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.parent = self.thread = 50
        self.table: FakeProcessTable = FakeProcessTable()
        self.table.add(self.parent)

    def a_child(self) -> tuple[int, int]:
        pid = max(self.table.processes) + 1
        self.table.add(pid, self.parent)
        self.table.add(pid + 1, pid, session=pid)
        for one in (pid, pid + 1):
            self.table.environment[one], self.table.rlimits[one] = "a-job", RLIMIT_TAG
        return pid, pid + 1

    def end(self, pid: int, reap: bool) -> None:
        if pid in self.table.processes:
            self.table.exits(pid, zombie=not reap)
