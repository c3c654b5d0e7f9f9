"""Searching registries, and logging in to them, as the interface has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pyman.api.image import LoginRequest, LogoutRequest, RegistryAccess, SearchRequest
from pyman.errors import InvalidArgument, NotFound
from supervisor.images import searching
from tests.registry.support import Home
from tests.support import hostile as wicked
from tests.support.hostile import hostile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from supervisor.registry.client import Registries
    from tests.support.hostile import Hostile

ACCESS = RegistryAccess(tls_verify=False, retry=0)
RESULTS = {
    "results": [
        {"name": "org/one", "description": "a\n long  one", "star_count": 5, "is_official": True},
        {"name": "two", "star_count": 1, "is_automated": True},
    ]
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
async def one() -> AsyncIterator[Hostile]:
    async with hostile() as registry:
        registry.on("/v1/search", wicked.answer(200, json.dumps(RESULTS).encode()))
        registry.on("/v2/org/one/tags/list", wicked.answer(200, b'{"tags": ["1", "2", "3"]}'))
        yield registry


@pytest.fixture
async def registries(home: Home) -> AsyncIterator[Registries]:
    async with home.registries() as found:
        yield found


async def test_a_registry_in_front_is_the_one_that_is_asked(registries: Registries, one: Hostile) -> None:
    found = await searching.search(registries, SearchRequest(f"{one.host}/o", access=ACCESS))
    first, second = found.results
    assert (first.index, first.name) == (one.host, f"{one.host}/org/one")
    assert (first.description, first.stars, first.official, first.automated) == ("a long one", 5, "[OK]", "")
    assert second.automated == "[OK]"
    assert found.errors == []


async def test_all_that_are_searched_are_asked_and_one_that_fails_is_told(
    registries: Registries, one: Hostile, home: Home
) -> None:
    async with hostile() as broken:
        broken.on("/v2/", wicked.errors(500, "UNKNOWN", "a bad day"))
        home.write("etc/registries.conf", f'unqualified-search-registries = ["{broken.host}", "{one.host}"]')
        found = await searching.search(registries, SearchRequest("o", access=ACCESS))
    assert len(found.results) == 2
    (error,) = found.errors
    assert "a bad day" in error.message


@pytest.mark.parametrize(
    "filters, names",
    [
        ({"stars": ["2"]}, ["org/one"]),
        ({"is-official": ["false"]}, ["two"]),
        ({"is-automated": ["true"], "stars": ["1"]}, ["two"]),
        ({"is-automated": ["true"], "stars": ["2"]}, []),
    ],
)
async def test_filters_choose_among_the_results(
    registries: Registries, one: Hostile, filters: dict[str, list[str]], names: list[str]
) -> None:
    request = SearchRequest(f"{one.host}/o", filters=filters, access=ACCESS)
    found = await searching.search(registries, request)
    assert [result.name for result in found.results] == [f"{one.host}/{name}" for name in names]


async def test_tags_are_listed_up_to_the_limit(registries: Registries, one: Hostile) -> None:
    request = SearchRequest(f"{one.host}/org/one", limit=2, list_tags=True, access=ACCESS)
    found = await searching.search(registries, request)
    assert [(result.name, result.tag) for result in found.results] == [
        (f"{one.host}/org/one", "1"),
        (f"{one.host}/org/one", "2"),
    ]


@pytest.mark.parametrize(
    "request_, complaint",
    [
        (SearchRequest("x"), "no registries to search"),
        (SearchRequest("a.example/x", limit=-1), "the limit -1"),
        (SearchRequest("a.example/x", limit=10**9), "the limit"),
        (SearchRequest("a.example/x", filters={"stars": ["many"]}), "the filter 'stars=many'"),
        (SearchRequest("a.example/x", filters={"wild": ["1"]}), "the filter 'wild=1'"),
        (SearchRequest("a.example/x", filters={"stars": ["1"]}, list_tags=True), "cannot filter tags"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    registries: Registries, request_: SearchRequest, complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await searching.search(registries, request_)


async def test_a_login_without_a_registry_is_for_the_first_that_is_searched(
    registries: Registries, one: Hostile, home: Home
) -> None:
    access = RegistryAccess(tls_verify=False, retry=0, username="u", password="s3cret")
    with pytest.raises(InvalidArgument, match="which registry"):
        await searching.login(registries, LoginRequest("", access))
    home.write("etc/registries.conf", f'unqualified-search-registries = ["{one.host}"]')
    assert (await searching.login(registries, LoginRequest("", access))).stored == str(home.auth_file)
    known = await searching.login(registries, LoginRequest(one.host, ACCESS, get_login=True))
    assert known.username == "u"
    await searching.logout(registries, LogoutRequest())
    with pytest.raises(NotFound, match="nobody is"):
        await searching.login(registries, LoginRequest(one.host, ACCESS, get_login=True))
    await searching.logout(registries, LogoutRequest(all=True))
    with pytest.raises(InvalidArgument, match="not both"):
        await searching.logout(registries, LogoutRequest(one.host, all=True))
