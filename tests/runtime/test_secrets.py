"""The book of secrets on a real directory and a real state database; kills are real, in a process of their own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing

from pyman.errors import (
    AmbiguousId,
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    NameInUse,
    NoSuchSecret,
    NotSupported,
    StorageFailed,
)
from supervisor.kernel.locks import OfdLock
from supervisor.runtime.secrets import drivers, file, listing, passing
from supervisor.runtime.secrets.book import Secrets
from supervisor.runtime.secrets.records import LIMIT, Wish
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pyman.api.event import Event
    from pyman.errors import PymanError
    from supervisor.settings.model import Settings

WORD, OTHER = b"swordfish\0\xff", b"rosebud"


class Place:
    """Of an engine: its settings, and where its secrets are."""

    def __init__(self, path: Path, config: str = "") -> None:
        options = Options(root=str(path / "root"), runroot=str(path / "run"), tmpdir=str(path / "tmp"))
        (path / "containers.conf").write_text("[pyman]\ncall_deadline = 5\n" + config)
        found = load(options, {"CONTAINERS_CONF": str(path / "containers.conf")}, 0)
        self.settings: Settings = msgspec.structs.replace(
            found, xdg=msgspec.structs.replace(found.xdg, home=str(path))
        )
        self.layout = Layout.of(self.settings)
        make_directories(self.layout)
        self.directory = Path(self.layout.secrets)

    def named(self) -> dict[str, str]:
        """What secrets.json has: ids by names."""
        path = self.directory / "secrets.json"
        return dict(json.loads(path.read_text())["nameToID"]) if path.exists() else {}

    def kept(self) -> dict[str, bytes]:
        """What the file driver has: data by ids."""
        path = self.directory / "filedriver/secretsdata.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        return {id: base64.b64decode(text) for id, text in found.items()}

    def litter(self) -> list[str]:
        """Files that nobody needs."""
        known = {"secrets.json", "secrets.lock", "secretsdata.json", "secretsdata.lock", "filedriver"}
        return [path.name for path in self.directory.rglob("*") if path.name not in known]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def opened(place: Place, told: list[Event] | None = None) -> Iterator[tuple[Secrets, Database]]:
    with Database.open(place.layout.database) as database:
        if told is not None:
            database.on_events = told.extend
        limiter = trio.CapacityLimiter(4)
        yield Secrets(place.layout.secrets, database, lambda: place.settings, limiter, limiter), database


def carried_out(place: Place, work: Callable[[Secrets], Awaitable[Any]]) -> list[tuple[str, str]]:
    """By a new supervisor that settles first. What it tells: status and id."""
    told: list[Event] = []

    async def main() -> None:
        with opened(place, told) as (book, database):
            async with trio.open_nursery() as nursery:
                book.recover(nursery, database.load().intents)
                await work(book)
            assert database.load().intents == {}

    trio.run(main)
    return [(event.status, event.id) for event in told]


async def nothing(_book: Secrets) -> None:
    return


async def make(book: Secrets) -> None:
    await book.create(Wish("s", labels={"a": "b"}), WORD, None)


async def replace(book: Secrets) -> None:
    await book.create(Wish("s", replace=True), OTHER, None)


async def remove(book: Secrets) -> None:
    await book.remove("s", None)


# ---------------------------------------------------------------------- kills

STEPS: dict[str, tuple[type, str, str]] = {
    "before the intent": (Secrets, "_intend", "before"),
    "after the intent": (Secrets, "_intend", "after"),
    "after the driver": (drivers._File, "", "after"),
    "after the store": (Secrets, "_write", "after"),
    "after it is told": (Secrets, "_tell", "after"),
}


def killed(place: Place, step: str, method: str, work: Callable[[Secrets], Awaitable[None]]) -> None:
    """A supervisor that gets SIGKILL at this step of the work. `method`: of the driver."""
    pid = os.fork()
    if not pid:
        try:
            owner, name, when = STEPS[step]
            name = name or method
            real = getattr(owner, name)

            async def patched(*args: Any, **kwargs: Any) -> Any:
                if when == "after":
                    await real(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(owner, name, patched)
            carried_out(place, work)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it did not come to the step '{step}'"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_supervisor_that_is_killed_leaves_no_half_of_a_secret(place: Place, step: str) -> None:
    killed(place, step, "store", make)
    done = step in ("after the store", "after it is told")
    told = carried_out(place, nothing)
    ids = list(place.named().values())
    assert len(ids) == done
    assert told == ([("create", ids[0])] if step == "after the store" else [])
    assert place.kept() == ({ids[0]: WORD} if done else {})
    assert place.litter() == []
    assert carried_out(place, nothing) == []
    if not done:
        ((status, _),) = carried_out(place, make)
        assert status == "create"


@pytest.mark.parametrize("step", STEPS)
def test_a_removal_is_finished_and_told_once(place: Place, step: str) -> None:
    ((_, id),) = carried_out(place, make)
    killed(place, step, "delete", remove)
    told = carried_out(place, nothing)
    if step == "before the intent":
        assert (told, place.kept()) == ([], {id: WORD})
        return
    assert told == ([] if step == "after it is told" else [("remove", id)])
    assert (place.named(), place.kept()) == ({}, {})
    assert carried_out(place, nothing) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_replacement_happens_as_a_whole_or_not_at_all(place: Place, step: str) -> None:
    ((_, old),) = carried_out(place, make)
    killed(place, step, "store", replace)
    told = carried_out(place, nothing)
    (new,) = place.named().values()
    if step in ("after the store", "after it is told"):
        assert new != old
        assert place.kept() == {new: OTHER}
        assert told == ([("remove", old), ("create", new)] if step == "after the store" else [])
    else:
        assert (new, told, place.kept()) == (old, [], {old: WORD})
    assert carried_out(place, nothing) == []


def test_what_a_killed_writer_has_left_goes_with_the_next_write(place: Place) -> None:
    carried_out(place, make)
    (place.directory / "filedriver/.pyman-secretsdata.json.1").write_bytes(WORD)
    carried_out(place, replace)
    assert place.litter() == []


# ---------------------------------------------------------------------- failures


def failing(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: PymanError) -> None:
    async def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(owner, name, refuse)


@pytest.mark.parametrize(
    ("owner", "name"), [(drivers._File, "store"), (Secrets, "_write"), (Secrets, "_tell")]
)
def test_what_cannot_be_made_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    ((_, old),) = carried_out(place, make)

    async def work(book: Secrets) -> None:
        real = Secrets._write
        with monkeypatch.context() as patch:
            failing(patch, owner, name, DiskFull("cannot write: the disk is full"))
            if name == "_write":  # what it takes back it can write
                calls = iter([True])

                async def once(self: Secrets, table: file.Table) -> None:
                    if next(calls, False):
                        raise DiskFull("cannot write: the disk is full")
                    await real(self, table)

                patch.setattr(Secrets, "_write", once)
            for wish in (Wish("new"), Wish("s", replace=True)):
                with pytest.raises(DiskFull):
                    await book.create(wish, OTHER, None)
                if name == "_write":
                    break
        assert [secret.name for secret in await book.every()] == ["s"]

    assert carried_out(place, work) == []
    assert (place.named(), place.kept()) == ({"s": old}, {old: WORD})


def test_a_secret_whose_driver_does_not_forget_it_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, id),) = carried_out(place, make)

    async def work(book: Secrets) -> None:
        with monkeypatch.context() as patch:
            failing(patch, drivers._File, "delete", StorageFailed("cannot forget"))
            with pytest.raises(StorageFailed):
                await book.remove("s", None)
        assert (await book.read(["s"]))[0][1] == WORD
        await book.remove("s", None)

    assert carried_out(place, work) == [("remove", id)]


def test_another_engine_that_holds_the_lock_is_waited_for_but_not_for_ever(place: Place) -> None:
    place.settings = msgspec.structs.replace(
        place.settings, pyman=msgspec.structs.replace(place.settings.pyman, call_deadline=0.05)
    )

    async def work(book: Secrets) -> None:
        await make(book)
        with OfdLock(place.layout.secrets + "/secrets.lock") as other:
            other.acquire()
            for attempt in (book.every, partial(book.read, ["s"]), partial(remove, book)):
                with pytest.raises(DeadlineExceeded, match="another program has held"):
                    await attempt()
        # Those that gave up have let go of it.
        await remove(book)

    carried_out(place, work)


# ---------------------------------------------------------------------- finding and refusing


def test_secrets_are_found_by_ids_names_and_beginnings_of_ids(place: Place) -> None:
    async def work(book: Secrets) -> None:
        first, created = await book.create(Wish("one"), WORD, None)
        assert created
        again, created = await book.create(Wish("one", ignore=True), OTHER, None)
        assert (again, created) == (first, False)
        with pytest.raises(NameInUse, match="cannot make secret 'one': there is one"):
            await book.create(Wish("one"), OTHER, None)
        assert len(first.id) == 25
        second, _ = await book.create(Wish(first.id[:9]), OTHER, None)
        found = await book.find(["one", first.id, first.id[:3], first.id[:9], "on", "", first.id + "0"])
        assert [getattr(each, "name", each.__class__) for each in found.values()] == [
            *("one", "one", "one", second.name),
            *(NoSuchSecret, NoSuchSecret, NoSuchSecret),
        ]
        assert [data for _, data in await book.read([second.name, "one"])] == [OTHER, WORD]
        assert [secret.name for secret in listing.selected(await book.every(), {"name": ["^o", "x"]})] == [
            "one"
        ]
        assert listing.selected(await book.every(), {"name": ["^o"], "id": ["nothex"]}) == []
        for filters in ({"label": ["a"]}, {"name": ["("]}):
            with pytest.raises(InvalidArgument):
                listing.selected(await book.every(), filters)

    carried_out(place, work)


def test_beginnings_that_fit_several_are_ambiguous() -> None:
    raw = {
        f"abc{number}": msgspec.Raw(
            json.dumps({"name": f"n{number}", "id": f"abc{number}", "driver": "file"}).encode()
        )
        for number in range(2)
    }
    with pytest.raises(AmbiguousId, match="2 ids begin with it"):
        file.Table({}, raw).find("ab")


@pytest.mark.parametrize("name", ["", "a" * 254, "ü" * 127, "a,b", "a/b", "a=b", "a\0b", "a\nb", "a\x1b[1m"])
def test_names_that_cannot_be_are_refused(place: Place, name: str) -> None:
    async def work(book: Secrets) -> None:
        with pytest.raises(InvalidArgument):
            await book.create(Wish(name), WORD, None)
        await book.create(Wish("ü.-_ b" + "x" * 200), WORD, None)

    carried_out(place, work)


@pytest.mark.parametrize("size", [0, LIMIT, LIMIT + 1])
def test_data_of_a_size_that_cannot_be_is_refused(place: Place, size: int) -> None:
    async def work(book: Secrets) -> None:
        with pytest.raises(InvalidArgument, match="fewer than 512000"):
            await book.create(Wish("s"), b"x" * size, None)
        await book.create(Wish("s"), b"x" * (LIMIT - 1), None)
        assert len((await book.read(["s"]))[0][1]) == LIMIT - 1

    carried_out(place, work)


@pytest.mark.parametrize(
    ("driver", "options", "said"),
    [
        ("vault", {}, "cannot use the driver 'vault'"),
        ("file", {"root": "/x"}, "cannot use the option 'root' of the driver file"),
        ("file", {"path": "rel"}, "'rel' is not an absolute path"),
        ("pass", {"key": "-o"}, "it looks like an option"),
        ("pass", {"gpghomedir": "rel"}, "'rel' is not an absolute path"),
        ("shell", {"list": "x", "lookup": "x", "store": "x"}, "without the option 'delete'"),
        ("shell", {"remove": "x"}, "cannot use the option 'remove'"),
    ],
)
def test_drivers_that_cannot_be_are_refused_before_anything_is_made(
    place: Place, driver: str, options: dict[str, str], said: str
) -> None:
    async def work(book: Secrets) -> None:
        with pytest.raises(InvalidArgument, match=said):
            await book.create(Wish("s", driver=driver, options=options), WORD, None)

    carried_out(place, work)
    assert not place.directory.exists()


# ---------------------------------------------------------------------- hostile stores

ENTRY = {"name": "s", "id": "0" * 25, "driver": "file", "createdAt": "x", "driverOptions": None}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"secrets": []}',
        b'{"secrets": {"a": 1}}',
        b'{"secrets": {"a": {"name": 1, "id": "a", "driver": "file"}}}',
        b'{"secrets": {"a": {"name": "s"}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_store_is_named_and_left_as_it_is(place: Place, content: bytes) -> None:
    place.directory.mkdir(mode=0o700)
    path = place.directory / "secrets.json"
    path.write_bytes(content)

    async def work(book: Secrets) -> None:
        for attempt in (book.every, partial(make, book), partial(remove, book), partial(book.read, ["s"])):
            with pytest.raises(StorageFailed, match=r"secrets\.json' is damaged"):
                await attempt()

    assert carried_out(place, work) == []
    assert path.read_bytes() == content


def test_what_others_have_put_into_the_store_stays(place: Place) -> None:
    place.directory.mkdir(mode=0o700)
    path = place.directory / "secrets.json"
    others = {**ENTRY, "metadata": {"m": "n"}, "unknown": [1], "driver": "vault"}
    path.write_text(json.dumps({"secrets": {ENTRY["id"]: others}, "version": 7}))

    async def work(book: Secrets) -> None:
        await book.create(Wish("mine"), WORD, None)
        for attempt in (partial(book.read, ["s"]), partial(remove, book)):
            with pytest.raises(NotSupported, match="cannot use the driver 'vault'"):
                await attempt()

    carried_out(place, work)
    document = json.loads(path.read_text())
    assert document["version"] == 7
    assert document["secrets"][ENTRY["id"]] == others
    assert set(document["nameToID"]) == {"s", "mine"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "large"])
def test_a_store_that_is_no_file_is_refused_and_holds_nobody_up(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.directory.mkdir(mode=0o700)
    path = place.directory / "secrets.json"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        monkeypatch.setattr(file, "_MOST", 10)
        path.write_bytes(b" " * 11)

    async def work(book: Secrets) -> None:
        with pytest.raises(StorageFailed):
            await book.every()

    carried_out(place, work)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"ID": 5}', b'{"ID": "no base64!"}', b"\xff", b'{"ID": {"a": "swordfish"}}']
)
def test_damaged_data_is_named_and_not_repeated(place: Place, content: bytes) -> None:
    ((_, id),) = carried_out(place, make)
    path = place.directory / "filedriver/secretsdata.json"
    path.write_bytes(content.replace(b"ID", id.encode()))

    async def work(book: Secrets) -> None:
        with pytest.raises(StorageFailed, match=r"secretsdata\.json' is damaged") as caught:
            await book.read(["s"])
        assert "swordfish" not in str(caught.value)

    carried_out(place, work)


def test_data_that_is_gone_is_no_reason_to_keep_a_secret(place: Place) -> None:
    ((_, id),) = carried_out(place, make)
    (place.directory / "filedriver/secretsdata.json").write_text("{}")

    async def work(book: Secrets) -> None:
        with pytest.raises(NoSuchSecret, match="its driver does not have it"):
            await book.read(["s"])
        await book.remove("s", None)

    assert carried_out(place, work) == [("remove", id)]


# ---------------------------------------------------------------------- drivers


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
    entry = {**ENTRY, "id": "../../x", "driver": driver, "driverOptions": options}
    (place.directory / "secrets.json").write_text(json.dumps({"secrets": {"../../x": entry}}))

    async def work(book: Secrets) -> None:
        for attempt in (partial(book.read, ["s"]), partial(remove, book)):
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
