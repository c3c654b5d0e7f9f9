"""`images`: which there are, and Podman's filters on them.

All keys must fit. Values of one key must all fit as well, but those of `reference`, which are alternatives; a key
with `!` behind it is turned round. A query for one full name shows of an image that name alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from pyman.api.image import ImageSummary
from pyman.errors import InvalidArgument, NoSuchImage, PymanError
from supervisor.images.moments import moment
from supervisor.images.view import replaced_names, repo_digests
from supervisor.patterns import wildcard
from supervisor.registry import reference
from supervisor.storage.records import Image, created_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.images.view import View
    from supervisor.registry.reference import Reference

__all__ = ["FILTERS", "External", "compile_filters", "listed", "summary"]

Test = Callable[[Image], bool]
External = Callable[[str], bool]
"""Whether the container of an id, in the store, is another engine's."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def listed(
    view: View,
    filters: Mapping[str, Sequence[str]],
    names: Sequence[str],
    external: External,
    *,
    intermediate: bool,
) -> list[ImageSummary]:
    """The images that fit, the newest first. `intermediate`: also those that only others are built on.
    InvalidArgument."""
    wanted = {key: list(values) for key, values in filters.items()}
    if names:
        wanted.setdefault("reference", []).extend(names)
    if not intermediate and "true" not in wanted.get("intermediate", ()):
        wanted.setdefault("intermediate", []).append("false")
    fits = compile_filters(view, wanted, external)
    query = _query(wanted)
    found = [image for image in view.images if fits(image)]
    if query is not None:
        found = [replaced_names(image, _shown(image, query)) for image in found]
    found.sort(key=lambda image: created_seconds(image.created), reverse=True)
    return [summary(view, image) for image in found]


def summary(view: View, image: Image) -> ImageSummary:
    known: ImageSummary | None = view.told.get(image.id)
    if known is None:
        known = view.told[image.id] = _summary(view, image)
    if len(known.names) != len(image.names):
        return msgspec.structs.replace(known, names=list(image.names), repo_digests=repo_digests(image))
    return known


def _summary(view: View, image: Image) -> ImageSummary:
    image = view.names.get(image.id) or image
    config = view.config(image)
    parent = view.parent(image)
    index = view.index(image)
    return ImageSummary(
        id=image.id,
        names=list(image.names),
        repo_digests=repo_digests(image),
        digest=view.digest(image),
        parent_id="" if parent is None else parent.id,
        created=int(created_seconds(image.created)),
        size=view.size(image),
        shared_size=view.shared_size(image),
        labels={} if config is None else config.labels,
        containers=len(view.users(image)),
        dangling=view.dangling(image),
        read_only=image.read_only,
        is_manifest_list=index is not None,
        arch="" if config is None else config.architecture,
        os="" if config is None else config.os,
        history=list(image.names_history),
    )


def _query(filters: Mapping[str, Sequence[str]]) -> Reference | None:
    """The full name that is asked for, if it is exactly one."""
    wanted = filters.get("reference", ())
    if len(wanted) != 1 or filters.get("reference!"):
        return None
    try:
        found = reference.parse_short(wanted[0])
    except InvalidArgument:
        return None
    return None if not found.domain or found.name_only or reference.parse(wanted[0]) != found else found


def _shown(image: Image, query: Reference) -> list[str]:
    if not query.digest:
        return [name for name in image.names if name == str(query)]
    return [
        name for name in image.names if name.partition("@")[0].startswith(query.name) and _is(name, query)
    ]


def _is(name: str, query: Reference) -> bool:
    try:
        return reference.parse_short(name).name == query.name
    except InvalidArgument:
        return False


def compile_filters(view: View, filters: Mapping[str, Sequence[str]], external: External) -> Test:
    """One test of an image. InvalidArgument: an unknown key, or a value that cannot be meant."""
    compiled = _Compiled(view, external)
    tests: list[Test] = []
    for key, values in filters.items():
        name, negated = key.removesuffix("!"), key.endswith("!")
        make = FILTERS.get(name)
        if make is None:
            raise InvalidArgument(f"cannot filter images by '{key}'", hint=f"known are {', '.join(FILTERS)}")
        if name in _SINGLE and len(set(values)) > 1:
            raise InvalidArgument(f"cannot filter images by '{name}' with different values")
        made = [make(compiled, value) for value in values]
        if not made:
            continue
        if name == "reference" and not negated:
            tests.append(lambda image, made=made: any(test(image) for test in made))  # type: ignore[misc]
        elif negated:
            tests += [lambda image, test=test: not test(image) for test in made]  # type: ignore[misc]
        else:
            tests += made
    return lambda image: all(test(image) for test in tests)


class _Compiled:
    def __init__(self, view: View, external: External) -> None:
        self.view = view
        self.external = external

    def time_of(self, key: str, text: str) -> float:
        try:
            return created_seconds(self.view.find(text).image.created)
        except NoSuchImage:
            raise InvalidArgument(
                f"cannot filter images by '{key}': there is no image '{text}' here", subject=text
            ) from None

    def since(self, value: str) -> Test:
        time = self.time_of("since", value)
        return lambda image: created_seconds(image.created) > time

    def before(self, value: str) -> Test:
        time = self.time_of("before", value)
        return lambda image: created_seconds(image.created) < time

    def until(self, value: str) -> Test:
        time = moment(value)
        return lambda image: created_seconds(image.created) < time

    def containers(self, value: str) -> Test:
        view, external = self.view, self.external
        if value == "external":
            return lambda image: all(external(container.id) for container in view.users(image))
        wanted = _boolean("containers", value)
        return lambda image: bool(view.users(image)) is wanted

    def dangling(self, value: str) -> Test:
        wanted = _boolean("dangling", value)
        return lambda image: self.view.dangling(image) is wanted

    def intermediate(self, value: str) -> Test:
        wanted = _boolean("intermediate", value)
        return lambda image: self.view.intermediate(image) is wanted

    def read_only(self, value: str) -> Test:
        wanted = _boolean("readonly", value)
        return lambda image: image.read_only is wanted

    def manifest(self, value: str) -> Test:
        wanted = _boolean("manifest", value)
        return lambda image: (self.view.index(image) is not None) is wanted

    def id(self, value: str) -> Test:
        beginning = value.removeprefix("sha256:")
        return lambda image: image.id.startswith(beginning)

    def digest(self, value: str) -> Test:
        if not value.startswith("sha256:"):
            raise InvalidArgument(f"cannot filter images by the digest '{value}'", hint="it begins sha256:")
        return lambda image: any(digest.startswith(value) for digest in image.digests)

    def label(self, value: str) -> Test:
        key, _, wanted = value.partition("=")
        # There a slash is a letter like others.
        pattern = wildcard(f"*{key}*".replace("/", "|")) if "*" in key else None

        def test(image: Image) -> bool:
            config = self.view.config(image)
            labels = {} if config is None else config.labels
            return any(
                (not wanted or text == wanted)
                and (name == key or (pattern is not None and pattern(name.replace("/", "|"))))
                for name, text in labels.items()
            )

        return test

    def reference(self, value: str) -> Test:
        try:
            exact = self.view.find(value).image.id
        except PymanError:
            exact = ""
        matches = wildcard(value)
        return lambda image: image.id == exact or any(map(matches, _forms(image)))


FILTERS: dict[str, Callable[[_Compiled, str], Test]] = {
    "after": _Compiled.since,
    "before": _Compiled.before,
    "containers": _Compiled.containers,
    "dangling": _Compiled.dangling,
    "digest": _Compiled.digest,
    "id": _Compiled.id,
    "intermediate": _Compiled.intermediate,
    "label": _Compiled.label,
    "manifest": _Compiled.manifest,
    "readonly": _Compiled.read_only,
    "reference": _Compiled.reference,
    "since": _Compiled.since,
    "until": _Compiled.until,
}
_SINGLE = frozenset({"containers", "dangling", "intermediate", "manifest", "readonly"})


def _boolean(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidArgument(f"cannot filter images by {key} '{value}'", hint="give true or false")


def _forms(image: Image) -> list[str]:
    """Its names with and without registry, directories, tag."""
    found: list[str] = []
    for name in image.names:
        try:
            parsed = reference.parse_short(name)
        except InvalidArgument:
            found.append(name)
            continue
        bare = parsed.name
        suffix = str(parsed)[len(bare) :]
        last = bare.rpartition("/")[2]
        found += [f"{form}{end}" for form in (bare, parsed.path, last) for end in (suffix, "")]
    return found
