"""The image store of a graph root, shared with Podman, Buildah and Skopeo.

What a caller gets are records as they were at one instant; another engine may change them at the next. Locks are
taken in the order that containers/storage has: layers, images, containers, mount counts. Everything here blocks,
perhaps for as long as another engine unpacks a layer, and is called in a thread; reading never waits for a lock.

- `reading`: what there is, from memory as long as nobody has changed it
- `writing`: layers and images
- `containers`: containers and their layers
"""

from __future__ import annotations

from supervisor.storage.containers import ContainerStore

__all__ = ["Store"]


class Store(ContainerStore):
    """One for an engine. Its methods may be called in several threads at once."""
