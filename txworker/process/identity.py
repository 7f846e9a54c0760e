"""The user that jobs run as, from the names in the configuration."""

from __future__ import annotations

import grp
import os
import pwd

from txworker.linux.accounts import groups_of


def identity(user: str, group: str) -> tuple[int, int, tuple[int, ...]]:
    """
    uid, gid and supplementary groups, as at a login. Either name may be empty, or a number.

    Raises:
        KeyError: there is no such user or group.
    """
    account = _account(user) if user else pwd.getpwuid(os.getuid())
    gid = _gid(group) if group else account.pw_gid
    groups = groups_of(account.pw_name, gid) if user else [gid]
    return account.pw_uid, gid, tuple(groups)


def account_of(user: str) -> pwd.struct_passwd | None:
    """The account of that user; None when the name is empty."""
    return _account(user) if user else None


def names_of(user: str) -> tuple[str, ...]:
    """The name, if there is one, and the number of that user; of the worker's own when `user` is empty."""
    user = user or str(os.getuid())
    try:
        account = _account(user)
    except KeyError:  # the worker's own user needs no account
        return (user,)
    return account.pw_name, str(account.pw_uid)


def _account(user: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)


def _gid(group: str) -> int:
    return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
