"""State files belong to the user that runs us: no other user reads or writes them.

A recovery store holds pickles, and loading a pickle runs code that its writer chose. So a store is
read only if no user except us and root can have written it.

Group-writable is accepted in one case: the group is our own and has no other member. That is the
case for a Kubernetes volume with `fsGroup` (the kubelet sets g+rw on every mount, so refusing it
would keep every flow from starting), and for a umask of 002 where each user has a group of its own.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from contract.errors import SetupError


def keep_private() -> None:
    """Create files with mode 0600 and directories with mode 0700 from now on.

    Also applies to the processes that this one starts. Each program calls this on start.
    """
    os.umask(0o077)


def check_private(paths: Iterable[Path]) -> None:
    """Check that only we and root can write to these files and directories.

    Raises:
        SetupError: another user can. The text has the path and the command that fixes it.
    """
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:  # SQLite removes its journals when it closes
            continue
        if status.st_uid not in (os.geteuid(), 0):
            raise SetupError(
                f"{path} belongs to {_user(status.st_uid)}, and reading it could run any code as "
                f"{_user(os.geteuid())}: if its content is yours, run "
                f"`chown {os.geteuid()} {path}`"
            )
        others = stat.S_IWOTH
        if not _is_own_group(status.st_gid):
            others |= stat.S_IWGRP
        if status.st_mode & others:
            raise SetupError(
                f"{path} can be written by other users, and reading it could run any code as "
                f"{_user(os.geteuid())}: if its content is yours, run `chmod go-w {path}`"
            )


def _is_own_group(gid: int) -> bool:
    """Whether this is our group and no other account of this machine is a member."""
    if gid != os.getegid():
        return False
    uid = os.geteuid()
    if any(user.pw_gid == gid and user.pw_uid not in (uid, 0) for user in pwd.getpwall()):
        return False
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:  # a number without a name, as in a container
        return True
    return all(member in ("root", _user(uid)) for member in members)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
