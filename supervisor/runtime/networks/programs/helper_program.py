"""What a helper program is to the book of helpers: what its owner says of it, and how it is begun."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef

__all__ = ["Helper", "Program"]


class Program(NamedTuple):
    """How a helper is begun."""

    argv: Sequence[str]
    """The program's path in front."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Added to a small clean one."""
    cwd: str = "/"
    descriptors: tuple[int, ...] = ()
    """It has these under the same numbers."""
    network: int | None = None
    """A descriptor of the network namespace that it begins in; None: the supervisor's own."""
    ready: str = ""
    """An option that is followed by the number of a descriptor, to which the program writes once it is ready."""
    pid_file: str = ""
    """It goes to the background itself once it is ready, and what it has become has its pid here."""


class Helper(ABC):
    """What its owner knows of one. With neither `ready` nor `pid_file` in its `program` it is ready once it has begun."""

    key: str
    """Of lower case letters, digits, dots and dashes; no other helper of the engine has it."""
    name: str
    """The program's, for people."""
    subject_id: str = ""
    subject_name: str = ""
    """What it works for: the container, or the network, that its events are about."""
    device: str = ""
    """One that it has to open; it does not always say so itself."""

    @abstractmethod
    async def program(self, stack: ExitStack) -> Program:
        """How to begin it, asked each time. What is opened for it is the stack's to close. PymanError: it cannot be."""

    async def begun(self, ref: ProcessRef) -> None:
        """It is ready, for the first time or once more: tell it what it has to know. PymanError: it is of no use."""
        del ref

    async def wanted(self) -> bool:
        """Asked when it has ended by itself. False: so it should, nobody is told, and it is forgotten."""
        return True
