"""`pyman login` and `pyman logout`: names and passwords for registries.

The supervisor asks the registry and keeps the login. The password goes there over the engine's own socket; it is
neither shown nor written anywhere else.
"""

from __future__ import annotations

import sys

from pyman.cli.options import FLAG, TEXT
from pyman.cli.registry_options import AUTHFILE, CERT_DIR, TLS_VERIFY, access_of, auth_file
from pyman.errors import InvalidArgument, NotFound, RegistryDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["LOGIN_OPTIONS", "LOGOUT_OPTIONS", "login", "logout"]

_COMPAT: Option = ("compat-auth-file", "", TEXT, "FILE", "The file with the logins, kept in Docker's form")
LOGIN_OPTIONS: tuple[Option, ...] = (
    AUTHFILE,
    CERT_DIR,
    _COMPAT,
    ("get-login", "", FLAG, "", "Tell who is logged in"),
    (
        "password",
        "p",
        TEXT,
        "PASSWORD",
        "The password; others on this host can see it: better --password-stdin",
    ),
    ("password-stdin", "", FLAG, "", "Read the password from standard input"),
    (
        "secret",
        "",
        TEXT,
        "SECRET",
        "The password is a secret, and the user's name that of the secret without --username",
    ),
    TLS_VERIFY,
    ("username", "u", TEXT, "NAME", "The user's name"),
    ("verbose", "v", FLAG, "", "Tell where the login is kept"),
)
LOGOUT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "From all registries"),
    AUTHFILE,
    _COMPAT,
)
_FIRST = "the first registry that is searched"
_LONGEST = 1 << 16
"""Bytes of a password."""


def login(ctx: Context, args: Parsed) -> int:
    registry = _registry(args)
    access = {**access_of(args, new_logins=True), **_dockers(args, must_exist=False)}
    request: dict[str, Any] = {"registry": registry, "access": access}
    if args.get_login:
        ctx.out(ctx.call("Image.Login", {**request, "get_login": True})["username"])
        return 0
    username, password = args.username or args.secret, _password(ctx, args)
    known = "" if username and password else _known(ctx, request)
    if known and not username and not password:
        ctx.out(f"Authenticating with existing credentials for {registry or _FIRST}")
        try:
            ctx.call("Image.Login", request)
        except RegistryDenied:
            ctx.out("Existing credentials are invalid, please enter valid username and password")
        else:
            ctx.out(f"Existing credentials are valid. Already logged in to {registry or _FIRST}")
            return 0
    if not username or not password:
        from pyman.cli.prompt import ask, ask_secret

        if not username:
            username = ask(f"Username ({known}): " if known else "Username: ") or known
        password = password or ask_secret("Password: ", "use --password-stdin")
    access.update(username=username, password=password)
    reply = ctx.call("Image.Login", request)
    if args.verbose and reply.get("stored"):
        ctx.out(f"Used:  {reply['stored']}")
    ctx.out("Login Succeeded!")
    return 0


def _known(ctx: Context, request: dict[str, Any]) -> str:
    """Who is logged in already; empty: nobody."""
    try:
        return str(ctx.call("Image.Login", {**request, "get_login": True})["username"])
    except NotFound:
        return ""


def _password(ctx: Context, args: Parsed) -> str:
    if args.secret:
        return _secret(ctx, args)
    if not args.password_stdin:
        return str(args.password)
    if args.password:
        raise InvalidArgument("cannot use --password-stdin together with --password")
    if not args.username:
        raise InvalidArgument("cannot use --password-stdin without --username")
    return _text(sys.stdin.buffer.read(_LONGEST + 1), "standard input")


def _secret(ctx: Context, args: Parsed) -> str:
    for name in ("password", "password_stdin"):
        if getattr(args, name):
            raise InvalidArgument(f"cannot use --secret together with --{name.replace('_', '-')}")
    from pyman.cli.secret import reading

    return _text(reading(ctx, args.secret), f"secret '{args.secret}'")


def _text(data: bytes, source: str) -> str:
    """A password, without the end of its line."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"cannot use the password of {source}: it is not UTF-8") from None
    text = "".join(text.splitlines())
    if not text or len(data) > _LONGEST:
        raise InvalidArgument(
            f"cannot use the password of {source}", hint="it is too long" if text else "it is empty"
        )
    return text


def logout(ctx: Context, args: Parsed) -> int:
    if args.all and args.arguments:
        raise InvalidArgument("cannot use --all together with a registry")
    request = {"auth_file": auth_file(args.authfile), **_dockers(args, must_exist=True), "all": args.all}
    if args.all:
        ctx.call("Image.Logout", request)
        ctx.out("Removed login credentials for all registries")
        return 0
    registry = _registry(args)
    ctx.call("Image.Logout", {**request, "registry": registry})
    ctx.out(f"Removed login credentials for {registry or _FIRST}")
    return 0


def _dockers(args: Parsed, *, must_exist: bool) -> dict[str, Any]:
    """What says that the logins are those of a file in Docker's form; empty: they are not."""
    if not args.compat_auth_file:
        return {}
    if args.authfile:
        raise InvalidArgument("cannot use --compat-auth-file together with --authfile")
    return {"auth_file": auth_file(args.compat_auth_file, must_exist=must_exist), "docker_auth": True}


def _registry(args: Parsed) -> str:
    """As Podman: of an address only the host counts."""
    given = args.arguments[0] if args.arguments else ""
    for scheme in ("https://", "http://"):
        if given.startswith(scheme):
            return str(given[len(scheme) :].split("/", 1)[0])
    return str(given)
