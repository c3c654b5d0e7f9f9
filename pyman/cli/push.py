"""`pyman push`: send an image elsewhere."""

from __future__ import annotations

from pyman.cli.options import FLAG, INT, REFUSED, TEXT, TRUE
from pyman.cli.registry_options import (
    AUTHFILE,
    CERT_DIR,
    CONTENT_TRUST,
    CREDS,
    RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
    access_of,
)
from pyman.errors import InvalidArgument, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["COMPRESSION_OPTIONS", "PUSH_OPTIONS", "SIGNING", "compression_of", "push", "write_digest"]

_UNSIGNED = "images are not signed here: use skopeo or cosign"
SIGNING: tuple[Option, ...] = (
    ("sign-by", "", REFUSED, "KEY", _UNSIGNED),
    ("sign-by-sigstore", "", REFUSED, "FILE", _UNSIGNED),
    ("sign-by-sigstore-private-key", "", REFUSED, "FILE", _UNSIGNED),
    ("sign-by-sq-fingerprint", "", REFUSED, "FINGERPRINT", _UNSIGNED),
    ("sign-passphrase-file", "", REFUSED, "FILE", _UNSIGNED),
)
_PLAIN = "images are not encrypted here: use skopeo"
COMPRESSION_OPTIONS: tuple[Option, ...] = (
    (
        "compression-format",
        "",
        TEXT,
        "FORMAT",
        "gzip, zstd or none (default: as in containers.conf, else gzip)",
    ),
    (
        "compression-level",
        "",
        INT,
        "N",
        "How hard to compress, as the format counts it (default: as in containers.conf)",
    ),
    ("force-compression", "", FLAG, "", "Also where the destination has the layer in another compression"),
)
PUSH_OPTIONS: tuple[Option, ...] = (
    ("all", "", TRUE, "", "Of a manifest list: the images in it, too"),
    AUTHFILE,
    CERT_DIR,
    ("compress", "", FLAG, "", "Compress layers in a directory (dir:), too; with gzip"),
    *COMPRESSION_OPTIONS,
    CREDS,
    ("digestfile", "", TEXT, "FILE", "Write the manifest's digest to a file"),
    CONTENT_TRUST,
    ("encrypt-layer", "", REFUSED, "N", _PLAIN),
    ("encryption-key", "", REFUSED, "KEY", _PLAIN),
    ("format", "f", TEXT, "FORMAT", "oci or v2s2 (default: what the image has)"),
    ("quiet", "q", FLAG, "", "Show nothing"),
    ("remove-signatures", "", FLAG, "", "Leave the image's signatures behind"),
    *RETRY_OPTIONS,
    *SIGNING,
    SIGNATURE_POLICY,
    TLS_VERIFY,
)
_FORMATS = ("", "oci", "v2s2")
_COMPRESSIONS = ("", "gzip", "zstd", "none")


def push(ctx: Context, args: Parsed) -> int:
    from pyman.cli.places import placed, to_write
    from pyman.cli.transfer import follow

    destination = args.arguments[1] if len(args.arguments) > 1 else ""
    compression = compression_of(args)
    request: dict[str, Any] = {
        "name": args.arguments[0],
        "destination": placed(destination),
        "access": access_of(args),
        "format": _one_of("--format", args.format, _FORMATS),
        **compression,
        "compression": compression["compression"] or ("gzip" if args.compress else ""),
        "remove_signatures": args.remove_signatures,
        "all": args.all,
        "quiet": args.quiet,
    }
    with to_write(destination) as descriptors:
        result = follow(ctx, "Image.Push", request, descriptors, quiet=args.quiet)
    write_digest(args.digestfile, result["digest"])
    return 0


def compression_of(args: Parsed) -> dict[str, Any]:
    """The fields of a request. Raises InvalidArgument."""
    return {
        "compression": _one_of("--compression-format", args.compression_format, _COMPRESSIONS),
        "compression_level": args.compression_level,
        # As Podman: who names a compression means it.
        "force_compression": args.force_compression
        if args.given("force_compression")
        else bool(args.compression_format),
    }


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        known = [choice for choice in choices if choice]
        raise InvalidArgument(f"option {option} cannot be '{value}'", hint=f"it must be {', '.join(known)}")
    return value


def write_digest(path: str, digest: str) -> None:
    """What was pushed is pushed; a file that cannot be written is told. Raises StorageFailed."""
    if not path:
        return
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(digest)
    except OSError as problem:
        raise StorageFailed(
            f"cannot write the digest '{digest}' to '{path}': {problem.strerror or problem}", subject=path
        ) from problem
