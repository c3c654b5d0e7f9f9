"""Images from registries: what a name may mean there, when it is asked for at all, and the pull that many share.

As in Podman: a name that is here already is pulled under its full name; a short one is tried as registries.conf has
it, one place after the other. A platform that is asked for is looked up anew, as images say wrong things of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.api.pull import Platform, RegistryAccess
from pyman.errors import InvalidArgument, NoSuchImage, PymanError, RegistryFailed
from pyman.names import EventStatus
from supervisor.images import platforms
from supervisor.images.docker import RegistrySource
from supervisor.images.events import event
from supervisor.images.manifests import Index, decode
from supervisor.images.names import Found, no_such_image, stripped
from supervisor.images.progress import Board
from supervisor.images.sharing import Sharing
from supervisor.images.view import HERE
from supervisor.registry import reference
from supervisor.storage.records import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from pyman.api.event import Actor
    from supervisor.images.events import Ledger
    from supervisor.images.layers import Layers
    from supervisor.images.library import Images
    from supervisor.images.partials import Partials
    from supervisor.images.storing import Storing
    from supervisor.images.transport import RawManifest
    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference

__all__ = ["POLICIES", "Pulled", "Pulling", "Wish"]

POLICIES = ("always", "missing", "newer", "never")


class Wish(msgspec.Struct, frozen=True):
    """What is pulled, and how."""

    name: str
    """A name, in full or short, perhaps with `docker://` in front."""
    policy: str = "always"
    all_tags: bool = False
    platform: Platform = HERE
    access: RegistryAccess = RegistryAccess()


class Pulled(msgspec.Struct, frozen=True):
    """What is here now."""

    found: tuple[Found, ...]

    @property
    def ids(self) -> list[str]:
        return [each.image.id for each in self.found]

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.found]
