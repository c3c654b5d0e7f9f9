"""The table from method names to handlers: one object per interface, one method per row."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING, Protocol

from pyman.api import INTERFACES
from supervisor.rpc.container import ContainerHandlers
from supervisor.rpc.event import EventHandlers
from supervisor.rpc.image import ImageHandlers
from supervisor.rpc.network import NetworkHandlers
from supervisor.rpc.secret import SecretHandlers
from supervisor.rpc.system import SystemHandlers
from supervisor.rpc.volume import VolumeHandlers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.system import ReloadReply
    from supervisor.rpc.dispatch import Handler
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.views.info import Facts

__all__ = ["Control", "handlers"]


class Control(Protocol):
    """What the daemon lets calls do to itself."""

    @property
    def facts(self) -> Facts: ...

    def reload(self) -> ReloadReply:
        """Read the configuration again. Raises InvalidConfig and leaves everything as it was."""

    def request_shutdown(self, containers: str) -> None:
        """End the supervisor once this call is answered; `containers` is `leave` or `stop`."""


def handlers(engine: Engine, control: Control) -> Mapping[str, Handler]:
    """Every row of the contract with the method of the same name in snake case."""
    by_interface = {
        "io.pyman.Container": ContainerHandlers(engine),
        "io.pyman.Event": EventHandlers(engine),
        "io.pyman.Image": ImageHandlers(engine),
        "io.pyman.Network": NetworkHandlers(engine),
        "io.pyman.Secret": SecretHandlers(engine),
        "io.pyman.System": SystemHandlers(engine, control),
        "io.pyman.Volume": VolumeHandlers(engine),
    }
    found: dict[str, Handler] = {}
    for interface in INTERFACES:
        target = by_interface[interface.name]
        for method in interface.methods:
            found[f"{interface.name}.{method.name}"] = getattr(target, _snake(method.name))
    return found


def _snake(name: str) -> str:
    """Python's own words get an underscore more: `import_`."""
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return f"{snake}_" if keyword.iskeyword(snake) else snake
