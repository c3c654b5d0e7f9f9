"""A container's time zone, the variables it is given, and the ports it says it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lifecycle.test_etc_files import configure, engine, refused, run
from tests.support.images import import_image, podman
from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

__all__ = ["engine"]

ZONES = Path("/usr/share/zoneinfo")
TOKYO = "Asia/Tokyo"


def test_the_time_is_that_of_the_zone(engine: Engine, rootfs: Path) -> None:
    script = "date +%z; cat /etc/localtime | md5sum; md5sum < /etc/localtime; ls /etc"
    assert run(engine, rootfs, "--tz", TOKYO, script=script).splitlines()[0] == "+0900"
    engine.cli("create", "--name", "c", "--tz", "local", "--rootfs", f"{rootfs}:O", "cat", "/etc/localtime")
    done = engine.cli("start", "--attach", "c")
    assert done.stdout == Path("/etc/localtime").read_bytes().decode(errors="replace")
    assert engine.inspect("c")["Config"]["Timezone"] == "local"
    configure(engine, f'tz = "{TOKYO}"')
    assert run(engine, rootfs, script="date +%z") == "+0900"
    assert run(engine, rootfs, "--tz", "America/New_York", script="date +%Z").startswith("E")
    assert not (rootfs / "etc/localtime").exists()


@pytest.mark.oci_runtime(*BY_USER)
@pytest.mark.parametrize(
    "zone", ["Nowhere/There", "../../../etc/passwd", "/etc/localtime", "Asia", "a b", "."]
)
def test_a_zone_that_the_host_does_not_have_is_refused(engine: Engine, rootfs: Path, zone: str) -> None:
    assert f"cannot use --tz '{zone}'" in refused(engine, rootfs, "--tz", zone)


@pytest.fixture
def zoned(engine: Engine, rootfs: Path) -> Iterator[str]:
    """An image with one zone, and a link to another that is not there."""
    place = rootfs / "usr/share/zoneinfo" / TOKYO
    place.parent.mkdir(parents=True)
    place.write_bytes((ZONES / TOKYO).read_bytes())
    (rootfs / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    if isinstance(engine, UserEngine):
        engine.user.owns(rootfs / "usr")
    try:
        if podman(engine, "image", "exists", "zoned", check=False).returncode:
            import_image(engine, rootfs, "zoned")
        yield "zoned"
    finally:
        (rootfs / "etc/localtime").unlink()
        place.unlink()
        for directory in (place.parent, place.parent.parent, place.parent.parent.parent):
            directory.rmdir()


@pytest.mark.oci_runtime(*BY_USER)
def test_an_image_that_has_the_zone_is_given_a_link_to_it(engine: Engine, zoned: str) -> None:
    script = "date +%z; readlink /etc/localtime; true"
    engine.cli("create", "--name", "c", "--tz", TOKYO, zoned, "sh", "-c", script)
    for _ in range(2):
        text = engine.cli("start", "--attach", "c").stdout
        assert text.splitlines() == ["+0900", f"../usr/share/zoneinfo/{TOKYO}"]
    assert json.loads(engine.out("diff", "--format", "json", "c")) == {}
    engine.cli("commit", "-q", "c", "made")
    assert engine.out("run", "--rm", "made", "readlink", "/etc/localtime") == "/usr/share/zoneinfo/Etc/UTC"
    text = engine.out("run", "--rm", "--read-only", "--tz", "Asia/Kolkata", zoned, "sh", "-c", script)
    assert text == "+0530"
    engine.cli("rmi", "made")


@pytest.mark.oci_runtime(*BY_USER)
def test_a_directory_keeps_its_own_link(engine: Engine, rootfs: Path, zoned: str) -> None:
    del zoned
    text = engine.out("run", "--rm", "--tz", "Asia/Kolkata", "--rootfs", str(rootfs), "date", "+%z")
    assert text == "+0530"
    assert (rootfs / "etc/localtime").is_symlink()
    for made in ("usr/share/zoneinfo/Etc/UTC", "etc/hosts", "run/.containerenv"):
        (rootfs / made).unlink(missing_ok=True)
    (rootfs / "usr/share/zoneinfo/Etc").rmdir()


PROXIES = {"http_proxy": "http://one", "NO_PROXY": "two", "FTP_PROXY": "", "other_proxy": "three"}


@pytest.mark.oci_runtime(*BY_USER)
def test_the_callers_proxies_are_set(engine: Engine, rootfs: Path) -> None:
    def seen(*options: str) -> list[str]:
        words = ("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "env")
        lines = engine.cli(*words, env=PROXIES).stdout.splitlines()
        return sorted(line for line in lines if "proxy" in line.lower())

    given = ["FTP_PROXY=", "NO_PROXY=two", "http_proxy=http://one"]
    assert seen() == given
    assert seen("--http-proxy=false") == []
    assert seen("-e", "http_proxy=mine") == ["FTP_PROXY=", "NO_PROXY=two", "http_proxy=mine"]
    assert seen("--env-host") == [*given, "other_proxy=three"]
    configure(engine, "http_proxy = false")
    assert seen() == []
    assert seen("--http-proxy") == given


@pytest.mark.oci_runtime(*BY_USER)
def test_a_request_has_nothing_of_the_caller_but_what_was_asked_for(engine: Engine, rootfs: Path) -> None:
    words = ("create", "--name", "c", "--rootfs", f"{rootfs}:O", "true")
    engine.cli(*words, env={**PROXIES, "SECRET": "none of its business"})
    database = b"".join(path.read_bytes() for path in engine.root.rglob("*") if path.is_file())
    assert b"http://one" in database
    assert b"none of its business" not in database
    engine.cli("rm", "c")


@pytest.fixture
def coloured(engine: Engine, rootfs: Path) -> str:
    changes = ("ENV COLOUR=blue", "ENV EMPTY=", "EXPOSE 80/tcp", "EXPOSE 7000/udp", "ENV http_proxy=its")
    if podman(engine, "image", "exists", "coloured", check=False).returncode:
        import_image(engine, rootfs, "coloured", changes)
    return "coloured"


@pytest.mark.oci_runtime(*BY_USER)
def test_variables_are_made_of_the_images(engine: Engine, coloured: str) -> None:
    merges = {
        "COLOUR=dark-${COLOUR}": "dark-blue",
        "NONE=[${NOT_THERE}]": "[]",
        "CHAIN=$COLOUR.": "dark-blue.",
        "QUOTED=\"a $COLOUR\" '$COLOUR' \\$COLOUR": "a dark-blue $COLOUR $COLOUR",
        "OR=${EMPTY:-${NOT_THERE:-no $COLOUR}}": "no dark-blue",
        "AND=${COLOUR:+yes}${EMPTY:+no}": "yes",
        "SURE=${COLOUR:?not set}": "dark-blue",
        "MONEY=5$": "5$",
    }
    words = [word for merge in merges for word in ("--env-merge", merge)]
    lines = engine.out("run", "--rm", *words, coloured, "env").splitlines()
    assert {f"{merge.partition('=')[0]}={value}" for merge, value in merges.items()} <= set(lines)
    options = ("--env-merge", "COLOUR=$COLOUR!", "-e", "COLOUR=red")
    assert engine.out("run", "--rm", *options, coloured, "sh", "-c", "echo $COLOUR") == "red"
    engine.cli("run", "-d", "--name", "c", "--env-merge", "COLOUR=$COLOUR!", coloured, "sleep", "1000")
    assert engine.out("exec", "c", "sh", "-c", "echo $COLOUR") == "blue!"


DEEP = f"A={'${B:-' * 40}{'}' * 40}"


@pytest.mark.oci_runtime(*BY_USER)
@pytest.mark.parametrize(
    "merge",
    ["A", "=a", "A=${B", "A=${B:-x", "A=${B:=x}", "A=${}", "A='b", 'A="b', "A=${B:?}", "A=${B#x}", DEEP],
)
def test_what_cannot_be_merged_is_refused(engine: Engine, rootfs: Path, merge: str) -> None:
    assert "cannot use --env-merge" in refused(engine, rootfs, "--env-merge", merge)


@pytest.mark.oci_runtime(*BY_USER)
def test_a_value_does_not_grow_without_end(engine: Engine, rootfs: Path) -> None:
    words = ["--env-merge", "A=0123456789"] + ["--env-merge", "A=$A$A"] * 30
    assert "the value becomes too long" in refused(engine, rootfs, *words)


@pytest.mark.oci_runtime(*BY_USER)
def test_exposed_ports_are_shown(engine: Engine, coloured: str) -> None:
    options = ("--expose", "53/udp,53", "--expose", "8080-8081/TCP", "--expose", "9/sctp")
    engine.cli("create", "--name", "c", *options, coloured, "true")
    wanted = ["53/tcp", "53/udp", "7000/udp", "8080/tcp", "8081/tcp", "80/tcp", "9/sctp"]
    seen = engine.inspect("c")
    assert sorted(seen["Config"]["ExposedPorts"]) == sorted(wanted)
    assert seen["NetworkSettings"]["Ports"] == dict.fromkeys(wanted)
    engine.cli("create", "--name", "d", "--network", "host", *options, coloured, "true")
    seen = engine.inspect("d")
    assert sorted(seen["Config"]["ExposedPorts"]) == sorted(wanted)
    assert seen["NetworkSettings"]["Ports"] == {}
    engine.cli("commit", "-q", "c", "made")
    [image] = json.loads(engine.out("image", "inspect", "made"))
    assert sorted(image["Config"]["ExposedPorts"]) == sorted(wanted)
    engine.cli("rmi", "made")


@pytest.mark.oci_runtime(*BY_USER)
@pytest.mark.parametrize(
    "port", ["0", "65536", "80/icmp", "82-80", "80-", "-80", "http", "1-2-3", "80/tcp/udp", ""]
)
def test_a_port_that_is_none_is_refused(engine: Engine, rootfs: Path, port: str) -> None:
    assert "--expose" in refused(engine, rootfs, f"--expose={port}")
