"""Fixtures of every room: nothing may leak, nothing may hold the loop, and there is an engine to try.

`engine` is a supervisor of the test's own; `shared_engine` lives as long as the test module and is emptied
after every test. Both come once per OCI runtime (`oci_runtime` marker limits that), and in some rooms once more
for an ordinary user.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import runtimes, sharing, workers
from tests.support.engine import Engine
from tests.support.leaks import KINDS, Belongings, HostLock
from tests.support.loopwatch import COMPUTING, run_watched
from tests.support.registry import RealRegistry
from tests.support.rootfs import SHARED, make_rootfs, tidy
from tests.support.trees import TreePlace
from tests.support.user import User, UserEngine, UserPlace
from tests.support.user_programs import programs_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.leaks import Host

_places: list[runtimes.Place] = []
_left_at_the_end: list[Belongings] = []
"""What there is after a test is what there is before the next one, unless a fixture of several tests comes between."""


# Every test


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background has them ignore signals, and so would what they start."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # How long an example takes says how busy the machine is.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
    workers.register(config)
    config.pluginmanager.register(FixturesOfSeveral())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trio tests run under the watch on the loop."""
    for item in items:
        if item.get_closest_marker("trio"):
            marker = item.get_closest_marker("holds_loop")
            seconds = float(marker.args[0]) if marker else COMPUTING
            item.add_marker(pytest.mark.trio(run=functools.partial(run_watched, seconds / COMPUTING)))


def pytest_collection_finish() -> None:
    # What was imported so far stays: the collector need not walk it in the middle of a step that is timed.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # pragma: no cover - run by pytest itself
    report = yield
    if call.when == "call":
        item.stash[sharing.OUTCOME] = report.passed  # type: ignore[attr-defined]
    return report


@pytest.fixture(scope="session")
def whole_host(pytestconfig: pytest.Config) -> Iterator[Host]:
    """Who decides about new things on the host."""
    worker = pytestconfig.pluginmanager.get_plugin("pyman-worker")
    if isinstance(worker, workers.Worker):
        yield worker.host
        return
    lock = HostLock()
    yield lock
    lock.close()


@pytest.fixture(autouse=True)
def nothing_leaks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, whole_host: Host
) -> Iterator[None]:
    """Fails a test that leaves a child process, a descriptor, a thread, a mount, a cgroup or a namespace."""
    marker = request.node.get_closest_marker("leaks")
    allowed = set(marker.args) if marker else set()
    assert allowed <= KINDS, f"the marker leaks takes {sorted(KINDS)}"
    holders = tuple(place.holder.pid for place in _places if place.holder)
    before = _left_at_the_end.pop() if _left_at_the_end else Belongings.now(holders)
    yield
    tidy()
    # A test may have made this process adopt orphans; the next one starts as the first did.
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    ours = (str(tmp_path_factory.getbasetemp()),)
    now, found = before.leftovers(ours, whole_host, holders, sharing.keepers())
    _left_at_the_end[:] = [now]
    lines = [f"{kind}: {name}" for kind, names in found.items() if kind not in allowed for name in names]
    if lines:
        pytest.fail("the test leaves behind:\n  " + "\n  ".join(lines), pytrace=False)


class FixturesOfSeveral:
    """Their beginnings and ends. A plugin, since those of the whole session are told no conftest.py."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        if fixturedef.scope != "function":
            _left_at_the_end.clear()

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        if fixturedef.scope != "function":
            _left_at_the_end.clear()


# Containers


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of static busybox. Tests use it with `:O`, or copy it: it is shared."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root file system")
    directory = tmp_path_factory.mktemp("rootfs")
    directory.chmod(0o755)
    directory.parent.chmod(0o755)
    made = make_rootfs(directory)
    SHARED.append(made)
    return made


def _runtimes_of(module: str) -> tuple[str, ...]:
    """Lives are led by an ordinary user as well."""
    return (*runtimes.NAMES, "rootless") if module.startswith("tests.lifecycle.") else runtimes.NAMES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "oci_runtime" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("oci_runtime")
        names = marker.args if marker else _runtimes_of(metafunc.module.__name__)
        metafunc.parametrize("oci_runtime", names, indirect=True, scope="session")
    beside = metafunc.definition.get_closest_marker("peers")
    if beside and "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", beside.args, indirect=True, scope="session")


@pytest.fixture(scope="session")
def oci_runtime(request: pytest.FixtureRequest) -> Iterator[runtimes.Place]:
    """Where programs run so that the OCI runtime works: each that the tests can use here, one by one."""
    if os.geteuid() != 0:
        pytest.skip("only root can run containers without a user namespace")
    try:
        place = _make_place(request.param)
    except LookupError as error:
        pytest.skip(str(error))
    with _watched(place):
        yield place


@pytest.fixture(scope="session")
def peer(request: pytest.FixtureRequest) -> Iterator[runtimes.Place]:
    """Where Podman, Buildah and Skopeo are that share a store of the test's own: the installed ones, unless the marker
    `peers` says otherwise."""
    name = getattr(request, "param", "installed")
    with _watched(_make_place("runc" if name == "installed" else name)) as place:
        yield place


@contextlib.contextmanager
def _watched(place: runtimes.Place) -> Iterator[runtimes.Place]:
    """What is mounted in it counts as the host's does."""
    _places.append(place)
    try:
        yield place
    finally:
        _places.remove(place)
        place.close()


def _make_place(name: str) -> runtimes.Place:
    """Raises LookupError where there cannot be one, and NoTree: what the set-up makes has to be there."""
    if name == "rootless":
        return UserPlace(User.of())
    if name == "trixie":
        return TreePlace()
    if name == "rootless-trixie":
        return UserPlace(User.of(), TreePlace())
    return runtimes.make_place(name)


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Where an ordinary user can execute pyman."""
    yield from programs_for(UserPlace(User.of()))


def make_engine(
    request: pytest.FixtureRequest, place: runtimes.Place, *, options: Sequence[str] = (), config: str = ""
) -> Engine:
    """Root's, or an ordinary user's where the place is one for that."""
    if isinstance(place, UserPlace):
        programs = request.getfixturevalue("programs")
        return UserEngine(place.user, programs, options=options, config=config, place=place)
    return Engine(place, options=options, config=config)


@pytest.fixture
def engine(request: pytest.FixtureRequest, oci_runtime: runtimes.Place) -> Iterator[Engine]:
    """A running supervisor of the test's own; ended with all its containers afterwards."""
    options = request.node.get_closest_marker("engine_options")
    config = request.node.get_closest_marker("engine_config")
    made = make_engine(
        request, oci_runtime, options=options.args if options else (), config=config.args[0] if config else ""
    )
    with sharing.owned(made, request) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_engine(request: pytest.FixtureRequest, oci_runtime: runtimes.Place) -> Iterator[Engine]:
    """Behind `shared_engine`; tests do not use it directly."""
    with sharing.shared(make_engine(request, oci_runtime)) as engine:
        yield engine


@pytest.fixture
def shared_engine(request: pytest.FixtureRequest, module_engine: Engine) -> Iterator[Engine]:
    """A supervisor for the tests of a module, without containers at every start."""
    with sharing.borrowed(module_engine, request) as engine:
        yield engine


# Registries


@pytest.fixture(scope="session")
def registry() -> Iterator[RealRegistry]:
    """The real docker-registry with HTTP, open to all. It is shared: use repositories of the test's own."""
    with RealRegistry() as one:
        yield one


@pytest.fixture(scope="session")
def secure_registry() -> Iterator[RealRegistry]:
    """The same with HTTPS and a login; its authority is in no trust store."""
    with RealRegistry(tls=True, login=True) as one:
        yield one
