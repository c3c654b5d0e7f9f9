"""What the configuration means for a name: candidates, mirrors, what is blocked, what a policy refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyman.api.image import RegistryAccess
from pyman.errors import (
    AmbiguousId,
    InvalidArgument,
    InvalidConfig,
    PermissionDenied,
    RegistryFailed,
    SignatureRefused,
)
from supervisor.registry.client import login_key
from supervisor.registry.reference import parse
from supervisor.settings import registries
from tests.support import hostile as wicked
from tests.support.hostile import hostile
from tests.support.registry import digest_of

if TYPE_CHECKING:
    import socket

    from supervisor.settings.registries import RegistriesSettings
    from tests.registry.support import Home

DIGEST = digest_of(b"x")
MANIFEST = b'{"schemaVersion": 2, "config": {}, "layers": []}'
ACCESS = RegistryAccess(tls_verify=False, retry=0)


async def _candidates(home: Home, name: str) -> list[str]:
    configuration = home.configuration(home.settings())
    return [str(reference) for reference in (await configuration.candidates(name)).references]


async def test_a_full_name_is_its_only_candidate(home: Home) -> None:
    assert await _candidates(home, "a.example/x") == ["a.example/x:latest"]
    assert await _candidates(home, "docker.io/alpine:1") == ["docker.io/library/alpine:1"]


async def test_a_short_name_is_looked_for_in_the_search_list(home: Home) -> None:
    home.write("etc/registries.conf", 'unqualified-search-registries = ["a.example", "docker.io"]')
    assert await _candidates(home, "x") == ["a.example/x:latest", "docker.io/library/x:latest"]
    assert await _candidates(home, "team/x:1") == ["a.example/team/x:1", "docker.io/team/x:1"]
    found = await home.configuration(home.settings()).candidates("x:1")
    assert "unqualified-search registries" in found.description
    assert found.choose
    found.refuse_ambiguous()


async def test_an_alias_is_what_it_stands_for(home: Home) -> None:
    home.write(
        "etc/registries.conf", 'unqualified-search-registries = ["a.example"]\n[aliases]\n"x" = "docker.io/y"'
    )
    assert await _candidates(home, "x:2") == ["docker.io/library/y:2"]
    assert await _candidates(home, f"x@{DIGEST}") == [f"docker.io/library/y@{DIGEST}"]
    found = await home.configuration(home.settings()).candidates("x")
    assert found.description.startswith('Resolved "x" as an alias (')
    assert not found.choose


async def test_without_a_search_list_a_short_name_means_nothing(home: Home) -> None:
    with pytest.raises(InvalidArgument, match="no registries to search") as caught:
        await _candidates(home, "x")
    assert "unqualified-search-registries" in caught.value.hint


async def test_a_strict_configuration_refuses_to_guess(home: Home) -> None:
    search = 'unqualified-search-registries = ["a.example", "b.example"]\nshort-name-mode = '
    configuration = home.configuration(home.settings())
    home.write("etc/registries.conf", f'{search}"enforcing"')
    with pytest.raises(AmbiguousId, match=r"may be a.example/x:latest, b.example/x:latest"):
        (await configuration.candidates("x")).refuse_ambiguous()
    home.write("etc/registries.conf", f'{search}"permissive"')
    (found := await configuration.candidates("x")).refuse_ambiguous()
    with pytest.raises(AmbiguousId, match="'permissive'"):
        found.refuse_ambiguous(ask=True)
    home.write("etc/registries.conf", f'{search}"disabled"  # now')
    (found := await configuration.candidates("x")).refuse_ambiguous()
    assert not found.choose


async def test_what_a_user_has_chosen_is_remembered_for_all_engines(home: Home) -> None:
    home.write("etc/registries.conf", 'unqualified-search-registries = ["a.example", "b.example"]')
    configuration = home.configuration(home.settings())
    await configuration.record_alias("x", parse("b.example/x:1"))
    await configuration.record_alias("y", parse("a.example/team/y"))
    assert [str(one) for one in (await configuration.candidates("x")).references] == ["b.example/x:latest"]
    text = (home.home / ".cache/containers/short-name-aliases.conf").read_text()
    assert text == '[aliases]\n  "x" = "b.example/x"\n  "y" = "a.example/team/y"\n'


async def test_images_here_are_looked_for_under_localhost_first(home: Home) -> None:
    home.write(
        "etc/registries.conf", 'unqualified-search-registries = ["a.example"]\n[aliases]\n"x" = "b.example/x"'
    )
    configuration = home.configuration(home.settings())
    found = [str(one) for one in await configuration.local_candidates("x")]
    assert found == ["b.example/x:latest", "localhost/x:latest", "a.example/x:latest"]
    assert [str(one) for one in await configuration.local_candidates("c.example/x")] == ["c.example/x:latest"]


async def test_a_changed_file_is_read_again(home: Home) -> None:
    configuration = home.configuration(home.settings())
    for number in range(3):
        home.write("etc/registries.conf", f'unqualified-search-registries = ["{number}.example"]')
        assert (await configuration.registries()).search == (f"{number}.example",)
    home.write("etc/registries.conf.d/1.conf", 'unqualified-search-registries = ["drop-in.example"]')
    assert (await configuration.registries()).search == ("drop-in.example",)
    home.write("etc/registries.conf.d/1.conf", "nonsense")
    with pytest.raises(InvalidConfig):
        await configuration.registries()


async def test_a_file_that_changes_while_it_is_read_is_read_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = 'unqualified-search-registries = ["{}.example"]'
    load = registries.load

    def read_slowly(*arguments: Any, **options: Any) -> RegistriesSettings:
        found = load(*arguments, **options)
        home.write("etc/registries.conf", search.format("second"))
        return found

    home.write("etc/registries.conf", search.format("first"))
    configuration = home.configuration(home.settings())
    with monkeypatch.context() as patched:
        patched.setattr(registries, "load", read_slowly)
        assert (await configuration.registries()).search == ("first.example",)
    assert (await configuration.registries()).search == ("second.example",)


async def test_an_unknown_key_is_told_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.write("etc/registries.conf", "unqualified-search-registry = 1")
    configuration = home.configuration(home.settings())
    for _ in range(2):
        await configuration.registries()
    assert caplog.text.count("the unknown key 'unqualified-search-registry' is ignored") == 1


async def test_mirrors_are_asked_first_and_the_registry_when_they_fail(
    home: Home, program: socket.socket
) -> None:
    async with (
        hostile() as first,
        hostile() as mirror,
        hostile() as last,
        home.registries(program) as registries,
    ):
        home.write(
            "etc/registries.conf",
            f"""
            [[registry]]
            prefix = "main.example"
            location = "{last.host}"
            [[registry.mirror]]
            location = "{first.host}/proxy"
            [[registry.mirror]]
            location = "{mirror.host}"
            """,
        )
        name = parse("main.example/a:1")
        first.on("/v2/proxy/a/manifests/1", wicked.errors(500, "UNKNOWN", "a bad day"))
        mirror.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        found = await registries.manifest(name, ACCESS)
        assert [str(place.reference) for place in found.endpoints] == [
            f"{mirror.host}/a:1",
            f"{first.host}/proxy/a:1",
            f"{last.host}/a:1",
        ]
        assert not last.requests
        mirror.on("/v2/a/manifests/1", wicked.errors(404, "MANIFEST_UNKNOWN", "what?"))
        last.on("/v2/a/manifests/1", wicked.errors(503, "UNAVAILABLE", "later"))
        with pytest.raises(RegistryFailed) as caught:
            await registries.manifest(name, ACCESS)
        for said in ("a bad day", "what?", "later", first.host, mirror.host, last.host):
            assert said in caught.value.message


async def test_a_given_login_is_for_the_registry_and_not_for_its_mirrors(
    home: Home, program: socket.socket
) -> None:
    async with hostile() as mirror, hostile() as main, home.registries(program) as registries:
        for one in (mirror, main):
            one.on("/v2/", wicked.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        mirror.on("/v2/a/manifests/1", wicked.errors(404, "MANIFEST_UNKNOWN", "what?"))
        main.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        home.write(
            "etc/registries.conf",
            f'[[registry]]\nlocation = "{main.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n',
        )
        access = RegistryAccess(tls_verify=False, retry=0, username="u", password="s3cret")
        await registries.manifest(parse(f"{main.host}/a:1"), access)
        assert all("authorization" not in asked.headers for asked in mirror.requests)
        assert "authorization" in main.asked("/v2/a/manifests/1")[0].headers


async def test_what_is_sent_goes_to_the_registry_itself(home: Home) -> None:
    home.write(
        "etc/registries.conf",
        '[[registry]]\nprefix = "a.example/t"\nlocation = "b.example"\n[[registry.mirror]]\nlocation = "m.example"\n',
    )
    configuration = home.configuration(home.settings())
    (place,) = await configuration.endpoints(parse("a.example/t/x:1"), RegistryAccess(), push=True)
    assert str(place.reference) == "b.example/x:1"
    assert not place.mirror


async def test_a_blocked_registry_is_not_asked_for_anything(home: Home, program: socket.socket) -> None:
    path = home.write("etc/registries.conf", '[[registry]]\nprefix = "*.blocked.example"\nblocked = true\n')
    name = parse("a.blocked.example/x:1")
    async with home.registries(program) as registries:
        for call in (registries.manifest(name), registries.tags(name), registries.exists(name, DIGEST)):
            with pytest.raises(PermissionDenied, match=f"is blocked in '{path}'"):
                await call
        with pytest.raises(PermissionDenied, match="blocked"):
            await registries.login("a.blocked.example", RegistryAccess(username="u", password="p"))
        with pytest.raises(PermissionDenied, match="blocked"):
            await registries.search("a.blocked.example", "x", 5)


async def test_a_policy_is_asked_before_anything_is_taken(home: Home) -> None:
    configuration = home.configuration(home.settings())
    await configuration.permit(parse("a.example/x:1"), "docker")
    home.write("etc/policy.json", '{"default": [{"type": "reject"}]}')
    with pytest.raises(SignatureRefused, match=r"cannot take the image 'a.example/x:1': .*rejects it"):
        await configuration.permit(parse("a.example/x:1"), "docker")
    home.write("home/.config/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
    await configuration.permit(parse("a.example/x:1"), "docker")


def test_logins_are_kept_under_a_host_or_a_repository() -> None:
    assert login_key("a.example:5000") == "a.example:5000"
    assert login_key("https://a.example/v2/") == "a.example"
    assert login_key("a.example/team/x") == "a.example/team/x"
    assert login_key("docker.io/vendor") == "docker.io/vendor"
    for wrong in (
        "",
        "a.example/x:1",
        "a.example/",
        "a b",
        "a.example/X",
        f"a.example/x@{DIGEST}",
        "ftp://a",
    ):
        with pytest.raises(InvalidArgument):
            login_key(wrong)


def test_logins_are_looked_for_where_every_engine_does(home: Home) -> None:
    configuration = home.configuration(home.settings())
    assert [file.path for file in configuration.auth_files("")] == [
        f"{home.runtime}/containers/auth.json",
        f"{home.home}/.config/containers/auth.json",
        f"{home.home}/.docker/config.json",
        f"{home.home}/.dockercfg",
    ]
    assert [file.path for file in configuration.auth_files("/x.json")] == ["/x.json"]
