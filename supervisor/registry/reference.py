"""Names of images, as Docker's and Podman's users write them: `alpine`, `registry.example/org/app:1.2`, `…@sha256:…`.

`parse` makes the full name of what a user wrote: without a registry it is one on docker.io, and there, without a
directory, one of `library/`. Whether a name says no registry, so that registries.conf decides, is what `is_short`
tells; `parse_short` keeps such a name as it is.

Grammar and limits are those of docker/distribution: host[:port]/path/…:tag@digest; the path in lower case; at most
255 characters without tag and digest; a tag of at most 128; digests sha256, sha384 and sha512. Pure functions.
"""

from __future__ import annotations

import re

import msgspec

from pyman.errors import InvalidArgument

__all__ = [
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "NAME_LIMIT",
    "Reference",
    "is_digest",
    "is_domain",
    "is_registry",
    "is_short",
    "parse",
    "parse_short",
]

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255
"""Characters of a name without its tag and digest."""

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library"

_DOMAIN_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_ADDRESS = r"\[[a-fA-F0-9:]+\]"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|{_ADDRESS})(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_WHOLE_DOMAIN = re.compile(_DOMAIN)
_WHOLE_TAG = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_LONGEST = NAME_LIMIT + 1 + 128 + 1 + 7 + 128
"""Of any reference; what is longer is not even looked at."""


class Reference(msgspec.Struct, frozen=True, order=True):
    """A full name: `domain/path:tag@digest`. Tag and digest may be empty, or both be there."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def name_only(self) -> bool:
        return not self.tag and not self.digest

    @property
    def familiar_name(self) -> str:
        """As Docker prints it: without docker.io, and without library/."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        directory, slash, last = self.path.partition("/")
        return last if slash and directory == _OFFICIAL and "/" not in last else self.path

    @property
    def familiar(self) -> str:
        return f"{self.familiar_name}{self._suffix}"

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __str__(self) -> str:
        return f"{self.name}{self._suffix}"

    def bare(self) -> Reference:
        """Without tag and digest."""
        return self if self.name_only else Reference(self.domain, self.path)

    def tagged(self) -> Reference:
        """With the tag `latest` where there is neither tag nor digest."""
        return Reference(self.domain, self.path, DEFAULT_TAG) if self.name_only else self

    def with_tag(self, tag: str) -> Reference:
        """With this tag and no digest. InvalidArgument: it is not a tag."""
        if not _WHOLE_TAG.fullmatch(tag):
            raise InvalidArgument(f"cannot use '{tag}' as a tag", subject=tag, hint=_TAG_HINT)
        return Reference(self.domain, self.path, tag)

    def with_digest(self, digest: str) -> Reference:
        """With this digest and no tag. InvalidArgument: it is not a digest."""
        if not is_digest(digest):
            raise InvalidArgument(f"cannot use '{digest}' as a digest", subject=digest)
        return Reference(self.domain, self.path, "", digest)


_TAG_HINT = "a tag has at most 128 letters, digits, '_', '.' and '-', the first none of the latter two"


def is_digest(text: str) -> bool:
    """It is `sha256:` and 64 lower-case hexadecimal digits, or the same with sha384 or sha512."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == _HEX_DIGITS.get(algorithm) and not digits.strip("0123456789abcdef")


def is_domain(text: str) -> bool:
    """It can be the registry of a name: `host`, `host:port`."""
    return bool(_WHOLE_DOMAIN.fullmatch(text))


def is_registry(text: str) -> bool:
    """A first part of a name that is taken for a registry and not for a directory."""
    return "." in text or ":" in text or text == "localhost"


def is_short(text: str) -> bool:
    """The name says no registry: the search list of registries.conf, or an alias, decides. Raises InvalidArgument."""
    return not parse_short(text).domain


def parse_short(text: str) -> Reference:
    """As it stands, nothing added. The domain is a registry or empty. Raises InvalidArgument."""
    match = _REFERENCE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise _refused(text, _reason(text))
    domain, path = match["domain"] or "", match["path"]
    if domain and not is_registry(domain):
        domain, path = "", f"{domain}/{path}"
    first, slash, _ = path.partition("/")
    if not domain and slash and "." in first:
        raise _refused(text, f"'{first}' is not a host")
    if path.lower() != path:
        raise _refused(text, "the repository's name must be in lower case")
    found = Reference(domain, path, match["tag"] or "", match["digest"] or "")
    if len(found.name) > NAME_LIMIT:
        raise _refused(text, f"the name is longer than {NAME_LIMIT} characters")
    if found.digest and not is_digest(found.digest):
        raise _refused(text, "its digest is not sha256, sha384 or sha512 of the right length, in lower case")
    return found


def parse(text: str) -> Reference:
    """The full name of what a user wrote; no tag is added (`Reference.tagged` does). Raises InvalidArgument."""
    if _IDENTIFIER.fullmatch(text):
        raise _refused(text, "64 hexadecimal digits are an id and no name")
    found = parse_short(text)
    domain, path = found.domain or DEFAULT_DOMAIN, found.path
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    full = Reference(domain, path, found.tag, found.digest)
    if len(full.name) > NAME_LIMIT:
        raise _refused(text, f"the name is longer than {NAME_LIMIT} characters")
    return full


def _reason(text: str) -> str:
    if not text:
        return "it is empty"
    if "://" in text:
        return "a name has no scheme in front"
    if len(text) > _LONGEST:
        return "it is too long"
    if text != text.strip():
        return "there is white space around it"
    first, slash, rest = text.partition("/")
    name = (rest if slash and is_registry(first) else text).partition("@")[0].partition(":")[0]
    if name.lower() != name:
        return "the repository's name must be in lower case"
    return "a name is [HOST[:PORT]/]PATH[:TAG][@DIGEST]"


def _refused(text: str, reason: str) -> InvalidArgument:
    shown = text if len(text) <= 300 else f"{text[:297]}..."
    return InvalidArgument(f"cannot use '{shown}' as the name of an image: {reason}", subject=shown)
