"""Small files that the engine has for a container: secrets, and copies of what mounts.conf names.

All of them lie on one tmpfs in the container's run directory, which is as large as they need: so they are never on a
disk, and what the container writes beside them takes no room on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.oci.spec import Mount

if TYPE_CHECKING:
    from supervisor.oci.request import BuildRequest

__all__ = ["SECRETS", "Given", "given_mounts", "place_of", "shown_directory", "source_of", "subscribed"]

SECRETS = "/run/secrets"
_OPTIONS = ["bind", "rprivate", "nosuid", "nodev", "noexec"]
"""As the tmpfs is mounted: who is not root on the host may not drop these."""


class Given(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret that is a file in a container, as it was settled when that was created."""

    id: str
    name: str
    destination: str
    """Absolute."""
    uid: int = 0
    """In the container, as the next one."""
    gid: int = 0
    mode: int = 0o444


def given_mounts(request: BuildRequest) -> list[Mount]:
    """The directory of secrets comes first: mount points of the files are made in it, and not in the root filesystem."""
    if not request.secrets and not request.subscriptions:
        return []
    place = place_of(request.run_directory)
    found = {
        destination: subscribed(place, number)
        for number, (_, destination) in enumerate(request.subscriptions)
    }
    if request.secrets:
        found.setdefault(SECRETS, shown_directory(place))
    found |= {each.destination: source_of(place, number) for number, each in enumerate(request.secrets)}
    return [Mount(destination, "bind", source, _OPTIONS) for destination, source in found.items()]


def place_of(run_directory: str) -> str:
    """Where the tmpfs is mounted."""
    return f"{run_directory}/mounts/given"


def shown_directory(place: str) -> str:
    """What is `SECRETS` in the container."""
    return f"{place}/shown"


def source_of(place: str, number: int) -> str:
    """The file of a secret, by its number among the container's."""
    return f"{place}/secret-{number}"


def subscribed(place: str, number: int) -> str:
    """The copy of what a line of mounts.conf names, by its number."""
    return f"{place}/subscription-{number}"
