"""An entry for the user in the container's /etc/passwd and /etc/group, where they do not have one.

The root filesystem is left as it is: the container sees copies, which lie in its run directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.oci.users import fields_of, text_of

if TYPE_CHECKING:
    from supervisor.oci.request import BuildRequest

__all__ = ["account_files"]


def account_files(request: BuildRequest) -> dict[str, str]:
    """Path in the container to the text that it is to have. A root filesystem without such a file gets none.

    CommandNotExecutable: a file that cannot be read.
    """
    account = request.account
    if account is None:
        return {}
    home = request.spec.work_dir
    if not home or set(home) & set(":\n"):  # which such a line cannot have
        home = "/"
    lines = {
        "/etc/passwd": (account.uid, f"{account.name}:*:{account.uid}:{account.gid}::{home}:/bin/sh"),
        "/etc/group": (account.gid, f"{account.name}:x:{account.gid}:{account.name}"),
    }
    made: dict[str, str] = {}
    for path, (id, line) in lines.items():
        text = text_of(request.rootfs, path)
        taken = any(fields[0] == account.name or fields[2] == str(id) for fields in fields_of(text, 3))
        if text and not taken:
            made[path] = f"{text.rstrip()}\n{line}\n"
    return made
