"""The part of `io.pyman.Container` that copies files into containers, out of them, and from one to another."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyman.api.copying import CopyReply
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.api import copying as api
    from supervisor.archive.copies import Copied
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.registry import View

__all__ = ["CopyHandlers"]


class CopyHandlers:
    """A base of the handlers of containers. What they need is imported when something is copied."""

    _engine: Engine

    def _view(self, call: Call) -> View:
        raise NotImplementedError

    async def copy_in(self, request: api.CopyInRequest, call: Call) -> CopyReply:
        from supervisor.runtime.rootfs import copying

        with _descriptor(call) as descriptor:
            entry = self._view(call).find(request.name)
            return _reply(await copying.copy_in(self._engine.services, entry, request, descriptor))

    async def copy_out(self, request: api.CopyOutRequest, call: Call) -> CopyReply:
        from supervisor.runtime.rootfs import copying

        with _descriptor(call) as descriptor:
            entry = self._view(call).find(request.name)
            return _reply(await copying.copy_out(self._engine.services, entry, request, descriptor))

    async def copy_across(self, request: api.CopyAcrossRequest, call: Call) -> CopyReply:
        from supervisor.runtime.rootfs import copying

        view = self._view(call)
        source, target = view.find(request.source), view.find(request.target)
        return _reply(await copying.copy_across(self._engine.services, source, target, request))


@contextmanager
def _descriptor(call: Call) -> Iterator[int]:
    """The one that the request has brought."""
    descriptors = call.take_descriptors()
    try:
        if len(descriptors) != 1:
            raise InvalidArgument(f"cannot copy with {len(descriptors)} descriptors: it takes one")
        yield descriptors[0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _reply(copied: Copied) -> CopyReply:
    return CopyReply(copied.files, copied.size, copied.left_out)
