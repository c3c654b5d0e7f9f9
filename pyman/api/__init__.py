"""The contract between clients and supervisor: one module per interface, one row per method."""

from pyman.api import container, event, image, network, secret, system, volume
from pyman.api.method import Access, Interface, Method, Nothing, Vanish

__all__ = ["INTERFACES", "Access", "Interface", "Method", "Nothing", "Vanish"]

INTERFACES: tuple[Interface, ...] = (
    system.INTERFACE,
    container.INTERFACE,
    image.INTERFACE,
    volume.INTERFACE,
    secret.INTERFACE,
    network.INTERFACE,
    event.INTERFACE,
)
