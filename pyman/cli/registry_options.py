"""Options that say how a registry is spoken to and which platform is meant, shared by all verbs that pull or push.

What is absent from a request comes from the configuration. Paths and the environment are the caller's: they are
made absolute here, for the supervisor has another working directory and other variables.
"""

from __future__ import annotations

import os

from pyman.cli.options import COUNT, FLAG, REFUSED, SECONDS, TEXT, TRUE
from pyman.cli.values import absolute
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = [
    "AUTHFILE",
    "CERT_DIR",
    "CONTENT_TRUST",
    "CREDS",
    "DECRYPTION_KEY",
    "PLATFORM_OPTIONS",
    "RETRY_OPTIONS",
    "SIGNATURE_POLICY",
    "TLS_VERIFY",
    "access_of",
    "auth_file",
    "credentials",
    "platform_of",
    "pull_policy",
]

AUTHFILE: Option = (
    "authfile",
    "",
    TEXT,
    "FILE",
    "The file with the logins, instead of $REGISTRY_AUTH_FILE or the user's",
)
CERT_DIR: Option = ("cert-dir", "", TEXT, "DIR", "A directory with certificates and keys for the registry")
CREDS: Option = (
    "creds",
    "",
    TEXT,
    "USER[:PASSWORD]",
    "The login for the registry; a password that is left out is asked for",
)
TLS_VERIFY: Option = ("tls-verify", "", TRUE, "", "Speak HTTPS to the registry and check its certificate")
RETRY_OPTIONS: tuple[Option, ...] = (
    ("retry", "", COUNT, "N", "How often a failed request is tried again (default 3)"),
    (
        "retry-delay",
        "",
        SECONDS,
        "SECONDS",
        "How long to wait before that (default 1 second, then twice as long)",
    ),
)
PLATFORM_OPTIONS: tuple[Option, ...] = (
    ("arch", "", TEXT, "ARCH", "The image for this architecture, instead of the host's"),
    ("os", "", TEXT, "OS", "The image for this operating system, instead of the host's"),
    ("platform", "", TEXT, "OS/ARCH[/VARIANT]", "The image for this platform"),
    ("variant", "", TEXT, "VARIANT", "The image for this variant of the architecture"),
)
CONTENT_TRUST: Option = ("disable-content-trust", "", FLAG, "", "")
"""Docker's; without an effect, as in Podman."""
DECRYPTION_KEY: Option = ("decryption-key", "", REFUSED, "KEY", "encrypted images are not read")
SIGNATURE_POLICY: Option = (
    "signature-policy",
    "",
    REFUSED,
    "FILE",
    "the policy of the engine holds for every caller: see containers-policy.json(5)",
)

_POLICIES = {
    "always": "always",
    "missing": "missing",
    "ifmissing": "missing",
    "ifnotpresent": "missing",
    "newer": "newer",
    "ifnewer": "newer",
    "never": "never",
}


def access_of(args: Parsed, *, new_logins: bool = False) -> dict[str, Any]:
    """The `access` of a request: what the command line and the caller's environment say. Raises InvalidArgument.

    With `new_logins` the file with the logins need not exist.
    """
    access: dict[str, Any] = {}
    if args.has("creds") and args.given("creds"):
        access["username"], access["password"] = credentials(args.creds)
    path = auth_file(args.authfile if args.has("authfile") else "", must_exist=not new_logins)
    if path:
        access["auth_file"] = path
    if args.has("cert_dir") and args.cert_dir:
        access["cert_dir"] = absolute(args.cert_dir)
    if args.given("tls_verify"):
        access["tls_verify"] = args.tls_verify
    for name in ("retry", "retry_delay"):
        if args.given(name):
            access[name] = getattr(args, name)
    return access


def auth_file(given: str, *, must_exist: bool = True) -> str:
    """The absolute path of the file with the logins; empty: where the user's logins usually are."""
    if given:
        if must_exist and not os.path.exists(given):
            raise InvalidArgument(
                f"cannot use the authentication file '{given}': there is no such file", subject=given
            )
        return absolute(given)
    path = os.environ.get("REGISTRY_AUTH_FILE", "")
    if not path and os.environ.get("DOCKER_CONFIG"):
        path = os.path.join(os.environ["DOCKER_CONFIG"], "config.json")
    return absolute(path)


def credentials(text: str) -> tuple[str, str]:
    """User and password of `USER[:PASSWORD]`; what is missing is asked for. Raises InvalidArgument."""
    from pyman.cli.prompt import ask, ask_secret

    username, _, password = text.partition(":")
    if not username:
        username = ask("Username: ")
    if not password:
        password = ask_secret("Password: ", "give it as --creds USER:PASSWORD")
    return username, password


def platform_of(args: Parsed) -> dict[str, str]:
    """The `platform` of a request. Raises InvalidArgument."""
    given = {name: getattr(args, name) for name in ("os", "arch", "variant") if args.has(name)}
    if args.has("platform") and args.platform:
        if given.get("os") or given.get("arch"):
            raise InvalidArgument("cannot use --platform together with --os or --arch")
        parts = args.platform.split("/")
        if len(parts) > 3:
            raise InvalidArgument(
                f"option --platform cannot be '{args.platform}'", hint="it must be OS/ARCH or OS/ARCH/VARIANT"
            )
        given.update(zip(("os", "arch", "variant"), parts, strict=False))
    return {name: value for name, value in given.items() if value}


def pull_policy(text: str, option: str) -> str:
    """When an image is pulled, in the contract's word. Raises InvalidArgument."""
    policy = _POLICIES.get(text.lower())
    if policy is None:
        raise InvalidArgument(
            f"option {option} cannot be '{text}'", hint="it must be always, missing, newer or never"
        )
    return policy
