"""A blocking connection to the supervisor: NUL-terminated JSON on a unix socket, with passed descriptors.

Rules: one call at a time on a connection (signals, resizes and cancels go over a second one); a message
with descriptors states their number and is one sendmsg, the receiver takes exactly that many; more than
16, a surplus or a truncation ends the connection. Every error is one of `pyman.errors`; whatever an error
leaves behind is closed. A request is sent again only when nothing of it had been sent.

Standard library only and quick to import: `json`, `socket` and `hashlib` cost as much as the rest of a
command together, so the C modules beneath them are used where there are any.
"""

from __future__ import annotations

import errno
import os
import sys

try:
    import _socket as sockets
except ImportError:  # pragma: no cover - another Python
    import socket as sockets  # type: ignore[no-redef]

from pyman.errors import (
    INTERFACE,
    EngineUnavailable,
    InvalidArgument,
    MessageTooLarge,
    PermissionDenied,
    ProtocolError,
    from_wire,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn, Self, TypeAlias

    Json: TypeAlias = Any

Socket = sockets.socket

__all__ = [
    "MAX_DESCRIPTORS",
    "MAX_REPLY",
    "Connection",
    "Reply",
    "Selection",
    "Socket",
    "connect",
    "decode",
    "encode",
    "in_user_namespace",
    "open_socket",
    "owner",
    "runtime_directory",
    "runtime_directory_warning",
    "socket_path",
    "sockets",
]

MAX_DESCRIPTORS = 16
"""The most that one message may bring."""
MAX_REPLY = 256 << 20
"""Bytes of one reply: what a client believes of a supervisor that has gone mad."""
_CHUNK = 1 << 16
_LONGEST_PATH = 107
"""What fits into a socket address, without the NUL."""
_QUESTIONS = frozenset({"Exists", "History", "Info", "Inspect", "List", "Top", "Version", "Why"})
"""Calls that change nothing."""
_ABOUT_CONTAINERS = "what was begun goes on, look at it with 'pyman ps --all'"
_ABOUT_OTHERS = (
    "the next one finishes what was begun or takes it back: look, and run the command again if need be"
)
"""What has become of a call whose supervisor has gone."""


# -- JSON ---------------------------------------------------------------------------------------


def _refuse(value: object) -> Json:
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


class _ScannerOptions:
    """What the C scanner asks its context for: json's own defaults, but for control characters in strings."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own


try:
    import _json

    _write = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False
    )
    _scan = _json.make_scanner(_ScannerOptions())  # type: ignore[arg-type]  # any object with these attributes
except (ImportError, AttributeError, TypeError):  # pragma: no cover - another Python
    _write = _scan = None  # type: ignore[assignment]


def encode(value: Json) -> bytes:
    """Compact JSON in ASCII. TypeError for what JSON cannot say."""
    if _write is None:  # pragma: no cover - another Python
        import json

        return json.dumps(value, separators=(",", ":")).encode()
    return "".join(_write(value, 0)).encode()


def decode(data: bytes | bytearray | str) -> Json:
    """The value of one JSON document. ProtocolError for what is not JSON in UTF-8."""
    try:
        text = data if isinstance(data, str) else data.decode()
        if _scan is not None:
            try:
                value, end = _scan(text, 0)
                if end == len(text):
                    return value
            except (StopIteration, SystemError, ValueError):
                pass  # the slow way says what is wrong with it
        import json

        return json.loads(text, strict=False)
    except ValueError as problem:
        raise ProtocolError(f"cannot understand what the supervisor sent: {problem}") from problem


# -- which supervisor ---------------------------------------------------------------------------


class Selection:
    """Which supervisor a command is for: the global options that name it, and the caller's environment.

    Empty means not given. `options` are further arguments for a supervisor that has to be started
    (such as `--log-level=debug`); they do not choose another one.
    """

    __slots__ = (
        "config",
        "environ",
        "namespace",
        "network_config_dir",
        "options",
        "root",
        "runroot",
        "tmpdir",
        "uid",
    )

    def __init__(
        self,
        root: str = "",
        runroot: str = "",
        tmpdir: str = "",
        config: str = "",
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
        namespace: str = "",
        network_config_dir: str = "",
    ) -> None:
        self.root = root
        self.namespace = namespace
        self.network_config_dir = network_config_dir
        self.runroot = runroot
        self.tmpdir = tmpdir
        self.config = config
        self.options = tuple(options)
        self.environ = os.environ if environ is None else environ
        self.uid = owner(self.environ) if uid is None else uid

    @property
    def socket(self) -> str:
        return socket_path(self.root, self.config, self.environ, self.uid)

    def given(self) -> dict[str, str]:
        """The options that were given, absolute: what `System.Match` compares."""
        config = self.config or self.environ.get("CONTAINERS_CONF", "")
        values = {
            "root": self.root,
            "runroot": self.runroot,
            "tmpdir": self.tmpdir,
            "config": config,
            "network_config_dir": self.network_config_dir,
        }
        given = {key: os.path.abspath(value) for key, value in values.items() if value}
        return {**given, "namespace": self.namespace} if self.namespace else given


def owner(environ: Mapping[str, str]) -> int:
    """Whose engine is meant: the user, also where that user is root in a user namespace of pyman's or another's.
    The variables are those that all container programs use."""
    uid = os.geteuid()
    told = environ.get("_CONTAINERS_ROOTLESS_UID", "")
    inside = uid == 0 and environ.get("_CONTAINERS_USERNS_CONFIGURED") and told.isdecimal()
    return int(told) if inside and in_user_namespace() else uid


def in_user_namespace() -> bool:
    """Not in the first one, where every id is itself: the host's root is nobody else, whatever its environment."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]


def runtime_directory(environ: Mapping[str, str], uid: int) -> str:
    """Where a user's sockets are: /run for root, else $XDG_RUNTIME_DIR or, where that is none of the user's own,
    what stands in for it."""
    if uid == 0:
        return "/run"
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/") and not _unfit(given, uid):
        return os.path.normpath(given)
    usual = f"/run/user/{uid}"
    if os.path.isdir(usual) and not _unfit(usual, uid):
        return usual
    return f"/tmp/pyman-run-{uid}"  # noqa: S108 - the supervisor refuses another user's directory


def runtime_directory_warning(environ: Mapping[str, str], uid: int) -> str:
    """What a user had better know of $XDG_RUNTIME_DIR; an empty string: nothing."""
    given, used = environ.get("XDG_RUNTIME_DIR", ""), runtime_directory(environ, uid)
    if uid == 0:
        return ""
    if not given:
        usual = used.startswith("/run/user/")
        return "" if usual else f"XDG_RUNTIME_DIR is not set: '{used}' is used instead"
    reason = _unfit(given, uid) if given.startswith("/") else "is not an absolute path"
    return f"XDG_RUNTIME_DIR '{given}' {reason}: '{used}' is used instead" if reason else ""


def _unfit(path: str, uid: int) -> str:
    """Why a directory cannot be a user's runtime directory; an empty string: it can."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "" if os.access(os.path.dirname(path.rstrip("/")), os.W_OK | os.X_OK) else "does not exist"
    except OSError:
        return "cannot be looked at"
    if status.st_mode & 0o170000 != 0o040000:
        return "is not a directory"
    if status.st_uid not in (uid, os.geteuid()):  # within the user's namespace the user is shown as root
        return f"belongs to user {status.st_uid}"
    return "" if os.access(path, os.W_OK | os.X_OK) else "is not writable"


def socket_path(root: str, config: str, environ: Mapping[str, str], uid: int) -> str:
    """The supervisor's socket for these options; the supervisor's layout computes the same."""
    config = config or environ.get("CONTAINERS_CONF", "")
    if root:
        stem = _digest("root:" + os.path.abspath(root))
    elif config:
        stem = _digest("config:" + os.path.abspath(config))
    else:
        stem = "pyman"
    return f"{runtime_directory(environ, uid)}/pyman/{stem}.sock"


def _digest(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256."""
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]  # to Python 3.11
    except ImportError:  # pragma: no cover - another Python
        try:
            from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from hashlib import sha256
    digest: str = sha256(os.fsencode(text)).hexdigest()
    return digest[:16]


# -- the connection -----------------------------------------------------------------------------


def open_socket(path: str, kind: int = sockets.SOCK_STREAM) -> Socket:
    """A connected unix socket, also where the path is longer than an address may be.

    EngineUnavailable where nobody listens, PermissionDenied where the caller may not.
    """
    made = sockets.socket(sockets.AF_UNIX, kind | sockets.SOCK_CLOEXEC)
    try:
        encoded = os.fsencode(path)
        if len(encoded) <= _LONGEST_PATH:
            made.connect(encoded)
        else:
            directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                made.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            finally:
                os.close(directory)
    except OSError as problem:
        made.close()
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDenied(
                f"cannot use the supervisor's socket '{path}': permission denied"
            ) from problem
        raise EngineUnavailable(
            f"cannot reach a supervisor at '{path}': {problem.strerror or problem}", subject=path
        ) from problem
    except BaseException:
        made.close()
        raise
    return made


class Reply:
    """One reply. Descriptors that came with it belong to its reader: take them or close them."""

    __slots__ = ("continues", "descriptors", "parameters")

    def __init__(self, parameters: dict[str, Json], descriptors: list[int], continues: bool) -> None:
        self.parameters = parameters
        self.descriptors = descriptors
        self.continues = continues

    def take(self) -> int:
        """The next descriptor, now the caller's. ProtocolError if none came."""
        if not self.descriptors:
            raise ProtocolError("cannot go on: the supervisor's reply lacks a descriptor")
        return self.descriptors.pop(0)

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        _close_all(self.descriptors)


class Connection:
    """A connection to the supervisor at `path`; one call at a time.

    `reopen` makes the next socket when the peer turns out to be gone before anything was sent.
    """

    def __init__(self, path: str, reopen: Callable[[], Socket] | None = None) -> None:
        self.path = path
        self._reopen = reopen or (lambda: open_socket(path))
        self._socket: Socket | None = self._reopen()
        self._buffer = bytearray()
        self._searched = 0
        self._descriptors: list[int] = []
        self._method = ""
        """The call that is under way; empty: none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def stay(self) -> None:
        """Never open another socket: what was settled by earlier calls holds for this one alone."""
        self._reopen = self._gone_for_good

    def _gone_for_good(self) -> Socket:
        raise EngineUnavailable("cannot go on: the supervisor went away", hint="run the command again")

    def close(self) -> None:
        """Close it; a call under way is given up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        _close_all(self._descriptors)
        self._buffer.clear()
        self._method = ""

    def call(
        self, method: str, parameters: Mapping[str, Json] | None = None, descriptors: Sequence[int] = ()
    ) -> dict[str, Json]:
        """The reply's parameters. Raises what the supervisor raised, or EngineUnavailable.

        `method` is `Container.List` or a full name. The descriptors stay the caller's. What only asks is asked of the next
        supervisor, if one goes away without an answer.
        """
        self.send(method, parameters, descriptors, more=False)
        try:
            reply = self.receive()
        except EngineUnavailable:
            if method.rpartition(".")[2] not in _QUESTIONS:
                raise
            self.send(method, parameters, descriptors, more=False)  # to the next one
            reply = self.receive()
        reply.close()
        if reply.continues:
            self.close()
            raise ProtocolError(f"cannot use the answer to {method}: it goes on without having been asked to")
        return reply.parameters

    def stream(
        self, method: str, parameters: Mapping[str, Json] | None = None, descriptors: Sequence[int] = ()
    ) -> Iterator[Reply]:
        """Every reply, up to the last. Abandoning it ends the connection, and so the call."""
        self.send(method, parameters, descriptors, more=True)
        finished = False
        try:
            while not finished:
                reply = self.receive()
                finished = not reply.continues
                yield reply
        finally:
            if not finished:
                self.close()

    def send(
        self,
        method: str,
        parameters: Mapping[str, Json] | None = None,
        descriptors: Sequence[int] = (),
        *,
        more: bool = True,
    ) -> None:
        """Begin a call; its replies are for `receive`, or for `feed` and `ready`."""
        if self._method:
            raise InvalidArgument(f"cannot call {method}: {self._method} is not finished on this connection")
        if len(descriptors) > MAX_DESCRIPTORS:
            raise InvalidArgument(
                f"cannot pass {len(descriptors)} descriptors: {MAX_DESCRIPTORS} are the most"
            )
        full = method if method.count(".") > 1 else f"{INTERFACE}.{method}"
        message: dict[str, Json] = {"method": full, "parameters": {} if parameters is None else parameters}
        if more:
            message["more"] = True
        if descriptors:
            message["descriptors"] = len(descriptors)
        data = memoryview(encode(message) + b"\0")
        sent = self._begin(data, descriptors)
        self._method = method
        try:
            while sent < len(data):
                sent += self._open().send(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it hung up: the reply is still there to be read
        except OSError as problem:
            self._lost(problem)

    def _begin(self, data: memoryview, descriptors: Sequence[int]) -> int:
        """Send the first bytes and all descriptors; on a peer that is gone, once more to the next one."""
        rights = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, _packed(descriptors))] if descriptors else []
        for again in (True, False):
            try:
                if self._socket is None:
                    self._socket = self._reopen()
                return self._socket.sendmsg([data], rights)
            except OSError as problem:
                self.close()
                if not (again and isinstance(problem, (BrokenPipeError, ConnectionResetError))):
                    raise EngineUnavailable(
                        f"cannot reach the supervisor at '{self.path}': {problem.strerror or problem}"
                    ) from problem
        raise AssertionError("unreachable")  # pragma: no cover

    def receive(self) -> Reply:
        """Wait for the next reply of the call. Raises what the supervisor raised, or EngineUnavailable."""
        while (reply := self.ready()) is None:
            self.feed()
        return reply

    def feed(self) -> None:
        """Read what has come, waiting if there is nothing. EngineUnavailable at the end of the connection."""
        try:
            data, ancillary, flags, _ = self._open().recvmsg(
                _CHUNK, sockets.CMSG_SPACE((MAX_DESCRIPTORS + 1) * 4), sockets.MSG_CMSG_CLOEXEC
            )
        except OSError as problem:
            self._lost(problem)
        for level, kind, content in ancillary:
            if level == sockets.SOL_SOCKET and kind == sockets.SCM_RIGHTS:
                self._descriptors.extend(
                    int.from_bytes(content[at : at + 4], sys.byteorder)
                    for at in range(0, len(content) - 3, 4)
                )
        if flags & sockets.MSG_CTRUNC or len(self._descriptors) > MAX_DESCRIPTORS:
            self.close()
            raise ProtocolError("cannot go on: the supervisor sent more descriptors than a message may bring")
        if not data:
            self._lost(None)
        self._buffer += data
        if len(self._buffer) > MAX_REPLY:
            self.close()
            raise MessageTooLarge(f"cannot read a reply of more than {MAX_REPLY >> 20} MiB")

    def ready(self) -> Reply | None:
        """The next reply, if all of it has been read. Raises what the supervisor raised."""
        end = self._buffer.find(0, self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        self._searched = 0
        text = self._buffer[:end]
        del self._buffer[: end + 1]
        try:
            return self._reply(decode(text))
        except ProtocolError:
            self.close()
            raise

    def _reply(self, message: Json) -> Reply:
        parameters = message.get("parameters") if isinstance(message, dict) else None
        count = message.get("descriptors", 0) if isinstance(message, dict) else None
        if (
            not isinstance(parameters or {}, dict)
            or not isinstance(count, int)
            or not 0 <= count <= MAX_DESCRIPTORS
        ):
            raise ProtocolError("cannot understand what the supervisor sent: it is not a reply")
        if count > len(self._descriptors):
            raise ProtocolError(
                f"cannot go on: {count} descriptors were announced and {len(self._descriptors)} came"
            )
        mine, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        if self._descriptors and not self._buffer:
            _close_all(mine)
            raise ProtocolError("cannot go on: the supervisor sent descriptors that it did not announce")
        error = message.get("error")
        continues = message.get("continues") is True and not error
        if not continues:
            self._method = ""
        if error:
            _close_all(mine)
            raise from_wire(str(error), parameters or {})
        return Reply(parameters or {}, mine, continues)

    def _open(self) -> Socket:
        if self._socket is None:
            raise EngineUnavailable("cannot go on: the connection to the supervisor is closed")
        return self._socket

    def _lost(self, problem: OSError | None) -> NoReturn:
        method = self._method
        self.close()
        raise EngineUnavailable(
            f"cannot finish {method}: the supervisor went away"
            if method
            else "cannot go on: no call is under way",
            hint=_ABOUT_CONTAINERS if method.startswith("Container.") else _ABOUT_OTHERS,
        ) from problem


def connect(selection: Selection, start: bool = True) -> Connection:
    """A connection to the selected supervisor; with `start` one is started where none answers.

    OptionDiffers if it was started with other options than those given.
    """

    def reopen() -> Socket:
        try:
            return open_socket(path)
        except EngineUnavailable:
            if not start:
                raise
        from pyman.cli.launch import launch

        launch(selection)
        return open_socket(path)

    path = selection.socket
    connection = Connection(path, reopen)
    given = selection.given()
    if given:
        try:
            connection.call("System.Match", given)
        except BaseException:
            connection.close()
            raise
    if selection.namespace:
        connection.stay()
    return connection


def _packed(descriptors: Sequence[int]) -> bytes:
    """As C integers. (`array` would import half of `collections`.)"""
    return b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)


def _close_all(descriptors: list[int]) -> None:
    """Close and forget them."""
    while descriptors:
        os.close(descriptors.pop())
