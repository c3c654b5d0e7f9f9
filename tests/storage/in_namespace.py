"""What the store does for an ordinary user's engine, in whose user namespace this is run; ends with 0 if all is right."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store
from tests.storage.images import add_image, add_layer, busybox

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    (place,) = arguments
    options = Options(root=f"{place}/root", runroot=f"{place}/run", tmpdir=f"{place}/tmp")
    environ = {"HOME": place, "XDG_RUNTIME_DIR": place, "CONTAINERS_CONF": "/dev/null"}
    settings = load(options, environ, 1000)
    layout = Layout.of(settings)
    os.makedirs(layout.static)
    store = Store(layout, settings, Overlays(settings, layout))
    form = store.overlays.layer_form()
    assert form.whiteouts == "overlay"
    assert form.user_xattrs
    base = add_layer(store, busybox())
    image = add_image(store, [], [base, add_layer(store, {"word": b"said"}, base.id)])
    mounted = store.mount_image(image.id)
    assert sorted(os.listdir(mounted.path)) == ["bin", "etc", "word"]
    assert not store.unmount_image(image.id)
    container = store.add_container("c" * 64, ["web"], image.id)
    parts, root = store.writable(container.id), layout.container_rootfs(container.id)
    os.makedirs(root)
    store.mounting(container.id, root)
    store.overlays.mount(root, parts.lower, parts.upper, parts.work)
    os.unlink(f"{root}/word")
    store.overlays.unmount(root)
    store.unmounted(container.id)
    assert os.listdir(parts.upper) == ["word"]
    assert not store.problems()
    assert store.remove_container(container.id)
    assert len(store.delete_image(image.id).layers) == 2
    store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
