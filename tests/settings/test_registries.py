"""registries.conf: what is read, what is refused, and where a name leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import InvalidConfig
from supervisor.settings import registries
from supervisor.settings.registries import Location, RegistriesSettings, RegistryEntry, find, matched, sources
from supervisor.settings.xdg import Xdg

if TYPE_CHECKING:
    from pathlib import Path


class Files:
    """The files of a user and an administrator below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {"HOME": f"{root}/home", "XDG_RUNTIME_DIR": str(root)}

    def write(self, name: str, text: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    @property
    def aliases(self) -> str:
        return f"{self.root}/aliases.conf"

    def paths(self) -> list[str]:
        return registries.paths(
            self.environ,
            Xdg.of(self.environ, 1000),
            self.aliases,
            system=f"{self.root}/usr",
            administrator=f"{self.root}/etc",
        )

    def load(self) -> RegistriesSettings:
        return registries.load(self.paths(), self.aliases, is_domain=lambda text: "/" not in text)


@pytest.fixture
def config(tmp_path: Path) -> Files:
    return Files(tmp_path)


OWN = "home/.config/containers/registries.conf"


def test_without_any_file_nothing_is_searched(config: Files) -> None:
    assert config.load() == RegistriesSettings()


def test_everything_that_a_file_may_say(config: Files) -> None:
    path = config.write(
        "etc/registries.conf",
        """
        unqualified-search-registries = ["one.example", "two.example:5000"]
        short-name-mode = "enforcing"
        credential-helpers = ["secretservice", "containers-auth.json"]

        [[registry]]
        prefix = "one.example/team"
        location = "internal.example/mirror/team/"
        insecure = true
        [[registry.mirror]]
        location = "near.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "far.example"
        insecure = true

        [[registry]]
        prefix = "*.blocked.example"
        blocked = true

        [aliases]
        "tool" = "one.example/team/tool"
        """,
    )
    found = config.load()
    assert found.search == ("one.example", "two.example:5000")
    assert found.search_file == path
    assert found.short_name_mode == "enforcing"
    assert found.credential_helpers == ("secretservice", "containers-auth.json")
    blocked, team = found.registries
    assert blocked.blocked
    assert blocked.prefix == "*.blocked.example"
    assert team.location == Location("internal.example/mirror/team", insecure=True)
    assert team.mirrors == (Location("near.example", False, "digest-only"), Location("far.example", True))
    assert found.aliases["tool"].value == "one.example/team/tool"
    assert found.aliases["tool"].file == path
    assert found.warnings == ()


def test_drop_ins_replace_by_key_and_the_users_come_last(config: Files) -> None:
    config.write(
        "etc/registries.conf", 'unqualified-search-registries = ["a.example"]\n[aliases]\n"x" = "a.example/x"'
    )
    config.write("etc/registries.conf.d/10.conf", '[[registry]]\nlocation = "r.example"\ninsecure = true')
    config.write("etc/registries.conf.d/20.conf", 'unqualified-search-registries = ["b.example"]')
    config.write(
        f"{OWN}.d/10.conf", '[[registry]]\nlocation = "r.example"\nblocked = true\n[aliases]\n"x" = ""'
    )
    found = config.load()
    assert found.search == ("b.example",)
    (entry,) = found.registries
    assert (entry.blocked, entry.location.insecure) == (True, False)
    assert found.aliases["x"].value == ""
    assert len(config.paths()) == 4


def test_the_users_file_takes_the_place_of_the_administrators(config: Files) -> None:
    config.write("usr/registries.conf", 'unqualified-search-registries = ["system.example"]')
    assert config.load().search == ("system.example",)
    config.write("etc/registries.conf", 'unqualified-search-registries = ["etc.example"]')
    assert config.load().search == ("etc.example",)
    config.write(OWN, 'unqualified-search-registries = ["own.example"]')
    assert config.load().search == ("own.example",)
    config.environ["CONTAINERS_REGISTRIES_CONF"] = config.write("x.conf", 'short-name-mode = "disabled"')
    found = config.load()
    assert (found.search, found.short_name_mode) == ((), "disabled")


def test_what_users_have_chosen_comes_before_all_aliases(config: Files) -> None:
    config.write("etc/registries.conf", '[aliases]\n"x" = "a.example/x"\n"y" = "a.example/y"')
    config.write("aliases.conf", '[aliases]\n  "x" = "b.example/x"')
    found = config.load().aliases
    assert found["x"].value == "b.example/x"
    assert found["y"].value == "a.example/y"


def test_unknown_keys_are_warned_of(config: Files) -> None:
    config.write("etc/registries.conf", 'wild = 1\n[[registry]]\nlocation = "a.example"\nsecure = true')
    first, second = config.load().warnings
    assert "the unknown key 'wild' is ignored" in first
    assert "the unknown key 'registry.secure' is ignored" in second


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("[registries.search]\nregistries = ['a.example']", "version 1"),
        ("[registries.insecure]\nregistries = []", "version 1"),
        ("unqualified-search-registries = 'a'", "'unqualified-search-registries'.*not a list of strings"),
        ("unqualified-search-registries = ['a/b']", "'a/b' is not a registry"),
        ("short-name-mode = 'wild'", "'short-name-mode'.*not one of enforcing, permissive, disabled"),
        ("credential-helpers = ['../x']", "'credential-helpers'.*not the name"),
        ("[[registry]]\nblocked = true", "'registry.location'"),
        ("[[registry]]\nprefix = 'a.example'", "'registry.location'"),
        ("[[registry]]\nlocation = 'https://a.example'", "'registry.location'.*without a scheme"),
        ("[[registry]]\nprefix = '*.a.example/b'", "'registry.prefix'"),
        ("[[registry]]\nprefix = 'a.*.example'\nlocation = 'b'", "'registry.prefix'"),
        ("[[registry]]\nlocation = 'a'\ninsecure = 1", "'registry.insecure'.*not true or false"),
        ("[[registry]]\nlocation = 'a'\npull-from-mirror = 'all'", "'registry.pull-from-mirror'"),
        ("[[registry]]\nlocation = 'a'\n[[registry.mirror]]\ninsecure = true", "'registry.mirror.location'"),
        (
            (
                "[[registry]]\nlocation = 'a'\nmirror-by-digest-only = true\n"
                "[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'all'"
            ),
            "'registry.mirror.pull-from-mirror'",
        ),
        (
            "[[registry]]\nlocation = 'a'\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'some'",
            "not one of all, digest-only, tag-only",
        ),
        (
            "[[registry]]\nprefix = 'x'\nlocation = 'a'\n[[registry]]\nprefix = 'y'\nlocation = 'a'\ninsecure = true",
            "'registry.insecure'",
        ),
        ("registry = 5", "'registry'.*list of tables"),
        ("[aliases]\n'a.example/x' = 'b.example/x'", "'aliases.a.example/x'"),
        ("[aliases]\n'x:1' = 'b.example/x'", "'aliases.x:1'"),
        ("[aliases]\nx = 'y'", "'aliases.x'.*a name with its registry"),
        ("[aliases]\nx = 'b.example/x:1'", "'aliases.x'.*without tag"),
        ("[aliases]\nx = 5", "'aliases.x'.*not a string"),
        ("aliases = 5", "'aliases'.*not a table"),
        ("nonsense", "line 1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_and_key(config: Files, text: str, complaint: str) -> None:
    path = config.write("etc/registries.conf", text)
    with pytest.raises(InvalidConfig, match=complaint) as caught:
        config.load()
    assert str(path) in caught.value.message
    assert caught.value.subject == path


# Matching


@pytest.mark.parametrize(
    "name, prefix, covered",
    [
        ("a.example/x", "a.example", 9),
        ("a.example:5000/x", "a.example", 9),
        ("a.example/x", "a.example/x", 11),
        ("a.example/x:tag", "a.example/x", 11),
        ("a.example/xy", "a.example/x", -1),
        ("aa.example/x", "a.example", -1),
        ("a.example", "a.example/x", -1),
        ("b.a.example/x", "*.a.example", 11),
        ("c.b.a.example:80/x", "*.a.example", 13),
        ("a.example/x", "*.a.example", -1),
        ("host/x.a.example", "*.a.example", -1),
    ],
)
def test_a_prefix_covers_whole_parts_of_a_name(name: str, prefix: str, covered: int) -> None:
    assert matched(name, prefix) == covered


@given(st.text("ab./:", max_size=12), st.text("ab./:*", min_size=1, max_size=12))
def test_what_a_prefix_covers_is_at_the_beginning(name: str, prefix: str) -> None:
    end = matched(name, prefix)
    assert end == -1 or 0 <= end <= len(name)
    if end >= 0 and not prefix.startswith("*."):
        assert name[:end] == prefix


def _settings(*entries: RegistryEntry) -> RegistriesSettings:
    return RegistriesSettings(registries=entries)


def _names(settings: RegistriesSettings, name: str, *, by_digest: bool = False) -> list[str]:
    return [found for found, _ in sources(settings, name, by_digest=by_digest)]


def test_the_longest_prefix_counts() -> None:
    short, long = (RegistryEntry(prefix, Location(prefix)) for prefix in ("a.example", "a.example/team"))
    assert find(_settings(short, long), "a.example/team/x") == long
    assert find(_settings(long, short), "a.example/other") == short
    assert find(_settings(long, short), "b.example/other") is None


def test_a_name_without_an_entry_leads_to_its_registry() -> None:
    assert _names(_settings(), "a.example/x") == ["a.example/x"]


def test_a_location_takes_the_place_of_the_prefix() -> None:
    entry = RegistryEntry("a.example/team", Location("b.example/deep/er"))
    assert _names(_settings(entry), "a.example/team/x") == ["b.example/deep/er/x"]


def test_a_wildcard_may_lead_where_it_is() -> None:
    entry = RegistryEntry("*.a.example", Location(""))
    assert _names(_settings(entry), "b.a.example/x") == ["b.a.example/x"]
    entry = RegistryEntry("*.a.example", Location("c.example"))
    assert _names(_settings(entry), "b.a.example/x") == ["c.example/x"]


def test_mirrors_come_first_and_serve_what_they_are_set_to() -> None:
    mirrors: tuple[Any, ...] = (
        Location("m1.example"),
        Location("m2.example", pull_from_mirror="digest-only"),
        Location("m3.example", pull_from_mirror="tag-only"),
        Location("m4.example", pull_from_mirror="all"),
    )
    entry = RegistryEntry("a.example", Location("a.example"), mirrors)
    by_tag = _names(_settings(entry), "a.example/x")
    assert by_tag == ["m1.example/x", "m3.example/x", "m4.example/x", "a.example/x"]
    by_digest = _names(_settings(entry), "a.example/x", by_digest=True)
    assert by_digest == ["m1.example/x", "m2.example/x", "m4.example/x", "a.example/x"]


def test_mirrors_may_be_for_digests_alone() -> None:
    entry = RegistryEntry(
        "a.example", Location("a.example"), (Location("m.example"),), mirror_by_digest_only=True
    )
    assert _names(_settings(entry), "a.example/x") == ["a.example/x"]
    assert _names(_settings(entry), "a.example/x", by_digest=True) == ["m.example/x", "a.example/x"]
