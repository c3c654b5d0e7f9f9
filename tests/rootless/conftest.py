"""An ordinary user's supervisor, one for each test or one for a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.engine import Leftovers
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
    made = UserEngine(user, programs, more=keeping)
    try:
        made.start()
        yield made
    finally:
        print(made.log_text())  # noqa: T201 - pytest shows it with a failure
        try:
            made.close()
        except Leftovers as error:
            pytest.fail(str(error), pytrace=False)
