"""The interface descriptions: true, committed, understood by another implementation, which calls a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import varlink

from pyman import errors
from pyman.api import INTERFACES, Access
from pyman.api.container import Result, ResultsReply, RunReply
from pyman.api.event import SubscribeReply
from pyman.api.system import VersionReply
from supervisor.rpc import idl
from supervisor.rpc.server import Listener, serve
from supervisor.rpc.service import INTERFACE as SERVICE
from tests.rpc.contract import listening_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pyman.api.container import NameRequest, RunRequest, SelectionRequest
    from pyman.api.event import SubscribeRequest
    from supervisor.rpc.dispatch import Call, Handler

COMMITTED = Path(__file__).parents[2] / "docs/interfaces"
TEXTS = idl.descriptions((SERVICE, *INTERFACES))


def test_the_committed_descriptions_are_those_of_the_contract() -> None:
    """Where this fails, the contract has changed: run scripts/idl and look at the difference."""
    committed = {path.stem: path.read_text() for path in COMMITTED.glob("*.varlink")}
    assert committed == TEXTS


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_description_is_read_by_the_python_varlink_package(name: str) -> None:
    interface = varlink.Interface(TEXTS[name])
    assert interface.name == name


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_every_method_is_described_with_every_parameter(interface: Any) -> None:
    text = re.sub(r"(?m)^ *#.*\n", "", TEXTS[interface.name])
    for method in interface.methods:
        found = re.search(rf"^method {method.name}\((.*?)\) -> \((.*?)\)$", text, re.MULTILINE | re.DOTALL)
        assert found
        for half, struct in zip(found.groups(), (method.request, method.reply), strict=True):
            names = [field.encode_name for field in msgspec.structs.fields(struct)]
            assert re.findall(r"(\w+): ", half) == names


def test_names_and_lines_keep_to_the_grammar() -> None:
    for text in TEXTS.values():
        assert max(map(len, text.splitlines())) <= 120
        for line in text.splitlines():
            assert not line.startswith("  ") or re.fullmatch(
                r"  (#.*|[A-Za-z](_?[A-Za-z0-9])*: \??(\[\]|\[string\])*(bool|int|float|string|object|[A-Z][A-Za-z0-9]*),?)",
                line,
            ), line
        assert "??" not in text


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_types_methods_and_errors_have_names_of_their_own(name: str) -> None:
    """Varlink has one space of names for the three, and systemd's parser insists on it."""
    names = re.findall(r"^(?:type|method|error) (\w+)", TEXTS[name], re.MULTILINE)
    assert len(names) == len(set(names))


def test_every_error_is_declared() -> None:
    declared = re.findall(
        r"^error (\w+) \(subject: string, message: string, hint: string\)$", TEXTS["io.pyman"], re.MULTILINE
    )
    assert sorted(declared) == sorted(errors.ERRORS)


# Another implementation calls a server


async def version(_request: Any, _call: Call) -> VersionReply:
    return VersionReply(version="1", api_version="2", python_version="3", os="linux", arch="x", kernel="6")


async def run(_request: RunRequest, call: Call) -> RunReply:
    await call.send(RunReply("created", "abc", warnings=["beware"]))
    await call.send(RunReply("started", "abc"))
    return RunReply("exited", "abc", exit_code=3)


async def start(request: SelectionRequest, _call: Call) -> ResultsReply:
    return ResultsReply([Result(name, id=name * 2) for name in request.selection.names])


async def why(request: NameRequest, _call: Call) -> ResultsReply:
    raise errors.NoSuchContainer(f"cannot find '{request.name}'", subject=request.name)


async def subscribe(request: SubscribeRequest, call: Call) -> SubscribeReply:
    for number in range(3):
        await call.send(SubscribeReply(journal=str(request.filters), seq=number))
    return SubscribeReply(seq=3)


HANDLERS: dict[str, Handler] = {
    "io.pyman.System.Version": version,
    "io.pyman.Container.Run": run,
    "io.pyman.Container.Start": start,
    "io.pyman.Container.Why": why,
    "io.pyman.Event.Subscribe": subscribe,
}


@pytest.fixture
async def address(short_path: Path) -> AsyncIterator[str]:
    path = str(short_path / "s")
    async with trio.open_nursery() as nursery:

        async def run_server(task_status: trio.TaskStatus[object]) -> None:
            listeners = [Listener(listening_socket(path), Access.OWNER)]
            await serve(listeners, HANDLERS, complete=False, task_status=task_status)

        await nursery.start(run_server)
        yield f"unix:{path}"
        nursery.cancel_scope.cancel()


def use_python_varlink(address: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    client = varlink.Client.new_with_address(address)
    with client, client.open("org.varlink.service") as service:
        seen["info"] = service.GetInfo()
        with pytest.raises(varlink.InvalidParameter):
            service.GetInterfaceDescription("io.pyman.Nowhere")
        for name in seen["info"]["interfaces"]:
            text = service.GetInterfaceDescription(name)["description"]
            assert text == TEXTS[name]
        with client.open("io.pyman.System") as described:
            seen["version"] = described.Version()
        with client.open("io.pyman.Container") as container:
            seen["start"] = container.Start(selection={"names": ["a", "b"]})
            seen["run"] = list(container.Run(spec={"name": "x", "command": ["true"]}, _more=True))
            with pytest.raises(varlink.VarlinkError) as caught:
                container.Why(name="zero")
            seen["error"] = caught.value.args[0]
        with client.open("io.pyman.Event") as event:
            seen["events"] = list(event.Subscribe(filters={"type": ["container"]}, _more=True))
    return seen


async def test_the_python_varlink_package_introspects_and_calls(address: str) -> None:
    seen = await trio.to_thread.run_sync(use_python_varlink, address)
    assert seen["info"]["product"] == "pyman"
    assert seen["info"]["interfaces"] == list(TEXTS)
    assert seen["version"]["ApiVersion"] == "2"
    assert [result["id"] for result in seen["start"]["results"]] == ["aa", "bb"]
    assert [reply["phase"] for reply in seen["run"]] == ["created", "started", "exited"]
    assert seen["run"][-1]["exit_code"] == 3
    assert seen["error"]["error"] == "io.pyman.NoSuchContainer"
    assert [reply["seq"] for reply in seen["events"]] == [0, 1, 2, 3]
