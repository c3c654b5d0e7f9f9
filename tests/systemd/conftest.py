"""A machine that systemd runs, one for each module, and a user in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.machine import Machine, missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if reason := missing():
        pytest.skip(reason)
    with Machine() as made:
        yield made


@pytest.fixture
def user(machine: Machine) -> Iterator[Machine]:
    """The machine while the user's service manager runs, without a session that it would hang on."""
    with machine.lingering():
        yield machine
