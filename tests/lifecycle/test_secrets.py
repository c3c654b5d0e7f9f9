"""Secrets that real containers get: what they see, who else sees it, and what becomes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.engine import Engine  # noqa: TC001
from tests.support.images import IMAGE, import_image, podman
from tests.support.registry import PASSWORD, USER
from tests.support.runtimes import BY_USER
from tests.support.user import User
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registry import RealRegistry

pytestmark = pytest.mark.oci_runtime(*BY_USER)

WORD = "swordfish-4711"
OTHER = "rosebud-0815"
SECRET = "io.pyman.Secret"


@pytest.fixture
def box(shared_engine: Engine) -> Iterator[Engine]:
    """A shared engine with the secret `word`, and whatever a test adds."""
    keep(shared_engine, "word", WORD)
    yield shared_engine
    shared_engine.cli("rm", "--all", "--force", "--time", "0")
    shared_engine.cli("secret", "rm", "--all")


def keep(engine: Engine, name: str, data: str | bytes, *options: str) -> str:
    return engine.out("secret", "create", *options, name, "-", input=data).strip()


def said(engine: Engine, rootfs: Path, script: str, *options: str) -> list[str]:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script).splitlines()


def found_in(engine: Engine, word: str) -> list[str]:
    """The engine's files that have a word in them, its log too."""
    options = ["--recursive", "--binary-files=text", "--files-with-matches", "--no-messages"]
    line = ["grep", *options, word, str(engine.root), str(engine.tmpdir), str(engine.log)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return [str(path) for path in done.stdout.splitlines()]


def written_down(engine: Engine, word: str) -> list[str]:
    """But for those that are there for it."""
    own = ("/secrets/", "/mounts/given/")
    return [path for path in found_in(engine, word) if not any(part in path for part in own)]


@pytest.mark.oci_runtime("crun", "runc", "rootless")
def test_a_secret_is_a_file_with_the_owner_and_mode_that_were_asked_for(box: Engine, rootfs: Path) -> None:
    keep(box, "bytes", b"\0\xff\n")
    options = [
        "--secret=word",
        "--secret=word,target=deep/er",
        "--secret=source=word,type=mount,target=/opt/own,uid=5,gid=6,mode=0640",
        "--secret=bytes",
    ]
    script = """
        for file in word deep/er bytes; do stat -c '%n %u:%g %a' /run/secrets/$file; done
        stat -c '%n %u:%g %a' /opt/own
        cat /run/secrets/word; echo; cat /opt/own; echo; od -An -tx1 /run/secrets/bytes
        grep ' /run/secrets/word ' /proc/self/mountinfo | sed 's/.* - //; s/ .*//'
    """
    assert said(box, rootfs, script, *options) == [
        "/run/secrets/word 0:0 444",
        "/run/secrets/deep/er 0:0 444",
        "/run/secrets/bytes 0:0 444",
        "/opt/own 5:6 640",
        WORD,
        WORD,
        " 00 ff 0a",
        "tmpfs",
    ]


def test_a_secret_is_a_variable_of_every_process_and_shown_to_nobody(box: Engine, rootfs: Path) -> None:
    keep(box, "first", "one\ntwo")
    options = ["--secret=word,type=env,target=PASSWORD", "--secret=first,type=env", "--env=PASSWORD=plain"]
    box.cli("run", "--detach", "--name=c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    shown = box.inspect("c")
    assert "PASSWORD=*******" in shown["Config"]["Env"]
    assert "first=*******" in shown["Config"]["Env"]
    assert "Secrets" not in shown["Config"] or not shown["Config"]["Secrets"]
    script = 'printf "%s|" "$PASSWORD" "$first"'
    assert box.out("exec", "c", "sh", "-c", script) == f"{WORD}|one\ntwo|"
    assert box.out("exec", "--env", "PASSWORD=mine", "c", "sh", "-c", script) == "mine|one\ntwo|"
    pid = shown["State"]["Pid"]
    assert f"PASSWORD={WORD}\0" in Path(f"/proc/{pid}/environ").read_text()
    bundle = Path(str(box.tmpdir)) / "containers" / shown["Id"]
    assert (bundle / "config.json").stat().st_mode & 0o777 == 0o600
    assert written_down(box, WORD) == [str(bundle / "config.json")]
    # A secret that has changed, or is gone, changes nothing of a run.
    keep(box, "word", OTHER, "--replace")
    assert box.out("exec", "c", "sh", "-c", "echo $PASSWORD") == WORD
    box.cli("restart", "--time=0", "c")
    assert box.out("exec", "c", "sh", "-c", "echo $PASSWORD") == OTHER
    box.cli("secret", "rm", "word")
    assert box.out("exec", "c", "sh", "-c", "echo $PASSWORD") == OTHER
    failed = box.cli("restart", "--time=0", "c", check=False)
    assert failed.returncode == 125
    assert "cannot find secret 'word'" in failed.stderr
    assert box.inspect("c")["State"]["Status"] == "exited"
    assert written_down(box, OTHER) == []
    keep(box, "word", WORD)
    box.cli("start", "c")
    assert box.out("exec", "c", "sh", "-c", "echo $PASSWORD") == WORD


def test_a_health_check_has_the_variables_of_its_container(box: Engine, rootfs: Path) -> None:
    options = ["--secret=word,type=env,target=PASSWORD", f"--health-cmd=test ${{#PASSWORD}} = {len(WORD)}"]
    box.cli("run", "--detach", "--name=c", *options, "--health-interval=disable", "--rootfs", f"{rootfs}:O", "sleep", "1000")  # fmt: skip
    assert box.cli("healthcheck", "run", "c").returncode == 0


def test_a_container_keeps_the_file_of_its_creation(box: Engine, rootfs: Path) -> None:
    box.cli("create", "--name=c", "--secret=word", "--rootfs", f"{rootfs}:O", "cat", "/run/secrets/word")
    keep(box, "word", OTHER, "--replace")
    assert box.out("start", "--attach", "c") == WORD
    box.cli("secret", "rm", "word")
    assert box.out("start", "--attach", "c") == WORD
    (shown,) = box.inspect("c")["Config"]["Secrets"]
    assert shown["Name"] == "word"
    assert (shown["UID"], shown["GID"], shown["Mode"]) == (0, 0, 0o444)
    id = box.inspect("c")["Id"]
    copies = box.root / "pyman" / "containers" / id / "secrets"
    assert [(path.read_text(), path.stat().st_mode & 0o777) for path in copies.iterdir()] == [(WORD, 0o600)]
    assert copies.stat().st_mode & 0o777 == 0o700
    box.cli("rm", "c")
    until(lambda: not found_in(box, WORD), "what the container kept is deleted")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("nix", "cannot find secret 'nix'"),
        ("nix,type=env", "cannot find secret 'nix'"),
        ("word,target=../x", "cannot give the container secret 'word' as '../x'"),
        ("word,target=/", "cannot give the container secret 'word' as '/'"),
        ("word,target=.", "cannot give the container secret 'word' as '.'"),
        ("word,uid=4294967295", "cannot give the container secret 'word' with the uid 4294967295"),
        ("word,type=env,target=A=B", "cannot set the environment variable 'A=B' to a secret"),
        ("word,target=/data", "something else is mounted at '/data'"),
    ],
)
def test_what_cannot_be_given_is_refused_before_anything_is_made(
    box: Engine, rootfs: Path, option: str, said: str
) -> None:
    since = box.last_seq()
    volume = ["--volume", "/data"] if "/data" in option else []
    done = box.cli("create", "--secret", option, *volume, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert said in done.stderr
    assert box.events(since) == []
    assert os.listdir(box.root / "pyman" / "containers") == []


def test_a_secret_lies_in_no_other_one(box: Engine, rootfs: Path) -> None:
    line = ["--secret=word", "--secret=word,target=word/deeper", "--rootfs", f"{rootfs}:O", "true"]
    done = box.cli("create", *line, check=False)
    assert "'/run/secrets/word' is a secret, and no directory" in done.stderr


def test_two_secrets_have_two_places(box: Engine, rootfs: Path) -> None:
    keep(box, "second", OTHER)
    line = ["--secret=word", "--secret=second,target=word", "--rootfs", f"{rootfs}:O", "true"]
    done = box.cli("create", *line, check=False)
    assert "'word' is to be at '/run/secrets/word', too" in done.stderr


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a\0b", "there is a zero byte in it"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"x" * 140_000, "it is too long"),
    ],
)
def test_what_no_variable_can_have_does_not_start(box: Engine, rootfs: Path, data: bytes, why: str) -> None:
    keep(box, "odd", data)
    done = box.cli(
        "run", "--rm", "--secret=odd,type=env,target=ODD", "--rootfs", f"{rootfs}:O", "true", check=False
    )
    assert done.returncode == 125
    assert f"cannot set the environment variable 'ODD' to secret 'odd': {why}" in done.stderr
    assert box.call("io.pyman.Container.List", {"all": True})["containers"] == []


def test_a_container_cannot_fill_the_host_through_its_secrets(box: Engine, rootfs: Path) -> None:
    script = "dd if=/dev/zero of=/run/secrets/big bs=1k count=4000 2>/dev/null; wc -c < /run/secrets/big"
    (size,) = said(box, rootfs, script, "--secret=word")
    assert int(size) < 200_000


def test_secrets_lie_in_what_a_user_has_mounted(box: Engine, rootfs: Path) -> None:
    script = "cat /run/secrets/word; echo; cat /srv/word"
    options = ["--tmpfs=/run/secrets", "--tmpfs=/srv", "--secret=word", "--secret=word,target=/srv/word"]
    assert said(box, rootfs, script, *options) == [WORD, WORD]
    assert said(box, rootfs, "cat /run/secrets/word", "--read-only", "--secret=word") == [WORD]
    assert said(box, rootfs, "cat /run/secrets/word", "--read-only", "--read-only-tmpfs=false", "--secret=word") == [WORD]  # fmt: skip


@pytest.mark.oci_runtime("crun", "runc")
def test_owners_are_those_of_the_containers_user_namespace(box: Engine, rootfs: Path) -> None:
    maps = ["--uidmap=0:100000:100", "--gidmap=0:200000:100"]
    options = [*maps, "--secret=word,uid=7,gid=8", "--user=7"]
    assert said(box, rootfs, "stat -c %u:%g /run/secrets/word; cat /run/secrets/word", *options) == [
        "7:8",
        WORD,
    ]
    line = ["create", *maps, "--secret=word,uid=100", "--rootfs", f"{rootfs}:O", "true"]
    done = box.cli(*line, check=False)
    assert "with the uid 100: its user namespace does not have it" in done.stderr


@pytest.mark.oci_runtime("crun", "rootless", "trixie")
def test_podman_sees_the_same_secrets(box: Engine) -> None:
    assert podman(box, "secret", "inspect", "--format", "{{.Spec.Name}}", "word").stdout.strip() == "word"
    made = podman(box, "secret", "create", "theirs", "-", stdin=OTHER.encode()).stdout.strip()
    shown = box.call(f"{SECRET}.Inspect", {"names": ["theirs"]})["secrets"]
    assert [one["ID"] for one in shown] == [made]
    assert (
        box.out("secret", "inspect", "--showsecret", "--format", "{{.SecretData}}", "theirs").strip() == OTHER
    )
    podman(box, "secret", "rm", "word")
    assert [one["Spec"]["Name"] for one in box.call(f"{SECRET}.List", {})["secrets"]] == ["theirs"]
    box.cli("secret", "rm", made[:8])
    assert podman(box, "secret", "ls", "--quiet").stdout.split() == []


def test_what_happens_to_secrets_is_told_without_what_is_in_them(box: Engine) -> None:
    since = box.last_seq()
    first = keep(box, "told", OTHER, "--label", "for=web")
    second = keep(box, "told", WORD, "--replace")
    assert keep(box, "told", OTHER, "--ignore") == second
    box.cli("secret", "rm", "told")
    events: list[dict[str, Any]] = box.events(since, type=["secret"])
    assert [(event["Status"], event["ID"], event["Name"]) for event in events] == [
        ("create", first, "told"),
        ("remove", first, "told"),
        ("create", second, "told"),
        ("remove", second, "told"),
    ]
    assert events[0]["Attributes"] == {"for": "web"}
    assert WORD not in str(events)
    assert OTHER not in str(events)
    assert OTHER not in box.log_text(1000)


@pytest.mark.oci_runtime("rootless")
def test_every_container_gets_copies_of_what_mounts_conf_names(box: Engine, rootfs: Path) -> None:
    folder = box.path / "subscriptions"
    (folder / "certificates").mkdir(parents=True)
    (folder / "certificates/one").write_text("first")
    (folder / "certificates/one").chmod(0o640)
    (folder / "key").write_text("second")
    (folder / "certificates/link").symlink_to("../key")
    (folder / "certificates/nowhere").symlink_to("/not/there")
    User.of().owns(folder)
    (folder / "certificates/closed").write_text("root's")
    (folder / "certificates/closed").chmod(0o600)
    settings = box.path / ".config/containers/mounts.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        f"{folder}/certificates:/run/secrets\n{folder}/key:/opt/key\n/not/there:/opt/missing\n"
    )
    try:
        box.cli("system", "reload")
        script = """
            cd /run/secrets; for file in *; do echo $file $(stat -c '%u:%g %a' $file) $(cat $file); done
            cat /opt/key; echo; ls -A /opt/missing; echo changed > /run/secrets/one
        """
        expected = [f"link 0:0 {(folder / 'key').stat().st_mode & 0o777:o} second", "one 0:0 640 first"]
        assert said(box, rootfs, script) == [*expected, "second"]
        assert said(box, rootfs, script, "--secret=word") == [*expected, f"word 0:0 444 {WORD}", "second"]
        assert (folder / "certificates/one").read_text() == "first"
        assert said(box, rootfs, "cat /run/secrets/word", "--tmpfs=/run/secrets", "--secret=word") == [WORD]
        # What is copied is that of the start, what is to be copied that of the creation.
        box.cli("create", "--name=c", "--rootfs", f"{rootfs}:O", "cat", "/opt/key")
        (folder / "key").write_text("third")
        settings.write_text("")
        box.cli("system", "reload")
        assert box.out("start", "--attach", "c") == "third"
        with (folder / "key").open("wb") as file:
            file.truncate(17 << 20)
        failed = box.cli("start", "c", check=False)
        assert "there are more than 4096 files or 16 MiB" in failed.stderr
    finally:
        settings.unlink()
        box.cli("system", "reload")


@pytest.mark.oci_runtime("rootless")
def test_a_user_who_keeps_the_own_id_can_have_secrets(box: Engine, rootfs: Path) -> None:
    uid = User.of().uid
    options = ["--userns=keep-id", f"--secret=word,uid={uid},gid={User.of().gid},mode=0400"]
    script = "id -u; stat -c '%u:%g %a' /run/secrets/word; cat /run/secrets/word"
    assert said(box, rootfs, script, *options) == [str(uid), f"{uid}:{User.of().gid} 400", WORD]


@pytest.mark.oci_runtime("crun")
def test_who_joins_a_user_namespace_has_secrets_with_its_owners(box: Engine, rootfs: Path) -> None:
    maps = ["--uidmap=0:100000:100", "--gidmap=0:100000:100"]
    box.cli("run", "--detach", "--name=owner", *maps, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    look = "stat -c %u:%g /run/secrets/word; cat /run/secrets/word"
    joining = "--userns=container:owner"
    assert said(box, rootfs, look, joining, "--secret=word,uid=7,gid=8") == ["7:8", WORD]
    line = ["run", "--rm", joining, "--secret=word,uid=100", "--rootfs", f"{rootfs}:O", "true"]
    done = box.cli(*line, check=False)
    assert "with the uid 100: its user namespace does not have it" in done.stderr


@pytest.mark.oci_runtime("crun")
def test_a_system_in_a_container_gets_its_secrets(box: Engine, rootfs: Path) -> None:
    options = ["--systemd=always", "--secret=word", "--secret=word,type=env,target=WORD"]
    assert said(box, rootfs, "cat /run/secrets/word; echo; echo $WORD", *options) == [WORD, WORD]


@pytest.mark.oci_runtime("crun")
def test_what_is_made_of_a_container_has_no_secrets(box: Engine, rootfs: Path) -> None:
    if podman(box, "image", "exists", IMAGE, check=False).returncode:
        import_image(box, rootfs)
    options = ["--secret=word", "--secret=word,target=/srv/word", "--secret=word,type=env,target=PASSWORD"]
    box.cli("run", "--name=c", *options, IMAGE, "true")
    assert "/run/secrets" not in box.out("diff", "c")
    box.cli("commit", "--quiet", "c", "made")
    try:
        config = box.out("image", "inspect", "--format", "{{json .Config}}", "made")
        assert "PASSWORD" not in config
        with tempfile.TemporaryFile() as archive:
            subprocess.run([*box.command("export", "c")], env=box.environment, stdout=archive, check=True)
            archive.seek(0)
            assert WORD.encode() not in archive.read()
        assert box.out("run", "--rm", "made", "sh", "-c", "ls -A /run/secrets; wc -c < /srv/word") == "0"
    finally:
        box.cli("rm", "--all")
        box.cli("rmi", "made")


@pytest.mark.oci_runtime("crun")
def test_a_password_for_a_registry_is_a_secret(
    box: Engine, secure_registry: RealRegistry, tmp_path: Path
) -> None:
    shutil.copy(secure_registry.authority, tmp_path / "ca.crt")
    keep(box, USER, f"{PASSWORD}\n")
    line = ["login", f"--authfile={tmp_path}/auth.json", f"--cert-dir={tmp_path}"]
    assert "Login Succeeded!" in box.out(*line, "--secret", USER, secure_registry.host)
    refused = box.cli(*line, "--username", USER, "--secret", "word", secure_registry.host, check=False)
    assert refused.returncode == 125
    assert WORD not in refused.stderr
    missing = box.cli(*line, "--secret", "nix", secure_registry.host, check=False)
    assert missing.stderr == "Error: cannot find secret 'nix'\n"
