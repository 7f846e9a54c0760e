"""What the operator sees when the worker cannot start, or is only asked whether it could."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.support.daemon import LIMIT, TWISTD, wait_until


def twistd(place: Path, text: str, *options: str) -> tuple[int, str]:
    """Exit status, and all it printed, of a worker with that configuration."""
    (place / "worker.toml").write_text(text)
    done = subprocess.run(
        [TWISTD, "-n", "--pidfile=", "worker", *options], cwd=place, capture_output=True, text=True, timeout=LIMIT
    )
    return done.returncode, done.stdout + done.stderr


def test_bad_configuration(tmp_path: Path) -> None:
    """A mistake is one sentence with the dotted key, exit status 1, and no traceback."""
    (tmp_path / "file").write_text("")
    table = [
        ("[grpc_server]\nadr = 'x:1'", "grpc_server.adr: "),
        ("[grpc_server]\naddr = 'x:99999'", "grpc_server.addr: "),
        ("[grpc_server]\nuse_tls = true", "grpc_server."),
        ("[jobs]\nmax_running = 'many'", "jobs.max_running: "),
        ("not toml at all", "worker.toml"),
    ]
    for text, words in table:
        for options in ((), ("--check",)):
            status, printed = twistd(tmp_path, text, *options)
            assert status == 1, text
            assert words in printed
            assert printed.count("\n") == 1, printed


def test_check(tmp_path: Path) -> None:
    """--check says that a good configuration is good, and does nothing else."""
    status, printed = twistd(tmp_path, "", "--check")
    assert (status, printed.count("\n")) == (0, 1)
    assert "is good" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["worker.toml"]


def test_address_in_use(tmp_path: Path) -> None:
    """An address that somebody else serves is named, in the foreground and by a starting daemon."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        text = f'[grpc_server]\naddr = "127.0.0.1:{taken.getsockname()[1]}"'
        status, printed = twistd(tmp_path, text)
        assert status == 1
        assert "grpc_server.addr: 127.0.0.1:" in printed
        assert "in use" in printed
        assert "Traceback" not in printed
        daemon = subprocess.run(
            [TWISTD, "--pidfile=pid", "--logfile=log", "worker"], cwd=tmp_path, capture_output=True, timeout=LIMIT
        )
        assert daemon.returncode == 1
        assert b"in use" in daemon.stdout + daemon.stderr
        wait_until(lambda: not (tmp_path / "pid").exists())  # twistd says why first, and then removes it
