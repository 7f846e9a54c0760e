"""Groups of users, whatever bytes their names are made of."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def groups_of(name: str, gid: int, most: int = 64) -> list[int]:
    """
    gid and the groups that list the user as a member, as at a login (getgrouplist(3)).

    name: as pwd has it, with surrogates for bytes that are no UTF-8; os.getgrouplist() refuses such names.
    most: how many are asked for at first.
    """
    count = ctypes.c_int(most)
    while True:
        groups = (ctypes.c_uint * count.value)()
        if _libc.getgrouplist(os.fsencode(name), ctypes.c_uint(gid), groups, ctypes.byref(count)) >= 0:
            return list(groups[: count.value])
        # there are more: count says how many by now
