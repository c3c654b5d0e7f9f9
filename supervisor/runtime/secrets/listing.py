"""Secrets as they are shown, and which of them filters mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.secret import InspectSecret, SecretDriver, SecretSpec
from pyman.errors import InvalidArgument
from supervisor.patterns import expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from supervisor.patterns import Pattern
    from supervisor.runtime.secrets.records import Secret

__all__ = ["inspected", "selected"]

_FILTERS = ("id", "name")


def inspected(secret: Secret) -> InspectSecret:
    spec = SecretSpec(secret.name, SecretDriver(secret.driver, secret.options), secret.labels)
    return InspectSecret(secret.id, secret.created, secret.updated, spec)


def selected(secrets: Iterable[Secret], filters: Mapping[str, Sequence[str]]) -> list[Secret]:
    """Keys must all fit, and of the values of one key any. InvalidArgument."""
    tests: list[tuple[str, list[Pattern]]] = []
    for key, values in filters.items():
        if key not in _FILTERS:
            raise InvalidArgument(
                f"cannot filter secrets by '{key}'", hint=f"known are {', '.join(_FILTERS)}"
            )
        tests.append((key, [expression(value) for value in values]))
    return [
        secret
        for secret in secrets
        if all(any(each.search(getattr(secret, key)) for each in patterns) for key, patterns in tests)
    ]
