"""Hosts and containers as network namespaces, each held by a process that sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.network.kernel import netfilter
from tests.support.hosts import Machine, wired

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _wires() -> Iterator[None]:
    """None is kept open from one test to the next."""
    yield
    netfilter.close()


@pytest.fixture
def host() -> Iterator[Machine]:
    """On which the bridges and the packet filter are."""
    with Machine() as machine:
        yield machine


@pytest.fixture
def one() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture
def two() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture
def outside(host: Machine) -> Iterator[Machine]:
    """Another host on the same wire: 192.0.2.2, and 192.0.2.1 is `host`; fd02::2 and fd02::1."""
    with wired(host) as machine:
        yield machine
