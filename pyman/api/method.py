"""The form of the contract: a method is one row, an interface is a table of rows.

Server dispatch, IDL text, SDK and docs come from these rows; nothing about a method is said twice.
"""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["Access", "Interface", "Method", "Nothing", "Vanish"]


class Access(Enum):
    """Who may call a method. A row that does not say admits nobody."""

    NOBODY = "nobody"
    EVENTS = "events"
    """Also through the `events` socket: the stream of events and nothing else."""
    READ = "read"
    """Also through the `read` socket: whatever changes nothing."""
    OWNER = "owner"
    """The user whose engine it is, and root."""


class Vanish(Enum):
    """What becomes of the work when the connection of its caller ends."""

    FINISH = "finish"
    """A change already begun is finished; only the wait for it ends."""
    CANCEL = "cancel"
    """The work is given up and undone."""


class Nothing(msgspec.Struct, frozen=True):
    """No parameters, or no reply."""


class Method(msgspec.Struct, frozen=True):
    """One row of the contract.

    `streaming`: the caller must ask for `more`; every reply but the last carries `continues`.
    `descriptors_in`: the most file descriptors that a request may bring.
    `descriptors_out`: whether replies may bring descriptors.
    """

    name: str
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    doc: str
    access: Access = Access.NOBODY
    streaming: bool = False
    vanish: Vanish = Vanish.FINISH
    descriptors_in: int = 0
    descriptors_out: bool = False


class Interface(msgspec.Struct, frozen=True):
    name: str
    doc: str
    methods: tuple[Method, ...]

    def method(self, name: str) -> Method | None:
        return next((m for m in self.methods if m.name == name), None)
