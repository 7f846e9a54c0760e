"""
Where this process is in the cgroup v2 hierarchy (cgroups(7)). Apart from cgroup.py, because that imports pathlib, which
is too large for the shim.
"""

from __future__ import annotations


def own_cgroup_path(proc: str = "/proc/self") -> str:
    """
    The directory of this process's cgroup, as seen through the mount.

    Raises:
        OSError: there is no such hierarchy.
    """
    own = [line for line in _lines(f"{proc}/cgroup") if line.startswith("0::")]
    mounts = [line.split() for line in _lines(f"{proc}/mountinfo") if " - cgroup2 " in line]
    if not own or not mounts:
        raise FileNotFoundError("cgroup v2 is not mounted")
    root, mounted = mounts[0][3], mounts[0][4]
    inside = own[0][3:]
    inside = inside[len(root) :] if root != "/" and inside.startswith(root) else inside
    return mounted + inside


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()
