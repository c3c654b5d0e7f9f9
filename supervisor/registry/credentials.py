"""Who one is for a registry: the authentication files and the credential programs.

The files are those of containers-auth.json(5), also Docker's config.json and the old .dockercfg. A key of `auths` is
a registry or a repository below it, and the longest that fits counts; older files have addresses for keys. What a file
has besides is left as it is. A credential program is `docker-credential-NAME`, which is told on its standard input
and answers in JSON; no secret is ever an argument or in an environment. Files are read for every operation.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidArgument, InvalidConfig, RegistryFailed
from supervisor.kernel import children
from supervisor.kernel.files import write_atomic
from supervisor.settings.registries import AUTH_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.registry.messages import AuthFile, Context

__all__ = ["Credentials", "forget", "forget_all", "lookup", "store"]

_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_LARGEST = 4 << 20
"""Bytes of an authentication file."""
_PATIENCE = 30.0
"""Seconds for a credential program; it may have to ask its user."""
_NOT_FOUND = "credentials not found"
_TOKEN_USER = "<token>"  # noqa: S105 - what the programs put in the place of a name


class Credentials(msgspec.Struct, frozen=True):
    username: str = ""
    password: str = ""
    identity_token: str = ""
    origin: str = ""
    """The file or the program."""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"


async def lookup(context: Context, key: str, *, foreign: bool = False) -> Credentials:
    """For a registry, or a repository: the request's own, else what files and programs have; false: nobody.

    `foreign`: the request's own are for another registry. Raises InvalidConfig and RegistryFailed.
    """
    if context.username and not foreign:
        return Credentials(context.username, context.password, context.identity_token)
    for program in context.credential_helpers or (AUTH_FILES,):
        if program == AUTH_FILES:
            found = await _in_files(context.auth_files, key)
        else:
            found = await _ask(program, key.partition("/")[0])
        if found:
            return found
    return Credentials()


async def _in_files(files: tuple[AuthFile, ...], key: str) -> Credentials:
    host = key.partition("/")[0]
    for file in files:
        content = _read(file)
        if program := _programs(file.path, content).get(host):
            return await _ask(program, host)
        auths = _auths(file.path, content)
        for name in _names(key, legacy=file.legacy):
            if name in auths and (found := _decoded(file.path, name, auths[name])):
                return found
        for name, entry in auths.items():
            if _normal(name, legacy=file.legacy) == _normal_host(host) and (
                found := _decoded(file.path, name, entry)
            ):
                return found
        if program := _store_of(content):
            found = await _ask(program, _DOCKER_KEY if host in _DOCKER_HOSTS else host, optional=True)
            if found:
                return found
    return Credentials()


def _names(key: str, *, legacy: bool) -> Iterator[str]:
    """From the repository up to the registry."""
    if legacy:
        yield key.partition("/")[0]
        return
    while key:
        yield key
        key = key.rpartition("/")[0]


def _normal_host(host: str) -> str:
    return "index.docker.io" if host in _DOCKER_HOSTS else host


def _normal(name: str, *, legacy: bool) -> str:
    """The host of a key that is an address, as older files have them."""
    bare = name.removeprefix("http://").removeprefix("https://")
    if legacy or bare != name:
        bare = bare.partition("/")[0]
    return _normal_host(bare)


def _decoded(path: str, name: str, entry: Any) -> Credentials:
    if not isinstance(entry, dict):
        raise InvalidConfig(f"cannot use 'auths.{name}' in '{path}': it is not an object", subject=path)
    text = entry.get("auth") or ""
    token = entry.get("identitytoken") or ""
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError, TypeError):
        raise InvalidConfig(
            f"cannot use 'auths.{name}.auth' in '{path}': it is not base64", subject=path
        ) from None
    username, colon, password = plain.partition(":")
    if not colon:  # Docker leaves an empty entry where a program has the rest
        username = ""
    return Credentials(username, password.strip("\0"), token if isinstance(token, str) else "", path)


# Files


def _read(file: AuthFile) -> dict[str, Any]:
    """Empty: it is not there. Raises InvalidConfig, without a word of the content."""
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(file.path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _unreadable(file.path, OSError(errno.EINVAL, "it is not a file"))
    with open(fd, "rb") as opened:
        try:
            data = opened.read(_LARGEST + 1)
        except OSError as error:
            raise _unreadable(file.path, error) from error
    if len(data) > _LARGEST:
        raise _unreadable(file.path, OSError(errno.EFBIG, "it is too large"))
    if not data.strip():
        return {}
    try:
        content = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise InvalidConfig(f"cannot read '{file.path}': it is not JSON", subject=file.path) from None
    if not isinstance(content, dict):
        raise InvalidConfig(f"cannot read '{file.path}': it is not a JSON object", subject=file.path)
    return {"auths": content} if file.legacy else content


def _unreadable(path: str, error: OSError) -> InvalidConfig:
    reason = (error.strerror or str(error)).lower()
    return InvalidConfig(f"cannot read the authentication file '{path}': {reason}", subject=path)


def _table(path: str, content: dict[str, Any], key: str) -> dict[str, Any]:
    table = content.get(key)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise InvalidConfig(f"cannot use '{key}' in '{path}': it is not an object", subject=path)
    return table


def _auths(path: str, content: dict[str, Any]) -> dict[str, Any]:
    return _table(path, content, "auths")


def _programs(path: str, content: dict[str, Any]) -> dict[str, str]:
    return {
        key: value for key, value in _table(path, content, "credHelpers").items() if isinstance(value, str)
    }


def _store_of(content: dict[str, Any]) -> str:
    program = content.get("credsStore")
    return program if isinstance(program, str) else ""


def _write(path: str, content: dict[str, Any]) -> None:
    """Raises StorageFailed and DiskFull. A link is followed: people keep such files elsewhere."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory, error) from error
    data = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    write_atomic(path, data, 0o600, durable=True)


def _unwritable(path: str, error: OSError) -> InvalidConfig:
    return InvalidConfig(
        f"cannot make the directory '{path}': {(error.strerror or '').lower()}", subject=path
    )


def _own_file(context: Context) -> AuthFile:
    if not context.auth_files or context.auth_files[0].legacy:
        raise InvalidArgument("cannot keep a login: there is no authentication file to write")
    return context.auth_files[0]


# Keeping and forgetting


def _kept_as(file: AuthFile, key: str) -> str:
    """The key of a login in a file. InvalidArgument: Docker has logins for whole registries alone."""
    if file.docker and "/" in key and key != _DOCKER_KEY:
        raise InvalidArgument(
            f"cannot keep a login for the repository '{key}' in Docker's form", hint="name the registry alone"
        )
    return _DOCKER_KEY if file.docker and key in _DOCKER_HOSTS else key


async def store(context: Context, key: str, username: str, password: str) -> str:
    """Keep a login; returns where. Raises InvalidArgument, InvalidConfig, StorageFailed, RegistryFailed."""
    for file in context.auth_files[:1]:
        _kept_as(file, key)
    failures: list[str] = []
    for program in context.credential_helpers or (AUTH_FILES,):
        try:
            if program == AUTH_FILES:
                return await _store_in_file(context, key, username, password)
            return await _store_with(program, key, username, password)
        except (RegistryFailed, InvalidArgument) as error:
            failures.append(error.message)
    raise RegistryFailed(f"cannot keep the login for '{key}': {'; '.join(failures)}", subject=key)


async def _store_in_file(context: Context, key: str, username: str, password: str) -> str:
    file = _own_file(context)
    key = _kept_as(file, key)
    content = _read(file)
    program = _programs(file.path, content).get(key) or _store_of(content)
    if program:
        return await _store_with(program, key, username, password)
    auths = _auths(file.path, content)
    # Docker looks for its own registry under an address.
    old = next(
        (name for name in auths if name == _DOCKER_KEY and key in _DOCKER_HOSTS and key not in auths), key
    )
    entry = auths.get(old)
    kept = (
        {name: value for name, value in entry.items() if name != "identitytoken"}
        if isinstance(entry, dict)
        else {}
    )
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    _write(file.path, {**content, "auths": {**auths, old: {**kept, "auth": pair}}})
    return file.path


async def _store_with(program: str, key: str, username: str, password: str) -> str:
    if "/" in key:
        raise InvalidArgument(f"cannot keep a login for a repository with the credential helper '{program}'")
    answer = {"ServerURL": key, "Username": username, "Secret": password}
    await _run(program, "store", msgspec.json.encode(answer))
    return f"credential helper: {program}"


async def forget(context: Context, key: str) -> bool:
    """Everywhere it can be forgotten. False: it was not known."""
    known = False
    for program in context.credential_helpers or (AUTH_FILES,):
        if program != AUTH_FILES:
            known = await _erase(program, key) or known
            continue
        file = _own_file(context)
        key = _kept_as(file, key)
        content = _read(file)
        inner = _programs(file.path, content).get(key) or _store_of(content)
        if inner:
            known = await _erase(inner, key) or known
            content = _read(file)  # others may have logged in meanwhile
        auths = _auths(file.path, content)
        gone = [name for name in auths if name == key or (name == _DOCKER_KEY and key in _DOCKER_HOSTS)]
        if gone:
            _write(file.path, {**content, "auths": {name: auths[name] for name in auths if name not in gone}})
            known = True
    return known


async def forget_all(context: Context) -> list[str]:
    """What was forgotten."""
    forgotten: list[str] = []
    for program in context.credential_helpers or (AUTH_FILES,):
        if program != AUTH_FILES:
            forgotten += [key for key in await _listed(program) if await _erase(program, key)]
            continue
        file = _own_file(context)
        content = _read(file)
        programs = _programs(file.path, content)
        for key, inner in programs.items():
            await _erase(inner, key)
        if inner := _store_of(content):
            forgotten += [key for key in await _listed(inner) if await _erase(inner, key)]
        content = _read(file)  # others may have logged in meanwhile
        auths = _auths(file.path, content)
        if programs or auths:
            forgotten += sorted({*programs, *auths})
            _write(
                file.path,
                {**content, "auths": {}, **({"credHelpers": {}} if "credHelpers" in content else {})},
            )
    return forgotten


# Programs


async def _ask(program: str, server: str, *, optional: bool = False) -> Credentials:
    """`optional`: a program that is not installed has nothing to say."""
    try:
        output = await _run(program, "get", server.encode())
    except _NothingKept:
        return Credentials()
    except RegistryFailed as error:
        if optional and isinstance(error.__cause__, FileNotFoundError):
            return Credentials()
        raise
    try:
        answer = msgspec.json.decode(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, KeyError, TypeError):
        raise RegistryFailed(
            f"cannot use the credential helper '{program}': it does not answer as it should"
        ) from None
    origin = f"credential helper: {program}"
    if username == _TOKEN_USER:
        return Credentials("", "", secret, origin)
    return Credentials(username, secret, "", origin)


async def _erase(program: str, key: str) -> bool:
    if "/" in key and not key.startswith("https://"):
        return False
    try:
        await _run(program, "erase", key.encode())
    except _NothingKept:
        return False
    return True


async def _listed(program: str) -> list[str]:
    try:
        answer = msgspec.json.decode(await _run(program, "list", b""))
    except (_NothingKept, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return []
    except RegistryFailed as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise
    return [str(key) for key in answer] if isinstance(answer, dict) else []


class _NothingKept(Exception):
    """The program says that it has nothing under this key."""


async def _run(program: str, verb: str, said: bytes) -> bytes:
    """What the program answers. It is not shown: nobody knows what it writes."""
    if not program or "/" in program or "\0" in program:
        raise InvalidConfig(f"cannot use '{program}' as a credential helper: it is not a name")
    argv = [f"docker-credential-{program}", verb]
    try:
        done = await children.run(argv, deadline=_PATIENCE, input=said + b"\n", env=dict(os.environ))
    except OSError as error:
        reason = (
            "it is not installed" if isinstance(error, FileNotFoundError) else (error.strerror or "").lower()
        )
        raise RegistryFailed(
            f"cannot run the credential helper '{argv[0]}': {reason}", subject=program
        ) from error
    if done.returncode:
        if _NOT_FOUND in done.stdout.decode("utf-8", "replace").lower():
            raise _NothingKept
        raise RegistryFailed(
            f"cannot use the credential helper '{argv[0]}': '{verb}' ends with status {done.returncode}",
            subject=program,
        )
    return done.stdout
