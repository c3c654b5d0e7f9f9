"""Every error that a person or a program can be told, as one tree.

::

    PymanError
      CallerError                 the request cannot be carried out as it stands
        InvalidArgument             a value or a combination of options
        InvalidConfig               a configuration file: file, key, value, what was expected
        OptionDiffers               an option that the running supervisor was not started with
        NotSupported                something this version or this host cannot do
        NotFound                    an object that does not exist
          NoSuchContainer           no container has that name or id
          NoSuchExec                no exec session has that id
          NoSuchImage               no image here has that name or id
          NoSuchNetwork             no network has that name or id
          NoSuchSecret              no secret has that name or id
          NoSuchVolume              no volume has that name
          UnknownInRegistry         a registry does not have that image, tag or blob
        AmbiguousId                 a short id, or a short name, that fits several objects
        ImageInUse                  containers, or other images, or other engines use it
        NetworkInUse                containers are on it
        AddressInUse                another container has an address of a network; exit status 126
        VolumeInUse                 containers use it
        PortInUse                   somebody else has a port of the host; exit status 126
        RegistryDenied              a registry wants a login, or refuses this one
        SignatureRefused            the signature policy does not permit an image
        NameInUse                   the name belongs to another container, volume, secret or network
        WrongState                  the container is not in a state that permits this
        PermissionDenied            this user, or this socket, may not
        CommandNotFound             no such command in the container; exit status 127
        CommandNotExecutable        a command, its user or its directory is not fit; exit status 126
      HostError                   the machine: what it lacks or refuses
        ConmonNotFound              conmon is nowhere to be found
        ConmonOutdated              every conmon there is is too old
        ConmonFailed                conmon could not be started or has failed
        RuntimeNotFound             no usable OCI runtime
        RuntimeFailed               the OCI runtime refused
        StorageFailed               a file system operation
        DiskFull                    no space left where it is needed
        OverlayUnavailable          neither the kernel nor fuse-overlayfs makes a copy-on-write view
        UserNamespaceFailed         the user cannot have namespaces of their own
        NetworkFailed               the kernel, or a helper, refuses something of a network
        RegistryFailed              a registry cannot be reached, or answers what it should not
        DigestMismatch              content is not what its digest says
        ArchiveRefused              an archive or a layer that is damaged, or reaches where it must not
        DeadlineExceeded            a container or its monitor does not answer
      EngineError                 the engine: its state or its connection
        EngineStopped               the supervisor is shutting down
        EngineUnavailable           no supervisor can be reached or started
        AlreadyRunning              another supervisor owns the state directory
        StateDamaged                the state database cannot be used
        LocksMismatch               the lock file belongs to another configuration
        ProtocolError               a message that is not understood
        MessageTooLarge             a message above the limit
        JournalGap                  events asked for are gone
        InternalError               a bug

Rules: an error has a stable code (its class name), a subject (what it is about), a sentence for people
that starts with "cannot", and optionally a hint that says what to do. `fault` tells whose move it is.
On the wire it is the Varlink error `io.pyman.<code>` with the parameters subject, message and hint;
the client raises the class that the supervisor raised. Standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would be a third of what a short command imports
    from typing import Any, ClassVar

__all__ = [
    "ERRORS",
    "INTERFACE",
    "AddressInUse",
    "AlreadyRunning",
    "AmbiguousId",
    "ArchiveRefused",
    "CallerError",
    "CommandNotExecutable",
    "CommandNotFound",
    "ConmonFailed",
    "ConmonNotFound",
    "ConmonOutdated",
    "DeadlineExceeded",
    "DigestMismatch",
    "DiskFull",
    "EngineError",
    "EngineStopped",
    "EngineUnavailable",
    "HostError",
    "ImageInUse",
    "InternalError",
    "InvalidArgument",
    "InvalidConfig",
    "JournalGap",
    "LocksMismatch",
    "MessageTooLarge",
    "NameInUse",
    "NetworkFailed",
    "NetworkInUse",
    "NoSuchContainer",
    "NoSuchExec",
    "NoSuchImage",
    "NoSuchNetwork",
    "NoSuchSecret",
    "NoSuchVolume",
    "NotFound",
    "NotSupported",
    "OptionDiffers",
    "OverlayUnavailable",
    "PermissionDenied",
    "PortInUse",
    "ProtocolError",
    "PymanError",
    "RegistryDenied",
    "RegistryFailed",
    "RuntimeFailed",
    "RuntimeNotFound",
    "SignatureRefused",
    "StateDamaged",
    "StorageFailed",
    "UnknownInRegistry",
    "UserNamespaceFailed",
    "VolumeInUse",
    "WrongState",
    "first_of",
    "from_wire",
    "to_wire",
]

INTERFACE = "io.pyman"
"""The Varlink interface that declares the errors."""


class PymanError(Exception):
    """What failed, on what, and what to do about it.

    `subject` is the name or id of the object (may be empty), `message` one sentence without a full
    stop, `hint` what the reader can do (may be empty).
    """

    fault: ClassVar[str] = "engine"
    exit_status: ClassVar[int] = 125

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint

    @property
    def code(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class CallerError(PymanError):
    fault = "caller"


class HostError(PymanError):
    fault = "host"


class EngineError(PymanError):
    fault = "engine"


class InvalidArgument(CallerError):
    pass


class InvalidConfig(CallerError):
    pass


class OptionDiffers(CallerError):
    pass


class NotSupported(CallerError):
    pass


class NotFound(CallerError):
    pass


class NoSuchContainer(NotFound):
    pass


class NoSuchExec(NotFound):
    pass


class NoSuchImage(NotFound):
    pass


class NoSuchNetwork(NotFound):
    pass


class NoSuchSecret(NotFound):
    pass


class NoSuchVolume(NotFound):
    pass


class UnknownInRegistry(NotFound):
    pass


class AmbiguousId(CallerError):
    pass


class ImageInUse(CallerError):
    pass


class NetworkInUse(CallerError):
    pass


class AddressInUse(CallerError):
    exit_status = 126


class VolumeInUse(CallerError):
    pass


class PortInUse(CallerError):
    exit_status = 126


class RegistryDenied(CallerError):
    pass


class SignatureRefused(CallerError):
    pass


class NameInUse(CallerError):
    pass


class WrongState(CallerError):
    pass


class PermissionDenied(CallerError):
    pass


class CommandNotFound(CallerError):
    exit_status = 127


class CommandNotExecutable(CallerError):
    exit_status = 126


class ConmonNotFound(HostError):
    pass


class ConmonOutdated(HostError):
    pass


class ConmonFailed(HostError):
    pass


class RuntimeNotFound(HostError):
    pass


class RuntimeFailed(HostError):
    exit_status = 126


class StorageFailed(HostError):
    pass


class DiskFull(HostError):
    pass


class OverlayUnavailable(HostError):
    pass


class UserNamespaceFailed(HostError):
    """The kernel lets this user have no user namespace, or no ids in it."""


class NetworkFailed(HostError):
    """The kernel, or a helper, refuses something of a network."""


class RegistryFailed(HostError):
    pass


class DigestMismatch(HostError):
    pass


class ArchiveRefused(HostError):
    pass


class DeadlineExceeded(HostError):
    pass


class EngineStopped(EngineError):
    pass


class EngineUnavailable(EngineError):
    pass


class AlreadyRunning(EngineError):
    pass


class StateDamaged(EngineError):
    pass


class LocksMismatch(EngineError):
    pass


class ProtocolError(EngineError):
    pass


class MessageTooLarge(EngineError):
    pass


class JournalGap(EngineError):
    pass


class InternalError(EngineError):
    pass


def _tree(root: type[PymanError]) -> dict[str, type[PymanError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


ERRORS: dict[str, type[PymanError]] = _tree(PymanError)
"""Code to class, the whole tree."""


def to_wire(error: PymanError) -> tuple[str, dict[str, Any]]:
    """The Varlink error name and its parameters."""
    parameters = {"subject": error.subject, "message": error.message, "hint": error.hint}
    return f"{INTERFACE}.{error.code}", parameters


def first_of(group: BaseExceptionGroup[PymanError]) -> PymanError:
    """The first error of things that were done at once; each alone would have been raised."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PymanError)  # noqa: S101 - except* lets nothing else through
    return error


_VARLINK = {
    "org.varlink.service.InterfaceNotFound": "the supervisor does not know the interface",
    "org.varlink.service.MethodNotFound": "the supervisor does not know the method",
    "org.varlink.service.MethodNotImplemented": "the supervisor does not implement the method",
    "org.varlink.service.InvalidParameter": "the supervisor refuses the parameter",
    "org.varlink.service.PermissionDenied": "the supervisor does not permit the method",
    "org.varlink.service.ExpectedMore": "the method answers with a stream: ask for more",
}


def from_wire(name: str, parameters: dict[str, Any]) -> PymanError:
    """The error that the supervisor raised. An unknown name becomes a ProtocolError that quotes it."""
    interface, _, code = name.rpartition(".")
    if interface == INTERFACE and code in ERRORS:
        subject, message, hint = (str(parameters.get(key) or "") for key in ("subject", "message", "hint"))
        return ERRORS[code](message, subject=subject, hint=hint)
    detail = ", ".join(f"{key} {value!r}" for key, value in sorted(parameters.items()))
    sentence = _VARLINK.get(name, f"the supervisor answered with the unknown error {name}")
    kind: type[PymanError] = PermissionDenied if name.endswith(".PermissionDenied") else ProtocolError
    if name.endswith(".InvalidParameter"):
        kind = InvalidArgument
    return kind(f"{sentence} ({detail})" if detail else sentence)
