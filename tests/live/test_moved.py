"""A worker that is started again in another cgroup than before, in another login session say."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support.adversary import cgroup_root, named
from tests.support.daemon import TWISTD, Daemon, wait_until


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """One to be in."""
    if not cgroup_root():
        pytest.skip("needs root and a cgroup v2 hierarchy that can be written")
    place = Path(cgroup_root()) / f"test-{uuid.uuid4()}"
    place.mkdir()
    yield place
    for directory in (*place.glob("*/*/"), *place.glob("*/"), place):
        with suppress(OSError):  # what a failed test left is shown below
            directory.rmdir()
    assert not place.exists()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts a worker that is in that cgroup, the same one again each time."""
    made: list[Daemon] = []

    def start(cgroup: Path, text: str = "") -> Daemon:
        script = tmp_path / "twistd"
        script.write_text(f'#!/bin/bash\necho $$ >{cgroup}/cgroup.procs\nexec {TWISTD} "$@"\n')
        script.chmod(0o755)
        made.append(Daemon(tmp_path, text, twistd=[str(script)]))
        return made[-1]

    yield start
    for worker in reversed(made):
        worker.close()


def became_it(name: str) -> int:
    """The process that has that name and nothing else; 0 while others have it in their command lines, too."""
    pids = named(name)
    return pids[0] if len(pids) == 1 and Path(f"/proc/{pids[0]}/cmdline").read_bytes().startswith(name.encode()) else 0


@pytest.mark.parametrize("cgroups", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_what_is_left_elsewhere(cgroup: Path, started: Callable[..., Daemon], cgroups: str) -> None:
    """What only the old cgroup still tells of ends with the restart, and the old directory goes."""
    lost = f"lost-{uuid.uuid4().hex}"
    worker = started(cgroup)
    become = "exec -a $0 sleep 300"
    worker.bash(f"(ulimit -Sx unlimited; env -i setsid /bin/bash -c '{become}' {lost} &); sleep 300")
    pid = wait_until(lambda: became_it(lost))
    worker.kill_with_shim()
    os.kill(pid, 0)
    try:
        again = started(Path(cgroup_root()), f"[jobs]\nuse_cgroups = {cgroups}\n")
        assert named(lost) == []
        assert "processes of lost jobs still ran and had to be ended" in again.log()
        assert list(cgroup.glob("*/")) == []
        assert again.raw(again.bash("echo on")) == b"on\n"
    finally:
        for survivor in named(lost):
            os.kill(survivor, SIGKILL)
