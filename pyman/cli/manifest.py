"""`pyman manifest`: lists of images, one for each platform."""

from __future__ import annotations

from pyman.cli.options import CSV, FLAG, LIST, TEXT, TRUE
from pyman.cli.places import placed
from pyman.cli.push import COMPRESSION_OPTIONS, SIGNING, compression_of, write_digest
from pyman.cli.registry_options import AUTHFILE, CERT_DIR, CREDS, TLS_VERIFY, access_of, platform_of
from pyman.cli.values import absolute
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["add", "annotate", "create", "exists", "inspect", "push", "remove", "rm"]

_INSECURE: Option = ("insecure", "", FLAG, "", "")
"""Hidden in Podman, too: --tls-verify=false."""
_ANNOTATION: Option = ("annotation", "", LIST, "KEY=VALUE", "An annotation to set")
_MEMBER_OPTIONS: tuple[Option, ...] = (
    _ANNOTATION,
    ("arch", "", TEXT, "ARCH", "The architecture to note, instead of the image's"),
    ("features", "", CSV, "FEATURE", "The features to note"),
    ("os", "", TEXT, "OS", "The operating system to note, instead of the image's"),
    ("os-version", "", TEXT, "VERSION", "The version of the operating system to note"),
    ("variant", "", TEXT, "VARIANT", "The variant of the architecture to note"),
)
CREATE_OPTIONS: tuple[Option, ...] = (
    ("all", "", FLAG, "", "Of a list among the images: all images in it"),
    ("amend", "a", FLAG, "", "Change the list if there is one"),
    _ANNOTATION,
    _INSECURE,
    TLS_VERIFY,
)
ADD_OPTIONS: tuple[Option, ...] = (
    ("all", "", FLAG, "", "Of a list: all images in it"),
    *_MEMBER_OPTIONS,
    ("artifact", "", FLAG, "", "Add files as an artifact, and no images"),
    ("artifact-config", "", TEXT, "FILE", "The artifact's configuration"),
    ("artifact-config-type", "", TEXT, "TYPE", "The media type of its configuration"),
    ("artifact-exclude-titles", "", FLAG, "", "Do not call the files by their names"),
    ("artifact-layer-type", "", TEXT, "TYPE", "The media type of the files (default: by name or content)"),
    ("artifact-subject", "", TEXT, "NAME", "The image or list that the artifact belongs to"),
    ("artifact-type", "", TEXT, "TYPE", "What kind of artifact it is"),
    AUTHFILE,
    CERT_DIR,
    CREDS,
    _INSECURE,
    TLS_VERIFY,
)
_OF_ARTIFACTS = tuple(name for name, *_ in ADD_OPTIONS if name.startswith("artifact-"))
_CONFIGURATION_LIMIT = 1 << 20
"""Characters."""
ANNOTATE_OPTIONS: tuple[Option, ...] = (
    *_MEMBER_OPTIONS,
    ("index", "", FLAG, "", "Annotate the list itself, and no image in it"),
    ("os-features", "", CSV, "FEATURE", "The features of the operating system to note"),
    ("subject", "", TEXT, "NAME", "The image or list that the list belongs to"),
)
INSPECT_OPTIONS: tuple[Option, ...] = (
    AUTHFILE,
    _INSECURE,
    TLS_VERIFY,
    ("verbose", "v", FLAG, "", ""),
)
PUSH_OPTIONS: tuple[Option, ...] = (
    ("add-compression", "", CSV, "FORMAT", "Images compressed so for each platform, besides: gzip, zstd (default: as in containers.conf)"),
    ("all", "", TRUE, "", "Push the images in the list, too"),
    AUTHFILE,
    CERT_DIR,
    *COMPRESSION_OPTIONS,
    CREDS,
    ("digestfile", "", TEXT, "FILE", "Write the list's digest to a file"),
    ("format", "f", TEXT, "FORMAT", "oci or v2s2 (default: what the list has)"),
    _INSECURE,
    ("purge", "p", FLAG, "", ""),
    ("quiet", "q", FLAG, "", "Show no progress"),
    ("remove-signatures", "", FLAG, "", "Leave the images' signatures behind"),
    ("rm", "", FLAG, "", "Remove the list here when it has been pushed"),
    *SIGNING,
    TLS_VERIFY,
)  # fmt: skip
REMOVE_OPTIONS: tuple[Option, ...] = ()
RM_OPTIONS: tuple[Option, ...] = (("ignore", "i", FLAG, "", "A list that does not exist is no mistake"),)
EXISTS_OPTIONS: tuple[Option, ...] = ()


def create(ctx: Context, args: Parsed) -> int:
    name, *images = args.arguments
    request = {
        "name": name,
        "images": [placed(image) for image in images],
        "all": args.all,
        "amend": args.amend,
        "annotations": _annotations(args),
        "access": _access(args),
    }
    ctx.out(ctx.call("Image.ManifestCreate", request)["id"])
    return 0


def add(ctx: Context, args: Parsed) -> int:
    name, *images = args.arguments
    if not args.artifact and (given := [each for each in _OF_ARTIFACTS if args.given(each)]):
        raise InvalidArgument(f"cannot use --{given[0]} without --artifact")
    request = {
        "name": name,
        "images": [absolute(path) if args.artifact else placed(path) for path in images],
        "all": args.all,
        **_member(args),
        "access": _access(args),
    }
    if args.artifact:
        request["artifact"] = _artifact(args)
    ctx.out(ctx.call("Image.ManifestAdd", request)["id"])
    return 0


def _artifact(args: Parsed) -> dict[str, Any]:
    config = ""
    if path := args.artifact_config:
        try:
            with open(path, encoding="utf-8") as file:
                config = file.read(_CONFIGURATION_LIMIT + 1)
        except (OSError, UnicodeDecodeError) as problem:
            reason = (isinstance(problem, OSError) and problem.strerror) or "it is no text"
            raise InvalidArgument(f"cannot read '{path}': {reason}", subject=path) from problem
        if len(config) > _CONFIGURATION_LIMIT:
            raise InvalidArgument(f"cannot use '{path}': it is too large", subject=path)
    return {
        "type": args.artifact_type,
        "config": config,
        "config_type": args.artifact_config_type,
        "layer_type": args.artifact_layer_type,
        "exclude_titles": args.artifact_exclude_titles,
        "subject": placed(args.artifact_subject),
    }


def annotate(ctx: Context, args: Parsed) -> int:
    name, *digests = args.arguments
    if digests and args.index:
        raise InvalidArgument("cannot use --index together with an image of the list")
    if not digests and not args.index and not args.subject:
        raise InvalidArgument(
            f"'pyman {args.command}' needs an image of the list",
            hint="give its digest, or --index for the list",
        )
    request = {
        "name": name,
        "digest": "".join(digests),
        **_member(args),
        "os_features": args.os_features,
        "subject": placed(args.subject),
    }
    ctx.out(ctx.call("Image.ManifestAnnotate", request)["id"])
    return 0


def remove(ctx: Context, args: Parsed) -> int:
    name, digest = args.arguments
    ctx.out(ctx.call("Image.ManifestAnnotate", {"name": name, "digest": digest, "remove": True})["id"])
    return 0


def inspect(ctx: Context, args: Parsed) -> int:
    from pyman.cli.jsontext import indented

    request = {"name": args.arguments[0], "access": _access(args)}
    ctx.out(indented(ctx.call("Image.ManifestInspect", request)["manifest"]))
    return 0


def push(ctx: Context, args: Parsed) -> int:
    from pyman.cli.transfer import follow

    if args.format not in ("", "oci", "v2s2"):
        raise InvalidArgument(f"option --format cannot be '{args.format}'", hint="it must be oci, v2s2")
    request: dict[str, Any] = {
        "name": args.arguments[0],
        "destination": placed(args.arguments[-1]),
        "access": _access(args),
        "all": args.all,
        "format": args.format,
        **compression_of(args),
        "add_compression": args.add_compression if args.given("add_compression") else None,
        "remove_signatures": args.remove_signatures,
        "remove_after": args.rm or args.purge,
        "quiet": args.quiet,
    }
    result = follow(ctx, "Image.ManifestPush", request, quiet=args.quiet)
    write_digest(args.digestfile, result["digest"])
    return 0


def rm(ctx: Context, args: Parsed) -> int:
    from pyman.cli.image import removed

    request = {"names": args.arguments, "ignore": args.ignore, "manifests_only": True}
    return removed(ctx, ctx.call("Image.Remove", request))


def exists(ctx: Context, args: Parsed) -> int:
    """An image that is no list does not count."""
    name = args.arguments[0]
    if not any(letter in name for letter in "*?["):
        lists = {"manifest": ["true"]}
        for names, filters in (([name], lists), ([], {**lists, "id": [name]})):
            if ctx.call("Image.List", {"all": True, "names": names, "filters": filters})["images"]:
                return 0
    return 1


def _access(args: Parsed) -> dict[str, Any]:
    access = access_of(args)
    if args.given("insecure"):
        if args.given("tls_verify"):
            raise InvalidArgument("cannot use --insecure together with --tls-verify")
        access["tls_verify"] = not args.insecure
    return access


def _member(args: Parsed) -> dict[str, Any]:
    """What is noted of an image in a list."""
    return {
        "platform": platform_of(args),
        "os_version": args.os_version,
        "features": args.features,
        "annotations": _annotations(args),
    }


def _annotations(args: Parsed) -> dict[str, str]:
    found = {}
    for pair in args.annotation:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"option --annotation cannot be '{pair}'", hint="it must be KEY=VALUE")
        found[key] = value
    return found
