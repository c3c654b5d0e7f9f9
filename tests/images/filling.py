"""Images in the store of an engine, made by Podman."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storage.images import busybox, tar_of
from tests.storage.others import Others

if TYPE_CHECKING:
    from tests.support.engine import Engine

__all__ = ["import_image", "nothing_in", "others_of"]


def others_of(engine: Engine) -> Others:
    """The other programs on an engine's graph root."""
    others = Others(engine.path, around=engine.place)
    others.root, others.run = engine.root, engine.runroot
    return others


def import_image(engine: Engine, name: str) -> str:
    """An image of one layer with a shell; its id."""
    others = others_of(engine)
    others.podman("import", "-q", "-", name, stdin=tar_of(busybox()))
    return others.podman("images", "-q", "--no-trunc", name).removeprefix("sha256:")


def nothing_in(engine: Engine) -> bool:
    """No layer, and nothing staged."""
    left = [path for path in (engine.root / "overlay").glob("*") if len(path.name) == 64]
    left += (engine.root / "pyman/store").glob("*/staging/*")
    left += (engine.root / "overlay/l").glob("*")
    return not left
