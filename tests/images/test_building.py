"""Builds by the real Buildah on the store of a test's own."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import NotSupported
from supervisor.images import building
from supervisor.kernel import children
from supervisor.settings.load import Options, load
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


async def _build(store: Store, context: Path, *arguments: str, output: int) -> building.Built:
    with _streams(output) as streams:
        return await building.build(
            load(Options(), {"CONTAINERS_CONF": os.devnull}, 0),
            store.layout,
            ["--isolation", "chroot", *arguments, "."],
            runtime=RUNC,
            cwd=str(context),
            environment={"PATH": os.environ["PATH"]},
            streams=streams,
        )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def _directories(store: Store) -> None:
    os.makedirs(store.layout.tmp, exist_ok=True)


async def test_an_image_that_buildah_has_built_is_in_the_store(
    store: Store, others: Others, context: Path, log: int
) -> None:
    _containerfile(context, "echo from within")
    built = await _build(store, context, "-t", "localhost/made:1", output=log)
    said = os.pread(log, 100_000, 0).decode()
    assert built.exit_code == 0, said
    assert "from within" in said
    assert store.resolve("localhost/made:1").id == built.id
    assert "made" in others.podman("inspect", "--format", "{{.Config.Labels}}", built.id)


async def test_the_exit_code_of_a_build_that_fails_is_kept(store: Store, context: Path, log: int) -> None:
    _containerfile(context, "exit 7")
    built = await _build(store, context, output=log)
    assert (built.exit_code, built.id) == (7, "")
    assert not store.images()


async def test_the_id_is_also_in_the_file_that_the_caller_has_named(
    store: Store, context: Path, log: int
) -> None:
    _containerfile(context, "true")
    built = await _build(store, context, "--iidfile", "my-id", output=log)
    assert (context / "my-id").read_text().strip() == f"sha256:{built.id}"


async def test_a_build_that_is_given_up_leaves_nothing_running(store: Store, context: Path) -> None:
    _containerfile(context, "echo begun; sleep 1000")
    before = children.of_this_process()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await _build(store, context, output=writer)

            nursery.start_soon(run)
            said = b""
            while b"\nbegun" not in said:
                await trio.lowlevel.wait_readable(reader)
                said += os.read(reader, 65536)
            nursery.cancel_scope.cancel()
        assert children.of_this_process() == before
    finally:
        os.close(writer)
        os.close(reader)
    assert not store.images()
    assert not store.containers()


async def test_where_buildah_is_missing_the_error_says_what_to_install(
    store: Store, context: Path, log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PROGRAM", "no-such-buildah")
    with pytest.raises(NotSupported, match="install the package buildah"):
        await _build(store, context, output=log)
