"""Files of networks: as Podman writes them, as others might, and as nobody should."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.network import LeaseRange, Network, Route, Subnet
from pyman.errors import AmbiguousId, InvalidArgument, NoSuchNetwork, StorageFailed
from supervisor.network.definitions import directory
from supervisor.network.definitions.directory import DEFAULT_ID, Directory, default_network
from supervisor.network.definitions.document import decoded, encoded
from supervisor.settings.model import NetworkSettings

if TYPE_CHECKING:
    from pathlib import Path

TIME = "2026-01-02T03:04:05.678+02:00"
SMALL: dict[str, Any] = {"name": "n", "id": "ab" * 32, "driver": "bridge", "created": TIME}
DEFAULT = default_network(NetworkSettings(), TIME)
WHOLE = Network(
    name="n",
    id="ab" * 32,
    network_interface="podman3",
    created=TIME,
    subnets=[
        Subnet("10.5.0.0/24", "10.5.0.1", LeaseRange("10.5.0.9", "10.5.0.20")),
        Subnet("fd00::/64", "fd00::1"),
    ],
    routes=[Route("10.9.0.0/24", "10.5.0.2", 0), Route("10.8.0.0/24", "10.5.0.2")],
    ipv6_enabled=True,
    dns_enabled=True,
    network_dns_servers=["1.1.1.1"],
    labels={"a": "", "b": "c"},
    options={"mtu": "1400"},
    ipam_options={"driver": "host-local"},
)


def test_a_document_is_written_in_podmans_order_and_comes_back() -> None:
    content = encoded(WHOLE)
    assert decoded(content) == WHOLE
    assert list(json.loads(content)) == [
        *("name", "id", "driver", "network_interface", "created", "subnets", "routes", "ipv6_enabled", "internal"),
        *("dns_enabled", "network_dns_servers", "labels", "options", "ipam_options"),
    ]  # fmt: skip
    assert content.startswith(b'{\n     "name": "n",\n     "id"')
    assert content.endswith(b"\n}\n")
    assert json.loads(content)["labels"] == {"a": "", "b": "c"}
    assert json.loads(content)["routes"][0]["metric"] == 0


def test_what_says_nothing_is_left_out_as_podman_does() -> None:
    assert json.loads(encoded(Network("n", "ab" * 32, created=TIME))) == {
        **SMALL,
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
    }


def test_what_others_have_put_into_a_file_stays_in_it() -> None:
    former = json.dumps({**SMALL, "wonder": {"of": [1]}, "labels": {"x": "y"}, "routes": None}).encode()
    again = json.loads(encoded(WHOLE, former))
    assert again["wonder"] == {"of": [1]}
    assert again["labels"] == {"a": "", "b": "c"}
    for nothing in (b"[]", b"{"):
        assert "wonder" not in json.loads(encoded(WHOLE, nothing))


def test_a_document_is_completed_as_podman_completes_it() -> None:
    network = decoded(
        json.dumps(
            {**SMALL, "subnets": [{"subnet": "10.5.0.7/24"}], "labels": None, "subnets2": None}
        ).encode()
    )
    assert network.subnets == [Subnet("10.5.0.0/24", "10.5.0.1")]
    assert network.labels == {}
    internal = {**SMALL, "internal": True, "subnets": [{"subnet": "10.5.0.0/24"}]}
    assert decoded(json.dumps(internal).encode()).subnets[0].gateway == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (b'{"name": "n"', "truncated"),
        (b"[]", "it is not an object"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 100_000, ""),
        ({"name": "n"}, "missing required field `id`"),
        ({**SMALL, "id": "ab"}, "'ab' is not an id of 64 digits"),
        ({**SMALL, "name": "../n"}, "'../n' cannot be the name of a network"),
        ({**SMALL, "created": "today"}, "'today' is not a time"),
        ({**SMALL, "subnets": "all"}, "Expected `array`"),
        ({**SMALL, "subnets": [{"subnet": "10.5.0.0/24", "gateway": "10.6.0.1"}]}, "it is not in the subnet"),
        ({**SMALL, "subnets": [{"subnet": "10.5.0.0/24"}, {"subnet": "10.5.0.0/16"}]}, "it overlaps the subnet"),
        ({**SMALL, "internal": 1}, "Expected `bool`"),
        ({**SMALL, "routes": [{"destination": "x", "gateway": "10.0.0.1"}]}, "not in CIDR notation"),
    ],
)  # fmt: skip
def test_a_document_that_says_nothing_sensible_is_refused(content: bytes | dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decoded(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert said in str(caught.value)


# ---------------------------------------------------------------------- the directory


def put(path: Path, name: str, **fields: Any) -> None:
    (path / f"{name}.json").write_text(json.dumps({**SMALL, "name": name, **fields}))


def test_the_default_network_is_there_without_a_file_and_gives_way_to_one(tmp_path: Path) -> None:
    there = Directory(str(tmp_path))
    assert there.read(DEFAULT).by_name == {"podman": DEFAULT}
    assert (DEFAULT.id, DEFAULT.network_interface) == (DEFAULT_ID, "podman0")
    assert DEFAULT.subnets == [Subnet("10.88.0.0/16", "10.88.0.1")]
    put(tmp_path, "podman", id="cd" * 32)
    assert there.read(DEFAULT).by_name["podman"].id == "cd" * 32
    assert Directory(f"{tmp_path}/no").read(DEFAULT).by_name == {"podman": DEFAULT}


def test_a_damaged_file_is_named_and_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "good")
    (tmp_path / "torn.json").write_text('{"name": ')
    (tmp_path / "other.json").write_text(json.dumps(SMALL))
    (tmp_path / "big.json").write_bytes(b" " * (directory.MOST_BYTES + 1))
    (tmp_path / "none.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "tree.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    known = Directory(str(tmp_path)).read(DEFAULT)
    assert set(known.by_name) == {"good", "podman"}
    assert set(known.damaged) == {"torn", "other", "big"}
    assert "it is about a network 'n'" in str(known.damaged["other"])
    assert str(tmp_path / "torn.json") in str(known.damaged["torn"])
    assert known.find("good").name == "good"
    with pytest.raises(StorageFailed, match="mend or remove it"):
        known.find("torn")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    put(tmp_path, "n")
    (tmp_path / "nets/n.json").symlink_to(tmp_path / "n.json")
    there = Directory(f"{tmp_path}/nets")
    assert "n" in there.read(DEFAULT).by_name
    (tmp_path / "n.json.0123456789abcdef.new").write_text("of a killed writer")
    (tmp_path / "m.json.0123456789abcdef.new").write_text("somebody else's")
    there.write(msgspec.structs.replace(there.read(DEFAULT).by_name["n"], internal=True))
    assert there.read(DEFAULT).by_name["n"].internal
    assert (tmp_path / "nets/n.json").is_symlink()
    assert json.loads((tmp_path / "n.json").read_text())["internal"]
    assert sorted(os.listdir(tmp_path)) == ["m.json.0123456789abcdef.new", "n.json", "nets"]
    there.remove("n")
    assert (os.listdir(tmp_path / "nets"), (tmp_path / "n.json").exists()) == ([], True)


def test_a_link_to_nothing_is_no_network_and_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/n.json").symlink_to(tmp_path / "nowhere")
    there = Directory(f"{tmp_path}/nets")
    there.write(WHOLE)
    assert (there.read(DEFAULT).by_name["n"], os.listdir(tmp_path)) == (WHOLE, ["nets"])


def test_networks_are_found_by_names_ids_and_their_beginnings(tmp_path: Path) -> None:
    put(tmp_path, "one", id="ab" * 32)
    put(tmp_path, "two", id="ac" * 32)
    put(tmp_path, "ac", id="de" * 32)
    known = Directory(str(tmp_path)).read(DEFAULT)
    assert [known.find(word).name for word in ("one", "ab", "acac", "ac", "de" * 32, "2f2")] == [
        *("one", "one", "two", "ac", "ac", "podman")
    ]
    with pytest.raises(AmbiguousId, match="2 ids begin with it"):
        known.find("a")
    for word in ("", "x", "ab" * 33):
        with pytest.raises(NoSuchNetwork):
            known.find(word)


def test_a_file_is_read_again_when_it_has_changed_and_not_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, loaded = Directory(str(tmp_path)), []
    real = decoded

    def counting(content: bytes) -> Network:
        loaded.append(content)
        return real(content)

    monkeypatch.setattr(directory, "decoded", counting)
    put(tmp_path, "n")
    there.read(DEFAULT)
    there.read(DEFAULT)
    assert len(loaded) == 2, "what has changed just now is not trusted"
    monkeypatch.setattr(directory, "_JUST_NOW", -(10**15))
    there.read(DEFAULT)
    for _ in range(3):
        assert "n" in there.read(DEFAULT).by_name
    assert len(loaded) == 3
    # In place, as Podman writes.
    put(tmp_path, "n", internal=True)
    assert there.read(DEFAULT).by_name["n"].internal
    (tmp_path / "n.json").unlink()
    assert "n" not in there.read(DEFAULT).by_name


def test_files_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MOST_FILES", 3)
    for number in range(4):
        put(tmp_path, f"n{number}")
    with pytest.raises(StorageFailed, match="there are more than 3 files"):
        Directory(str(tmp_path)).read(DEFAULT)


def test_a_file_comes_into_being_as_a_whole_and_leaves_no_litter(tmp_path: Path) -> None:
    there = Directory(str(tmp_path))
    (tmp_path / "n.json.0123456789abcdef.new").write_text("of a killed writer")
    there.write(msgspec.structs.replace(WHOLE, labels={}))
    assert os.listdir(tmp_path) == ["n.json"]
    assert (tmp_path / "n.json").stat().st_mode & 0o777 == 0o644
    there.remove("n")
    there.remove("n")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InvalidArgument, match="its file would have more than"):
        there.check_size(msgspec.structs.replace(WHOLE, labels={"x": "y" * directory.MOST_BYTES}))
