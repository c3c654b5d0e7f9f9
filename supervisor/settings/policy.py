"""policy.json, as containers-policy.json(5) has it: from where images may be taken.

Of the requirements, insecureAcceptAnything and reject are carried out. Those that want a signature (signedBy,
sigstoreSigned, signedBaseLayer) are read, and an image that they apply to is refused, since signatures are not
verified yet: never is one ignored. A file that is not right is InvalidConfig; without one nothing is permitted.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.settings.xdg import Xdg

__all__ = ["Policy", "files", "load", "refusal", "scopes_of"]

_KINDS = ("insecureAcceptAnything", "reject", "signedBy", "sigstoreSigned", "signedBaseLayer")
_LARGEST = 1 << 20


class Policy(msgspec.Struct, frozen=True):
    """Kinds of requirements; all of a list have to be met."""

    default: tuple[str, ...]
    transports: dict[str, dict[str, tuple[str, ...]]] = {}
    """By transport, then by scope; the scope "" is the transport's default."""
    file: str = ""


def files(xdg: Xdg, administrator: str) -> list[str]:
    """Where it may be; the first that is there counts."""
    return [f"{xdg.config_home}/containers/policy.json", f"{administrator}/policy.json"]


def load(paths: Sequence[str]) -> Policy:
    """Blocking. Raises InvalidConfig, also if there is none."""
    path = next((path for path in paths if os.path.lexists(path)), "")
    if not path:
        message = f"cannot find a signature policy: there is neither '{paths[0]}' nor '{paths[-1]}'"
        hint = 'one that permits everything is {"default": [{"type": "insecureAcceptAnything"}]}'
        raise InvalidConfig(message, subject=paths[-1], hint=hint)
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidConfig(
            f"cannot read the signature policy '{path}': {(error.strerror or str(error)).lower()}",
            subject=path,
        ) from error
    try:
        content = json.loads(data if len(data) <= _LARGEST else b"")
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"cannot read '{path}': it is not JSON", subject=path) from error
    return _policy(path, content)


def _policy(path: str, content: Any) -> Policy:
    if not isinstance(content, dict):
        raise _invalid(path, "", "a JSON object")
    for key in content:
        if key not in ("default", "transports"):
            raise _invalid(path, key, "a key that is known")
    if "default" not in content:
        raise _invalid(path, "default", "there")
    default = _requirements(path, "default", content["default"])
    transports: dict[str, dict[str, tuple[str, ...]]] = {}
    listed = content.get("transports", {})
    if not isinstance(listed, dict):
        raise _invalid(path, "transports", "an object")
    for transport, scopes in listed.items():
        if not isinstance(scopes, dict):
            raise _invalid(path, f"transports.{transport}", "an object")
        transports[transport] = {
            scope: _requirements(path, f"transports.{transport}.{scope}", listing)
            for scope, listing in scopes.items()
        }
    return Policy(default, transports, path)


def _requirements(path: str, key: str, listing: Any) -> tuple[str, ...]:
    if not isinstance(listing, list) or not listing:
        raise _invalid(path, key, "a list of at least one requirement")
    kinds: list[str] = []
    for requirement in listing:
        kind = requirement.get("type") if isinstance(requirement, dict) else None
        if kind not in _KINDS:
            raise _invalid(path, key, f"a list of requirements, whose types are {', '.join(_KINDS)}")
        if kind in ("insecureAcceptAnything", "reject") and len(requirement) != 1:
            raise _invalid(path, key, f"right: '{kind}' has nothing beside its type")
        kinds.append(kind)
    return tuple(kinds)


def _invalid(path: str, key: str, expected: str) -> InvalidConfig:
    what = f"'{key}' in '{path}'" if key else f"'{path}'"
    return InvalidConfig(f"cannot use {what}: it is not {expected}", subject=path)


def scopes_of(transport: str, name: str, full: str) -> list[str]:
    """The scopes that an image is of, the narrowest first. `full`: with its tag or digest."""
    if transport == "containers-storage":
        return _in_store(name, full)
    if transport != "docker":
        return [*dict.fromkeys((full, *_directories(name)))]
    host, _, path = name.partition("/")
    scopes = [full]
    while path:
        scopes.append(f"{host}/{path}")
        path = path.rpartition("/")[0]
    scopes.append(host)
    domain = host.partition(":")[0]
    while "." in domain:
        domain = domain.partition(".")[2]
        scopes.append(f"*.{domain}")
    return scopes


def _in_store(name: str, full: str) -> list[str]:
    """`[DRIVER@GRAPHROOT]NAME`."""
    store, bracket, path = name.partition("]")
    store += bracket
    scopes = [full]
    while path:
        scopes.append(f"{store}{path}")
        path = path.rpartition("/")[0]
    return [*dict.fromkeys((*scopes, store, f"[{store.partition('@')[2]}"))]


def _directories(path: str) -> list[str]:
    found: list[str] = []
    while path and path != "/":
        found.append(path)
        path = path.rpartition("/")[0]
    return found


def refusal(policy: Policy, transport: str, name: str, full: str) -> str:
    """Why an image must not be taken; empty: it may."""
    scopes = policy.transports.get(transport, {})
    for scope in (*scopes_of(transport, name, full), ""):
        if scope in scopes:
            where = f"'{scope}'" if scope else "what else comes"
            return _refused(policy, scopes[scope], f"for {where} by the transport '{transport}'")
    return _refused(policy, policy.default, "by default")


def _refused(policy: Policy, kinds: tuple[str, ...], where: str) -> str:
    for kind in kinds:
        if kind == "reject":
            return f"'{policy.file}' rejects it {where}"
        if kind != "insecureAcceptAnything":
            return f"'{policy.file}' wants '{kind}' {where}, and signatures cannot be verified yet"
    return ""
