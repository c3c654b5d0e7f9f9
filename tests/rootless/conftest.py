"""An ordinary user's supervisor, one for each test or one for a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rootless.support import User, UserEngine
from tests.support.engine import Leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def user() -> User:
    return User.of()


@pytest.fixture
def engine(user: User) -> Iterator[UserEngine]:
    made = UserEngine(user)
    try:
        made.start()
        yield made
    finally:
        print(made.log_text())  # noqa: T201 - pytest shows it with a failure
        try:
            made.close()
        except Leftovers as error:
            pytest.fail(str(error), pytrace=False)
