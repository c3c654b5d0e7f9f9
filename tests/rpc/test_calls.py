"""What a client that keeps to the protocol gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api import INTERFACES, Access, Interface, Method, Nothing
from supervisor.rpc.dispatch import Routes
from supervisor.rpc.handlers import handlers
from supervisor.rpc.server import Listener
from tests.rpc.client import Client
from tests.rpc.contract import INTERFACE, NAME, Trial, listening_socket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rpc.client import Service


async def test_a_call_is_answered_with_its_reply(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Echo", {"text": "grüße", "many": [{"number": 1}]})
    assert reply == {
        "parameters": {
            "text": "grüße",
            "inner": {"number": 7, "maybe": None},
            "many": [{"number": 1, "maybe": None}],
            "table": {},
        }
    }


async def test_absent_and_null_parameters_take_their_defaults(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Echo", {"text": "x", "inner": None, "many": [{"number": None}]})
        assert reply["parameters"]["inner"]["number"] == 7
        assert reply["parameters"]["many"][0]["number"] == 7
        await client.send_bytes(b'{"method":"io.pyman.Trial.Change"}\0')
        assert await client.reply() == {"parameters": {}}
        await client.send_bytes(b'{"method":"io.pyman.Trial.Change","parameters":null,"more":null}\0')
        assert await client.reply() == {"parameters": {}}


async def test_the_caller_is_the_process_that_connected(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Who")
    assert reply["parameters"] == {"pid": os.getpid(), "uid": os.geteuid()}


async def test_a_known_error_is_answered_as_it_is(service: Service) -> None:
    async with await service.connect() as client:
        assert await client.call(f"{NAME}.Fail") == {
            "error": "io.pyman.NoSuchContainer",
            "parameters": {
                "subject": "x",
                "message": "cannot find the container 'x'",
                "hint": "look at the list",
            },
        }


@pytest.mark.parametrize("method", ["Bug", "WrongReply"])
async def test_a_bug_costs_one_call_and_tells_nothing_of_the_inside(service: Service, method: str) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.{method}")
        assert reply["error"] == "io.pyman.InternalError"
        assert "secret" not in str(reply)
        assert (await client.call(f"{NAME}.Echo", {"text": "on"}))["parameters"]["text"] == "on"


@pytest.mark.parametrize(
    "parameters, named",
    [
        ({}, "text"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"text": "x", "txet": "y"}, "txet"),
        ({"text": "x", "inner": {"nubmer": 1}}, "inner.nubmer"),
        ({"text": "x", "inner": {"number": "1"}}, "inner.number"),
        ({"text": "x", "inner": {"number": 1.5}}, "inner.number"),
        ({"text": "x", "inner": []}, "inner"),
        ({"text": "x", "many": [{}, {"numbr": 1}]}, "many[1].numbr"),
        ({"text": "x", "many": {}}, "many"),
        ({"text": "x", "table": {"k": {"other": 1}}}, "table[k].other"),
        ({"text": "x", "table": {"k": {"number": True}}}, "table[...].number"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_its_name(
    service: Service, parameters: dict[str, Any], named: str
) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Echo", parameters)
        assert reply["error"] == "org.varlink.service.InvalidParameter"
        assert reply["parameters"]["parameter"] == named
        assert reply["parameters"]["reason"]
        assert (await client.call(f"{NAME}.Echo", {"text": "on"}))["parameters"]["text"] == "on"


async def test_a_misspelt_parameter_is_told_the_right_name(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Echo", {"text": "x", "tabel": {}})
    assert reply["parameters"]["reason"] == "unknown name, did you mean table?"


@pytest.mark.parametrize(
    "method, error",
    [
        (f"{NAME}.Nothing", {"method": f"{NAME}.Nothing"}),
        ("io.pyman.Nowhere.Echo", {"interface": "io.pyman.Nowhere"}),
        ("Echo", {"interface": ""}),
        ("", {"interface": ""}),
        (f"{NAME}.Missing", {"method": f"{NAME}.Missing"}),
    ],
)
async def test_an_unknown_method_has_varlinks_own_error(
    service: Service, method: str, error: dict[str, str]
) -> None:
    async with await service.connect() as client:
        reply = await client.call(method)
        assert reply["error"].startswith("org.varlink.service.")
        assert reply["parameters"] == error
        assert (await client.call(f"{NAME}.Echo", {"text": "on"}))["parameters"]["text"] == "on"


async def test_a_stream_continues_up_to_its_last_reply(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Stream", {"number": 3}, more=True)
        replies = [await client.reply() for _ in range(4)]
    assert [reply["parameters"]["number"] for reply in replies] == [0, 1, 2, 3]
    assert [reply.get("continues", False) for reply in replies] == [True, True, True, False]


async def test_a_stream_must_be_asked_for(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Stream", {"number": 3})
    assert reply["error"] == "org.varlink.service.ExpectedMore"


async def test_a_oneway_call_is_carried_out_and_not_answered(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Change", oneway=True)
        await client.send(f"{NAME}.Fail", oneway=True)
        await client.send(f"{NAME}.Nowhere", oneway=True)
        assert "uid" in (await client.call(f"{NAME}.Who"))["parameters"]
    assert service.trial.changes == 1


async def test_an_upgrade_is_refused(service: Service) -> None:
    async with await service.connect() as client:
        reply = await client.call(f"{NAME}.Change", upgrade=True)
        assert reply["error"] == "io.pyman.NotSupported"
        assert await client.call(f"{NAME}.Change") == {"parameters": {}}
    assert service.trial.changes == 1


async def test_calls_in_a_row_are_answered_one_by_one_in_order(service: Service) -> None:
    async with await service.connect() as client:
        await client.send_bytes(
            b"".join(b'{"method":"io.pyman.Trial.Echo","parameters":{"text":"%d"}}\0' % n for n in range(500))
        )
        texts = [(await client.reply())["parameters"]["text"] for _ in range(500)]
    assert texts == [str(number) for number in range(500)]


@pytest.mark.parametrize(
    "socket_name, allowed",
    [("events", {"Who"}), ("read", {"Who", "Echo"}), ("owner", {"Who", "Echo", "Change"})],
)
async def test_a_socket_admits_what_its_rights_cover(
    service: Service, socket_name: str, allowed: set[str]
) -> None:
    async with await service.connect(socket_name) as client:
        for method in ("Who", "Echo", "Change", "Secret"):
            reply = await client.call(f"{NAME}.{method}", {"text": "x"} if method == "Echo" else {})
            if method in allowed:
                assert "error" not in reply
            else:
                assert reply["error"] == "io.pyman.PermissionDenied"
    assert service.trial.changes == int(socket_name == "owner")


async def test_when_the_client_goes_its_handler_is_cancelled(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Wait")
        # A further call that waits in the buffer does not hide the end.
        await client.send(f"{NAME}.Change")
        await service.trial.entered.wait()
    await service.trial.ended.wait()
    assert service.trial.outcome == "caller gone"
    assert service.trial.changes == 0


async def test_a_client_that_only_stops_sending_gets_its_answer(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Wait")
        client.socket.shutdown(trio.socket.SHUT_WR)
        await service.trial.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        service.trial.go_on.set()
        assert await client.reply() == {"parameters": {}}
        assert await client.ended()


async def test_a_oneway_change_is_finished_though_its_client_has_gone(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Work", oneway=True)
        await service.trial.entered.wait()
    await trio.testing.wait_all_tasks_blocked()
    service.trial.go_on.set()
    await service.trial.ended.wait()
    assert service.trial.outcome == "finished"


async def test_a_call_under_way_is_told_that_the_server_ends(service: Service) -> None:
    async with await service.connect() as client, await service.connect() as idle:
        await client.send(f"{NAME}.Wait")
        await service.trial.entered.wait()
        service.stop()
        assert (await client.reply())["error"] == "io.pyman.EngineStopped"
        assert await client.ended()
        assert await idle.ended()
    assert service.trial.outcome == "supervisor ends"


async def test_listeners_can_be_replaced_and_open_connections_stay(
    service: Service, short_path: Path
) -> None:
    async with await service.connect() as old:
        assert (await old.call(f"{NAME}.Change")) == {"parameters": {}}
        path = str(short_path / "again")
        service.server.replace([Listener(listening_socket(path), Access.OWNER)])
        async with await Client.connect(path) as new:
            assert (await new.call(f"{NAME}.Change")) == {"parameters": {}}
        assert (await old.call(f"{NAME}.Change")) == {"parameters": {}}
        with pytest.raises(ConnectionRefusedError):
            await service.connect()


def test_contract_and_handlers_must_match() -> None:
    own = Trial().handlers()
    with pytest.raises(ValueError, match=r"without a handler: io\.pyman\.Trial\.Missing"):
        Routes([INTERFACE], own)
    complete = Interface(NAME, "", tuple(method for method in INTERFACE.methods if method.name != "Missing"))
    Routes([complete], own)
    with pytest.raises(ValueError, match=r"without a row in the contract: io\.pyman\.Trial\.More"):
        Routes([complete], {**own, f"{NAME}.More": own[f"{NAME}.Echo"]})


def test_every_row_of_the_contract_has_its_handler() -> None:
    unused: Any = None
    Routes(INTERFACES, handlers(unused, unused))


def test_a_row_that_does_not_say_admits_nobody() -> None:
    assert Method("X", Nothing, Nothing, "").access is Access.NOBODY
    nobody = [
        f"{interface.name}.{method.name}"
        for interface in INTERFACES
        for method in interface.methods
        if method.access is Access.NOBODY
    ]
    assert nobody == []
