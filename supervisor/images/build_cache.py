"""What builds keep between them for `RUN --mount=type=cache`: found where Buildah keeps it, and removed.

Buildah has a directory for that in $TMPDIR, or where containers.conf has its temporary files, or in /var/tmp: older
versions one for all users, which is whose was first, newer ones one for each. What belongs to another user is left. A
build that goes on meanwhile keeps what it has mounted, and loses it with its end.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument
from supervisor.images.transports.folder import limiter
from supervisor.kernel.files import remove_tree, storage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.settings.model import Settings

__all__ = ["remove_build_cache"]

_DEFAULT = "/var/tmp"  # noqa: S108 - Buildah's choice
_NAME = "buildah-cache"


async def remove_build_cache(settings: Settings, tmpdir: str) -> None:
    """`tmpdir`: the $TMPDIR of the caller, as builds have it; empty: the supervisor's. InvalidArgument, StorageFailed."""
    given = tmpdir or os.environ.get("TMPDIR", "")
    if given and not os.path.isabs(given):
        raise InvalidArgument(
            f"cannot look for caches in '{given}': it is not an absolute path", subject=given
        )
    configured = settings.engine.image_copy_tmp_dir
    if configured == "storage":
        configured = f"{settings.storage.graphroot}/tmp"  # noqa: S108 - not the host's
    places = [given] if given else [*dict.fromkeys((configured, _DEFAULT))]
    for path in await trio.to_thread.run_sync(_aside, places, settings.uid, limiter=limiter):
        await remove_tree(path)


def _aside(places: Sequence[str], uid: int) -> list[str]:
    """Under names at which no build looks for them; also what an earlier call has not come to the end of."""
    found: list[str] = []
    for place in places:
        prefix = f".pyman-{_NAME}-{uid}-"
        with suppress(OSError):
            left = [f"{place}/{name}" for name in os.listdir(place) if name.startswith(prefix)]
            found += filter(_is_own, left)
        for name in (_NAME, f"{_NAME}-{uid}"):
            path = f"{place}/{name}"
            if not _is_own(path):
                continue
            aside = f"{place}/{prefix}{secrets.token_hex(8)}"
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, "remove", path) from error
            found.append(aside)
    return found


def _is_own(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
