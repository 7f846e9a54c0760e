"""A terminal of the shim: its output goes into a pipe. Real terminals, no process."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.terminals import open_terminal
from txworker.shim.events import Events
from txworker.shim.terminal import Terminal


class TerminalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = Events()
        self.addCleanup(self.events.close)
        self.master, self.slave = open_terminal(5, 9, None)
        self.addCleanup(os.close, self.slave)
        self.pipe, write_end = os.pipe()
        self.addCleanup(os.close, self.pipe)
        os.set_blocking(self.pipe, False)
        self.terminal = Terminal(self.events, self.master, os.dup(self.slave), write_end)
        self.addCleanup(self.terminal.close)
        self.terminal.start()

    def printed(self, last: bytes = b"") -> bytes:
        """What comes through the pipe until its end, or up to `last`."""
        found = b""
        while True:
            try:
                data = os.read(self.pipe, 1 << 20)
            except BlockingIOError:
                self.events.wait(10)  # the kernel passes on what was written a moment later
                continue
            found += data
            if not data or (last and found.endswith(last)):
                return found

    def close_slave(self) -> None:
        """As the last process does that had it open."""
        os.dup2(self.pipe, self.slave)

    def test_size(self) -> None:
        """It has the size that was asked for, and erases whole characters."""
        self.assertEqual((9, 5), os.get_terminal_size(self.slave))

    def test_owner(self) -> None:
        """Other users may not read it."""
        self.assertEqual(0o620, os.fstat(self.slave).st_mode & 0o777)

    def test_end(self) -> None:
        """It ends when the leader has exited and no process has it open; what was printed before comes first."""
        os.write(self.slave, b"last\n")
        self.close_slave()
        self.assertEqual(b"last\r\n", self.printed(b"\n"))
        self.assertRaises(BlockingIOError, os.read, self.pipe, 100)
        self.terminal.leader_exited()
        self.assertEqual(b"", self.printed())
        self.assertRaises(OSError, os.fstat, self.master)

    def test_held_open(self) -> None:
        """It does not end while another process has it open."""
        self.terminal.leader_exited()
        self.events.wait(0)
        self.assertRaises(BlockingIOError, os.read, self.pipe, 100)
        self.close_slave()
        self.assertEqual(b"", self.printed())

    def waits(self, seconds: float) -> bool:
        """Whether nothing happens for so long."""
        begun = time.monotonic()
        self.events.wait(seconds)
        return time.monotonic() - begun >= seconds

    def test_full_pipe(self) -> None:
        """While the pipe is full the terminal waits and the loop does not turn; no byte is lost."""
        os.set_blocking(self.slave, False)
        written = blocked = 0
        while blocked < 3:
            self.events.wait(0)
            try:
                written += os.write(self.slave, b"x" * 1000)
                blocked = 0
            except BlockingIOError:
                blocked += 1
        self.assertTrue(any(self.waits(0.05) for _ in range(100)))  # the kernel may still pass on what was written
        self.close_slave()
        self.terminal.leader_exited()
        self.assertEqual(written, len(self.printed()))
