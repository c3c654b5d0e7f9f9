"""A user without subordinate ids: one id, and one warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.user import User

if TYPE_CHECKING:
    from tests.support.user import UserEngine

ALONE = User("", 4243, 4243)
"""Nobody has given this one an account, or ids."""


@pytest.fixture(scope="session")
def user() -> User:
    return ALONE


def test_root_in_the_container_is_all_there_is(engine: UserEngine) -> None:
    root = ("--rootfs", str(engine.rootfs))
    assert engine.out("run", "--rm", *root, "id", "-u") == "0"
    done = engine.cli("run", "--rm", "--user", "1000", *root, "true", check=False)
    assert done.returncode in (125, 126)
    assert done.stderr.count("\n") == 1
    assert engine.out("ps", "-aq") == ""


def test_it_is_told_once(engine: UserEngine) -> None:
    engine.kill()
    assert (
        engine.log_text().count(
            "there are no subordinate ids for the user 4243 in /etc/subuid and /etc/subgid"
        )
        == 1
    )
    [warning] = engine.call("io.pyman.System.Info")["supervisor"]["warnings"]
    assert warning.startswith("only one id can be used")
    assert engine.call("io.pyman.System.Info")["host"]["idMappings"]["uidmap"] == [
        {"container_id": 0, "host_id": 4243, "size": 1}
    ]
