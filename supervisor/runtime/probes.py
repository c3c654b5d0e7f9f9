"""What the engine asks of other programs when it starts, begun before most of it is imported."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.conmon import candidates
from supervisor.oci import probes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.begun import Begun
    from supervisor.oci.probes import Probe
    from supervisor.settings.layout import Layout
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


def begin(settings: Settings, layout: Layout) -> Probes:
    """RuntimeNotFound: the configured OCI runtime is no program. What a supervisor has left that was killed meanwhile is
    removed first: whoever calls this holds the lock."""
    path = os.environ.get("PATH", os.defpath)
    shutil.rmtree(layout.probes, ignore_errors=True)
    os.makedirs(layout.probes, mode=0o700, exist_ok=True)
    runtimes = probes.begin(settings.engine, layout.probes)
    return Probes(candidates.ask_first(settings.engine.conmon_path, path), runtimes)
