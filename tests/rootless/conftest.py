"""An ordinary user's supervisor, one for each test or one for a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import sharing
from tests.support.user import User, UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def user() -> User:
    return User.of()


@pytest.fixture
def engine(request: pytest.FixtureRequest, user: User, programs: Path) -> Iterator[UserEngine]:
    """What a fixture `keeping` gives is added to the environment."""
    keeping = request.getfixturevalue("keeping") if "keeping" in request.fixturenames else {}
    with sharing.owned(UserEngine(user, programs, more=keeping), request) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_engine(user: User, programs: Path) -> Iterator[UserEngine]:
    """Behind `shared_engine`."""
    with sharing.shared(UserEngine(user, programs)) as engine:
        yield engine


@pytest.fixture
def shared_engine(request: pytest.FixtureRequest, module_engine: UserEngine) -> Iterator[UserEngine]:
    with sharing.borrowed(module_engine, request) as engine:
        yield engine
