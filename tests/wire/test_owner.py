"""Whose engine is meant, by the ids and the environment."""

from __future__ import annotations

import os
import subprocess
import sys

from pyman.wire import owner

MARKS = {"_CONTAINERS_USERNS_CONFIGURED": "done", "_CONTAINERS_ROOTLESS_UID": "4711"}


def test_the_hosts_root_is_nobody_else_whatever_its_environment_says() -> None:
    assert owner({}) == owner(MARKS) == os.geteuid()


def test_root_in_a_user_namespace_is_who_the_environment_says() -> None:
    script = f"from pyman.wire import owner; print(owner({MARKS}), owner({{}}))"
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "4711 0\n"
