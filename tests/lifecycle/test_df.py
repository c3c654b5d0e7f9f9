"""How much room things take, and the removal of those that nothing uses."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.runtimes import BY_USER
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)

MIB = 1 << 20


def archive(rootfs: Path, *, padding: int = 0) -> bytes:
    """A layer with the shell in it, and so many bytes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(rootfs / "bin", "bin")
        if padding:
            entry = tarfile.TarInfo("padding")
            entry.size = padding
            tar.addfile(entry, io.BytesIO(b"\0" * padding))
    return made.getvalue()


def import_image(engine: Engine, rootfs: Path, name: str, padding: int = 0) -> str:
    data = archive(rootfs, padding=padding)
    return engine.out("import", "-q", "-", *([name] if name else []), input=data).removeprefix("sha256:")


@pytest.fixture
def box(shared_engine: Engine) -> Iterator[Engine]:
    """An engine without images and volumes, before and after."""
    yield shared_engine
    shared_engine.cli("rm", "-af", "-t", "0")
    shared_engine.cli("rmi", "-af")
    shared_engine.cli("volume", "rm", "-af")


def usage(engine: Engine) -> dict[str, dict[str, Any]]:
    return {row["Type"]: row for row in json.loads(engine.out("system", "df", "--format", "json"))}


def test_what_containers_and_volumes_hold_is_measured(box: Engine, rootfs: Path) -> None:
    import_image(box, rootfs, "box:1")
    fill = "/bin/dd if=/dev/zero bs=1M"
    script = f"{fill} of=/own count=2; {fill} of=/data/x count=3; echo ready; exec /bin/sleep 900"
    box.cli("run", "-d", "--name", "up", "-v", "data:/data", "box:1", "/bin/sh", "-c", script)
    box.cli("create", "--name", "down", "--rootfs", f"{rootfs}:O", "true")
    box.cli("volume", "create", "spare")
    until(lambda: "ready" in box.out("logs", "up"), "it does not write")
    found = usage(box)
    assert [*found] == ["Images", "Containers", "Local Volumes"]
    containers, volumes = found["Containers"], found["Local Volumes"]
    assert (containers["Total"], containers["TotalCount"], containers["Active"]) == (2, 2, 1)
    assert 2 * MIB <= containers["RawSize"] < 3 * MIB
    assert containers["RawReclaimable"] == 0
    assert (volumes["Total"], volumes["Active"], volumes["RawSize"]) == (2, 1, 3 * MIB)
    assert (volumes["RawReclaimable"], volumes["Size"]) == (0, "3.146MB")
    box.cli("stop", "-t", "0", "up")
    found = usage(box)
    assert found["Containers"]["RawReclaimable"] == found["Containers"]["RawSize"]
    assert found["Containers"]["Reclaimable"].endswith(" (100%)")
    assert found["Local Volumes"]["RawReclaimable"] == 0
    box.cli("rm", "up")
    assert usage(box)["Local Volumes"]["RawReclaimable"] == 3 * MIB


def test_a_layer_that_images_share_counts_once(box: Engine, rootfs: Path) -> None:
    import_image(box, rootfs, "base:1", padding=MIB)
    box.cli("tag", "base:1", "other:2")
    box.cli("run", "--name", "more", "base:1", "/bin/sh", "-c", "/bin/dd if=/dev/zero of=/more bs=1M count=1")
    box.cli("commit", "-q", "more", "child:1")
    found = usage(box)["Images"]
    layers = len(archive(rootfs, padding=MIB))
    assert (found["Total"], found["Active"]) == (3, 1)
    assert layers + MIB <= found["RawSize"] < layers + MIB + 100_000
    assert MIB <= found["RawReclaimable"] < MIB + 50_000  # what the child has by itself
    box.cli("rm", "more")
    assert usage(box)["Images"]["RawReclaimable"] == found["RawSize"]
    text = box.out("system", "df", "-v")
    heads = [line.split()[0] for line in text.split("\n\n")[1].splitlines()]
    assert heads[0] == "REPOSITORY"
    assert sorted(heads[1:]) == ["localhost/base", "localhost/child", "localhost/other"]
    assert "Containers space usage:" in text
    assert text.splitlines()[-1].split() == ["VOLUME", "NAME", "LINKS", "SIZE"]


def test_details_are_podmans_columns(box: Engine, rootfs: Path) -> None:
    box.cli("create", "--name", "c", "-v", "data:/data", "--rootfs", f"{rootfs}:O", "sleep", "100")
    parts = box.out("system", "df", "--verbose").split("\n\n")
    assert parts[0] == "Images space usage:"
    head, line = parts[3].splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert "LOCAL VOLUMES" in head
    assert line.split()[:4] == [box.inspect("c")["Id"][:12], "sleep", "100", "1"]
    assert line.split()[-2:] == ["created", "c"]
    assert parts[5].splitlines()[1].split() == ["data", "1", "0B"]


def test_pruning_containers_takes_what_is_down(box: Engine, rootfs: Path) -> None:
    def make(name: str, *options: str, verb: str = "create") -> str:
        return box.out(verb, "--name", name, *options, "--rootfs", f"{rootfs}:O", "sleep", "900")

    kept = {make("up", "-d", verb="run"), make("other", "--label", "tier=web")}
    crasher = box.out(
        "run", "-d", "--name", "again", "--restart", "always", "--rootfs", f"{rootfs}:O", "false"
    )
    box.await_event(lambda event: event["Status"] == "restart-scheduled" and event["ID"] == crasher)
    until(lambda: float(box.inspect("again")["Restart"]["Delay"]) >= 1, "its restart is not put off")
    down, needing = make("down"), make("needing", "--requires", "down")
    done = box.cli("container", "prune", "-f", "--filter", "label!=tier=web")
    assert set(done.stdout.split()) == {down, needing}
    assert set(box.out("ps", "-aq", "--no-trunc").split()) == {*kept, crasher}
    removed = [event["ID"] for event in box.events() if event["Status"] == "remove"]
    assert removed == [needing, down]
    assert box.out("container", "prune", "-f", "--filter", "until=1h") == ""
    failed = box.cli("container", "prune", "-f", "--filter", "name=x", check=False)
    assert (failed.returncode, failed.stderr) == (
        125,
        "Error: cannot prune by 'name': known are label, label!, until\n",
    )
    box.cli("rm", "-f", "-t", "0", "again")


def test_one_that_another_needs_stays_and_says_so(box: Engine, rootfs: Path) -> None:
    box.cli("create", "--name", "base", "--rootfs", f"{rootfs}:O", "sleep", "900")
    box.cli("run", "-d", "--name", "user", "--requires", "base", "--rootfs", f"{rootfs}:O", "sleep", "900")
    box.cli("stop", "-t", "0", "base")
    done = box.cli("container", "prune", "-f", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "cannot remove container 'base'" in done.stderr
    assert box.out("ps", "-a", "--format", "{{.Names}}").split() == ["base", "user"]


def test_pruning_everything_goes_on_until_nothing_is_left(box: Engine, rootfs: Path) -> None:
    first = import_image(box, rootfs, "", padding=MIB)
    import_image(box, rootfs, "named:1")
    box.cli("volume", "create", "spare")
    box.cli("network", "create", "lan")
    container = box.out("create", "--name", "c", "--network", "lan", "-v", "data:/data", first, "/bin/sh")
    assert box.cli("system", "prune", input="n\n").stdout.startswith("WARNING! This command removes:\n")
    assert box.out("ps", "-aq", "--no-trunc") == container
    lines = box.out("system", "prune", "-f").splitlines()
    assert lines[:4] == ["Deleted Containers", container, "Deleted Images", first]
    assert lines[-3:-1] == ["Deleted Networks", "lan"]
    freed = lines[-1].removeprefix("Total reclaimed space: ")
    assert freed.endswith("MB")
    assert float(freed.removesuffix("MB")) > 1
    assert box.out("volume", "ls", "-q").split() == ["data", "spare"]
    lines = box.out("system", "prune", "-af", "--volumes").splitlines()
    assert lines[:3] == ["Deleted Volumes", "data", "spare"]
    assert lines[3] == "Deleted Images"
    assert (box.out("images", "-q"), box.out("volume", "ls", "-q")) == ("", "")
    assert box.out("system", "prune", "-af", "--volumes") == "Total reclaimed space: 0B"
    told = [(event["Type"], event["Status"]) for event in box.events() if event["Status"] == "prune"]
    assert told == [("volume", "prune"), ("volume", "prune")]


def test_filters_of_a_prune_are_for_all_kinds(box: Engine, rootfs: Path) -> None:
    box.cli("volume", "create", "--label", "of=test", "named")
    box.cli("network", "create", "--label", "of=test", "labelled")
    box.cli("network", "create", "plain")
    box.cli("create", "--label", "of=test", "--name", "one", "--rootfs", f"{rootfs}:O", "true")
    two = box.out("create", "--name", "two", "--rootfs", f"{rootfs}:O", "true")
    box.cli("system", "prune", "-f", "--volumes", "--filter", "label=of=test")
    assert box.out("ps", "-aq", "--no-trunc") == two
    assert box.out("network", "ls", "-q").split() == ["plain", "podman"]
    box.cli("network", "rm", "plain")
    assert box.out("volume", "ls", "-q") == "named"  # with a filter only anonymous ones, as Podman
    for option, text in (
        (("--filter", "id=x"), "cannot prune by 'id'"),
        (("--external",), "cannot use --external"),
        (("--build",), "cannot use --build"),
    ):
        done = box.cli("system", "prune", "-f", *option, check=False)
        assert done.returncode == 125
        assert text in done.stderr


def test_a_supervisor_that_is_killed_amid_a_prune_leaves_nothing_half_gone(box: Engine, rootfs: Path) -> None:
    ids = {box.out("create", "--rootfs", f"{rootfs}:O", "true") for _ in range(12)}
    with box.spawn("system", "prune", "-f") as pruning:
        box.await_event(lambda event: event["Status"] == "remove")
        box.kill()
        pruning.wait(20)

    def told() -> list[str]:
        return [event["ID"] for event in box.events() if event["Status"] == "remove"]

    # One whose removal was begun may be removed by the next.
    until(lambda: set(box.out("ps", "-aq", "--no-trunc").split()) == ids - set(told()), "there is a half one")
    removed = told()
    left = ids - set(removed)
    assert len(removed) == len(set(removed))
    assert set(box.out("container", "prune", "-f").split()) == left


def test_ports_are_none_without_networks(box: Engine, rootfs: Path) -> None:
    box.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "900")
    assert box.out("port", "c") == box.out("port", "--all") == box.out("container", "port", "-l") == ""
    for words, text in (
        (("c", "80"), "cannot find the port '80' of container 'c': it is not published"),
        (("c", "80/udp"), "it is not published"),
        (("c", "0"), "cannot use the port '0'"),
        (("c", "80/tcp/x"), "cannot use the port '80/tcp/x'"),
        (("nobody",), "cannot find container 'nobody'"),
        ((), "needs a container"),
        (("--all", "c"), "cannot use --all"),
    ):
        done = box.cli("port", *words, check=False)
        assert (done.returncode, done.stdout) == (125, ""), words
        assert text in done.stderr


def test_exists_says_it_by_the_exit_status(box: Engine, rootfs: Path) -> None:
    image = import_image(box, rootfs, "box:1")
    identity = box.out("create", "--name", "c", image, "/bin/sh")
    for words in (("exists", "c"), ("container", "exists", identity[:12]), ("exists", "--external", "c")):
        assert box.cli(*words).returncode == 0
    assert box.cli("exists", "nobody", check=False).returncode == 1
    assert box.cli("exists", "--external", "nobody", check=False).returncode == 1
