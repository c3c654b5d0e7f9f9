"""What is refused of networks that are a program's, and in what order their options count."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.api.spec import ContainerSpec, Namespace, PortMapping
from pyman.errors import InvalidArgument, NotSupported
from supervisor.network.user_mode import slirp4netns
from supervisor.runtime.networks.creation.wishes import check_user_mode
from supervisor.runtime.networks.wired import by_pasta, by_slirp4netns
from supervisor.settings.model import EngineSettings, NetworkSettings, Settings
from supervisor.settings.xdg import Xdg


def settings(uid: int = 1000, pasta: tuple[str, ...] = (), slirp: tuple[str, ...] = ()) -> Settings:
    return Settings(
        uid=uid,
        xdg=Xdg.of({"HOME": "/root"}, uid),
        network=NetworkSettings(pasta_options=pasta),
        engine=EngineSettings(network_cmd_options=slirp),
    )


def spec(mode: str, *options: str, **fields: Any) -> ContainerSpec:
    return ContainerSpec(netns=Namespace(mode), network_options={mode: list(options)}, **fields)


def test_what_is_asked_for_comes_after_what_is_configured() -> None:
    configured = settings(pasta=("-m", "1400"), slirp=("mtu=1400", "enable_ipv6=false"))
    assert by_pasta.options_of(spec("pasta", "-m", "1500"), configured) == ["-m", "1400", "-m", "1500"]
    options = slirp4netns.parse(by_slirp4netns.options_of(spec("slirp4netns", "mtu=1500"), configured))
    assert (options.mtu, options.enable_ipv6) == (1500, False)
    assert by_pasta.options_of(ContainerSpec(netns=Namespace("pasta")), settings()) == []


def test_pasta_is_not_for_root_and_slirp4netns_is() -> None:
    check_user_mode(spec("pasta"), settings())
    check_user_mode(spec("slirp4netns"), settings(uid=0))
    with pytest.raises(NotSupported, match="as root"):
        check_user_mode(spec("pasta"), settings(uid=0))


def test_what_is_configured_is_looked_at_as_well() -> None:
    with pytest.raises(InvalidArgument, match="--netns"):
        check_user_mode(spec("pasta"), settings(pasta=("--netns", "/x")))
    with pytest.raises(InvalidArgument, match="mtu=x"):
        check_user_mode(spec("slirp4netns"), settings(slirp=("mtu=x",)))


@pytest.mark.parametrize("mode", ["pasta", "slirp4netns"])
def test_neither_forwards_sctp(mode: str) -> None:
    check_user_mode(spec(mode, portmappings=[PortMapping(80), PortMapping(53, protocol="udp")]), settings())
    with pytest.raises(InvalidArgument, match="80/sctp"):
        check_user_mode(spec(mode, portmappings=[PortMapping(80, protocol="sctp")]), settings())
