"""A process table that tests fill. It keeps the promises of the real one: tests/linux/test_process_table.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from signal import SIGKILL

from txworker.leftovers.tags import Tag
from txworker.linux.procfs import ExitWatch, Process, ProcessTable, ThreadChildren


class FakeProcessTable(ProcessTable):
    """
    Orphans become children of `reaper`, in its first thread. `ticks` is the time, and when new processes start.

    when_read[pid]() is called once, before that process is read, and when_tags_read[pid]() once, before its tags are;
    when_listed() before each read of a thread's children, and after each read of all pids. on_signal(process, number)
    returns True when it has changed the table instead of the signal. `problem` is raised by every read. `ghosts` are
    children that are listed and gone.
    """

    def __init__(self, reaper: int = 1) -> None:
        super().__init__("/nowhere")
        self.processes: dict[int, Process] = {}
        self.environment: dict[int, str] = {}
        self.rlimits: dict[int, int] = {}
        self.cgroups: dict[int, str] = {}
        self.threads: dict[int, int] = {}
        self.forbidden: set[int] = set()
        self.ticks = 500
        self.reaper = reaper
        self.reads: list[int] = []
        self.tag_reads: list[int] = []
        self.lists = 0
        self.signals: list[tuple[int, int]] = []
        self.watches = 0
        self.problem: OSError | None = None
        self.when_read: dict[int, Callable[[], object]] = {}
        self.when_tags_read: dict[int, Callable[[], object]] = {}
        self.when_listed: Callable[[], object] = lambda: None
        self.on_signal: Callable[[Process, int], bool] = lambda process, number: False
        self.ghosts: Iterator[int] = iter(())

    def add(
        self,
        pid: int,
        parent: int | None = None,
        session: int | None = None,
        tag: Tag = "",
        zombie: bool = False,
        start: int | None = None,
        thread: int | None = None,
    ) -> Process:
        """A process, in place of the one that had that pid; thread: the parent's thread whose child it is."""
        parent = self.reaper if parent is None else parent
        process = Process(pid, parent, session or pid, self.ticks if start is None else start, zombie)
        self.processes[pid] = process
        self.threads[pid] = thread or parent
        self.tag(pid, tag)
        return process

    def tag(self, pid: int, tag: Tag) -> None:
        """An int is its rlimit tag, a str its environment tag; 0 and "" are none."""
        self.environment.pop(pid, None)
        self.rlimits.pop(pid, None)
        if isinstance(tag, int):
            self.rlimits[pid] = tag
        elif tag:
            self.environment[pid] = tag

    def exits(self, pid: int, zombie: bool = False) -> None:
        """It exits and is reaped, or stays as a zombie; its children are adopted."""
        process = self.processes.pop(pid)
        self.tag(pid, "")
        if zombie:
            self.add(pid, process.parent, process.session, zombie=True, start=process.start, thread=self.threads[pid])
        for child in self.children(pid):
            self.adopt(child)

    def adopt(self, pid: int) -> None:
        """It is an orphan now."""
        one = self.processes.pop(pid)  # the newest in the list of its new parent
        self.processes[pid] = Process(pid, self.reaper, one.session, one.start, one.zombie)
        self.threads[pid] = self.reaper

    def alive(self) -> set[int]:
        """The pids of all that are not zombies."""
        return {process.pid for process in self.processes.values() if not process.zombie}

    def now(self) -> int:
        return self.ticks

    def pids(self) -> list[int]:
        self._fail()
        self.lists += 1
        found = list(self.processes)
        self.when_listed()
        return found

    def newest_pid(self) -> int:
        return next(reversed(self.processes))

    def read(self, pid: int) -> Process | None:
        self._fail()
        self.when_read.pop(pid, lambda: None)()
        self.reads.append(pid)
        return self.processes.get(pid)

    def children(self, pid: int) -> list[int]:
        found = [process.pid for process in self.processes.values() if process.parent == pid]
        ghost = next(self.ghosts, None)
        return found if ghost is None else [*found, ghost]

    def children_of_thread(self, pid: int, thread_id: int) -> ThreadChildren:
        return FakeThreadChildren(self, pid, thread_id)

    def environment_tag(self, pid: int, variable: str) -> str | None:
        return self.environment.get(pid)

    def rlimit_tag(self, pid: int) -> int:
        self.tag_reads.append(pid)
        self.when_tags_read.pop(pid, lambda: None)()
        return self.rlimits.get(pid, 0)

    def cgroup(self, pid: int) -> str:
        return self.cgroups.get(pid, "")

    def uid(self, pid: int) -> int | None:
        return 0 if pid in self.processes else None

    def is_same(self, process: Process) -> bool:
        now = self.processes.get(process.pid)
        return now is not None and now.start == process.start

    def send(self, process: Process, number: int) -> None:
        if not self.is_same(process) or process.pid in self.forbidden or self.on_signal(process, number):
            return
        self.signals.append((process.pid, number))
        if number == SIGKILL:
            self.exits(process.pid)

    def may_signal(self, pid: int) -> bool:
        return pid not in self.forbidden

    def watch_exit(self, pid: int) -> ExitWatch:
        if pid not in self.processes:
            raise ProcessLookupError
        return FakeExitWatch(self, self.processes[pid])

    def list_children(self, pid: int, thread_id: int) -> list[int]:
        """What a FakeThreadChildren reads."""
        self.when_listed()
        self._fail()
        self.lists += 1
        return [
            process.pid
            for process in self.processes.values()
            if process.parent == pid and self.threads[process.pid] == thread_id
        ]

    def _fail(self) -> None:
        if self.problem is not None:
            raise self.problem


class FakeThreadChildren(ThreadChildren):
    """The children of one thread of a FakeProcessTable's process."""

    def __init__(self, table: FakeProcessTable, pid: int, thread_id: int) -> None:
        self._read = lambda: table.list_children(pid, thread_id)

    def __call__(self) -> list[int]:
        return self._read()

    def close(self) -> None:
        pass


class FakeExitWatch(ExitWatch):
    """Watches one process of a FakeProcessTable, which counts the watches that are open."""

    def __init__(self, table: FakeProcessTable, process: Process) -> None:
        self._table, self._process = table, process
        table.watches += 1

    def exited(self) -> bool:
        now = self._table.processes.get(self._process.pid)
        return now is None or now.zombie or now.start != self._process.start

    def close(self) -> None:
        self._table.watches -= 1
