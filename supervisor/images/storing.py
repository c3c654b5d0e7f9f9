"""The copy of an image into the store: the layers, several at once, from the base upwards, then its record.

Pull, load and import all end here. A layer that the store has is not read again. The others are unpacked beside the
store, by programs that verify them, and become layers in the order of their parents; the image's record is the last
step. What fails or is cancelled leaves at most layers that are complete, which the next attempt finds, and never an
image that lacks something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.images.progress import Board
    from supervisor.images.transport import RawManifest, Source

__all__ = ["Stored", "Storing"]


class Stored(msgspec.Struct, frozen=True):
    """An image that is in the store now."""

    id: str
    digest: str
    """Of its manifest."""
    names: tuple[str, ...]
    """That it was given."""


class Storing:
    """One for an engine."""

    async def store_image(
        self,
        source: Source,
        manifest: RawManifest,
        *,
        names: Sequence[str],
        board: Board,
        status: str,
        top: RawManifest | None = None,
        event_name: str = "",
    ) -> Stored:
        """Copy one image. `names`: full names that it gets, and that others lose; may be none. `top`: the list that
        names the manifest, which is kept with it. `status`: the event that tells it (`pull`, `loadfromarchive`,
        `import`), under `event_name`, else its first name.

        Errors of the source; ArchiveRefused, DigestMismatch, DiskFull, StorageFailed. Whoever calls it may be
        cancelled: then it has not happened.
        """
        raise NotImplementedError(source, manifest, names, board, status, top, event_name)
