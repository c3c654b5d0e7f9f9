"""`[network]` of containers.conf: what is taken, what is warned of, and where definitions are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pyman.errors import InvalidConfig
from supervisor.settings.layout import Layout
from supervisor.settings.model import NetworkSettings, Options, SubnetPool
from tests.settings.support import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.model import Settings


def loaded(tmp_path: Path, text: str) -> Settings:
    machine = Machine(tmp_path)
    machine.write("etc/containers.conf", f"[network]\n{text}\n")
    return machine.load()


def test_what_is_said_of_networks_is_taken(tmp_path: Path) -> None:
    text = """
        default_network = "mine"
        default_subnet = "10.7.0.0/16"
        default_subnet_pools = [{"base" = "10.11.0.0/16", "size" = 24}, {"base" = "192.168.0.0/30", "size" = 30}]
        network_config_dir = "/srv/networks"
        default_host_ips = ["127.0.0.1", "::1"]
        default_rootless_network_cmd = "slirp4netns"
        pasta_options = ["-m", "1400"]
        [engine]
        network_cmd_options = ["mtu=1400"]
        network_cmd_path = "/opt/slirp4netns"
    """
    settings = loaded(tmp_path, text)
    assert settings.warnings == ()
    assert settings.network == NetworkSettings(
        default_network="mine",
        default_subnet="10.7.0.0/16",
        default_subnet_pools=(SubnetPool("10.11.0.0/16", 24), SubnetPool("192.168.0.0/30", 30)),
        network_config_dir="/srv/networks",
        default_host_ips=("127.0.0.1", "::1"),
        default_rootless_network_cmd="slirp4netns",
        pasta_options=("-m", "1400"),
    )
    assert settings.engine.network_cmd_options == ("mtu=1400",)
    assert settings.engine.network_cmd_path == "/opt/slirp4netns"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('default_network = "a/b"', "the name of a network"),
        ('default_subnet = "10.7.0.0"', "a network such as 10.88.0.0/16"),
        ('default_subnet = "10.7.0.0/40"', "a network such as 10.88.0.0/16"),
        ('default_subnet_pools = "10.11.0.0/16"', "a list of tables"),
        ('default_subnet_pools = ["10.11.0.0/16"]', "a list of tables"),
        ('default_subnet_pools = [{"base" = "10.11.0.0/16"}]', "a list of tables"),
        ('default_subnet_pools = [{"base" = "10.11.0.0/16", "size" = 8}]', "longer prefixes"),
        ('default_subnet_pools = [{"base" = "10.11.0.0/16", "size" = 33}]', "longer prefixes"),
        ('default_subnet_pools = [{"base" = "fd00::/48", "size" = 64}]', "IPv4 networks"),
        ('network_config_dir = "networks"', "an absolute path"),
        ('default_host_ips = ["localhost"]', "a list of IP addresses"),
        ('default_rootless_network_cmd = "vpnkit"', "slirp4netns"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        loaded(tmp_path, text)
    assert f"'network.{text.partition(' ')[0]}'" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ['network_backend = "cni"', 'firewall_driver = "iptables"'],
)
def test_what_has_no_effect_is_warned_of(tmp_path: Path, text: str) -> None:
    (warning,) = loaded(tmp_path, text).warnings
    assert f"'network.{text.partition(' ')[0]}' is not supported yet and has no effect" in warning


@pytest.mark.parametrize("text", ['network_backend = "netavark"', 'firewall_driver = "nftables"', 'cni_plugin_dirs = ["/x"]'])  # fmt: skip
def test_what_is_so_in_any_case_is_not(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).warnings == ()


def test_how_interfaces_are_called_is_taken(tmp_path: Path) -> None:
    assert loaded(tmp_path, '[containers]\ninterface_name = "device"').containers.interface_name == "device"
    with pytest.raises(InvalidConfig, match=r"'containers\.interface_name'"):
        loaded(tmp_path, '[containers]\ninterface_name = "eth7"')


def test_definitions_are_where_podman_has_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    root = machine.load(Options(root="/srv/store"))
    lock = "/run/lock/netavark.lock"
    assert Layout.of(root).networks == "/etc/containers/networks"
    assert Layout.of(root).network_locks == (lock, "/etc/containers/networks/netavark.lock")
    user = msgspec.structs.replace(machine.load(Options(root="/srv/store"), uid=1000), uid=1000)
    assert Layout.of(user).networks == "/srv/store/networks"
    assert Layout.of(user).network_locks == ("/srv/store/networks/netavark.lock",)
    chosen = machine.load(Options(network_config_dir="/srv/nets"))
    assert Layout.of(chosen).network_locks == (lock, "/srv/nets/netavark.lock")
