"""However a user comes in, there is one engine: by a login, by su, from cron, from a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.machine import PATH

if TYPE_CHECKING:
    from tests.support.machine import Machine

PYMAN = f"{PATH.partition(':')[0]}/pyman"


def _ways(machine: Machine) -> dict[str, list[str]]:
    """What to put before a shell's words, by root."""
    owner = machine.owner
    become = ["setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--init-groups"]
    cron = [
        "env",
        "-i",
        f"HOME={machine.home}",
        f"LOGNAME={owner.name}",
        "SHELL=/bin/sh",
        "PATH=/usr/bin:/bin",
    ]
    service = ["systemd-run", "--quiet", "--wait", "--pipe", f"--uid={owner.uid}"]
    login = [*service, "--property=PAMName=login", "--property=StandardInput=null"]
    return {
        "login": [*login, "sh", "-c"],
        "su -": ["su", "-", owner.name, "-c"],
        "su": ["env", "XDG_RUNTIME_DIR=/run/user/0", "su", owner.name, "-c"],
        "su without sessions": ["env", "XDG_RUNTIME_DIR=/run/user/0", *become, "sh", "-c"],
        "cron": [*cron, *become, "sh", "-c"],
        "service": [*service, "sh", "-c"],
    }


@pytest.mark.parametrize("way", ["login", "su -", "su", "su without sessions", "cron", "service"])
def test_a_command_works_and_says_at_most_one_thing(user: Machine, way: str) -> None:
    begin = _ways(user)[way]
    told = user.root(*begin, f"{PYMAN} run --rm --rootfs {user.rootfs} echo works")
    assert told.stdout == "works\n"
    assert told.stderr.count("\n") <= 1
    here = user.root(*begin, f"{PYMAN} info --format '{{{{.supervisor.socket}}}}'").stdout.strip()
    assert here == f"{user.runtime_dir}/pyman/pyman.sock", "the same as everywhere"
    # Whoever has come in is gone again; what runs in the background stays.
    user.root(*begin, f"{PYMAN} run -d --name c --rootfs {user.rootfs} sleep 1000")
    assert user.out(PYMAN, "ps", "--format", "{{.Names}}") == "c"
    user.user(PYMAN, "rm", "-f", "-t", "0", "c")
