"""Containers made from images that Podman and Buildah have put into the same store."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.storage.table import locked
from tests.support.engine import Engine  # noqa: TC001
from tests.support.images import IMAGE, add_layer, import_image, leave_no_mount, podman
from tests.support.runtimes import BY_USER
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(
        not any(os.access(f"{directory}/podman", os.X_OK) for directory in ("/usr/bin", "/usr/local/bin")),
        reason="needs Podman to make images",
    ),
    # What an image says is in the container's specification before any of them is asked.
    pytest.mark.oci_runtime(*BY_USER),
]

CHANGES = (
    'CMD ["sh", "-c", "id -u; pwd; echo $COLOUR"]',
    "ENV COLOUR=blue",
    "ENV PATH=/bin:/image",
    "USER worker",
    "WORKDIR /srv/made/by/engine",
    "EXPOSE 8080",
    "LABEL of=image",
    "LABEL both=image",
    "STOPSIGNAL SIGUSR1",
)


@pytest.fixture
def box(shared_engine: Engine, rootfs: Path) -> Iterator[Engine]:
    """A shared engine with the image IMAGE in its store."""
    if podman(shared_engine, "image", "exists", IMAGE, check=False).returncode:
        import_image(shared_engine, rootfs, changes=CHANGES)
    yield shared_engine
    shared_engine.cli("rm", "--all", "--force", "--time", "0")


def shell(engine: Engine, script: str, *options: str, image: str = IMAGE) -> str:
    return engine.out("run", "--rm", *options, image, "sh", "-c", script)


def test_an_image_runs_with_what_it_says_of_itself(box: Engine) -> None:
    assert box.out("run", "--rm", IMAGE).splitlines() == ["1000", "/srv/made/by/engine", "blue"]


def test_a_short_name_and_an_id_mean_it_too(box: Engine) -> None:
    id = json.loads(podman(box, "image", "inspect", IMAGE).stdout)[0]["Id"]
    for name in ("registry.example/box", "box", id, id[:10]):
        assert box.out("run", "--rm", name, "echo", "hi") == "hi"


def test_what_is_asked_for_wins(box: Engine) -> None:
    script = "id -u; id -g; pwd; echo $COLOUR; echo $PATH"
    told = shell(box, script, "--user", "0:1", "--workdir", "/tmp", "--env", "COLOUR=red").splitlines()
    assert told == ["0", "1", "/tmp", "red", "/bin:/image"]
    told = shell(box, "echo $COLOUR-", "--unsetenv", "COLOUR").splitlines()
    assert told == ["-"]


def test_an_entrypoint_takes_the_command_away(box: Engine) -> None:
    assert box.out("run", "--rm", "--entrypoint", "id", IMAGE, "-u") == "1000"
    assert box.out("run", "--rm", "--entrypoint", '["echo", "a b"]', IMAGE) == "a b"
    done = box.cli("run", "--rm", "--entrypoint", "", IMAGE, check=False)
    assert done.returncode == 125
    assert "no command is given, and its image has none" in done.stderr


def test_the_working_directory_that_is_missing_is_the_users(box: Engine) -> None:
    told = shell(box, "stat -c %u:%g:%a . ..; touch mine").splitlines()
    assert told == ["1000:1000:755", "0:0:755"]


def test_everything_is_shown(box: Engine) -> None:
    known = json.loads(podman(box, "image", "inspect", IMAGE).stdout)[0]
    box.cli("create", "--name", "shown", "--label", "both=mine", IMAGE)
    seen = box.inspect("shown")
    assert (seen["Image"], seen["ImageName"], seen["ImageDigest"]) == (known["Id"], IMAGE, known["Digest"])
    config = seen["Config"]
    assert config["Labels"] == {"of": "image", "both": "mine"}
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == (
        "worker",
        "/srv/made/by/engine",
        10,
    )
    assert "COLOUR=blue" in config["Env"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert seen["NetworkSettings"]["Ports"] == {"8080/tcp": None}
    (line,) = json.loads(box.out("ps", "--all", "--format", "json"))
    assert (line["Image"], line["ImageID"]) == (IMAGE, known["Id"])
    for value in (IMAGE, "registry.example/box", known["Id"], known["Id"][:12]):
        assert box.out("ps", "-aq", "--filter", f"ancestor={value}")
    assert not box.out("ps", "-aq", "--filter", "ancestor=other")
    (event,) = box.events(container=["shown"])
    assert (event["Image"], event["Attributes"]["of"]) == (IMAGE, "image")


def test_the_stop_signal_is_the_images(box: Engine) -> None:
    script = "trap 'exit 42' USR1; touch /tmp/ready; while :; do sleep 0.05; done"
    box.cli("run", "-d", "--name", "trapped", IMAGE, "sh", "-c", script)
    box.cli("exec", "trapped", "sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.02; done")
    box.cli("stop", "trapped")
    assert box.inspect("trapped")["State"]["ExitCode"] == 42


def test_what_is_written_stays_until_the_container_is_removed(box: Engine) -> None:
    box.cli("run", "--name", "writer", "--user", "0", IMAGE, "sh", "-c", "echo 1 >> /kept; cat /kept")
    box.cli("start", "--attach", "writer")
    assert box.out("start", "--attach", "writer") == "1\n1\n1"
    assert shell(box, "ls /kept 2>&1 || true").endswith("No such file or directory")
    id = box.inspect("writer")["Id"]
    box.cli("rm", "writer")
    records = json.loads((box.root / "overlay-containers/containers.json").read_text() or "[]")
    assert id not in [record["id"] for record in records]


def test_two_containers_do_not_see_each_others_files(box: Engine) -> None:
    script = "echo $0 > /tmp/mine; sleep 1000"
    for name in ("one", "two"):
        box.cli("run", "-d", "--name", name, IMAGE, "sh", "-c", script, name)
    for name in ("one", "two"):
        waits = "until [ -s /tmp/mine ]; do sleep 0.02; done; cat /tmp/mine"
        assert box.out("exec", name, "sh", "-c", waits) == name


def test_the_layers_of_the_image_stay_as_they_are(box: Engine) -> None:
    def listing() -> list[tuple[str, int, int]]:
        layers = json.loads(podman(box, "image", "inspect", IMAGE).stdout)[0]["GraphDriver"]["Data"][
            "UpperDir"
        ]
        found = [Path(directory) / name for directory, _, names in os.walk(layers) for name in names]
        return sorted((str(path), path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found)

    before = listing()
    shell(
        box,
        "rm /etc/group; echo x > /etc/hostname; chmod 700 /bin/busybox; mv /usr /elsewhere",
        "--user",
        "0",
    )
    assert listing() == before
    assert before


def test_no_other_engine_removes_the_image_under_a_container(box: Engine) -> None:
    box.cli("run", "-d", "--name", "user", IMAGE, "sleep", "1000")
    done = podman(box, "rmi", IMAGE, check=False)
    assert done.returncode == 2
    assert "in use by a container" in done.stderr
    assert box.out("exec", "user", "cat", "/etc/passwd").startswith("root:")
    assert "pyman-" in podman(box, "ps", "--all", "--external").stdout
    leave_no_mount(box)


def test_an_image_that_another_engine_has_taken_away_is_missed_clearly(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine, image = shared_engine, "registry.example/taken:latest"
    import_image(engine, rootfs, image, changes=["LABEL of=another"])
    engine.cli("create", "--name", "orphan", image, "true")
    podman(engine, "rmi", "--force", image, check=False)
    podman(engine, "rm", "--force", engine.inspect("orphan")["Id"], check=False)
    done = engine.cli("start", "orphan", check=False)
    assert done.returncode == 125
    assert "another engine has removed it from the image store" in done.stderr
    assert "0B (virtual" in engine.out("ps", "--all", "--size", "--format", "{{.Size}}")
    engine.cli("rm", "orphan")


def test_whoever_waits_for_another_engine_keeps_nobody_else_waiting(box: Engine, rootfs: Path) -> None:
    """More of them than there are threads."""
    engine = box
    names = [f"box-{number}" for number in range(20)]
    for name in names:
        engine.cli("create", "--name", name, IMAGE, "true")
    engine.cli("create", "--name", "ready", IMAGE, "echo", "hi")

    def states() -> str:
        return engine.out("ps", "--all", "--format", "{{.State}}").lower()

    with ExitStack() as ends:
        with locked(f"{engine.root}/overlay-layers/layers.lock"):
            waiting = [
                ends.enter_context(engine.spawn("rm", *names)),
                ends.enter_context(engine.spawn("run", "--rm", IMAGE, "true")),
            ]
            until(lambda: states().count("removing") > 16, "they are not being removed")
            assert engine.out("run", "--rm", "--rootfs", rootfs, "echo", "hi") == "hi"
            assert engine.out("start", "--attach", "ready") == "hi"
            assert [each.poll() for each in waiting] == [None, None]
        assert [each.wait(30) for each in waiting] == [0, 0]


def test_volumes_of_an_image_are_the_containers_own(shared_engine: Engine, rootfs: Path) -> None:
    engine, image = shared_engine, "registry.example/volumes:latest"
    import_image(engine, rootfs, image, changes=["VOLUME /home /fresh"])
    script = "stat -c %u /home/worker; echo $0 > /home/worker/mine; ls /fresh; grep -c ' /home ' /proc/mounts"
    engine.cli("create", "--name", "kept", image, "sh", "-c", script, "x")
    assert engine.out("start", "--attach", "kept").splitlines() == ["1000", "1"]
    assert engine.out("start", "--attach", "kept").splitlines() == ["1000", "1"]
    mounts = {mount["Destination"]: mount for mount in engine.inspect("kept")["Mounts"]}
    assert set(mounts) == {"/home", "/fresh"}
    where = Path(mounts["/home"]["Source"])
    assert (where / "worker/mine").read_text() == "x\n"
    engine.cli("rm", "--volumes", "kept")
    assert not where.exists()
    told = engine.out(
        "run", "--rm", "--image-volume", "tmpfs", image, "grep", "-c", "^tmpfs /home ", "/proc/mounts"
    )
    assert told == "1"
    done = engine.cli(
        "run", "--rm", "--image-volume", "ignore", image, "grep", " /home ", "/proc/mounts", check=False
    )
    assert done.returncode == 1


def test_a_health_check_is_run_changed_and_can_be_forgotten(box: Engine) -> None:
    file = box.path / "added"
    file.write_text("hello\n")
    file.chmod(0o644)
    name = "registry.example/healthy"
    add_layer(
        box, IMAGE, name, {"/added": file}, ["--healthcheck", "CMD cat /added", "--entrypoint", '["cat"]']
    )
    assert box.out("run", "--rm", name, "/added") == "hello"
    box.cli("create", "--name", "healthy", name)
    assert box.inspect("healthy")["Config"]["Healthcheck"]["Test"] == ["CMD", "cat", "/added"]
    box.cli("run", "-d", "--name", "runs", "--entrypoint", "sleep", "--health-interval", "1h", name, "1000")
    box.cli("wait", "--condition", "healthy", "runs")
    shown = box.inspect("runs")
    assert shown["State"]["Health"]["Log"][0]["Output"] == "hello\n"
    assert shown["Config"]["Healthcheck"]["Interval"] == 3600_000_000_000
    box.cli("create", "--name", "unhealthy", "--no-healthcheck", name)
    assert box.inspect("unhealthy")["Config"]["Healthcheck"] is None
    box.cli("create", "--name", "other", "--health-cmd", "true", name)
    assert box.inspect("other")["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]


def test_a_mount_for_people_outlives_a_run(box: Engine) -> None:
    engine = box
    engine.cli("create", "--name", "held", "--user", "0", IMAGE, "sh", "-c", "echo run >> /runs")
    selection = {"selection": {"names": ["held"]}}

    def mounted() -> list[str]:
        return [each["path"] for each in engine.call("io.pyman.Container.Mount", {})["containers"]]

    (first,) = engine.call("io.pyman.Container.Mount", selection)["containers"]
    engine.call("io.pyman.Container.Mount", selection)
    assert mounted() == [first["path"]]
    engine.cli("start", "--attach", "held")
    engine.kill()
    assert mounted() == [first["path"]]
    engine.cli("start", "--attach", "held")
    engine.call("io.pyman.Container.Unmount", selection)
    assert mounted() == [first["path"]]
    engine.call("io.pyman.Container.Unmount", selection)
    assert mounted() == []
    assert not (engine.tmpdir / "containers" / first["id"]).exists()
    assert engine.call("io.pyman.Container.Unmount", selection)["results"][0]["changed"] is False
    told = [event["Status"] for event in engine.events(container=["held"])]
    assert told.count("mount") == told.count("unmount") == 2
    engine.call("io.pyman.Container.Mount", selection)
    engine.cli("rm", "held")


def test_a_supervisor_that_is_killed_leaves_no_layer_behind(engine: Engine, rootfs: Path) -> None:
    import_image(engine, rootfs)
    stray = "5" * 64
    id = engine.out("create", "--name", "stays", IMAGE, "true")
    records = engine.root / "overlay-containers/containers.json"
    engine.stop()
    known = json.loads(records.read_text())
    (own,) = known
    records.write_text(json.dumps([own, {**own, "id": stray, "names": ["pyman-stray"]}]))
    engine.start()
    until(lambda: [record["id"] for record in json.loads(records.read_text())] == [id], "the stray one stays")


@pytest.mark.parametrize("number", range(1, 4))
def test_runs_survive_kills_at_any_instant(box: Engine, number: int) -> None:
    """A kill after so many events of a life; the next supervisor goes on, and nothing is left at the end."""
    engine = box
    events, pid = engine.follow(engine.last_seq()), engine.pid
    with engine.spawn("run", "-d", "--name", "victim", IMAGE, "sleep", "1000") as command:
        for _ in range(number):
            next(events)
        os.kill(pid, signal.SIGKILL)
        events.close()  # type: ignore[attr-defined]
        engine.wait_ready()
        command.communicate()
    engine.cli("rm", "--force", "--time", "0", "--ignore", "victim")
    records = engine.root / "overlay-containers/containers.json"
    until(lambda: not records.exists() or json.loads(records.read_text() or "[]") == [], "a record stays")


@pytest.mark.oci_runtime("runc")
def test_many_starts_leave_no_mount_and_no_layer(engine: Engine, rootfs: Path) -> None:
    import_image(engine, rootfs)
    for _ in range(25):
        engine.cli("run", "--rm", IMAGE, "true")
        engine.cli("run", "-d", "--rm", IMAGE, "true")
    engine.remove_containers()
    record = engine.root / "overlay-layers/layers.json"
    # A removal has been told when its container is forgotten; its files go after it.
    until(lambda: len(json.loads(record.read_text())) == 1, "layers of containers are left")
    layers = json.loads(record.read_text())
    assert not any(line.startswith("overlay") and str(engine.path) in line for line in mounts())
    until(
        lambda: (
            [name for name in os.listdir(engine.root / "overlay") if len(name) == 64] == [layers[0]["id"]]
        ),
        "directories of layers are left",
    )


def mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()


def test_an_image_has_its_owners_in_a_user_namespace(box: Engine) -> None:
    script = "stat -c %u:%g /bin/busybox /home/worker; touch /mine; stat -c %u /mine; chown 5:6 /mine"
    ways: list[tuple[str, ...]] = [("--uidmap=0:200000:65536", "--gidmap=0:200000:65536")]
    if hasattr(box.place, "user"):
        ways = [("--userns=keep-id",), ("--userns=auto:size=4096",)]
    for number, options in enumerate(ways):
        name = f"mapped{number}"
        box.cli("create", "--name", name, "--user", "0", *options, IMAGE, "sh", "-c", script)
        assert box.out("start", "--attach", name).splitlines() == ["0:0", "1000:1000", "0"]
        assert box.out("start", "--attach", name).splitlines() == ["0:0", "1000:1000", "5"]
        made = box.call("io.pyman.Container.Commit", {"name": name}, timeout=60)["id"]
        assert shell(box, "stat -c %u:%g /mine /bin/busybox", image=made).split() == ["5:6", "0:0"]
        box.cli("rm", name)


def test_a_reset_takes_the_images_too_but_not_those_that_others_use(engine: Engine, rootfs: Path) -> None:
    import_image(engine, rootfs)
    import_image(engine, rootfs, "registry.example/other:latest", changes=["LABEL other=1"])
    podman(engine, "create", "--name", "theirs", "--network", "none", "registry.example/other", "true")
    engine.cli("create", IMAGE, "true")
    engine.stop()
    engine.cli("system", "reset", "--force")
    names = podman(engine, "images", "--format", "{{.Repository}}").stdout.split()
    assert names == ["registry.example/other"]
    assert "theirs" in podman(engine, "ps", "--all", "--format", "{{.Names}}").stdout
    podman(engine, "rm", "--force", "theirs")
    engine.start()
