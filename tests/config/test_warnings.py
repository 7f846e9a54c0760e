"""What an operator is warned of: a table of configurations and sentences."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.config import load
from txworker.config.warnings import SMALL_BYTES, warnings_of

NO_TLS = "grpc_server.use_tls is false: {} is served without TLS, and anyone who can reach it can run commands"
NO_CLIENT_CA = "grpc_server.client_ca_file is not given: anyone who can reach {} can run commands on this machine"
NO_ADDRESS = "scheduler.advertise_addr is not given: the scheduler is told {}, which cannot be dialled"
WRONG_ADDRESS = "scheduler.advertise_addr: the scheduler is told {}, {}"
LOOPBACK = "scheduler.advertise_addr is not given: the scheduler is told {}, which no other machine can dial"
UNUSED = "grpc_server.use_tls is false: crt_file and key_file are not used, and calls are not encrypted"
FOR_EVER = "jobs.keep_days, keep_jobs and keep_output_bytes are 0: all output is kept for ever, and the disk of"
SCHEDULER = "[scheduler]\naddr = 's:1'\n"

TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ()),
    ("grpc_server.addr = '127.0.0.1:0'", ()),
    ("grpc_server.addr = '127.9.9.9:1'", ()),
    ("grpc_server.addr = '[::1]:1'", ()),
    ("grpc_server.addr = 'LocalHost:1'", ()),
    ("grpc_server.addr = ':1'", (NO_TLS.format("0.0.0.0:1"),)),
    ("grpc_server.addr = '[::]:1'", (NO_TLS.format("[::]:1"),)),
    ("grpc_server.addr = '10.0.0.7:1'", (NO_TLS.format("10.0.0.7:1"),)),
    ("grpc_server.addr = 'worker.example:1'", (NO_TLS.format("worker.example:1"),)),
    ("grpc_server.crt_file = 'a'", (UNUSED,)),
    (f"grpc_server.addr = ':1'\n{SCHEDULER}", (NO_TLS.format("0.0.0.0:1"), NO_ADDRESS.format("0.0.0.0"))),
    (f"grpc_server.addr = '[::]:1'\n{SCHEDULER}", (NO_TLS.format("[::]:1"), NO_ADDRESS.format("::"))),
    (f"grpc_server.addr = ':1'\n{SCHEDULER}advertise_addr = 'w:1'", (NO_TLS.format("0.0.0.0:1"),)),
    (f"{SCHEDULER}advertise_addr = '0.0.0.0:1'", (WRONG_ADDRESS.format("0.0.0.0", "which cannot be dialled"),)),
    (f"{SCHEDULER}advertise_addr = '[::]:1'", (WRONG_ADDRESS.format("::", "which cannot be dialled"),)),
    (f"{SCHEDULER}advertise_addr = '[::1]:1'", (WRONG_ADDRESS.format("::1", "which no other machine can dial"),)),
    (f"{SCHEDULER}advertise_addr = 'w:1'", ()),
    (f"{SCHEDULER}", (LOOPBACK.format("127.0.0.1"),)),
    ("scheduler.addrs = ['127.0.0.1:1', 's:1']", (LOOPBACK.format("127.0.0.1"),)),
    ("scheduler.addrs = ['127.0.0.1:1', '[::1]:1', 'localhost:1']", ()),
    ("web.addr = '[::1]:1'", ()),
    ("web.addr = ':1'", ("web.addr is not loopback: anyone who can reach 0.0.0.0:1 can read metrics and health",)),
)
"""worker.toml, and how each warning begins."""

TLS_TABLE = (
    ("addr = '127.0.0.1:1'", ()),
    ("addr = ':1'", (NO_CLIENT_CA.format("0.0.0.0:1"),)),
    ("addr = ':1'\nclient_ca_file = 'a'", ()),
)
"""The same of a server with TLS."""


class WarningTests(SynchronousTestCase):
    def warned(self, text: str, free: int = SMALL_BYTES) -> list[str]:
        """The warnings about a worker.toml, on a disk with so much room."""
        path = Path("worker.toml")
        path.write_text(text)
        with mock.patch("txworker.config.load.check_server"):
            return warnings_of(load(path), lambda directory: free)

    def check(self, expected: tuple[str, ...], warnings: list[str], text: str) -> None:
        """Each begins as expected."""
        self.assertEqual(len(expected), len(warnings), (text, warnings))
        for beginning, warning in zip(expected, warnings, strict=True):
            self.assertTrue(warning.startswith(beginning), warning)

    def test_without_tls(self) -> None:
        """Beyond loopback without TLS; an address that the scheduler cannot dial; files that are not used."""
        for text, expected in TABLE:
            self.check(expected, self.warned(text), text)

    def test_with_tls(self) -> None:
        """Beyond loopback for clients without certificates."""
        for text, expected in TLS_TABLE:
            server = f"[grpc_server]\nuse_tls = true\ncrt_file = 'a'\nkey_file = 'b'\n{text}"
            self.check(expected, self.warned(server), text)

    def test_disk(self) -> None:
        """Output that is kept for ever on a disk with little room; any limit of retention will do."""
        (warning,) = self.warned("", SMALL_BYTES - 2**30)
        self.assertTrue(warning.startswith(FOR_EVER), warning)
        self.assertTrue(warning.endswith(" has 19.0 GiB left"), warning)
        for key in ("keep_days", "keep_jobs", "keep_output_bytes"):
            self.assertEqual([], self.warned(f"jobs.{key} = 1", 0))

    def test_disk_that_does_not_tell(self) -> None:
        """No warning: opening the directory reports what is wrong."""
        path = Path("worker.toml")
        path.write_text("")
        self.assertEqual([], warnings_of(load(path), mock.Mock(side_effect=PermissionError)))

    def test_real_disk(self) -> None:
        """The room is that of the disk where the directory will be created."""
        path = Path("worker.toml")
        path.write_text("jobs.output_directory = 'a/b/c'")
        with mock.patch("txworker.config.warnings.SMALL_BYTES", 2**62):
            (warning,) = warnings_of(load(path))
        self.assertTrue(warning.startswith(f"{FOR_EVER} {Path.cwd()}/a/b/c has "), warning)

    def test_key_that_others_can_read(self) -> None:
        """
        A warning names the file and its mode. A group may read the key where the worker reads it only as a member.
        """
        key = Path("server.key")
        key.touch()
        ours = os.geteuid()
        server = "[grpc_server]\nuse_tls = true\ncrt_file = 'a'\nkey_file = 'server.key'"
        for mode, uid, warned in [
            (0o600, ours, False),
            (0o400, ours, False),
            (0o640, ours, True),
            (0o604, ours, True),
            (0o644, ours, True),
            (0o640, ours + 1000, ours != 0),
            (0o600, ours + 1000, ours != 0),
        ]:
            key.chmod(mode)
            with mock.patch("os.geteuid", return_value=uid):
                warnings = self.warned(server)
            self.assertEqual(warned, bool(warnings), (oct(mode), uid))
            if warned and uid == ours:
                said = f"grpc_server.key_file: {key.absolute()} can be read by others (mode {mode:04o})"
                self.assertEqual([said], warnings)
