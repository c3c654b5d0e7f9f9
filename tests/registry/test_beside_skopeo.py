"""Logins, certificates and registries.conf are the other engines' as well: what one writes, the other reads."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import trio

from pyman.api.image import RegistryAccess
from supervisor.registry.reference import parse
from tests.support.registry import PASSWORD, USER, tar_layer

if TYPE_CHECKING:
    import socket

    from tests.registry.support import Home
    from tests.support.registry import RealRegistry


async def _skopeo(home: Home, *arguments: object, said: str = "") -> str:
    argv = ["skopeo", "--policy", str(home.administrator / "policy.json"), *map(str, arguments)]
    done = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            argv, env=home.environ, input=said.encode(), capture_output=True, timeout=30, check=False
        )
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def test_a_login_of_one_is_a_login_of_the_other(
    home: Home, program: socket.socket, secure_registry: RealRegistry
) -> None:
    secure_registry.certs_d(home.administrator / "certs.d")
    certificates = home.administrator / "certs.d" / secure_registry.host
    name = secure_registry.push("beside/login", "1", [tar_layer({"a": b"1"})]).reference
    tags = ["list-tags", "--cert-dir", certificates, f"docker://{secure_registry.host}/beside/login"]
    async with home.registries(program) as registries:
        await registries.login(secure_registry.host, RegistryAccess(username=USER, password=PASSWORD))
        assert '"1"' in await _skopeo(home, *tags)
        await _skopeo(home, "logout", secure_registry.host)
        assert await registries.logout("", all=True) == []
        login = ["login", "--cert-dir", certificates, "--username", USER, "--password-stdin"]
        await _skopeo(home, *login, secure_registry.host, said=PASSWORD)
        assert (await registries.logged_in(secure_registry.host)).username == USER
        assert await registries.tags(parse(name)) == ["1"]


async def test_a_name_leads_both_to_the_same_place(
    home: Home, program: socket.socket, registry: RealRegistry
) -> None:
    pushed = registry.push("beside/mirror/app", "1", [tar_layer({"a": b"1"})])
    home.write(
        "home/.config/containers/registries.conf",
        f"""
        [[registry]]
        prefix = "*.main.example"
        location = "main.invalid"
        [[registry.mirror]]
        location = "{registry.host}/beside/mirror"
        insecure = true
        """,
    )
    name = "one.main.example/app:1"
    async with home.registries(program) as registries:
        found = await registries.manifest(parse(name))
    theirs = await _skopeo(home, "inspect", "--raw", f"docker://{name}")
    assert found.data == theirs.encode() == pushed.manifest
