"""Options of networks and ports become the parts of the create request that Podman's have, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.cli.networking_options import NETWORKING_OPTIONS, network_settings
from pyman.cli.options import parse
from pyman.errors import InvalidArgument


def settings_of(line: str) -> dict[str, Any]:
    return network_settings(parse(line.split(), NETWORKING_OPTIONS, command="run"))


BRIDGE = {"nsmode": "bridge"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("--network none", {"netns": {"nsmode": "none"}}),
        ("--net host", {"netns": {"nsmode": "host"}}),
        ("--network private", {"netns": {"nsmode": "private"}}),
        ("--network default", {"netns": {"nsmode": "private"}}),
        ("--network=", {"netns": {"nsmode": "private"}}),
        ("--network pod", {"netns": {"nsmode": "pod"}}),
        ("--network container:a", {"netns": {"nsmode": "container", "value": "a"}}),
        ("--network ns:/run/x:y", {"netns": {"nsmode": "ns", "value": "/run/x:y"}}),
        ("--network pasta", {"netns": {"nsmode": "pasta"}}),
        ("--network pasta:-t,auto,--map-gw",
         {"netns": {"nsmode": "pasta"}, "network_options": {"pasta": ["-t", "auto", "--map-gw"]}}),
        ("--network slirp4netns:mtu=1400,port_handler=slirp4netns",
         {"netns": {"nsmode": "slirp4netns"},
          "network_options": {"slirp4netns": ["mtu=1400", "port_handler=slirp4netns"]}}),
        ("--network bridge", {"netns": BRIDGE, "Networks": {"default": {}}}),
        ("--network bridge:ip=10.88.0.5,mac=44:33:22:11:00:99",
         {"netns": BRIDGE, "Networks": {"default": {"static_ips": ["10.88.0.5"], "static_mac": "44:33:22:11:00:99"}}}),
        ("--network web", {"netns": BRIDGE, "Networks": {"web": {}}}),
        ("--network web,db", {"netns": BRIDGE, "Networks": {"web": {}, "db": {}}}),
        ("--network web:alias=a,alias=b,ip=10.1.0.5,ip6=fd00::5,interface_name=lan,host_interface_name=v --network db",
         {"netns": BRIDGE, "Networks": {
             "web": {"aliases": ["a", "b"], "static_ips": ["10.1.0.5", "fd00::5"], "interface_name": "lan",
                     "options": {"host_interface_name": "v"}},
             "db": {}}}),
        ("--network bridge --network db", {"netns": BRIDGE, "Networks": {"default": {}, "db": {}}}),
        ("--ip 10.88.0.5 --ip6 fd00::5 --mac-address 44:33:22:11:00:99",
         {"Networks": {"default": {"static_ips": ["10.88.0.5", "fd00::5"], "static_mac": "44:33:22:11:00:99"}}}),
        ("--network web --ip 10.1.0.5", {"netns": BRIDGE, "Networks": {"web": {"static_ips": ["10.1.0.5"]}}}),
        ("--network web:alias=a --network db --network-alias b,c",
         {"netns": BRIDGE, "Networks": {"web": {"aliases": ["a", "b", "c"]}, "db": {"aliases": ["b", "c"]}}}),
        ("--network private --network-alias b",
         {"netns": {"nsmode": "private"}, "Networks": {"default": {"aliases": ["b"]}}}),
        ("-P", {"publish_image_ports": True}),
    ],
)  # fmt: skip
def test_networks_are_asked_for_as_with_podman(line: str, expected: dict[str, Any]) -> None:
    assert settings_of(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", {"container_port": 80}),
        (":80", {"container_port": 80}),
        ("8080:80", {"container_port": 80, "host_port": 8080}),
        ("127.0.0.1:8080:80", {"container_port": 80, "host_port": 8080, "host_ip": "127.0.0.1"}),
        ("127.0.0.1::80", {"container_port": 80, "host_ip": "127.0.0.1"}),
        ("[::1]:8080:80", {"container_port": 80, "host_port": 8080, "host_ip": "::1"}),
        ("[::1]::80/udp", {"container_port": 80, "host_ip": "::1", "protocol": "udp"}),
        ("8000-8010:80-90/SCTP", {"container_port": 80, "host_port": 8000, "range": 11, "protocol": "sctp"}),
        ("80-90", {"container_port": 80, "range": 11}),
        ("65535:65535", {"container_port": 65535, "host_port": 65535}),
    ],
)
def test_a_port_is_published_in_every_form_of_podmans(text: str, expected: dict[str, Any]) -> None:
    assert settings_of(f"-p {text}") == {"portmappings": [expected]}


def test_ports_are_published_one_after_the_other() -> None:
    ports = settings_of("-p 1:1,2:2 --publish 3")["portmappings"]
    assert [port["container_port"] for port in ports] == [1, 2, 3]
    both = settings_of('-p "53:53/tcp,udp"')
    assert both["portmappings"] == [{"container_port": 53, "host_port": 53, "protocol": "tcp,udp"}]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0:80", "ports are 1 to 65535"),
        ("80:0", "ports are 1 to 65535"),
        ("70000:80", "ports are 1 to 65535"),
        ("80:70000", "ports are 1 to 65535"),
        ("-1:80", "'-1' is not a port or FIRST-LAST"),
        ("80:-1", "'-1' is not a port or FIRST-LAST"),
        ("80-:80", "'80-' is not a port or FIRST-LAST"),
        ("http", "'http' is not a port or FIRST-LAST"),
        ("٨٠", "'٨٠' is not a port or FIRST-LAST"),
        ("9" * 5000, "is not a port or FIRST-LAST"),
        ("80:", "the container's port is missing"),
        ("90-80", "the last port of a range comes after the first"),
        ("1-3:1-4", "3 ports of the host cannot lead to 4 of the container"),
        ("1-3:1", "3 ports of the host cannot lead to 1 of the container"),
        ("80/", "the protocol is tcp, udp or sctp"),
        ("80/icmp", "the protocol is tcp, udp or sctp"),
        ("80/tcp/udp", "the protocol is tcp, udp or sctp"),
        ("::80", "the address before the first colon is missing"),
        ("::1:80:80", "an IPv6 address stands in brackets"),
        ("[::1:80:80", "with an IPv6 address it must be [IP]:[PORT]:PORT"),
        ("[::1]:80", "with an IPv6 address it must be [IP]:[PORT]:PORT"),
        ("[]:80:80", "with an IPv6 address it must be [IP]:[PORT]:PORT"),
        ("[::1]x:80:80", "with an IPv6 address it must be [IP]:[PORT]:PORT"),
    ],
)
def test_a_port_that_cannot_be_is_refused_with_what_is_wrong(text: str, hint: str) -> None:
    with pytest.raises(InvalidArgument, match="option --publish cannot be") as caught:
        settings_of(f"--publish={text}")
    assert caught.value.hint.endswith(hint)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--network container:", "option --network cannot be 'container:': the name of a container is missing"),
        ("--network ns:", "option --network cannot be 'ns:': the path of a namespace is missing"),
        ("--network ns:x", "option --network cannot be 'ns:x': the path is not absolute"),
        ("--network none --network host", "cannot use --network host together with --network none"),
        ("--network none --network web", "cannot use --network web together with --network none"),
        ("--network web --network host",
         "cannot use --network host together with --network web: a mode comes first, and only further networks after it"),
        ("--network web --network bridge:ip=1.2.3.4",
         "cannot use --network bridge:ip=1.2.3.4 together with --network web: a mode comes first, and only further networks after it"),
        ("--network web --network web", "cannot use --network web more than once"),
        ("--network none:x", "option --network cannot be 'none:x': none has no options"),
        ("--network web,", "option --network cannot be 'web,': the name of a network is missing"),
        ("--network :ip=1.2.3.4", "option --network cannot be ':ip=1.2.3.4': the name of a network is missing"),
        ("--network web:ip",
         "option --network cannot have 'ip': a network's options are NAME=VALUE: alias, interface_name, ip, ip6, mac, host_interface_name"),
        ("--network host --ip 1.2.3.4", "cannot use --ip together with --network host"),
        ("--network pasta --mac-address 44:33:22:11:00:99", "cannot use --mac-address together with --network pasta"),
        ("--network container:a --network-alias b", "cannot use --network-alias together with --network container:a"),
        ("--network web --network db --ip 1.2.3.4",
         "cannot use --ip with 2 networks: say it of one of them, as in --network NAME:ip=IP,mac=MAC"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_by_name(line: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings_of(line)
    assert str(caught.value) == sentence
