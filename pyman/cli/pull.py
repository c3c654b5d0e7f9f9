"""`pyman pull`: bring images here, and print their ids."""

from __future__ import annotations

from pyman.cli.options import FLAG, TEXT
from pyman.cli.registry_options import (
    AUTHFILE,
    CERT_DIR,
    CONTENT_TRUST,
    CREDS,
    DECRYPTION_KEY,
    PLATFORM_OPTIONS,
    RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
    access_of,
    platform_of,
    pull_policy,
)
from pyman.errors import PymanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["PULL_OPTIONS", "pull"]

PULL_OPTIONS: tuple[Option, ...] = (
    ("all-tags", "a", FLAG, "", "All tags of the repository"),
    AUTHFILE,
    CERT_DIR,
    CREDS,
    DECRYPTION_KEY,
    CONTENT_TRUST,
    *PLATFORM_OPTIONS,
    ("policy", "", TEXT, "POLICY", "When to pull: always, missing, newer or never (default always)"),
    ("quiet", "q", FLAG, "", "Show nothing but the ids"),
    *RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
)


def pull(ctx: Context, args: Parsed) -> int:
    request = {
        "all_tags": args.all_tags,
        "policy": pull_policy(args.policy, "--policy") if args.given("policy") else "always",
        "platform": platform_of(args),
        "access": access_of(args),
        "quiet": args.quiet,
    }
    if len(args.arguments) == 1:
        _show(ctx, _pull(ctx, request, args.arguments[0], quiet=args.quiet))
        return 0
    status = 0
    for reference in args.arguments:
        try:
            _show(ctx, _pull(ctx, request, reference, quiet=args.quiet))
        except PymanError as error:
            ctx.fail(error)
            status = max(status, error.exit_status)
    return status


def _pull(ctx: Context, request: dict[str, Any], reference: str, *, quiet: bool) -> dict[str, Any]:
    from pyman.cli.places import placed, to_read
    from pyman.cli.shortnames import decided
    from pyman.cli.transfer import follow

    with to_read(reference) as descriptors:

        def bring(name: str, wish: dict[str, Any]) -> dict[str, Any]:
            return follow(ctx, "Image.Pull", {**request, **wish, "reference": name}, descriptors, quiet=quiet)

        return decided(ctx, placed(reference), bring)


def _show(ctx: Context, result: dict[str, list[str]]) -> None:
    for identity in result["ids"]:
        ctx.out(identity)
