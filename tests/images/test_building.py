"""Builds by the real Buildah on the store of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import NotSupported
from pyman.names import EventStatus
from supervisor.images import building
from supervisor.images.events import event
from supervisor.kernel import children
from supervisor.settings.load import Options, load
from supervisor.state.database import Database
from tests.images.deeds import Told, begun, settled
from tests.storage.images import busybox, tar_of
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.images.deeds import Deeds
    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = pytest.mark.skipif(bool(missing("buildah", "runc")), reason=missing("buildah", "runc"))
RUNC = shutil.which("runc") or "runc"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    shutil.copy("/bin/busybox", tmp_path / "busybox")
    return tmp_path


def _containerfile(context: Path, run: str) -> None:
    (context / "Containerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"
        f'RUN ["/bin/busybox", "sh", "-c", "{run}"]\nLABEL made=here\n'
    )


@contextmanager
def _streams(output: int) -> Iterator[tuple[int, int, int]]:
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        yield null, output, output
    finally:
        os.close(null)


@pytest.fixture
def told(store: Store, place: Path) -> Iterator[Told]:
    with Database.open(str(place / "static/state.db")) as database:
        yield Told(database, store, place)


async def _build(store: Store, deeds: Deeds, context: Path, *arguments: str, output: int) -> building.Result:
    with _streams(output) as streams:
        return await building.build(
            load(Options(), {"CONTAINERS_CONF": os.devnull}, 0),
            store.layout,
            ["--isolation", "chroot", *arguments, "."],
            runtime=RUNC,
            cwd=str(context),
            environment={"PATH": os.environ["PATH"]},
            streams=streams,
            deeds=deeds,
            told=event(EventStatus.BUILD, "", "made:1", None),
        )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


async def test_an_image_that_buildah_has_built_is_in_the_store_and_told(
    told: Told, store: Store, others: Others, context: Path, log: int
) -> None:
    _containerfile(context, "echo from within")
    async with told.supervisor() as deeds:
        built = await _build(store, deeds, context, "-t", "localhost/made:1", output=log)
    said = os.pread(log, 100_000, 0).decode()
    assert built.exit_code == 0, said
    assert "from within" in said
    assert store.resolve("localhost/made:1").id == built.id
    assert "made" in others.podman("inspect", "--format", "{{.Config.Labels}}", built.id)
    assert [(each.status, each.id, each.name) for each in told.events] == [("build", built.id, "made:1")]
    assert told.intents == {}
    assert not list((told.place / "builds").iterdir())


async def test_the_exit_code_of_a_build_that_fails_is_kept(
    told: Told, store: Store, context: Path, log: int
) -> None:
    _containerfile(context, "exit 7")
    async with told.supervisor() as deeds:
        built = await _build(store, deeds, context, output=log)
        await settled(deeds)
    assert (built.exit_code, built.id) == (7, "")
    assert not store.images()
    assert (told.statuses, told.intents) == ([], {})
    assert not list((told.place / "builds").iterdir())


@pytest.mark.parametrize("words", [["--iidfile", "my-id"], ["--iidfile=other", "--iidfile=my-id"]])
async def test_the_id_is_also_in_the_file_that_the_caller_has_named(
    told: Told, store: Store, context: Path, log: int, words: list[str]
) -> None:
    _containerfile(context, "true")
    async with told.supervisor() as deeds:
        built = await _build(store, deeds, context, *words, output=log)
    assert (context / "my-id").read_text() == f"sha256:{built.id}"
    assert not (context / "other").exists()
    assert told.statuses == ["build"]


async def test_the_file_that_the_caller_has_named_may_be_his_output(
    told: Told, store: Store, context: Path, log: int
) -> None:
    _containerfile(context, "true")
    async with told.supervisor() as deeds:
        built = await _build(store, deeds, context, "-q", "--iidfile", "/dev/stdout", output=log)
    assert os.pread(log, 100_000, 0).decode() == f"sha256:{built.id}"


async def test_an_id_that_cannot_be_written_is_a_failure_of_the_caller_and_the_image_is_told(
    told: Told, store: Store, context: Path, log: int
) -> None:
    _containerfile(context, "true")
    async with told.supervisor() as deeds:
        built = await _build(store, deeds, context, "--iidfile", "no/such/directory", output=log)
        await settled(deeds)
    assert built == (125, "")
    assert "cannot write 'no/such/directory'" in os.pread(log, 100_000, 0).decode()
    assert [each.id for each in told.events] == [image.id for image in store.images()]
    assert told.statuses == ["build"]


async def test_a_build_that_is_given_up_leaves_nothing_running(
    told: Told, store: Store, context: Path
) -> None:
    _containerfile(context, "echo begun; sleep 1000")
    before = children.of_this_process()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        async with told.supervisor() as deeds, trio.open_nursery() as nursery:

            async def run() -> None:
                await _build(store, deeds, context, output=writer)

            nursery.start_soon(run)
            said = b""
            while b"\nbegun" not in said:
                await trio.lowlevel.wait_readable(reader)
                said += os.read(reader, 65536)
            nursery.cancel_scope.cancel()
        await told.settle()
        assert children.of_this_process() == before
    finally:
        os.close(writer)
        os.close(reader)
    assert not store.images()
    assert not store.containers()
    assert (told.statuses, told.intents) == ([], {})


async def test_where_buildah_is_missing_the_error_says_what_to_install(
    told: Told, store: Store, context: Path, log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PROGRAM", "no-such-buildah")
    async with told.supervisor() as deeds:
        with pytest.raises(NotSupported, match="install the package buildah"):
            await _build(store, deeds, context, output=log)


def _late(id: str, file: str) -> subprocess.Popen[bytes]:
    """What writes the id when it is told to go on."""
    return subprocess.Popen(["sh", "-c", f'read -r go; printf %s "{id}" >"$0"', file], stdin=subprocess.PIPE)


@pytest.mark.parametrize("in_store", [True, False])
async def test_a_build_that_goes_on_after_its_supervisor_is_waited_for(
    told: Told, others: Others, *, in_store: bool
) -> None:
    others.podman("import", "-q", "-", "base:1", stdin=tar_of(busybox()))
    id = others.podman("images", "-q", "--no-trunc", "base:1") if in_store else f"sha256:{'a' * 64}"
    async with told.supervisor() as deeds:
        trace = deeds.new_build()
        await begun(deeds, event(EventStatus.BUILD, "", "made:1", None)).intend(trace)
    os.makedirs(trace.directory)
    os.makedirs(f"{os.path.dirname(trace.directory)}/nobodys")
    with _late(id, trace.id_file) as program:
        assert program.stdin is not None
        async with told.supervisor() as deeds:
            assert told.intents, "it is not held up by it"
            program.stdin.write(b"go\n")
            program.stdin.close()
            await settled(deeds)
    expected = [("build", id.removeprefix("sha256:"), "made:1")] if in_store else []
    assert [(each.status, each.id, each.name) for each in told.events] == expected
    assert told.intents == {}
    assert not list((told.place / "builds").iterdir())
