"""The book of volumes on a real directory and a real state database; kills are real, in a process of their own."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.spec import ContainerSpec, NamedVolume
from pyman.errors import (
    AmbiguousId,
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    NameInUse,
    NoSuchVolume,
    NotSupported,
)
from supervisor.runtime.volumes import driver, listing
from supervisor.runtime.volumes.book import Volumes
from supervisor.runtime.volumes.ground import Ground
from supervisor.runtime.volumes.records import Wish
from supervisor.runtime.volumes.wishes import defined
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from pyman.api.event import Event
    from pyman.errors import PymanError
    from supervisor.runtime.volumes.records import Volume


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    options = Options(
        root=str(tmp_path / "root"), runroot=str(tmp_path / "run"), tmpdir=str(tmp_path / "tmp")
    )
    made = Layout.of(load(options, {"CONTAINERS_CONF": "/dev/null"}, 0))
    make_directories(made)
    return made


@contextmanager
def opened(layout: Layout, told: list[Event] | None = None) -> Iterator[tuple[Volumes, Database]]:
    with Database.open(layout.database) as database:
        if told is not None:
            database.on_events = told.extend
        book = Volumes(layout, database, trio.CapacityLimiter(2), rootless=False)
        numbers = iter(range(1000))
        book.allocate = partial(next, numbers)
        yield book, database


def carried_out(layout: Layout, work: Callable[[Volumes], Awaitable[None]]) -> list[tuple[str, str]]:
    """By a new supervisor that recovers first. What it tells: status and name."""
    told: list[Event] = []

    async def main() -> None:
        with opened(layout, told) as (book, database):
            await book.recover(database.load(), frozenset(), rebooted=False)
            book.allocate = partial(next, iter(range(100 + len(book), 1000)))
            await work(book)

    trio.run(main)
    return [(event.status, event.name) for event in told]


async def nothing(_book: Volumes) -> None:
    return


async def make(book: Volumes) -> None:
    await book.create(Wish("v", labels={"a": "b"}), None)


async def remove(book: Volumes) -> None:
    await book.remove(book.find("v"), None)


def left(layout: Layout) -> list[str]:
    """What lies beside the volumes, or would be one."""
    root = layout.volumes
    found = sorted(os.listdir(root)) if os.path.isdir(root) else []
    own = os.path.basename(layout.volumes_own)
    staged = os.listdir(layout.volumes_own) if os.path.isdir(layout.volumes_own) else []
    return [name for name in found if name != own] + [name for name in staged if not name.startswith("gone-")]


STEPS = {
    "before the intent": (Volumes, "_intend", "before"),
    "after the intent": (Volumes, "_intend", "after"),
    "before it is in its place": ("rename_new", None, "before"),
    "after it is in its place": (Ground, "make", "after"),
    "before it is out of its place": (Ground, "take_away", "before"),
    "after it is out of its place": (Ground, "take_away", "after"),
    "after it is told": (Database, "commit", "second"),
}


def killed(layout: Layout, step: str, work: Callable[[Volumes], Awaitable[None]]) -> None:
    """A supervisor that gets SIGKILL at this step of the work."""
    pid = os.fork()
    if not pid:
        try:
            _arm(step)
            carried_out(layout, work)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it did not come to the step '{step}'"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _arm(step: str) -> None:
    from supervisor.kernel import files

    owner, name, when = STEPS[step]
    home: Any = files if owner == "rename_new" else owner
    name = name or "rename_new"
    real = getattr(home, name)
    calls = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if name in ("_intend", "commit"):

        async def patched(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if when == "before":
                die()
            done = await real(*args, **kwargs)
            if when == "after" or (when == "second" and calls == 2):
                die()
            return done

    else:

        def patched(*args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            if when == "before":
                die()
            done = real(*args, **kwargs)
            die()
            return done

    setattr(home, name, patched)


@pytest.mark.parametrize("step", [step for step in STEPS if "out of its place" not in step])
def test_a_supervisor_that_is_killed_leaves_no_half_of_a_volume(layout: Layout, step: str) -> None:
    killed(layout, step, make)
    done = step == "after it is told"
    told = carried_out(layout, nothing)
    assert told == []
    assert left(layout) == (["v"] if done else [])
    if not done:
        assert carried_out(layout, make) == [("create", "v")]
    assert carried_out(layout, remove) == [("remove", "v")]


REMOVING = [step for step in STEPS if "in its place" not in step]


@pytest.mark.parametrize("step", REMOVING)
def test_a_removal_is_told_once_if_it_was_done_and_not_if_not(layout: Layout, step: str) -> None:
    carried_out(layout, make)
    killed(layout, step, remove)
    gone = step in ("after it is out of its place", "after it is told")
    told = carried_out(layout, nothing)
    assert told == ([("remove", "v")] if step == "after it is out of its place" else [])
    assert left(layout) == ([] if gone else ["v"])
    assert carried_out(layout, nothing) == []


def test_what_cannot_be_recorded_leaves_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(book: Volumes) -> None:
        real = Database.commit

        async def full(self: Database, changes: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("durable"):
                raise DiskFull("cannot write: the disk is full")
            return await real(self, changes, *args, **kwargs)

        released: list[int | None] = []
        book.release = released.append
        with monkeypatch.context() as patch:
            patch.setattr(Database, "commit", full)
            with pytest.raises(DiskFull):
                await book.create(Wish("v"), None)
        assert len(book) == 0
        assert len(released) == 1

    assert carried_out(layout, work) == []
    assert left(layout) == []


def test_what_is_in_the_way_is_refused_and_stays(layout: Layout, tmp_path: Path) -> None:
    foreign = tmp_path / "root/volumes/v/_data"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("theirs")

    async def work(book: Volumes) -> None:
        with pytest.raises(NameInUse, match="is there, and not this engine's"):
            await book.create(Wish("v"), None)
        with pytest.raises(NoSuchVolume):
            book.find("v")

    assert carried_out(layout, work) == []
    assert (foreign / "precious").read_text() == "theirs"


def test_another_engines_directory_is_not_removed(layout: Layout, tmp_path: Path) -> None:
    carried_out(layout, make)
    owner = tmp_path / "root/volumes/v/owner"
    owner.write_text("/another/engine")
    (tmp_path / "root/volumes/v/_data/precious").write_text("theirs")

    async def work(book: Volumes) -> None:
        problems = await book.problems(repair=True)
        assert [problem.text for problem in problems] == ["its directory is another engine's"]
        await book.remove(book.find("v"), None)

    carried_out(layout, work)
    assert (tmp_path / "root/volumes/v/_data/precious").read_text() == "theirs"


def test_directories_of_no_volume_are_found_and_removed(layout: Layout) -> None:
    Ground(layout).make("stray", 0, 0)

    async def work(book: Volumes) -> None:
        (problem,) = await book.problems(repair=False)
        assert problem.text == "it belongs to no volume"
        (problem,) = await book.problems(repair=True)
        assert problem.repaired
        assert await book.problems(repair=False) == []

    carried_out(layout, work)
    assert left(layout) == []


def test_names_can_be_cut_short_where_one_volume_is_meant(layout: Layout) -> None:
    async def work(book: Volumes) -> None:
        for name in ("one", "other", "two"):
            await book.create(Wish(name), None)
        assert book.look_up("tw").name == "two"
        with pytest.raises(AmbiguousId, match="2 names begin with it"):
            book.look_up("o")
        for name in ("three", ""):
            with pytest.raises(NoSuchVolume):
                book.look_up(name)

    carried_out(layout, work)


BAD = {
    "../up": "cannot use the name '../up'",
    "a/b": "cannot use the name 'a/b'",
    ".hidden": "cannot use the name '.hidden'",
    "-dash": "cannot use the name '-dash'",
    "a\nb": "cannot use the name",
    "a" * 300: "cannot use the name",
    "wörter": "cannot use the name",
}


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_paths_or_worse_are_refused(layout: Layout, name: str) -> None:
    async def work(book: Volumes) -> None:
        with pytest.raises(InvalidArgument) as caught:
            await book.create(Wish(name), None)
        assert BAD[name] in caught.value.message

    carried_out(layout, work)
    assert left(layout) == []


def wished(options: dict[str, str], *, rootless: bool = False) -> Volume:
    fields = {key: value for key, value in options.items() if key != "driver"}
    wish = Wish("v", driver=options.get("driver", ""), options=fields)
    return defined(wish, "/volumes/v/_data", rootless=rootless)[0]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"driver": "nfs"}, NotSupported, "with the driver 'nfs': there is none but local"),
        ({"driver": "image"}, NotSupported, "with the driver 'image'"),
        ({"size": "1m"}, InvalidArgument, "has no option 'size'"),
        ({"o": "size=1m"}, NotSupported, "size=1m: this version sets no project quotas"),
        ({"o": "inodes=5"}, NotSupported, "inodes=5"),
        ({"o": "size=1m,noquota"}, InvalidArgument, "with noquota"),
        ({"o": "size=x", "type": "tmpfs"}, InvalidArgument, "o=size=x is no size"),
        ({"o": "inodes=5", "type": "tmpfs"}, InvalidArgument, "it is a tmpfs"),
        ({"o": "uid=-1"}, InvalidArgument, "o=uid=-1 is no uid"),
        ({"o": "uid="}, InvalidArgument, "o=uid needs a value"),
        ({"o": "gid=4294967295"}, InvalidArgument, "is no gid"),
        ({"o": "timeout=5"}, InvalidArgument, "o=timeout is for plugins"),
        ({"o": "nodev"}, InvalidArgument, "nothing is to be mounted"),
        ({"device": "/dev/none"}, InvalidArgument, "device=/dev/none has no type"),
        ({"type": "bind", "device": "relative"}, InvalidArgument, "is not an absolute path"),
        ({"type": "bind", "device": "/not/there"}, InvalidArgument, "device=/not/there does not exist"),
        ({"type": "nfs"}, InvalidArgument, "type=nfs needs a device="),
        ({"type": "../x", "device": "a"}, InvalidArgument, "is no file system's type"),
        ({"type": "tmpfs", "o": "a\nb"}, InvalidArgument, "line break"),
        ({"copy": "", "nocopy": ""}, InvalidArgument, "both copy and nocopy"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(
    options: dict[str, str], kind: type[PymanError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        wished(options)
    assert said in caught.value.message
    assert "'v'" in caught.value.message


def test_an_ordinary_user_may_mount_some_file_systems_only() -> None:
    with pytest.raises(NotSupported, match="an ordinary user may not mount type=nfs"):
        wished({"type": "nfs", "device": "server:/"}, rootless=True)
    assert wished({"type": "tmpfs", "device": "tmpfs"}, rootless=True).needs_mount


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,nodev"},
            "-o nodev,size=1m,uid=7 -t tmpfs -- tmpfs",
        ),
        ({"type": "tmpfs"}, "-t tmpfs -- tmpfs"),
        ({"type": "bind", "device": "/srv"}, "-o bind -- /srv"),
        ({"type": "none", "device": "/srv", "o": "rbind,ro"}, "-o rbind,ro -- /srv"),
        (
            {"type": "nfs", "device": ":/export", "o": "addr=192.0.2.1,soft"},
            "-o addr=192.0.2.1,soft -t nfs -- :/export",
        ),
    ],
)
def test_what_is_mounted_is_said_to_mount_8(options: dict[str, str], words: str) -> None:
    assert driver.argv(wished(options)) == ["mount", *words.split(), "/volumes/v/_data"]


def test_a_plain_volume_needs_no_mount_whoever_it_belongs_to() -> None:
    assert not wished({}).needs_mount
    volume = wished({"o": "uid=7,gid=8,noquota"})
    assert not volume.needs_mount
    assert (volume.uid, volume.gid) == (7, 8)
    assert volume.options == {"o": "uid=7,gid=8,noquota", "UID": "7", "GID": "8", "NOQUOTA": "true"}


def test_filters_mean_what_they_mean_in_podman(layout: Layout) -> None:
    async def work(book: Volumes) -> None:
        await book.create(Wish("one", labels={"a": "1", "b": ""}), None)
        await book.create(Wish("two", labels={"a": "2"}, options={"nocopy": ""}), None)
        anonymous = (await book.create(Wish(anonymous=True), None)).name

        def named(**filters: list[str]) -> list[str]:
            keys = {key.replace("_not", "!"): value for key, value in filters.items()}
            return [entry.name for entry in listing.selected(book, keys)]

        assert sorted(named()) == sorted(["one", "two", anonymous])
        assert named(label=["a"]) == ["one", "two"]
        assert named(label=["a", "b"]) == ["one"]
        assert named(label=["a=2"]) == ["two"]
        assert named(label_not=["a"]) == [anonymous]
        assert named(name=["^t", "ne$"]) == ["one", "two"]
        assert named(opt=["nocopy"]) == ["two"]
        assert named(anonymous=["true"]) == [anonymous]
        assert named(dangling=["0"]) == []
        assert len(named(dangling=["true"])) == 3
        assert named(driver=["other"]) == []
        assert len(named(scope=["local"])) == 3
        assert sorted(named(since=["one"])) == sorted(["two", anonymous])
        assert named(until=["1h"]) == []
        for bad in ({"colour": ["red"]}, {"name": ["("]}, {"dangling": ["maybe"]}, {"since": ["none"]}):
            with pytest.raises(InvalidArgument):
                named(**bad)
        with pytest.raises(InvalidArgument, match="cannot filter volumes by 'dangling'"):
            listing.selected(book, {"dangling": ["true"]}, listing.PRUNE_FILTERS)

    carried_out(layout, work)


def test_a_reboot_forgets_who_has_it_mounted(layout: Layout) -> None:
    async def work(book: Volumes) -> None:
        entry = await book.create(Wish("v", options={"type": "tmpfs"}), None)
        await book.note(entry, holders=("c" * 64,), mounts=2)

    carried_out(layout, work)

    async def look(known: frozenset[str], rebooted: bool) -> tuple[int, int]:
        with opened(layout) as (book, database):
            await book.recover(database.load(), known, rebooted=rebooted)
            observed = book.find("v").observed
            return len(observed.holders), observed.mounts

    assert trio.run(look, frozenset({"c" * 64}), False) == (1, 2)
    assert trio.run(look, frozenset(), False) == (0, 2)
    assert trio.run(look, frozenset({"c" * 64}), True) == (0, 0)
    assert trio.run(look, frozenset({"c" * 64}), False) == (0, 0)


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "argv", lambda _volume: ["sleep", "1000"])
    volume = wished({"type": "nfs", "device": "192.0.2.1:/export"})

    async def main() -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            await driver.mount(volume, 0.2)
        assert "volume 'v': '192.0.2.1:/export' did not answer in 0.2 s" in caught.value.message

    trio.run(main)


def test_of_several_volumes_all_are_made_or_none(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "root/volumes/taken").mkdir(parents=True)
    spec = ContainerSpec(volumes=[NamedVolume(dest="/a", name="free"), NamedVolume(dest="/b", name="taken")])

    async def work(book: Volumes) -> None:
        with pytest.raises(NameInUse):
            async with book.joined(spec, None):
                pytest.fail("one of them cannot be made")
        fine = ContainerSpec(volumes=[NamedVolume(dest="/a", name="free")])
        async with book.joined(fine, None) as batch:
            assert [type(change).__name__ for change in batch.changes] == ["PutRecord", "DropIntent"]
            assert left(layout) == ["free", "taken"]
        assert len(book) == 0

    assert carried_out(layout, work) == []
    assert left(layout) == ["taken"]


def test_what_two_change_at_once_counts_both(layout: Layout) -> None:
    async def work(book: Volumes) -> None:
        entry = await book.create(Wish("v"), None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(book.note, entry, needs_copy_up=False))
            nursery.start_soon(partial(book.note, entry, mounts=3))
        assert (entry.observed.needs_copy_up, entry.observed.mounts) == (False, 3)

    carried_out(layout, work)
