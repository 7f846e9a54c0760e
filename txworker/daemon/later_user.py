"""The user that root becomes in twistd once the configuration is read (--uid, --gid)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from txworker.daemon.refusals import CannotStart
from txworker.linux.accounts import groups_of


@contextmanager
def rights_of(uid: int | None, gid: int | None) -> Iterator[None]:
    """
    Within the block the process may do what it may once twistd has changed its user (twisted.python.util.switchUID).
    None: twistd does not change it. Without root nothing happens. Only while there is a single thread.

    Raises:
        CannotStart: there is no such user, or the process may not become it.
    """
    if os.geteuid() != 0 or (uid is None and gid is None):
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        _become(uid, gid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        if os.getgroups() != groups:
            os.setgroups(groups)


def _become(uid: int | None, gid: int | None) -> None:
    try:
        if uid:  # as root twistd leaves the groups alone
            account = pwd.getpwuid(uid)
            gid = account.pw_gid if gid is None else gid
            os.setgroups(groups_of(account.pw_name, gid))
        if gid is not None:
            os.setegid(gid)
        if uid:
            os.seteuid(uid)
    except KeyError as error:
        raise CannotStart(f"txworker: twistd --uid: there is no user {uid}") from error
    except PermissionError as error:  # root within a container may lack the capability
        raise CannotStart(f"txworker: twistd --uid: root cannot become user {uid}: {error.strerror}") from error
