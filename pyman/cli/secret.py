"""`pyman secret …`: secrets made, listed, shown and removed. What is in them travels by a descriptor."""

from __future__ import annotations

import os
import time

from pyman.cli.context import sentence
from pyman.cli.options import CSV, FLAG, LIST, TEXT
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["create", "exists", "inspect", "list_secrets", "reading", "rm"]

CREATE_OPTIONS: tuple[Option, ...] = (
    ("driver", "d", TEXT, "NAME", "Where it is kept: file (default), pass or shell"),
    (
        "driver-opts",
        "",
        CSV,
        "KEY=VALUE",
        "Of the driver: path; root, key, gpghomedir; list, lookup, store, delete",
    ),
    ("env", "", FLAG, "", "The second argument is a variable that has the data"),
    ("ignore", "", FLAG, "", "One that is there is no mistake"),
    ("label", "l", LIST, "KEY=VALUE", "A label; may be repeated"),
    ("replace", "", FLAG, "", "Put it in the place of one of the same name"),
)
LS_OPTIONS: tuple[Option, ...] = (
    ("filter", "f", LIST, "KEY=VALUE", "Only secrets that fit: id, name"),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("noheading", "n", FLAG, "", "Leave the headers out"),
    ("quiet", "q", FLAG, "", "Show ids only"),
)
INSPECT_OPTIONS: tuple[Option, ...] = (
    ("format", "f", TEXT, "TEMPLATE", "json, or a template (default json)"),
    ("pretty", "", FLAG, "", "In words, not in JSON"),
    ("showsecret", "", FLAG, "", "Show also what is in it"),
)
RM_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All secrets"),
    ("ignore", "i", FLAG, "", "One that is not there is no mistake"),
)
EXISTS_OPTIONS: tuple[Option, ...] = ()

HEADERS: dict[str, Any] = {
    "CreatedAt": "CREATED",
    "Driver": "DRIVER",
    "ID": "ID",
    "Name": "NAME",
    "UpdatedAt": "UPDATED",
}
_COLUMNS = ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt")
_PRETTY = """ID:              {{.ID}}
Name:              {{.Spec.Name}}
{{- if .Spec.Labels }}
Labels:
{{- range $k, $v := .Spec.Labels }}
 - {{ $k }}{{if $v }}={{ $v }}{{ end }}
{{- end }}{{ end }}
Driver:            {{.Spec.Driver.Name}}
Created at:        {{.CreatedAt}}
Updated at:        {{.UpdatedAt}}"""
_LIMIT = 512_000
"""Bytes; a secret has fewer."""


def create(ctx: Context, args: Parsed) -> int:
    from pyman.cli.values import labels

    name, source = args.arguments
    if args.ignore and args.replace:
        raise InvalidArgument("cannot use --ignore together with --replace")
    request = {
        "name": name,
        "driver": args.driver,
        "driver_options": _driver_options(args.driver_opts),
        "labels": labels(args.label, "--label"),
        "replace": args.replace,
        "ignore": args.ignore,
    }
    descriptor = _in_memory(_variable(source) if args.env else _content(source))
    try:
        reply = ctx.call("Secret.Create", request, (descriptor,))
    finally:
        os.close(descriptor)
    ctx.out(reply["id"])
    return 0


def _driver_options(pairs: Iterable[str]) -> dict[str, str]:
    from pyman.cli.values import absolute

    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"option --driver-opts cannot be '{pair}'", hint="it must be KEY=VALUE")
        found[key] = absolute(value) if key in ("gpghomedir", "path", "root") and value else value
    return found


def _variable(name: str) -> bytes:
    data = os.environb.get(os.fsencode(name), b"")
    if not data:
        raise InvalidArgument(
            f"cannot make a secret of the environment variable '{name}': it is not set, or empty"
        )
    return data


def _content(source: str) -> bytes:
    """Of a file or standard input, and of what is too long a byte too many."""
    standard = source in ("-", "/dev/stdin")
    try:
        with open(0 if standard else source, "rb", buffering=0, closefd=not standard) as file:
            data = b""
            while len(data) <= _LIMIT and (part := file.read(_LIMIT + 1 - len(data))):
                data += part
    except OSError as problem:
        what = "standard input" if standard else f"'{source}'"
        raise InvalidArgument(f"cannot read {what}: {problem.strerror}", subject=source) from problem
    if not 0 < len(data) < _LIMIT:
        found = "it is empty" if not data else f"it has {_LIMIT} bytes or more"
        what = "standard input" if standard else f"'{source}'"
        raise InvalidArgument(
            f"cannot make a secret of {what}: {found}",
            hint=f"a secret has at least 1 byte and fewer than {_LIMIT}",
        )
    return data


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as problem:
        os.close(descriptor)
        raise StorageFailed(f"cannot write a file in memory: {problem.strerror}") from problem
    return descriptor


def reading(ctx: Context, name: str) -> bytes:
    """What is in a secret. NoSuchSecret and the like."""
    connection = ctx.connect()
    connection.send("Secret.Read", {"name": name}, (), more=False)
    reply = connection.receive()
    try:
        descriptor = reply.take()
    finally:
        reply.close()
    with open(descriptor, "rb") as file:
        return file.read(_LIMIT)


def list_secrets(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    found = ctx.call("Secret.List", {"filters": filters_of(args.filter)})["secrets"]
    if args.quiet and not args.format:
        for one in found:
            ctx.out(one["ID"])
        return 0
    rows = [_row(one) for one in found]
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(rows))
    elif args.format:
        ctx.write(render(args.format, rows, None if args.noheading else HEADERS, listing=True))
    else:
        lines = [[row[key] for key in _COLUMNS] for row in rows]
        if not args.noheading:
            lines.insert(0, [HEADERS[key] for key in _COLUMNS])
        if lines:
            ctx.out(columns(lines))
    return 0


def _row(secret: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ID": secret["ID"],
        "Name": secret["Spec"]["Name"],
        "Driver": secret["Spec"]["Driver"]["Name"],
        "CreatedAt": _since(secret["CreatedAt"]),
        "UpdatedAt": _since(secret["UpdatedAt"]),
    }


def _since(stamp: str) -> str:
    from pyman.cli.human import ago
    from pyman.stamps import NANO, parse_stamp

    point = parse_stamp(stamp)
    return stamp if point is None else ago(time.time() - point / NANO)


def inspect(ctx: Context, args: Parsed) -> int:
    reply = ctx.call("Secret.Inspect", {"names": args.arguments})
    shown = [_document(one) for one in reply["secrets"]]
    if args.showsecret:
        for one in shown:
            # As Podman, whose documents are text.
            one["SecretData"] = reading(ctx, one["ID"]).decode(errors="replace")
    if (args.format and not is_json(args.format)) or args.pretty:
        from pyman.cli.template_functions import Moment

        rows = [
            {
                "SecretData": "",
                **one,
                "CreatedAt": Moment(one["CreatedAt"]),
                "UpdatedAt": Moment(one["UpdatedAt"]),
            }
            for one in shown
        ]
        ctx.write(render(_PRETTY if args.pretty else args.format, rows))
    else:
        from pyman.cli.jsontext import indented

        ctx.out(indented(shown))
    errors = reply.get("errors") or ()
    for error in errors:
        ctx.fail(sentence(error))
    return 125 if errors else 0


def _document(secret: Mapping[str, Any]) -> dict[str, Any]:
    """Podman's, its keys in their order."""
    spec = secret["Spec"]
    driver = {"Name": spec["Driver"]["Name"], "Options": spec["Driver"]["Options"]}
    return {
        "ID": secret["ID"],
        "CreatedAt": secret["CreatedAt"],
        "UpdatedAt": secret["UpdatedAt"],
        "Spec": {"Name": spec["Name"], "Driver": driver, "Labels": spec["Labels"]},
    }


def rm(ctx: Context, args: Parsed) -> int:
    if args.all == bool(args.arguments):
        raise InvalidArgument("cannot tell which secrets are meant", hint="give either names or --all")
    status = 0
    for one in ctx.call("Secret.Remove", {"names": args.arguments, "all": args.all})["secrets"]:
        error = one.get("error")
        if not error:
            ctx.out(one["id"])
        elif error["code"] != "NoSuchSecret" or not args.ignore:
            ctx.fail(sentence(error))
            status = 125
    return status


def exists(ctx: Context, args: Parsed) -> int:
    return 0 if ctx.call("Secret.Exists", {"name": args.arguments[0]})["exists"] else 1
