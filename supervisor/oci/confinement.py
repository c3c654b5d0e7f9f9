"""Mandatory access control: the AppArmor profile and the SELinux labels of a container.

Where the host has no AppArmor a profile that was asked for is refused, as a container would run without it. No process gets
a label of SELinux. Where there is none, labels are of no consequence: they are kept and shown. Where there is, they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.host import this_host

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.request import BuildRequest

__all__ = ["apparmor", "check", "noted", "security_options"]

UNCONFINED = "unconfined"
LOADED = "/sys/kernel/security/apparmor/profiles"

_PARTS = ("user", "role", "type", "level", "filetype")
_DISABLE = "disable"


def check(request: BuildRequest) -> None:
    """InvalidArgument, NotSupported."""
    spec = request.spec
    for option in spec.selinux_opts:
        key, colon, value = option.partition(":")
        if option != _DISABLE and not (key in _PARTS and colon and _is_part(key, value)):
            raise InvalidArgument(
                f"cannot use --security-opt label={option}",
                subject=option,
                hint=f"it must be disable, nested, or {':…, '.join(_PARTS)}:…",
            )
    labels = [option for option in spec.selinux_opts if option != _DISABLE] + ["nested"] * spec.label_nested
    if labels and this_host().selinux:
        raise NotSupported(
            f"cannot use --security-opt label={labels[0]}: containers get no labels on this host, which has SELinux",
            subject=labels[0],
        )
    profile = apparmor(request)
    if profile and profile != UNCONFINED and not _is_loaded(profile):
        what = (
            f"--security-opt apparmor={profile}" if spec.apparmor_profile else f"apparmor_profile '{profile}'"
        )
        raise InvalidArgument(
            f"cannot use {what}: the kernel does not have the profile",
            subject=profile,
            hint="load it with apparmor_parser",
        )


def apparmor(request: BuildRequest) -> str:
    """The profile that the container's processes get; empty: none is set. NotSupported: one was asked for, and there is no
    AppArmor here."""
    asked = request.spec.apparmor_profile
    if request.settings.rootless or not this_host().apparmor:
        if asked in ("", UNCONFINED):
            return ""
        reason = "this host has no AppArmor"
        if request.settings.rootless:
            reason = "an ordinary user cannot give containers a profile"
        raise NotSupported(f"cannot use --security-opt apparmor={asked}: {reason}", subject=asked)
    return asked or ("" if request.privileged else request.settings.containers.apparmor_profile)


def noted(spec: ContainerSpec) -> dict[str, str]:
    """What was asked for, as Podman notes it."""
    asked = {"apparmor": spec.apparmor_profile, "label": _labels(spec), "seccomp": spec.seccomp_profile_path}
    return {f"io.podman.annotations.{name}": value for name, value in asked.items() if value}


def _labels(spec: ContainerSpec) -> str:
    return ",label=".join([*spec.selinux_opts, *(["nested"] if spec.label_nested else [])])


def security_options(spec: ContainerSpec) -> list[str]:
    """As inspect tells them, and Podman."""
    found = ["no-new-privileges"] if spec.no_new_privileges else []
    if labels := _labels(spec):
        found.append(f"label={labels}")
    if spec.seccomp_profile_path:
        found.append(f"seccomp={spec.seccomp_profile_path}")
    if spec.apparmor_profile:
        found.append(f"apparmor={spec.apparmor_profile}")
    return found


def _is_part(key: str, value: str) -> bool:
    return bool(value) and value.isprintable() and " " not in value and (key == "level" or ":" not in value)


def _is_loaded(profile: str) -> bool:
    """Also where it cannot be told."""
    try:
        with open(LOADED, encoding="utf-8", errors="replace") as file:
            return any(line.rpartition(" (")[0] == profile for line in file)
    except OSError:
        return True
