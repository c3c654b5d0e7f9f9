"""One value at a time."""

from __future__ import annotations

import contextlib
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.settings import keys
from supervisor.settings.load import _NOT_IN_FILES, _SECTIONS
from supervisor.settings.values import CONVERTERS, Unusable, converter_of, parse_size, parse_ulimit
from supervisor.settings.xdg import Xdg


@pytest.mark.parametrize(
    "text, size",
    [
        ("0", 0),
        ("100", 100),
        ("1b", 1),
        ("64k", 65536),
        ("64K", 65536),
        ("1.5m", 1572864),
        ("2g", 2 << 30),
        ("1 GiB", 1 << 30),
        ("3kb", 3072),
    ],
)
def test_sizes_are_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1kk", "1 2", "0x10", "1e3", "١"])
def test_what_is_no_size_is_refused(text: str) -> None:
    if text == "١":
        assert parse_size(text) == 1  # a digit in another script is a digit
        return
    with pytest.raises(Unusable):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(Unusable):
        assert parse_size(text) >= 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nofile",
        "nofile=",
        "nofile=a",
        "nope=1:2",
        "nofile=2:1",
        "nofile=-1:1",
        "nofile=-2",
        "nofile=1:2:3",
    ],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        parse_ulimit(text)


def test_a_limit_may_be_unlimited_and_the_soft_one_alone_means_both() -> None:
    both = parse_ulimit("RLIMIT_CORE=7")
    assert (both.type, both.soft, both.hard) == ("RLIMIT_CORE", 7, 7)
    assert parse_ulimit("memlock=0:-1").hard == -1


def test_every_key_of_the_model_has_a_converter_that_accepts_nothing_odd() -> None:
    for section, struct in _SECTIONS.items():
        for key in struct.__struct_fields__:
            if f"{section}.{key}" not in _NOT_IN_FILES:
                with pytest.raises(Unusable):
                    converter_of(section, struct, key)(object())


def test_every_named_converter_belongs_to_a_key() -> None:
    known = {f"{section}.{key}" for section, struct in _SECTIONS.items() for key in struct.__struct_fields__}
    assert set(CONVERTERS) <= known


def test_no_key_is_both_a_setting_and_without_effect() -> None:
    for section, struct in _SECTIONS.items():
        lists = [
            set(struct.__struct_fields__),
            set(keys.NOT_YET.get(section, {})),
            set(keys.WITHOUT_EFFECT[section]),
        ]
        shared = lists[0] & lists[1] | lists[1] & lists[2] | (lists[0] & lists[2])
        assert shared <= {"options"}


def test_defaults_are_of_the_type_that_the_model_declares() -> None:
    for struct in _SECTIONS.values():
        hints = typing.get_type_hints(struct)
        for key in struct.__struct_fields__:
            value = getattr(struct(), key)
            kind = typing.get_origin(hints[key]) or hints[key]
            assert value is None or isinstance(value, kind)


def test_xdg_takes_absolute_paths_only() -> None:
    xdg = Xdg.of(
        {"HOME": "/h", "XDG_CONFIG_HOME": "relative", "XDG_DATA_HOME": "/d/", "XDG_RUNTIME_DIR": "/r"}, 1000
    )
    assert (xdg.config_home, xdg.data_home, xdg.cache_home) == ("/h/.config", "/d", "/h/.cache")
    assert xdg.bus_address == "unix:path=/r/bus"


def test_a_home_that_is_not_in_the_environment_comes_from_the_user_database() -> None:
    assert Xdg.of({}, 0).home == "/root"
    assert Xdg.of({}, 54321).home == "/"
