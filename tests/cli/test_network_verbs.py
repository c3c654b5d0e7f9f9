"""What the verbs of `network` ask for, what they show, and what they refuse by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import main

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor

DOCUMENT: dict[str, Any] = {
    "name": "web",
    "id": "0123456789abcdef" * 4,
    "driver": "bridge",
    "network_interface": "podman1",
    "created": "2026-01-02T03:04:05.6Z",
    "subnets": [
        {"subnet": "10.89.0.0/24", "gateway": "10.89.0.1", "lease_range": {"start_ip": "10.89.0.9", "end_ip": ""}},
        {"subnet": "fd00::/64", "gateway": "", "lease_range": None},
    ],
    "routes": [{"destination": "10.9.0.0/24", "gateway": "10.89.0.2", "metric": None}],
    "ipv6_enabled": True,
    "internal": False,
    "dns_enabled": True,
    "network_dns_servers": ["1.1.1.1"],
    "labels": {"b": "c", "a": ""},
    "options": {"mtu": "1400"},
    "ipam_options": {"driver": "host-local"},
}  # fmt: skip
SMALL = {
    **DOCUMENT,
    "subnets": [],
    "routes": [],
    "network_dns_servers": [],
    "labels": {},
    "options": {},
    "name": "x",
}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["network", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "subject": "x", "hint": ""}


def test_create_passes_on_what_was_asked_for(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    fake.answers["Network.Create"] = {"network": DOCUMENT, "created": True}
    line = (
        "create -d macvlan --subnet 10.1.0.0/24 --subnet fd00::/64 --gateway 10.1.0.9,fd00::9 --ip-range 10.1.0.128/25"
        " --route 10.9.0.0/24,10.1.0.2,7 --route 10.8.0.0/24,10.1.0.2 --dns 1.1.1.1,8.8.8.8 --label a=b --label c"
        " -o mtu=1400 --opt parent=eth0 --interface-name eth0 --ipv6 --internal --disable-dns --ignore"
        " --ipam-driver host-local web"
    )
    assert run(capsys, *line.split(" ")) == (0, "web\n", "")
    assert fake.asked("Network.Create") == {
        "name": "web",
        "driver": "macvlan",
        "network_interface": "eth0",
        "subnets": [
            {"subnet": "10.1.0.0/24", "gateway": "10.1.0.9", "ip_range": "10.1.0.128/25"},
            {"subnet": "fd00::/64", "gateway": "fd00::9"},
        ],
        "routes": [
            {"destination": "10.9.0.0/24", "gateway": "10.1.0.2", "metric": 7},
            {"destination": "10.8.0.0/24", "gateway": "10.1.0.2"},
        ],
        "ipv6_enabled": True,
        "internal": True,
        "dns_enabled": False,
        "network_dns_servers": ["1.1.1.1", "8.8.8.8"],
        "labels": {"a": "b", "c": ""},
        "options": {"mtu": "1400", "parent": "eth0"},
        "ipam_driver": "host-local",
        "ignore": True,
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("create a b", "'pyman network create' takes [NAME]"),
        ("create --gateway 10.1.0.1", "cannot use more --gateway than --subnet"),
        ("create --subnet a --ip-range b --ip-range c", "cannot use more --ip-range than --subnet"),
        ("create --route 10.9.0.0/24", "option --route cannot be '10.9.0.0/24'"),
        ("create --route a,b,c", "option --route cannot be 'a,b,c'"),
        ("create --route a,b,1,2", "option --route cannot be 'a,b,1,2'"),
        ("create -o =x", "option --opt cannot be '=x'"),
        ("create -o a=x -o a=y", "option --opt has 'a' twice"),
        ("create --label =x", "cannot use the label '=x' of --label"),
        ("ls -f name", "cannot use the filter 'name'"),
        ("inspect", "needs NETWORK..."),
        ("rm", "needs NETWORK..."),
        ("rm -t 3 x", "cannot use --time without --force"),
        ("exists", "needs NETWORK"),
        ("update --dns-add 1.1.1.1", "needs NETWORK"),
        ("connect x", "needs NETWORK CONTAINER"),
        ("disconnect x y z", "takes NETWORK CONTAINER"),
        ("reload", "'pyman network reload' needs a container"),
        ("reload -a x", "cannot use --all together with names"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    status, out, err = run(capsys, *line.split(" "))
    assert (status, out) == (125, "")
    assert said in err
    assert fake.calls == []


def test_update_names_the_servers_that_come_and_go(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Network.Update"] = {"network": DOCUMENT, "changed": True}
    line = "update web --dns-add 8.8.8.8,1.1.1.1 --dns-drop 9.9.9.9 --dns-add fd00::1"
    assert run(capsys, *line.split(" ")) == (0, "web\n", "")
    assert fake.asked("Network.Update") == {
        "name": "web",
        "add_dns_servers": ["8.8.8.8", "1.1.1.1", "fd00::1"],
        "remove_dns_servers": ["9.9.9.9"],
    }


def test_containers_come_and_go(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Network.Connect"] = fake.answers["Network.Disconnect"] = {"changed": True}
    line = "connect --alias a,b --alias c --ip 10.1.0.7 --ip6 fd00::7 --mac-address 02:00:00:00:00:07 web box"
    assert run(capsys, *line.split(" ")) == (0, "", "")
    assert fake.asked("Network.Connect") == {
        "name": "web",
        "container": "box",
        "options": {
            "static_ips": ["10.1.0.7", "fd00::7"],
            "aliases": ["a", "b", "c"],
            "static_mac": "02:00:00:00:00:07",
        },
    }
    fake.calls.clear()
    assert run(capsys, "connect", "web", "box") == (0, "", "")
    assert fake.asked("Network.Connect") == {"name": "web", "container": "box", "options": {}}
    assert run(capsys, "disconnect", "-f", "web", "box") == (0, "", "")
    assert fake.asked("Network.Disconnect") == {"name": "web", "container": "box", "force": True}


def test_a_reload_prints_whose_networks_are_whole(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Network.Reload"] = {
        "results": [
            {"name": "box", "id": "ab" * 32},
            {"name": "x", "id": "cd" * 32, "error": error("WrongState", "cannot reload x")},
        ]
    }
    assert run(capsys, "reload", "box", "x") == (125, f"{'ab' * 32}\n", "Error: cannot reload x\n")
    assert fake.asked("Network.Reload") == {"selection": {"names": ["box", "x"]}}
    fake.calls.clear()
    fake.answers["Network.Reload"] = {"results": []}
    assert run(capsys, "reload", "--all") == (0, "", "")
    assert fake.asked("Network.Reload") == {"selection": {"all": True}}


def test_listings_are_podmans(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Network.List"] = {"networks": [DOCUMENT]}
    assert run(capsys, "ls") == (
        0,
        "NETWORK ID    NAME        DRIVER\n0123456789ab  web         bridge\n",
        "",
    )
    assert run(capsys, "ls", "--no-trunc", "-n")[1] == f"{DOCUMENT['id']}  web         bridge\n"
    assert run(capsys, "list", "-q")[1] == "web\n"
    template = (
        "{{.Name}} {{.Labels}} {{.DNSEnabled}} {{.IPv6Enabled}} {{.NetworkInterface}} {{.IPAMOptions.driver}}"
    )
    assert run(capsys, "ls", "--format", template)[1] == "web a=,b=c true true podman1 host-local\n"
    template = "{{.Driver}} {{range .Subnets}}{{.Subnet}} {{.Gateway}} {{end}}{{.Options.mtu}} {{.Created}}"
    shown = "bridge 10.89.0.0/24 10.89.0.1 fd00::/64  1400 2026-01-02 03:04:05.6 +0000 UTC\n"
    assert run(capsys, "ls", "--format", template)[1] == shown
    assert run(capsys, "ls", "--format", "table {{.Driver}}\t{{.Labels}}")[1].splitlines()[0].split() == [
        *("DRIVER", "LABELS")
    ]
    assert run(capsys, "ls", "--format", "json")[1].startswith('[\n  {\n    "name": "web",\n')


def test_a_damaged_file_is_told_beside_the_listing(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Network.List"] = {
        "networks": [],
        "damaged": [error("StorageFailed", "cannot use the file of a network '/x'")],
    }
    status, _, err = run(capsys, "ls")
    assert (status, "cannot use the file of a network '/x'" in err) == (0, True)


def test_documents_are_podmans(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Network.Inspect"] = {
        "networks": [{**DOCUMENT, "containers": {}}, {**SMALL, "containers": {}}],
        "errors": [error("NoSuchNetwork", "cannot find network 'nope'")],
    }
    status, out, err = run(capsys, "inspect", "web", "x", "nope")
    assert (status, err) == (125, "Error: cannot find network 'nope'\n")
    assert out.startswith('[\n     {\n          "name": "web",\n          "id"')
    assert '"lease_range": {\n                         "start_ip": "10.89.0.9"\n' in out
    assert '"gateway": ""' not in out
    second = out[out.index('"name": "x"') :]
    assert '"subnets"' not in second
    assert '"containers": {}' in second
    template = "{{.Name}} {{.Network.Name}} {{len .Containers}}"
    assert run(capsys, "inspect", "-f", template, "web")[1] == "web web 0\nx x 0\n"


def test_templates_see_maps_and_documents_as_podmans_do(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = {"name": "box", "interfaces": {"eth0": {"subnets": [{"ipnet": "10.89.0.2/24", "gateway": ""}]}}}
    fake.answers["Network.Inspect"] = {"networks": [{**DOCUMENT, "containers": {"ab": guest}}]}

    def shown(template: str) -> str:
        return run(capsys, "inspect", "-f", template, "web")[1].rstrip("\n")

    assert shown("{{.Options}} {{.Options.isolate}} {{.IPAMOptions}}") == (
        "map[mtu:1400] <no value> map[driver:host-local]"
    )
    assert shown("{{json .Options}} {{json .Labels}}") == '{"mtu":"1400"} {"b":"c","a":""}'
    subnets = '[{"subnet":"10.89.0.0/24","gateway":"10.89.0.1","lease_range":{"start_ip":"10.89.0.9"}},{"subnet":"fd00::/64"}]'
    assert shown("{{json .Subnets}}") == subnets
    assert shown("{{json .Network}}").startswith('{"name":"web","id":')
    assert shown("{{range .Subnets}}{{.LeaseRange}} {{end}}") == "{10.89.0.9 } <nil> "
    assert '"ipnet":"10.89.0.2/24"' in shown("{{json .Containers}}")
    interfaces = "{{range $name, $one := .Interfaces}} {{$name}} {{$one.Subnets}}{{end}}"
    assert (
        shown(f"{{{{range .Containers}}}}{{{{.Name}}}}{interfaces}{{{{end}}}}")
        == "box eth0 [{10.89.0.2/24 }]"
    )
    assert shown("{{.Containers.nope}}") == "<no value>"


def test_inspect_of_everything_shows_networks_by_their_type(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Network.Inspect"] = {"networks": [{**DOCUMENT, "containers": {}}]}
    assert main(["inspect", "--type", "network", "web"]) == 0
    whole = capsys.readouterr().out
    assert run(capsys, "inspect", "web")[1] == whole
    subject = {**error("NoSuchContainer", "cannot find 'web'"), "subject": "web"}
    fake.answers["Container.Inspect"] = {"containers": [], "errors": [subject]}
    fake.answers["Image.Inspect"] = {"images": [], "errors": [{**subject, "code": "NoSuchImage"}]}
    fake.answers["Volume.List"] = {"volumes": []}
    assert main(["inspect", "web"]) == 0
    assert capsys.readouterr().out == whole
    assert main(["inspect", "-f", "{{.Name}} {{.Created}} {{json .Options}}", "web"]) == 0
    assert capsys.readouterr().out == 'web 2026-01-02 03:04:05.6 +0000 UTC {"mtu":"1400"}\n'
    damaged = error("StorageFailed", "cannot use the file of a network '/x'")
    fake.answers["Network.Inspect"] = {"networks": [], "errors": [damaged]}
    assert main(["inspect", "web"]) == 125
    assert capsys.readouterr().err == "Error: cannot use the file of a network '/x'\n"
    assert main(["inspect", "--type", "network", "--size", "web"]) == 125
    assert "cannot use --size together with --type network" in capsys.readouterr().err


def test_the_status_of_a_removal_tells_why_it_failed(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {"name": "x", "error": error("NoSuchNetwork", "cannot find network 'x'")}
    used = {"name": "x", "error": error("NetworkInUse", "cannot remove network 'x'")}
    default = {"name": "x", "error": error("InvalidArgument", "it is the default network")}
    for results, status in (
        ([{"name": "web"}], 0),
        ([{"name": "web"}, missing], 1),
        ([missing, used], 2),
        ([missing, default], 125),
    ):
        fake.answers["Network.Remove"] = {"networks": results}
        assert run(capsys, "rm", "web", "x")[0] == status
    fake.answers["Network.Remove"] = {"networks": [missing]}
    fake.calls.clear()
    assert run(capsys, "rm", "--force", "--time", "3", "x") == (0, "", "")
    assert fake.asked("Network.Remove") == {"names": ["x"], "force": True, "timeout": 3.0}


def test_pruning_asks_first(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["Network.Prune"] = {"networks": [{"name": "web"}]}
    monkeypatch.setattr("pyman.cli.context.Context.confirm", lambda _ctx, warning: "networks" not in warning)
    assert run(capsys, "prune") == (0, "", "")
    assert fake.calls == []
    assert run(capsys, "prune", "-f", "--filter", "label!=a") == (0, "web\n", "")
    assert fake.asked("Network.Prune") == {"filters": {"label!": ["a"]}}


def test_exists_says_it_by_the_status(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    for answer, status in ((True, 0), (False, 1)):
        fake.answers["Network.Exists"] = {"exists": answer}
        assert run(capsys, "exists", "web") == (status, "", "")
