"""`run --rmi`: an image that goes with its container, also if the supervisor is killed at it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from supervisor.storage import table
from tests.support.images import import_image, leave_no_mount
from tests.support.runtimes import BY_USER
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)

NAME = "localhost/short:1"


@pytest.fixture
def engine(shared_engine: Engine, rootfs: Path) -> Iterator[Engine]:
    """With an image of one name."""
    import_image(shared_engine, rootfs, NAME)
    yield shared_engine
    shared_engine.cli("rm", "--all", "--force", "--time", "0")
    shared_engine.cli("rmi", "--all", "--force")
    leave_no_mount(shared_engine)


def images(engine: Engine) -> list[str]:
    return engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()


def told(engine: Engine) -> list[str]:
    """What became of the image since the test began."""
    return [event["Status"] for event in engine.events(type=["image"]) if event["Name"] == NAME]


def is_gone(engine: Engine) -> None:
    """The image, and that is told once."""
    until(lambda: images(engine) == [] and "remove" in told(engine), "the image is gone")
    assert told(engine).count("remove") == 1


def settled(engine: Engine) -> bool:
    """There is no container. What was created and never started is removed: its client is gone."""
    found = engine.call("io.pyman.Container.List", {"all": True})["containers"]
    for one in found:
        if one["State"] == "created":
            engine.cli("rm", "--force", one["Id"], check=False)
    return not found


def test_the_image_goes_with_the_container(engine: Engine) -> None:
    done = engine.cli("run", "--rmi", NAME, "sh", "-c", "exit 3", check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert images(engine) == []
    assert engine.out("ps", "-aq") == ""
    assert told(engine)[-2:] == ["untag", "remove"]


def test_only_its_name_goes_where_there_is_another_one(engine: Engine) -> None:
    engine.cli("tag", NAME, "localhost/other:2")
    engine.cli("run", "--rm", "--rmi", NAME, "true")
    assert images(engine) == ["localhost/other:2"]


def test_an_image_that_another_container_uses_stays(engine: Engine) -> None:
    engine.cli("create", "--name", "user", NAME, "true")
    done = engine.cli("run", "--rmi", NAME, "sh", "-c", "echo said")
    assert done.stdout == "said\n"
    assert "the container user uses it" in done.stderr
    assert images(engine) == [NAME]


def test_a_name_that_means_another_image_by_now_stays(engine: Engine, rootfs: Path) -> None:
    engine.cli("run", "-d", "--rmi", "--name", "c", NAME, "sleep", "1000")
    (rootfs / "more").write_text("")
    try:
        import_image(engine, rootfs, NAME)
    finally:
        (rootfs / "more").unlink()
    engine.cli("stop", "--time", "0", "c")
    until(lambda: not engine.out("ps", "-aq"), "it is gone")
    assert images(engine) == [NAME, "<none>:<none>"]


def test_it_goes_though_the_supervisor_was_killed_in_between(engine: Engine) -> None:
    engine.cli("run", "-d", "--rmi", "--name", "c", NAME, "sleep", "1000")
    assert engine.inspect("c")["HostConfig"]["AutoRemoveImage"] is True
    engine.kill()
    engine.cli("stop", "--time", "0", "c")
    is_gone(engine)


def test_it_goes_though_the_supervisor_was_killed_when_only_the_image_was_left(engine: Engine) -> None:
    engine.cli("run", "-d", "--rmi", "--name", "c", NAME, "sleep", "1000")
    seq = engine.last_seq()
    with table.locked(f"{engine.root}/overlay-images/images.lock"):
        engine.cli("stop", "--time", "0", "c")
        engine.await_event(lambda event: event["Status"] == "remove" and event["Name"] == "c", seq)
        engine.kill()
    is_gone(engine)
    assert engine.call("io.pyman.System.Check", {}).get("problems", []) == []


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3])
def test_it_goes_whenever_the_supervisor_is_killed(engine: Engine, after: float) -> None:
    with engine.spawn("run", "--rmi", "--name", "c", NAME, "true") as client:
        time.sleep(after)
        engine.kill()
        client.communicate(timeout=30)
    until(lambda: settled(engine), "the container is gone")
    started = [event for event in engine.events(container=["c"]) if event["Status"] == "start"]
    if started:
        is_gone(engine)
    else:
        assert images(engine) == [NAME]


def test_what_never_ran_leaves_its_image(engine: Engine) -> None:
    assert engine.cli("run", "--rmi", NAME, "/nowhere", check=False).returncode == 127
    assert images(engine) == [NAME]


def test_it_is_refused_where_it_makes_no_sense(engine: Engine, rootfs: Path) -> None:
    done = engine.cli("run", "--rmi", "--rm=false", NAME, "true", check=False)
    assert "cannot use --rmi without --rm" in done.stderr
    done = engine.cli("run", "--rmi", "--restart", "always", NAME, "true", check=False)
    assert "together with --restart" in done.stderr
    done = engine.cli("run", "--rmi", "--rootfs", f"{rootfs}:O", "true", check=False)
    assert "cannot use --rmi with --rootfs" in done.stderr
