"""What the supervisor and the registry program say to each other.

They share one socket pair, on which the supervisor hands over an operation as one packet: its descriptors, the first
of which is a stream socket of this operation's own. On that one goes the request, and come back: `Taken`, any number
of `Progress`, and at last one reply, or `Failed`. A message is its length (32 bits, little-endian) and MessagePack.
Closing the socket cancels the operation. A message is at most LIMIT bytes.
"""

from __future__ import annotations

import struct

import msgspec

from supervisor.registry.reference import Reference

__all__ = [
    "LIMIT",
    "Answer",
    "AuthFile",
    "BlobReply",
    "Context",
    "DownloadRequest",
    "Endpoint",
    "Failed",
    "FlagReply",
    "GetBlob",
    "GetLogin",
    "GetManifest",
    "HasBlob",
    "ListTags",
    "ListedReply",
    "Login",
    "LoginStored",
    "Logout",
    "ManifestDigestReply",
    "ManifestReply",
    "MountBlob",
    "Progress",
    "PutManifest",
    "Request",
    "SearchRegistry",
    "SearchedReply",
    "SizeReply",
    "Taken",
    "UploadBlob",
    "packed",
    "unpacked_length",
]

LIMIT = 6 << 20
"""Bytes of a message: a manifest of the permitted size and what stands around it."""
_LENGTH = struct.Struct("<I")


class AuthFile(msgspec.Struct, frozen=True):
    path: str
    legacy: bool = False
    """~/.dockercfg, which is only the table of registries."""
    docker: bool = False
    """What is kept there is for Docker, too."""


class Context(msgspec.Struct, frozen=True):
    """How the registries of one request are spoken to. Passwords are in here: it is never logged or printed."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    auth_files: tuple[AuthFile, ...] = ()
    """In the order in which they are read; the first is written."""
    credential_helpers: tuple[str, ...] = ()
    cert_dir: str = ""
    """This directory alone holds certificates; empty: those of `cert_roots`."""
    cert_roots: tuple[str, ...] = ()
    """Directories with a directory HOST[:PORT] for each registry; the first that has one counts."""
    retry: int = 3
    retry_delay: float | None = None
    """Seconds before every repetition; none: doubling from 1."""
    stall: float = 30.0
    """Seconds without a byte, or with next to none, until a connection counts as broken."""

    def __repr__(self) -> str:
        return "Context(...)"


class Endpoint(msgspec.Struct, frozen=True):
    """A place that has an image: the name as it is known there."""

    reference: Reference
    insecure: bool = False
    """Certificates are not verified; where HTTPS fails, HTTP is tried."""
    mirror: bool = False
    foreign: bool = False
    """Another registry than the one that the user has named: a password given for that one is not for this."""


# Requests


class _Request(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    context: Context
    endpoints: tuple[Endpoint, ...]
    """To be tried in this order; operations that write use the last one."""


class GetManifest(_Request, frozen=True, tag=True):
    """→ ManifestReply. The one that the name means, or with `digest` the one that has it."""

    digest: str = ""
    head: bool = False
    """Only its digest is asked for: → ManifestDigestReply."""


class GetBlob(_Request, frozen=True, tag=True):
    """→ BlobReply. A small one, verified."""

    digest: str
    limit: int


class DownloadRequest(_Request, frozen=True, tag=True):
    """→ SizeReply. Descriptors: the file, which may hold the beginning already; with `growth`, a pipe."""

    digest: str
    size: int = -1
    growth: bool = False
    verify: bool = True


class HasBlob(_Request, frozen=True, tag=True):
    """→ SizeReply; -1: it is not there."""

    digest: str


class MountBlob(_Request, frozen=True, tag=True):
    """→ FlagReply: the registry takes the blob over from another repository of its own."""

    digest: str
    source: str
    """Path of the repository."""


class UploadBlob(_Request, frozen=True, tag=True):
    """→ SizeReply. Descriptor: a file; its first `size` bytes are sent."""

    digest: str
    size: int


class PutManifest(_Request, frozen=True, tag=True):
    """→ ManifestDigestReply."""

    data: bytes
    media_type: str
    target: str
    """A tag or a digest."""


class ListTags(_Request, frozen=True, tag=True):
    """→ ListedReply."""


class SearchRegistry(_Request, frozen=True, tag=True):
    """→ SearchedReply. The endpoint's path does not matter."""

    term: str
    limit: int


class Login(_Request, frozen=True, tag=True):
    """→ LoginStored. The context's name and password are tried, then kept under `key`."""

    key: str


class GetLogin(_Request, frozen=True, tag=True):
    """→ LoginStored. Nothing is asked of a registry."""

    key: str


class Logout(_Request, frozen=True, tag=True):
    """→ ListedReply: what was forgotten. Nothing is asked of a registry."""

    key: str = ""
    all: bool = False


Request = (
    GetManifest
    | GetBlob
    | DownloadRequest
    | HasBlob
    | MountBlob
    | UploadBlob
    | PutManifest
    | ListTags
    | SearchRegistry
    | Login
    | GetLogin
    | Logout
)


# Answers


class Taken(msgspec.Struct, frozen=True, tag=True):
    """The program has the request."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    bytes: int = 0
    """So far, of the whole blob."""
    retrying: str = ""
    """Why it is tried again."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    name: str
    """As `pyman.errors.to_wire` has it."""
    parameters: dict[str, str]


class ManifestReply(msgspec.Struct, frozen=True, tag=True):
    data: bytes
    media_type: str
    endpoint: int
    """Which one had it."""


class ManifestDigestReply(msgspec.Struct, frozen=True, tag=True):
    digest: str
    media_type: str = ""


class BlobReply(msgspec.Struct, frozen=True, tag=True):
    data: bytes


class SizeReply(msgspec.Struct, frozen=True, tag=True):
    size: int


class FlagReply(msgspec.Struct, frozen=True, tag=True):
    value: bool


class ListedReply(msgspec.Struct, frozen=True, tag=True):
    items: list[str]


class Found(msgspec.Struct, frozen=True):
    """What a search has found."""

    name: str
    """Of a repository, without the registry."""
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


class SearchedReply(msgspec.Struct, frozen=True, tag=True):
    results: list[Found]


class LoginStored(msgspec.Struct, frozen=True, tag=True):
    username: str
    stored: str = ""
    """The file or the program that has it."""


Answer = (
    Taken
    | Progress
    | Failed
    | ManifestReply
    | ManifestDigestReply
    | BlobReply
    | SizeReply
    | FlagReply
    | ListedReply
    | SearchedReply
    | LoginStored
)


def packed(message: msgspec.Struct) -> bytes:
    """As it goes over the socket."""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


def unpacked_length(header: bytes) -> int:
    """Of the message after these four bytes."""
    (length,) = _LENGTH.unpack(header)
    return int(length)
