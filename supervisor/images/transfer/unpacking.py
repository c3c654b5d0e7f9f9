"""Unpacking a layer into its place beside the store, in the form that whatever mounts it here reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervisor.archive import jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.archive.feed import Feed
    from supervisor.archive.jobs import Unpacked
    from supervisor.storage.layers import Staged
    from supervisor.storage.store import Store

__all__ = ["unpack"]


async def unpack(
    store: Store,
    limiter: trio.CapacityLimiter,
    staged: Staged,
    feed: Feed,
    *,
    digest: str = "",
    size: int = -1,
    diff_id: str = "",
    report: Callable[[int], None] | None = None,
) -> Unpacked:
    """See `archive.jobs.unpack`; `limiter` is that of the room's threads."""
    form = await trio.to_thread.run_sync(store.overlays.layer_form, limiter=limiter)
    return await jobs.unpack(
        feed,
        staged.diff,
        staged.tar_split,
        digest=digest,
        size=size,
        diff_id=diff_id,
        whiteouts=form.whiteouts,
        user_xattrs=form.user_xattrs,
        ignore_chown_errors=form.ignore_chown_errors,
        report=report,
    )
