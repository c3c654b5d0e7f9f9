"""The namespaces that a container to be shares with others: which containers' they are, and what cannot be shared.

What is settled here holds for the container's whole life: names become ids. Where the namespaces themselves are, each
start finds out (`life.joining`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument
from supervisor.oci import namespaces
from supervisor.oci.namespaces import FIELDS, OPTIONS
from supervisor.runtime.creation import userns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.spec import ContainerSpec
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import View
    from supervisor.settings.model import Settings

__all__ = ["hostname", "owners", "settle"]

_NAME_LIMIT = 64
"""Characters; the kernel's."""


def owners(view: View, spec: ContainerSpec, settings: Settings) -> dict[str, Definition]:
    """The containers whose namespaces are to be joined, by the specification's names of the kinds, `user` for the user
    namespace. NoSuchContainer, AmbiguousId."""
    names = namespaces.owners(spec) if namespaces.joins(spec) else {}
    wish = userns.wish_of(spec, settings)
    if wish.nsmode == "container" and wish.value:
        names["user"] = wish.value
    return {kind: view.find(name).container.definition for kind, name in names.items()}


def settle(spec: ContainerSpec, found: Mapping[str, Definition], settings: Settings) -> ContainerSpec:
    """The spec with ids instead of names, checked while the names are those that were given. A container that is to join
    one which has the host's namespace has the host's, too. May look at paths. InvalidArgument, NotSupported."""
    _check_own_names(spec, settings)
    if not namespaces.joins(spec):
        return spec
    if spec.init or settings.containers.init:
        namespaces.check_init(spec, namespaces.mode("pid", spec, settings.containers))
    _check_cgroups(spec, settings)
    _check_names(spec)
    changed = {}
    for kind, field in FIELDS.items():
        wish = getattr(spec, field)
        mode = namespaces.mode(kind, spec, settings.containers)  # which checks it
        if mode == "ns":
            _check_path(kind, wish.value)
        elif mode == "container":
            owner = found[kind]
            theirs = namespaces.mode(kind, owner.spec, settings.containers)
            if kind == "ipc" and theirs in ("private", "none"):
                raise InvalidArgument(
                    f"cannot use --ipc container:{wish.value}: the IPC namespace of container '{owner.name}' is"
                    f" {'private' if theirs == 'private' else 'its own, without a /dev/shm'}",
                    subject=owner.name,
                    hint="a container whose IPC namespace others may join is made with --ipc shareable",
                )
            joined = theirs != "host"
            changed[field] = msgspec.structs.replace(
                wish, nsmode=mode if joined else "host", value=owner.id if joined else ""
            )
    return msgspec.structs.replace(spec, **changed)


def _check_path(kind: str, path: str) -> None:
    from supervisor.kernel import inside  # only now: every first command waits for what is imported

    try:
        os.close(inside.of_path(path, kind))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidArgument(f"cannot use {OPTIONS[kind]} ns:{path}: {reason}", subject=path) from error


def _check_cgroups(spec: ContainerSpec, settings: Settings) -> None:
    mode = spec.cgroups_mode or settings.containers.cgroups
    if mode == "disabled" and spec.pidns.nsmode in namespaces.JOINED:
        raise InvalidArgument(
            f"cannot use --pid {spec.pidns.nsmode}:{spec.pidns.value} together with --cgroups disabled: without a cgroup"
            " nobody could tell its processes from others"
        )


def _check_names(spec: ContainerSpec) -> None:
    """Who joins another one's network has its hosts and name servers as well."""
    if spec.netns.nsmode != "container":
        return
    for option, given in (
        ("--add-host", spec.hostadd),
        ("--dns", spec.dns_server),
        ("--dns-option", spec.dns_option),
        ("--dns-search", spec.dns_search),
        ("--hosts-file", spec.base_hosts_file),
    ):
        if given:
            raise InvalidArgument(
                f"cannot use {option} together with --network container:{spec.netns.value}: that container's file is used",
                subject=option,
            )


def _check_own_names(spec: ContainerSpec, settings: Settings) -> None:
    """Its host name and domain name, if it may have any."""
    mode = namespaces.mode("uts", spec, settings.containers)
    for option, word, name in (
        ("--hostname", "hostname", spec.hostname),
        ("--domainname", "domain name", spec.domainname),
    ):
        if name and namespaces.is_shared(mode):
            raise InvalidArgument(
                f"cannot use {option} together with --uts {namespaces.told('uts', spec, mode)}:"
                f" the {word} is not the container's own",
                subject=name,
            )
        if len(name) > _NAME_LIMIT:
            raise InvalidArgument(
                f"cannot use the {word} '{name}': it has more than {_NAME_LIMIT} characters"
            )
        if not name.isprintable() or not name.isascii() or " " in name:
            raise InvalidArgument(f"cannot use the {word} '{name}': there is a space in it, or worse")


def hostname(id: str, spec: ContainerSpec, found: Mapping[str, Definition], settings: Settings) -> str:
    """The container's own, or that of the namespace which it shares; of a spec that is settled. InvalidArgument."""
    mode = namespaces.mode("uts", spec, settings.containers)
    if namespaces.is_shared(mode):
        return _shared_hostname(mode, spec, found)
    if spec.hostname:
        return spec.hostname
    if namespaces.mode("network", spec, settings.containers) == "host":
        return os.uname().nodename
    return id[:12]


def _shared_hostname(mode: str, spec: ContainerSpec, found: Mapping[str, Definition]) -> str:
    if mode == "container":
        return found["uts"].hostname
    if mode == "host":
        return os.uname().nodename
    from supervisor.kernel import inside

    path = spec.utsns.value
    try:
        uts = inside.of_path(path, "uts")
        try:
            return inside.node_name(uts)
        finally:
            os.close(uts)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidArgument(f"cannot use --uts ns:{path}: {reason}", subject=path) from error
