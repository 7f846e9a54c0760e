"""Names of users, for sentences."""

from __future__ import annotations

import pwd

from txworker.base.printable import printable


def name_of_user(uid: int) -> str:
    """The user's name, printable even where its bytes are not UTF-8; a user without a name is its number."""
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)
