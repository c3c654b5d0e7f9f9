"""`io.pyman.Image`: images, manifest lists, registries.

An image is named by reference (`alpine`, `docker.io/library/alpine:3.20`, `…@sha256:…`), by id or by the beginning of
an id, as in Podman. Sizes are in bytes. What takes long streams: progress as it happens, the result last. A caller
that goes away cancels it, and nothing half-made is left.

Archives come and go through descriptors, which are read or written from where they stand: a client that saves to a
file writes to a temporary name beside it and renames that when the reply has come, since after an error what is there
is no archive. A place that is named by a text (`oci:/srv/image`, `docker-archive:/srv/a.tar`) has an absolute path;
its file may come as a descriptor, else the supervisor opens it, or makes it complete and then gives it its name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyman.api.container import ErrorInfo, ExistsReply
from pyman.api.manifest import (
    Artifact,
    ManifestAddRequest,
    ManifestAnnotateRequest,
    ManifestCreateRequest,
    ManifestInspectReply,
    ManifestInspectRequest,
    ManifestPushRequest,
    ManifestReply,
)
from pyman.api.method import Access, Interface, Method, Nothing, Vanish
from pyman.api.pull import Platform, Progress, RegistryAccess

__all__ = [
    "INTERFACE",
    "Artifact",
    "BuildReply",
    "BuildRequest",
    "CandidatesReply",
    "CandidatesRequest",
    "DiffReply",
    "DiffRequest",
    "HistoryEntry",
    "HistoryReply",
    "ImageSummary",
    "ImportRequest",
    "InspectImagesReply",
    "InspectImagesRequest",
    "ListImagesReply",
    "ListImagesRequest",
    "LoadRequest",
    "LoginReply",
    "LoginRequest",
    "LogoutRequest",
    "ManifestAddRequest",
    "ManifestAnnotateRequest",
    "ManifestCreateRequest",
    "ManifestInspectReply",
    "ManifestInspectRequest",
    "ManifestPushRequest",
    "ManifestReply",
    "MountImagesReply",
    "MountedImage",
    "NamesRequest",
    "OneNameRequest",
    "Platform",
    "Progress",
    "PruneImagesRequest",
    "PullRequest",
    "PushRequest",
    "RegistryAccess",
    "RemoveImagesReply",
    "RemoveImagesRequest",
    "RemovedImage",
    "SaveRequest",
    "SearchReply",
    "SearchRequest",
    "SearchResult",
    "TagRequest",
    "TransferReply",
    "TreeLayer",
    "TreeReply",
    "TreeRequest",
    "UnmountRequest",
]


class ListImagesRequest(msgspec.Struct, frozen=True):
    filters: dict[str, list[str]] = {}
    """before, since, containers, dangling, digest, id, intermediate, label, manifest, readonly, reference, until;
    `!` after a key turns it round."""
    names: list[str] = []
    """References, or patterns of references; empty: all."""
    all: bool = False
    """Also the intermediate images of a build."""


class ImageSummary(msgspec.Struct, frozen=True):
    id: str
    names: list[str]
    """`REPOSITORY:TAG` each."""
    repo_digests: list[str]
    digest: str
    """Of the manifest."""
    parent_id: str
    created: int
    """Seconds since the epoch."""
    size: int
    """Of all its layers, uncompressed."""
    shared_size: int
    labels: dict[str, str]
    containers: int
    dangling: bool
    read_only: bool
    is_manifest_list: bool
    arch: str
    os: str
    history: list[str]
    """Names that it had before."""


class ListImagesReply(msgspec.Struct, frozen=True):
    images: list[ImageSummary]
    """The newest first."""


class InspectImagesRequest(msgspec.Struct, frozen=True):
    names: list[str]


class InspectImagesReply(msgspec.Struct, frozen=True):
    """Podman's document for each, and an error for each name that has none."""

    images: list[dict[str, Any]]
    errors: list[ErrorInfo] = []


class OneNameRequest(msgspec.Struct, frozen=True):
    name: str


class NamesRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False


class HistoryEntry(msgspec.Struct, frozen=True):
    id: str
    """Empty: no image ends at this layer."""
    created: str
    """RFC 3339."""
    created_by: str
    size: int
    comment: str
    tags: list[str]


class HistoryReply(msgspec.Struct, frozen=True):
    layers: list[HistoryEntry]
    """The newest first."""


class TreeLayer(msgspec.Struct, frozen=True):
    id: str
    size: int
    top_of: list[str]
    """Names of the images whose last layer it is."""
    parent: str = ""


class TreeReply(msgspec.Struct, frozen=True):
    id: str
    names: list[str]
    size: int
    layers: list[TreeLayer]
    """From the base upwards; with `whatrequires` also what is built on them."""


class TreeRequest(msgspec.Struct, frozen=True):
    name: str
    whatrequires: bool = False


class TagRequest(msgspec.Struct, frozen=True):
    name: str
    targets: list[str]
    """Untag: empty means all of its names."""


class RemoveImagesRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False
    force: bool = False
    """Also with several names, and with the containers that use it."""
    ignore: bool = False
    no_prune: bool = False
    """Keep untagged parents."""
    manifests_only: bool = False
    """`manifest rm`: refuse what is no manifest list."""


class RemovedImage(msgspec.Struct, frozen=True):
    id: str
    untagged: list[str]
    deleted: list[str]
    """Ids, its own and those of parents that went with it."""
    size: int = 0
    """Bytes that are free again."""


class RemoveImagesReply(msgspec.Struct, frozen=True):
    """What was removed, and an error for each name that was not."""

    images: list[RemovedImage]
    errors: list[ErrorInfo] = []


class PruneImagesRequest(msgspec.Struct, frozen=True):
    all: bool = False
    """Also images with names, if no container uses them."""
    filters: dict[str, list[str]] = {}
    external: bool = False
    """Containers of other engines' making (as Buildah's) that use the store."""
    build_cache: bool = False
    """Also what builds keep for `--mount=type=cache`."""
    tmpdir: str = ""
    """For `build_cache`: the caller's $TMPDIR, where builds of his keep it; absolute. Empty: there is none."""


class TransferReply(msgspec.Struct, frozen=True):
    """One step of a pull, push, load, save, import or copy. Exactly one of `progress`, `text` and the result counts;
    the result comes last."""

    progress: Progress | None = None
    text: str = ""
    """A line for people: `Trying to pull docker.io/library/alpine:latest...`."""
    ids: list[str] = []
    """Of the images that are there now."""
    names: list[str] = []
    digest: str = ""
    """Of the manifest that was pushed."""


class PullRequest(msgspec.Struct, frozen=True):
    reference: str
    """With a transport (`docker-archive:…`, `oci:…`, `dir:…`), or a name for a registry."""
    all_tags: bool = False
    policy: str = "always"
    """always, missing, newer or never; of a place that is no registry: always, whatever it says."""
    platform: Platform = Platform()
    access: RegistryAccess = RegistryAccess()
    quiet: bool = False
    """No progress."""
    ask: bool = False
    """A person can be asked what a short name means. Where registries.conf wants that, the answer is AmbiguousId, and
    `Candidates` tells among what to choose. Without it the places are tried in turn, or the name is refused."""
    alias: str = ""
    """The short name for which the reference was chosen: remembered for all engines, once the image is here."""


class CandidatesRequest(msgspec.Struct, frozen=True):
    reference: str
    """A name for a registry, perhaps a short one."""


class CandidatesReply(msgspec.Struct, frozen=True):
    """What a name may be pulled as, in the order in which it is tried."""

    references: list[str]
    short: str = ""
    """The short name, without tag and digest; empty: it was a full one."""
    choose: bool = False
    """registries.conf wants a person to choose."""


class PushRequest(msgspec.Struct, frozen=True):
    name: str
    destination: str = ""
    """With a transport, or a name for a registry; empty: the image's own name."""
    access: RegistryAccess = RegistryAccess()
    format: str = ""
    """oci, v2s2; empty: what the image has."""
    compression: str = ""
    """gzip, zstd, none; empty: as containers.conf says, else gzip."""
    compression_level: int | None = None
    """None: as containers.conf says, else a quick one."""
    force_compression: bool = False
    remove_signatures: bool = False
    """They never are sent."""
    all: bool = False
    """Of a manifest list: its members, too."""
    quiet: bool = False


class LoadRequest(msgspec.Struct, frozen=True):
    """The request brings the archive as its descriptor, or names a directory that is an image."""

    path: str = ""
    """Absolute; beside a descriptor, what the archive is called."""
    quiet: bool = False


class SaveRequest(msgspec.Struct, frozen=True):
    """The request brings the descriptor that an archive is written to; the directory formats name their own."""

    names: list[str]
    format: str = "docker-archive"
    """docker-archive, oci-archive, oci-dir, docker-dir."""
    path: str = ""
    """Absolute: of a directory; beside a descriptor, what the archive is going to be called."""
    compress: bool = False
    """Of docker-dir: the layers, with gzip."""
    uncompressed: bool = False
    """Of the oci formats: the layers as they are."""
    multi_image_archive: bool | None = None
    """Every name is an image; else those after the first are further names of it. None: as containers.conf says."""


class ImportRequest(msgspec.Struct, frozen=True):
    """The request brings a tar archive, compressed or not, as its descriptor."""

    reference: str = ""
    changes: list[str] = []
    """Lines as in a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME,
    WORKDIR."""
    message: str = ""
    platform: Platform = Platform()
    quiet: bool = False


class MountedImage(msgspec.Struct, frozen=True):
    id: str
    path: str
    names: list[str]
    name: str = ""
    """As the caller gave it."""
    error: ErrorInfo | None = None


class MountImagesReply(msgspec.Struct, frozen=True):
    images: list[MountedImage]
    """Without names: all that are mounted."""


class UnmountRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False
    force: bool = False
    """Whatever the count of its mounts says."""


class DiffRequest(msgspec.Struct, frozen=True):
    names: list[str]
    """One image, or two."""


class DiffReply(msgspec.Struct, frozen=True):
    changed: list[str]
    added: list[str]
    deleted: list[str]


class SearchRequest(msgspec.Struct, frozen=True):
    term: str
    """With a registry in front, only that one is asked."""
    limit: int = 25
    filters: dict[str, list[str]] = {}
    """stars, is-automated, is-official."""
    list_tags: bool = False
    access: RegistryAccess = RegistryAccess()


class SearchResult(msgspec.Struct, frozen=True):
    index: str
    name: str
    description: str = ""
    stars: int = 0
    official: str = ""
    automated: str = ""
    tag: str = ""


class SearchReply(msgspec.Struct, frozen=True):
    results: list[SearchResult]
    errors: list[ErrorInfo] = []


class LoginRequest(msgspec.Struct, frozen=True):
    """Ask the registry whether it accepts the name and the password, then keep them."""

    registry: str
    """A host, or with a repository behind it."""
    access: RegistryAccess
    get_login: bool = False
    """Only tell who is logged in."""


class LoginReply(msgspec.Struct, frozen=True):
    username: str
    stored: str = ""
    """The file or the helper that has it now."""


class LogoutRequest(msgspec.Struct, frozen=True):
    registry: str = ""
    all: bool = False
    auth_file: str = ""
    docker_auth: bool = False
    """As of RegistryAccess."""


class BuildRequest(msgspec.Struct, frozen=True):
    """Buildah's command line, whose stdin, stdout and stderr are the three descriptors of the request. It works on
    this engine's store."""

    arguments: list[str]
    """After `buildah build`."""
    cwd: str = ""
    """Absolute: what relative paths mean."""
    environment: dict[str, str] = {}
    tags: list[str] = []
    """What `arguments` say of -t, for the event."""


class BuildReply(msgspec.Struct, frozen=True):
    exit_code: int
    id: str = ""


_LONG: dict[str, Any] = {"access": Access.OWNER, "streaming": True, "vanish": Vanish.CANCEL}

_ROWS = (
    Method("List", ListImagesRequest, ListImagesReply, "List images.", access=Access.READ),
    Method(
        "Inspect",
        InspectImagesRequest,
        InspectImagesReply,
        "Everything known of images.",
        access=Access.READ,
    ),
    Method("Exists", OneNameRequest, ExistsReply, "Whether there is such an image.", access=Access.READ),
    Method("History", OneNameRequest, HistoryReply, "How an image was made.", access=Access.READ),
    Method("Tree", TreeRequest, TreeReply, "Its layers, and who shares them.", access=Access.READ),
    Method("Tag", TagRequest, Nothing, "Give an image further names.", access=Access.OWNER),
    Method("Untag", TagRequest, Nothing, "Take names away.", access=Access.OWNER),
    Method("Remove", RemoveImagesRequest, RemoveImagesReply, "Remove images.", access=Access.OWNER),
    Method("Prune", PruneImagesRequest, RemoveImagesReply, "Remove unused images.", access=Access.OWNER),
    Method("Pull", PullRequest, TransferReply, "Bring an image into the store.", descriptors_in=1, **_LONG),
    Method(
        "Candidates",
        CandidatesRequest,
        CandidatesReply,
        "What a name may be pulled as, by registries.conf.",
        access=Access.READ,
    ),
    Method("Push", PushRequest, TransferReply, "Send an image elsewhere.", descriptors_in=1, **_LONG),
    Method(
        "Load",
        LoadRequest,
        TransferReply,
        "Bring in the images of an archive.",
        descriptors_in=1,
        **_LONG,
    ),
    Method("Save", SaveRequest, TransferReply, "Write images into an archive.", descriptors_in=1, **_LONG),
    Method(
        "Import",
        ImportRequest,
        TransferReply,
        "Make an image of a tar archive.",
        descriptors_in=1,
        **_LONG,
    ),
    Method("Mount", NamesRequest, MountImagesReply, "Mount images, read-only.", access=Access.OWNER),
    Method("Unmount", UnmountRequest, MountImagesReply, "Undo mounts.", access=Access.OWNER),
    Method(
        "Diff",
        DiffRequest,
        DiffReply,
        "What the last layer, or a second image, changes.",
        access=Access.READ,
    ),
    Method(
        "Search",
        SearchRequest,
        SearchReply,
        "Ask registries for names.",
        access=Access.OWNER,
        vanish=Vanish.CANCEL,
    ),
    Method("Login", LoginRequest, LoginReply, "Log in to a registry.", access=Access.OWNER),
    Method("Logout", LogoutRequest, Nothing, "Forget a login.", access=Access.OWNER),
    Method(
        "ManifestCreate",
        ManifestCreateRequest,
        ManifestReply,
        "Make a manifest list.",
        access=Access.OWNER,
    ),
    Method("ManifestAdd", ManifestAddRequest, ManifestReply, "Add members to a list.", access=Access.OWNER),
    Method(
        "ManifestAnnotate",
        ManifestAnnotateRequest,
        ManifestReply,
        "Change or remove a member of a list.",
        access=Access.OWNER,
    ),
    Method(
        "ManifestInspect",
        ManifestInspectRequest,
        ManifestInspectReply,
        "Show a list.",
        access=Access.OWNER,
    ),
    Method("ManifestPush", ManifestPushRequest, TransferReply, "Send a list elsewhere.", **_LONG),
    Method(
        "Build",
        BuildRequest,
        BuildReply,
        "Build an image.",
        access=Access.OWNER,
        vanish=Vanish.CANCEL,
        descriptors_in=3,
    ),
)

INTERFACE = Interface(
    name="io.pyman.Image",
    doc=(__doc__ or "").strip(),
    methods=_ROWS,
)
