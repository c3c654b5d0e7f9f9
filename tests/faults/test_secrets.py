"""The daemon killed again and again while secrets come and go, and containers that have them; and clients that misbehave."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.varlink import VarlinkError, Wire
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.faults.conftest import MakeEngine
    from tests.faults.disk import Disk
    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")

KILLS = 6
STEP = 0.02
"""Seconds by which each kill comes later than the one before it."""
SECRET = "io.pyman.Secret"
WORD = "swordfish-4711"


def names(engine: Engine) -> dict[str, str]:
    return {one["Spec"]["Name"]: one["ID"] for one in engine.call(f"{SECRET}.List", {})["secrets"]}


def test_a_daemon_that_is_killed_tells_of_each_secret_once(engine: Engine) -> None:
    words = " ".join(map(str, engine.command("secret")))
    line = f"for i in 1 2; do printf {WORD} | {words} create --replace word -; {words} rm word; done"
    for number in range(KILLS):
        with subprocess.Popen(
            ["sh", "-c", line], env=engine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            time.sleep(0.05 + STEP * number)
            engine.kill()
            client.wait(timeout=30)
    # What one that was killed had begun, the next may have to find out.
    until(lambda: is_told(engine), "it is not told once")
    there, told = names(engine), {event["ID"] for event in engine.events(type=["secret"])}
    data = json.loads((Path(str(engine.root)) / "secrets/filedriver/secretsdata.json").read_text())
    assert set(data) == set(there.values()) <= told
    assert engine.call("io.pyman.System.Check", {}).get("problems", []) == []
    engine.cli("secret", "rm", "--all")


def is_told(engine: Engine) -> bool:
    """Of each secret that it was made, and of those that are not there that they were removed."""
    there = names(engine).values()
    told: dict[str, Counter[str]] = {}
    for event in engine.events(type=["secret"]):
        told.setdefault(event["ID"], Counter())[event["Status"]] += 1
    return bool(told) and all(
        statuses == ({"create": 1} if id in there else {"create": 1, "remove": 1})
        for id, statuses in told.items()
    )


def test_a_daemon_that_is_killed_leaves_nothing_of_secrets_of_containers(
    engine: Engine, rootfs: Path
) -> None:
    engine.cli("secret", "create", "word", "-", input=WORD)
    secrets = ["--secret=word", "--secret=word,type=env,target=WORD"]
    for number in range(KILLS):
        line = [*secrets, "--rootfs", f"{rootfs}:O", "cat", "/run/secrets/word"]
        with engine.spawn("run", "--rm", "--name", f"box{number}", *line) as client:
            time.sleep(STEP * number)
            engine.kill()
            client.communicate(timeout=30)
    until(lambda: not left(engine), "every container has come to its end")
    for name in ("containers", "trash"):
        until(lambda name=name: os.listdir(engine.root / "pyman" / name) == [], name)  # type: ignore[misc]
    assert "/mounts/given" not in Path("/proc/self/mountinfo").read_text()
    assert engine.out("run", "--rm", *secrets, "--rootfs", f"{rootfs}:O", "sh", "-c", "cat /run/secrets/word; echo :$WORD") == f"{WORD}:{WORD}"  # fmt: skip


def left(engine: Engine) -> list[str]:
    """The containers that are still there. What was created and never started is removed: its client is gone."""
    found = engine.call("io.pyman.Container.List", {"all": True})["containers"]
    for one in found:
        if one["State"] == "created":
            engine.cli("rm", "--force", one["Id"], check=False)
    return [one["Names"][0] for one in found] + os.listdir(engine.tmpdir / "containers")


def test_a_running_container_outlives_the_daemon_with_its_secrets(engine: Engine, rootfs: Path) -> None:
    engine.cli("secret", "create", "word", "-", input=WORD)
    secrets = ["--secret=word", "--secret=word,type=env,target=WORD"]
    engine.cli("run", "--detach", "--name=c", *secrets, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    engine.kill()
    engine.cli("secret", "rm", "word")
    assert engine.out("exec", "c", "sh", "-c", "cat /run/secrets/word; echo :$WORD") == f"{WORD}:{WORD}"
    engine.kill()
    engine.cli("stop", "--time=0", "c")
    assert "/mounts/given" not in Path("/proc/self/mountinfo").read_text()
    engine.cli("rm", "c")


def test_what_clients_do_with_descriptors_costs_only_their_calls(engine: Engine) -> None:
    reader, writer = os.pipe()
    hole = os.open("/dev/zero", os.O_RDONLY)
    try:
        for descriptors, said in (
            ([], "without the descriptor"),
            ([writer], "it takes a file or a pipe"),
            ([hole], "it takes a file or a pipe"),
        ):
            with Wire(engine.socket) as wire, pytest.raises(VarlinkError) as caught:
                list(stream(wire, descriptors))
            assert said in str(caught.value.parameters)
        # Clients that give a pipe into which nobody writes, and leave.
        for _ in range(20):
            with Wire(engine.socket) as wire:
                wire.send(f"{SECRET}.Create", {"name": "x"}, descriptors=[reader])
        engine.cli("secret", "create", "word", "-", input=WORD)
        assert list(names(engine)) == ["word"]
    finally:
        for descriptor in (reader, writer, hole):
            os.close(descriptor)
    read_socket = engine.socket.replace(".sock", "-read.sock")
    with Wire(read_socket) as wire:
        assert len(wire.call(f"{SECRET}.List", {})["secrets"]) == 1
    with Wire(read_socket) as wire, pytest.raises(VarlinkError, match="PermissionDenied"):
        wire.call(f"{SECRET}.Read", {"name": "word"})


def stream(wire: Wire, descriptors: list[int]) -> list[object]:
    wire.send(f"{SECRET}.Create", {"name": "x"}, descriptors=descriptors)
    reply = wire.receive()
    if "error" in reply:
        raise VarlinkError(reply["error"], reply.get("parameters") or {})
    return [reply]


def test_on_a_full_disk_a_secret_is_made_as_a_whole_or_not_at_all(
    make_engine: MakeEngine, small_disk: Disk, rootfs: Path
) -> None:
    engine = make_engine(disk=small_disk.path)
    first = engine.out("secret", "create", "word", "-", input=WORD)
    small_disk.fill()
    made = {"word"}
    while not (
        done := engine.cli("secret", "create", f"s{len(made)}", "-", input=WORD * 2000, check=False)
    ).returncode:
        made.add(f"s{len(made)}")
        assert len(made) < 50
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    assert WORD not in done.stderr
    assert set(names(engine)) == made
    line = ["create", "--secret=word", "--rootfs", f"{rootfs}:O", "true"]
    while (done := engine.cli(*line, check=False)).returncode == 0:
        engine.cli("rm", done.stdout.strip())
        small_disk.fill()
    assert "full" in done.stderr or "No space left" in done.stderr
    small_disk.make_room()
    assert (
        engine.out("secret", "inspect", "--showsecret", "--format={{.ID}} {{.SecretData}}", "word")
        == f"{first} {WORD}"
    )
    assert engine.call("io.pyman.System.Check", {}).get("problems", []) == []
    engine.cli("secret", "create", "more", "-", input=WORD)
    assert Counter(event["Status"] for event in engine.events(type=["secret"])) == {"create": len(made) + 1}
