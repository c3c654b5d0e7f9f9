"""What is known of a container's root filesystem before anything is mounted."""

from __future__ import annotations

from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.storage.rootfs import is_hidden


def test_a_container_that_has_its_engines_user_sees_the_engines_directories() -> None:
    """Whatever id it has inside; 65534 is one like others."""
    for inside in (0, 5, 65_534):
        lines = (IdRange(inside, 0, 1),)
        assert not is_hidden(IdMaps(lines, lines))
    lines = (IdRange(0, 65_534, 1),)
    assert is_hidden(IdMaps(lines, lines))
