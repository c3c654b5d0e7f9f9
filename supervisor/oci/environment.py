"""The environment of a container's command.

Weakest first: the configured defaults, `container`, the image's, what is made of these (`--env-merge`), the caller's whole
environment (`--env-host`) or else its proxies, what was asked for by name (`-e`, `--env-file`), and secrets. `--unsetenv`
takes away what comes before the caller's.
HOSTNAME and HOME are added if nothing has set them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.request import BuildRequest, ExecBuildRequest

__all__ = ["environment", "exec_environment", "lasting_environment"]

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def environment(request: BuildRequest, home: str) -> dict[str, str]:
    """Name to value; `home` is the user's home directory."""
    variables = _asked_for(request)
    if request.systemd:
        variables.setdefault("container_uuid", request.id[:32])  # of which systemd makes the machine's id
    if request.notify_directory:
        variables["NOTIFY_SOCKET"] = "/run/notify/notify.sock"
    variables.setdefault("HOSTNAME", request.hostname)
    variables.setdefault("HOME", home)
    return variables


def _asked_for(request: BuildRequest) -> dict[str, str]:
    spec = request.spec
    variables: dict[str, str] = {}
    if not spec.unsetenv_all:
        variables = {**request.settings.containers.env, "container": "podman", **request.image.env}
        variables = _merged(variables, spec)
        for name in spec.unsetenv:
            variables.pop(name, None)
    if spec.env_host:
        variables.update(request.host_environment)
    elif request.host_environment and _passes_proxies(request):
        own = request.host_environment
        both = (*_PROXIES, *(name.upper() for name in _PROXIES))
        variables.update((name, own[name]) for name in both if name in own)
    variables.update(_checked(spec.env))
    if spec.terminal and not spec.unsetenv_all and "TERM" not in spec.unsetenv:
        variables.setdefault("TERM", "xterm")
    variables.update(request.secret_environment)
    return variables


def lasting_environment(request: BuildRequest) -> dict[str, str]:
    """What an image that is made of the container is to have: what it was given, and nothing of the engine's or the
    host's but the path."""
    spec = request.spec
    variables: dict[str, str] = {}
    if not spec.unsetenv_all:
        configured = request.settings.containers.env
        variables = {
            **{name: configured[name] for name in ("PATH",) if name in configured},
            **request.image.env,
        }
        if spec.envmerge:
            known = {**configured, "container": "podman", **request.image.env}
            variables.update(_changed(known, _merged(known, spec)))
        for name in spec.unsetenv:
            variables.pop(name, None)
    return {**variables, **spec.env}


def _merged(variables: dict[str, str], spec: ContainerSpec) -> dict[str, str]:
    if spec.envmerge:
        from supervisor.oci.merging import merged  # few want it

        for text in spec.envmerge:
            name, value = merged(text, variables)
            variables = {**variables, **_checked({name: value})}
    return variables


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _passes_proxies(request: BuildRequest) -> bool:
    asked = request.spec.httpproxy
    return request.settings.containers.http_proxy if asked is None else asked


def exec_environment(request: ExecBuildRequest, home: str) -> dict[str, str]:
    """The container's, then the exec's own; `home` is that of the exec's user."""
    variables = {**_asked_for(request.container), **_checked(request.env)}
    if request.terminal:
        variables.setdefault("TERM", "xterm")
    variables.setdefault("HOSTNAME", request.container.hostname)
    variables.setdefault("HOME", home)
    return variables


def _checked(variables: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidArgument(f"cannot set the environment variable '{name}'", subject=name)
    return variables
