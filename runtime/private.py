"""Files with state belong to the user that runs us: nobody else reads them, or writes them.

A recovery store holds pickles, and to read a pickle is to run what its writer wants. So a store is
read only where nobody but us, or root, can have written it.

Group-writable is accepted in one case: the group is our own and nobody else is in it. That is what
a Kubernetes volume with `fsGroup` is (the kubelet sets g+rw on it at every mount, so refusing would
mean that no flow starts), and what a umask of 002 leaves where each user has a group of its own.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from contract.errors import SetupError


def keep_private() -> None:
    """Create files with mode 0600 and directories with 0700 from now on, in this process and those
    that it starts. Called by each program's entry.
    """
    os.umask(0o077)


def check_private(paths: Iterable[Path]) -> None:
    """See that nobody but us and root can write to any of these files and directories.

    Raises:
        SetupError: somebody else can; it names the path and the command that changes that.
    """
    for path in paths:
        try:
            found = path.stat()
        except FileNotFoundError:  # SQLite takes its journals away when it closes
            continue
        if found.st_uid not in (os.geteuid(), 0):
            raise SetupError(
                f"{path} belongs to {_user(found.st_uid)}, and what is read from it could run "
                f"anything as {_user(os.geteuid())}: if its content is yours, "
                f"`chown {os.geteuid()} {path}`"
            )
        others = stat.S_IWOTH
        if not _is_own_group(found.st_gid):
            others |= stat.S_IWGRP
        if found.st_mode & others:
            raise SetupError(
                f"{path} can be written by other users, and what is read from it could run "
                f"anything as {_user(os.geteuid())}: if its content is yours, `chmod go-w {path}`"
            )


def _is_own_group(gid: int) -> bool:
    """Whether it is this process's group and no other account of this machine is in it."""
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
