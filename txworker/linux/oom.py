"""Which processes the kernel kills first when there is no memory left (proc_pid_oom_score_adj(5))."""

from __future__ import annotations


def own_oom_score_adj() -> int:
    """This process's value, which its children inherit; 0 where it cannot be read."""
    try:
        with open("/proc/self/oom_score_adj") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
