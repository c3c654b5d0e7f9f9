"""What keeps the data of secrets, and the descriptors by which it comes and goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio
import trio.testing

from pyman.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotSupported,
    StorageFailed,
)
from supervisor.runtime.secrets import passing
from supervisor.runtime.secrets.records import LIMIT, Wish
from tests.runtime.secret_books import Place, carried_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.runtime.secrets.book import Secrets


WORD, OTHER = b"swordfish\0\xff", b"rosebud"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def shell_options(directory: Path) -> dict[str, str]:
    return {
        "list": f"ls {directory}",
        "lookup": f"cat {directory}/$SECRET_ID",
        "store": f"cat > {directory}/$SECRET_ID; env > {directory}/environment",
        "delete": f"rm {directory}/$SECRET_ID",
    }


def test_commands_keep_secrets_and_get_them_through_pipes(tmp_path: Path) -> None:
    directory = tmp_path / "shell"
    directory.mkdir()
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in shell_options(directory).items())
    place = Place(tmp_path, f'[secrets]\ndriver = "shell"\n[secrets.opts]\n{lines}')
    large = bytes(range(256)) * 1999

    async def work(book: Secrets) -> None:
        secret, _ = await book.create(Wish("s"), large, None)
        assert (directory / secret.id).read_bytes() == large
        assert (await book.read(["s"]))[0][1] == large
        environment = (directory / "environment").read_text()
        assert f"SECRET_ID={secret.id}\n" in environment
        assert f"HOME={tmp_path}\n" in environment
        await book.create(Wish("s", replace=True), WORD, None)
        assert not (directory / secret.id).exists()
        await book.remove("s", None)
        assert os.listdir(directory) == ["environment"]

    carried_out(place, work)
    assert place.kept() == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"store": "cat >&2; exit 3"}, "the command 'store' of its driver ended with 3"),
        ({"store": "kill -9 $$"}, "the command 'store' of its driver ended with -9"),
        ({"store": "sleep 1000"}, "has not ended within 0.2 s"),
    ],
)
def test_a_command_that_fails_leaves_no_secret_and_says_nothing_of_it(
    place: Place, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    place.settings = msgspec.structs.replace(
        place.settings, pyman=msgspec.structs.replace(place.settings.pyman, call_deadline=0.2)
    )

    async def work(book: Secrets) -> None:
        wish = Wish("s", driver="shell", options={**shell_options(tmp_path), **change})
        with pytest.raises((StorageFailed, DeadlineExceeded), match=said) as caught:
            await book.create(wish, b"swordfish", None)
        assert "swordfish" not in str(caught.value)
        assert await book.every() == []

    assert carried_out(place, work) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lookup": "echo swordfish; exit 1"}, "the command 'lookup' of its driver ended with 1"),
        ({"lookup": "cat /dev/zero"}, "has not ended within"),
        ({"lookup": f"head -c {LIMIT + 5} /dev/zero"}, "its driver gives more than"),
    ],
)
def test_commands_are_believed_no_further_than_a_secret_may_be(
    place: Place, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    place.settings = msgspec.structs.replace(
        place.settings, pyman=msgspec.structs.replace(place.settings.pyman, call_deadline=0.5)
    )

    async def work(book: Secrets) -> None:
        await book.create(
            Wish("s", driver="shell", options={**shell_options(tmp_path), **change}), WORD, None
        )
        with pytest.raises((StorageFailed, DeadlineExceeded), match=said) as caught:
            await book.read(["s"])
        assert "swordfish" not in str(caught.value)

    carried_out(place, work)


@pytest.mark.parametrize("driver", ["pass", "shell"])
def test_an_id_that_leads_elsewhere_is_no_path_for_programs(
    place: Place, tmp_path: Path, driver: str
) -> None:
    options = {"root": str(tmp_path)} if driver == "pass" else shell_options(tmp_path)
    place.directory.mkdir(mode=0o700)
    entry = {"name": "s", "id": "../../x", "driver": driver, "driverOptions": options}
    (place.directory / "secrets.json").write_text(json.dumps({"secrets": {"../../x": entry}}))

    async def work(book: Secrets) -> None:
        for attempt in (partial(book.read, ["s"]), partial(book.remove, "s", None)):
            with pytest.raises(StorageFailed, match=r"cannot use a secret with the id '\.\./\.\./x'"):
                await attempt()

    carried_out(place, work)


@pytest.fixture
def gnupg() -> Iterator[Path]:
    """A home of GnuPG's with the key of test@example.org, which has no passphrase; short, since sockets lie in it."""
    home = Path(tempfile.mkdtemp(prefix="pm-gpg-", dir="/tmp"))
    try:
        gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
        key = [
            "--passphrase",
            "",
            "--quick-generate-key",
            "test@example.org",
            "future-default",
            "default",
            "never",
        ]
        subprocess.run([*gpg, *key], check=True, capture_output=True)
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
        shutil.rmtree(home)


def test_gnupg_keeps_secrets_encrypted_as_podman_does(place: Place, tmp_path: Path, gnupg: Path) -> None:
    store = tmp_path / "store/sub"
    store.mkdir(parents=True)
    (tmp_path / "store/.gpg-id").write_text("test@example.org\n")
    options = {"root": str(store), "gpghomedir": str(gnupg)}

    async def work(book: Secrets) -> None:
        secret, _ = await book.create(Wish("s", driver="pass", options=options), WORD, None)
        content = (store / f"{secret.id}.gpg").read_bytes()
        assert WORD not in content
        assert (store / f"{secret.id}.gpg").stat().st_mode & 0o777 == 0o600
        assert (await book.read(["s"]))[0][1] == WORD
        (store / f"{secret.id}.gpg").write_bytes(b"no message")
        with pytest.raises(StorageFailed, match="with gpg: "):
            await book.read(["s"])
        await book.remove("s", None)
        assert os.listdir(store) == []
        wish = Wish("t", driver="pass", options={**options, "key": "nobody@example.org"})
        with pytest.raises(StorageFailed, match=r"cannot write secret '.*' with gpg: .*No public key"):
            await book.create(wish, WORD, None)
        assert os.listdir(store) == []

    carried_out(place, work)


def test_the_driver_pass_needs_a_store_a_key_and_gpg(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(book: Secrets) -> None:
        with pytest.raises(InvalidArgument, match="there is no password store"):
            await book.create(Wish("s", driver="pass"), WORD, None)
        (tmp_path / ".password-store").mkdir()
        with pytest.raises(InvalidArgument, match="there is no key"):
            await book.create(Wish("s", driver="pass"), WORD, None)
        monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
        with pytest.raises(NotSupported, match="this host has no gpg"):
            await book.create(Wish("s", driver="pass", options={"key": "k"}), WORD, None)

    carried_out(place, work)


# ---------------------------------------------------------------------- descriptors


async def test_data_comes_from_files_and_pipes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(WORD)
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 3, os.SEEK_SET)
    assert await passing.received(os.dup(descriptor), 5) == WORD
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 3
    os.close(descriptor)
    reader, writer = os.pipe()
    os.write(writer, b"one")

    async def rest() -> None:
        await trio.testing.wait_all_tasks_blocked()
        os.write(writer, b"two")
        os.close(writer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rest)
        assert await passing.received(reader, 5) == b"onetwo"
    assert len(await passing.received(os.open("/proc/self/exe", os.O_RDONLY), 5)) == LIMIT + 1


async def test_what_is_no_data_is_refused() -> None:
    reader, writer = os.pipe()
    for descriptor in (os.open("/dev/zero", os.O_RDONLY), os.open("/", os.O_RDONLY), os.dup(writer)):
        with pytest.raises(InvalidArgument, match="it takes a file or a pipe to read from"):
            await passing.received(descriptor, 5)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    with pytest.raises(DeadlineExceeded, match="it has not come within"):
        await passing.received(reader, 0.01)
    os.close(writer)


def test_what_is_sent_cannot_be_changed() -> None:
    descriptor = passing.to_send(WORD)
    try:
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert os.pread(descriptor, LIMIT, 0) == WORD
    finally:
        os.close(descriptor)
