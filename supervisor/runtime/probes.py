"""What the engine asks of other programs when it starts, begun before most of it is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.conmon import candidates
from supervisor.oci import probes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.begun import Begun
    from supervisor.oci.probes import Probe
    from supervisor.settings.model import Settings

__all__ = ["Probes", "begin"]


class Probes:
    """None: not asked yet."""

    def __init__(self, conmon: Begun | None = None, runtimes: Sequence[Probe] | None = None) -> None:
        self.conmon = conmon
        self.runtimes = runtimes

    def abandon(self) -> None:
        """What nobody has waited for, because the start has failed before."""
        if self.conmon is not None:
            self.conmon.abandon()
        for probe in self.runtimes or ():
            probe.abandon()


def begin(settings: Settings) -> Probes:
    """RuntimeNotFound: the configured OCI runtime is no program."""
    path = os.environ.get("PATH", os.defpath)
    runtimes = probes.begin(settings.engine)
    return Probes(candidates.ask_first(settings.engine.conmon_path, path), runtimes)
