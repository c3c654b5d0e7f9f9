"""Supervisors of a test's own, and those that the tests of a module share.

Sharing saves a second per test. Whoever shares one may kill it and start it again; there is no container at first, and
`Engine.events` are those of the test.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.support.engine import Engine, Leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OUTCOME", "borrowed", "keepers", "owned", "shared"]

OUTCOME = pytest.StashKey[bool]()
"""In a test's node: whether it has passed, once that is known."""
_shared: list[Engine] = []
Some = TypeVar("Some", bound=Engine)


def keepers() -> list[int]:
    """The child processes that a test may leave, since they are for the next one, too."""
    return [engine.keeper.pid for engine in _shared if engine.keeper is not None]


@contextlib.contextmanager
def owned(engine: Some, request: pytest.FixtureRequest) -> Iterator[Some]:
    """Running, for one test; ended with all its containers afterwards."""
    try:
        engine.start()
        yield engine
    finally:
        if not _passed(request):
            _show(engine)
        _close(engine)


@contextlib.contextmanager
def shared(engine: Some) -> Iterator[Some]:
    """Running, for the tests of a module, each of which gets it by `borrowed`."""
    _shared.append(engine)
    try:
        engine.start()
        yield engine
    finally:
        _close(engine)
        _shared.remove(engine)


@contextlib.contextmanager
def borrowed(engine: Some, request: pytest.FixtureRequest, *, images: bool = False) -> Iterator[Some]:
    """For one test, which may change its configuration. `images`: remove them after it. After one that has failed it
    begins anew, so that the next ones do not suffer for it."""
    engine.since = engine.last_seq()
    files = {path: path.read_text() for path in (engine.configuration, engine.storage_configuration)}
    yield engine
    changed = {path: text for path, text in files.items() if path.read_text() != text}
    for path, text in changed.items():
        path.write_text(text)
    for name in (".config", ".cache", ".local"):
        shutil.rmtree(engine.path / name, ignore_errors=True)
    if not _passed(request):
        _show(engine)
        engine.renew()
        return
    try:
        assert engine.runs(), "the test has not started again the supervisor that it shares"
        if changed:
            engine.call("io.pyman.System.Reload")
        engine.remove_containers()
        if images:
            engine.remove_images()
    except BaseException:
        engine.renew()
        raise


def _passed(request: pytest.FixtureRequest) -> bool:
    passed: bool = request.node.stash.get(OUTCOME, False)
    return passed


def _show(engine: Engine) -> None:
    print(f"--- {engine.log}\n{engine.log_text()}")  # noqa: T201 - pytest shows it with the failure


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except Leftovers as error:
        pytest.fail(str(error), pytrace=False)
