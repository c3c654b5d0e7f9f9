"""The error tree: stable codes, one class per code, nothing lost on the wire."""

from __future__ import annotations

import re

import pytest

from pyman import errors

CLASSES = sorted(errors.ERRORS.items())


@pytest.mark.parametrize("code,kind", CLASSES)
def test_an_error_survives_the_wire(code: str, kind: type[errors.PymanError]) -> None:
    raised = kind("cannot start container 'web'", subject="web", hint="see its log")
    name, parameters = errors.to_wire(raised)
    received = errors.from_wire(name, parameters)
    assert name == f"io.pyman.{code}"
    assert type(received) is kind
    assert (received.message, received.subject, received.hint) == (
        raised.message,
        raised.subject,
        raised.hint,
    )


@pytest.mark.parametrize("code,kind", CLASSES)
def test_an_error_has_an_exit_status_and_a_fault(code: str, kind: type[errors.PymanError]) -> None:
    assert kind.exit_status in {125, 126, 127}
    assert kind.fault in {"caller", "host", "engine"}
    assert kind("cannot do it").code == code


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    lines = (errors.__doc__ or "").partition("::\n")[2].partition("\nRules:")[0].splitlines()
    path: list[tuple[int, str]] = []
    documented: dict[str, str] = {}
    for line in filter(str.strip, lines):
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        path = [(depth, parent) for depth, parent in path if depth < indent]
        documented[name] = path[-1][1] if path else "Exception"
        path.append((indent, name))
    real = {code: kind.__mro__[1].__name__ for code, kind in errors.ERRORS.items()}
    assert documented == real


def test_every_class_is_exported() -> None:
    assert set(errors.ERRORS) <= set(errors.__all__)


def test_the_hint_follows_the_sentence() -> None:
    error = errors.NameInUse("cannot use the name 'web'", hint="remove that container first")
    assert str(error) == "cannot use the name 'web': remove that container first"


@pytest.mark.parametrize(
    "name,kind",
    [
        ("org.varlink.service.InvalidParameter", errors.InvalidArgument),
        ("org.varlink.service.PermissionDenied", errors.PermissionDenied),
        ("org.varlink.service.MethodNotFound", errors.ProtocolError),
        ("io.pyman.FromTheFuture", errors.ProtocolError),
        ("com.example.Other", errors.ProtocolError),
    ],
)
def test_foreign_errors_become_errors_of_the_tree(name: str, kind: type[errors.PymanError]) -> None:
    error = errors.from_wire(name, {"parameter": "colour"})
    assert type(error) is kind
    assert re.search("parameter 'colour'", error.message)
