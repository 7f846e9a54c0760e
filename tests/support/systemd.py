"""A real systemd, of the test's own: process 1 of namespaces, which knows the units in a directory and no others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.adversary import cgroup_root
from tests.support.daemon import wait_until
from txworker.linux.procfs import ProcessTable

PROGRAM = "/lib/systemd/systemd"
_BOOT = """
set -e
mount --make-rprivate /
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
for directory in $PRIVATE; do
    layers="lowerdir=$directory,upperdir=$UPPER$directory,workdir=$UPPER/work$directory"
    mount -t overlay overlay -o "$layers" "$directory"
done
if [ -e /etc/machine-id ]; then
    echo 0123456789abcdef0123456789abcdef >/run/machine-id
    mount --bind /run/machine-id /etc/machine-id
fi
exec "$0" --system --unit=nothing.target --show-status=0
"""


def why_not() -> str:
    """Why none can be booted here; empty: one can."""
    if not os.access(PROGRAM, os.X_OK) or not shutil.which("unshare") or not shutil.which("nsenter"):
        return "there is no systemd here, or no unshare or nsenter"
    if os.geteuid() or not cgroup_root():
        return "booting systemd needs root, and a cgroup v2 hierarchy that can be written"
    return ""


class Systemd:
    """
    units are the texts of its unit files, by their names. private: directories in which it sees what is there, but what
    it changes vanishes with it; with /etc among them, units may be added to /etc/systemd/system.

    Raises:
        AssertionError: it does not come up, as where there are no namespaces.
    """

    def __init__(self, place: Path, units: dict[str, str], private: Sequence[str] = ()) -> None:
        self._cgroup = Path(cgroup_root()) / f"systemd-{uuid.uuid4()}"
        self._cgroup.mkdir()
        for name in ("units", "generators"):
            (place / name).mkdir()
        for name, text in {"nothing.target": "[Unit]\n", **units}.items():
            (place / "units" / name).write_text(text)
        self._upper = place / "private"
        for directory in private:
            (self._upper / directory.lstrip("/")).mkdir(parents=True)
            (self._upper / "work" / directory.lstrip("/")).mkdir(parents=True)
        more_units = ":/etc/systemd/system" if "/etc" in private else ""
        environment = {
            "PRIVATE": " ".join(private),
            "UPPER": str(self._upper),
            "PATH": os.environ["PATH"],
            "container": "lxc",
            "SYSTEMD_UNIT_PATH": f"{place / 'units'}{more_units}",
            "SYSTEMD_GENERATOR_PATH": str(place / "generators"),
            "SYSTEMD_LOG_TARGET": "null",
        }
        enter = f"echo $$ >{self._cgroup}/cgroup.procs; exec unshare --pid --mount --uts --ipc --cgroup --fork"
        words = ["sh", "-c", f'{enter} --kill-child sh -c "$@"', "sh", _BOOT, PROGRAM]
        self._unshare = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: self.systemctl("is-system-running").stdout.strip() in ("running", "degraded"), 60)
        except BaseException:
            self.close()
            raise

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What it says, and its status."""
        return self.run("systemctl", "--no-pager", *words)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command beside it, in its namespaces."""
        return subprocess.run(self.beside(*words), capture_output=True, text=True, timeout=240, check=False)

    def beside(self, *words: str) -> list[str]:
        """The command that runs these words in its namespaces."""
        first = next(iter(ProcessTable().children(self._unshare.pid)), 0)
        return ["nsenter", "-t", str(first), "-a", *words]

    def close(self) -> None:
        """All of it ends: unshare kills process 1, and the kernel whatever else is in its namespace."""
        with suppress(OSError):
            (self._cgroup / "cgroup.kill").write_text("1")
        self._unshare.send_signal(signal.SIGKILL)
        self._unshare.wait()
        wait_until(lambda: not any(map(_processes, [self._cgroup, *self._cgroup.rglob("*/")])))
        for directory in sorted(self._cgroup.rglob("*/"), key=lambda path: -len(path.parts)):
            directory.rmdir()
        self._cgroup.rmdir()
        shutil.rmtree(self._upper, ignore_errors=True)


def _processes(cgroup: Path) -> str:
    try:
        return (cgroup / "cgroup.procs").read_text()
    except OSError:
        return ""
