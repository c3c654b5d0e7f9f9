"""What registries are asked besides for images: names that contain a term, tags, and who one is there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.api.image import LoginReply, RegistryAccess, SearchReply, SearchResult
from pyman.errors import InvalidArgument, PymanError
from supervisor.images.answers import info_of
from supervisor.registry import reference
from supervisor.registry.reference import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyman.api.image import LoginRequest, LogoutRequest, SearchRequest
    from supervisor.registry.client import Registries
    from supervisor.registry.messages import Found

__all__ = ["login", "logout", "search"]

_LIMIT = 25
_MOST = 1000
"""Results of a registry."""
_AT_ONCE = 6
_YES = "[OK]"
_FLAGS = {"is-official": "official", "is-automated": "automated"}


async def search(registries: Registries, request: SearchRequest) -> SearchReply:
    """What each registry has; one that fails is told beside the results of the others. Raises InvalidArgument."""
    registry, slash, term = request.term.partition("/")
    if slash:
        asked: Sequence[str] = (registry,)
    else:
        asked, term = await registries.search_registries(), request.term
    if not asked:
        raise InvalidArgument(
            f"cannot search for '{request.term}': no registries to search are set",
            hint="write REGISTRY/TERM, or set unqualified-search-registries in registries.conf",
        )
    if not 0 <= request.limit <= _MOST:
        raise InvalidArgument(f"cannot use the limit {request.limit}: it is not from 1 to {_MOST}")
    if request.list_tags and request.filters:
        raise InvalidArgument("cannot filter tags: filters are for the names of repositories")
    fits = _filter(request.filters)
    found: dict[str, list[SearchResult]] = {}
    failed: dict[str, PymanError] = {}
    turns = trio.CapacityLimiter(_AT_ONCE)

    async def ask(one: str) -> None:
        async with turns:
            try:
                found[one] = await _results(registries, one, term, request, fits)
            except PymanError as error:
                failed[one] = error

    async with trio.open_nursery() as nursery:
        for one in dict.fromkeys(asked):
            nursery.start_soon(ask, one)
    return SearchReply(
        results=[result for one in asked for result in found.pop(one, ())],
        errors=[info_of(error, one) for one, error in failed.items()],
    )


async def _results(
    registries: Registries,
    registry: str,
    term: str,
    request: SearchRequest,
    fits: Callable[[Found], bool],
) -> list[SearchResult]:
    limit = request.limit or _LIMIT
    if request.list_tags:
        name = reference.parse(f"{registry}/{term}").bare()
        tags = await registries.tags(name, request.access)
        return [SearchResult(index=registry, name=name.name, tag=tag) for tag in tags[:limit]]
    results = await registries.search(registry, term, limit, request.access)
    return [_result(registry, one) for one in results[:limit] if fits(one)]


def _result(registry: str, one: Found) -> SearchResult:
    of_docker = registry == DEFAULT_DOMAIN or registry.endswith(f".{DEFAULT_DOMAIN}")
    official = of_docker and "/" not in one.name
    return SearchResult(
        index=registry,
        name=f"{DEFAULT_DOMAIN}/library/{one.name}" if official else f"{registry}/{one.name}",
        description=" ".join(one.description.split()),
        stars=one.stars,
        official=_YES if one.official else "",
        automated=_YES if one.automated else "",
    )


def _filter(filters: Mapping[str, Sequence[str]]) -> Callable[[Found], bool]:
    """Raises InvalidArgument."""
    tests: list[Callable[[Found], bool]] = []
    for key, values in filters.items():
        for value in values:
            if key == "stars" and value.isascii() and value.isdecimal():
                tests.append(partial(_has_stars, int(value)))
            elif key in _FLAGS and value in ("true", "false"):
                tests.append(partial(_is, _FLAGS[key], value == "true"))
            else:
                raise InvalidArgument(
                    f"cannot use the filter '{key}={value}'",
                    hint="it must be stars=N, is-official=true or false, or is-automated=true or false",
                )
    return lambda one: all(test(one) for test in tests)


def _has_stars(least: int, one: Found) -> bool:
    return one.stars >= least


def _is(field: str, wanted: bool, one: Found) -> bool:
    return bool(getattr(one, field)) is wanted


# Logins


async def _registry(registries: Registries, named: str) -> str:
    """Without a name, the first one that is searched. Raises InvalidArgument."""
    if named:
        return named
    searched = await registries.search_registries()
    if not searched:
        raise InvalidArgument("cannot tell which registry is meant: none is named, and none is searched")
    return searched[0]


async def login(registries: Registries, request: LoginRequest) -> LoginReply:
    """Raises RegistryDenied; NotFound: nobody is logged in."""
    registry = await _registry(registries, request.registry)
    if request.get_login:
        found = await registries.logged_in(registry, request.access)
    else:
        found = await registries.login(registry, request.access)
    return LoginReply(username=found.username, stored=found.stored)


async def logout(registries: Registries, request: LogoutRequest) -> None:
    """Raises NotFound: nobody is logged in; InvalidArgument."""
    access = RegistryAccess(auth_file=request.auth_file, docker_auth=request.docker_auth)
    if request.all and request.registry:
        raise InvalidArgument(f"cannot log out of '{request.registry}': give it, or all, not both")
    if request.all:
        await registries.logout("", access, all=True)
    else:
        await registries.logout(await _registry(registries, request.registry), access)
