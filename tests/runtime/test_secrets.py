"""The book of secrets on a real directory and a real state database; kills are real, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

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
from supervisor.runtime.intended import Intents
from supervisor.runtime.secrets import drivers, file, listing
from supervisor.runtime.secrets.book import Secrets
from supervisor.runtime.secrets.records import LIMIT, Wish
from tests.runtime.secret_books import Place, carried_out, nothing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pyman.errors import PymanError

WORD, OTHER = b"swordfish\0\xff", b"rosebud"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def make(book: Secrets) -> None:
    await book.create(Wish("s", labels={"a": "b"}), WORD, None)


async def replace(book: Secrets) -> None:
    await book.create(Wish("s", replace=True), OTHER, None)


async def remove(book: Secrets) -> None:
    await book.remove("s", None)


# ---------------------------------------------------------------------- kills

STEPS: dict[str, tuple[type, str, str]] = {
    "before the intent": (Intents, "begin", "before"),
    "after the intent": (Intents, "begin", "after"),
    "after the driver": (drivers.InFile, "", "after"),
    "after the store": (Secrets, "_write", "after"),
    "after it is told": (Intents, "tell", "after"),
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
    ("owner", "name"), [(drivers.InFile, "store"), (Secrets, "_write"), (Intents, "tell")]
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

                async def once(*args: Any, **kwargs: Any) -> None:
                    if next(calls, False):
                        raise DiskFull("cannot write: the disk is full")
                    await real(*args, **kwargs)

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
            failing(patch, drivers.InFile, "delete", StorageFailed("cannot forget"))
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


def test_a_check_finds_what_does_not_go_together(place: Place) -> None:
    async def work(book: Secrets) -> None:
        assert await book.problems(repair=False) == []
        await book.create(Wish("s"), WORD, None)
        await book.create(Wish("there", options={"path": str(place.directory / "other")}), WORD, None)
        assert await book.problems(repair=True) == []
        path = place.directory / "filedriver/secretsdata.json"
        path.write_text('{"1": "eA==", "2": "eA=="}')
        for repair in (False, True):
            gone, strays = await book.problems(repair=repair)
            assert (gone.subject, gone.text) == ("secret s", "what was in it is gone")
            assert (strays.subject, strays.repaired) == (str(path), repair)
            assert strays.text == "2 things in it belong to no secret"
        assert [one.subject for one in await book.problems(repair=False)] == ["secret s"]
        path.write_text("[]")
        (damaged,) = await book.problems(repair=False)
        assert "is damaged" in damaged.text

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
        with pytest.raises(NameInUse, match="that is the id of another one"):
            await book.create(Wish(first.id, replace=True), OTHER, None)
        assert len(first.id) == 25
        second, _ = await book.create(Wish(first.id[:9]), OTHER, None)
        found = await book.find(["one", first.id, first.id[:3], first.id[:9], "on", "", first.id + "0"])
        assert [getattr(each, "name", each.__class__) for each in found.values()] == [
            *("one", "one", "one", second.name),
            *(NoSuchSecret, NoSuchSecret, NoSuchSecret),
        ]
        assert [data for _, data in await book.read([second.name, "one"])] == [OTHER, WORD]
        assert [data for _, data in await book.read(["one"], exactly=True)] == [WORD]
        for other in (first.id, first.id[:3], "on", ""):
            with pytest.raises(NoSuchSecret):
                await book.read([other], exactly=True)
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
