"""The blocking connection: framing, descriptors, errors, and what happens when the other end goes away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman import wire
from pyman.cli import launch
from pyman.errors import (
    EngineUnavailable,
    InvalidArgument,
    NameInUse,
    NoSuchContainer,
    OptionDiffers,
    ProtocolError,
    PymanError,
)
from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from tests.support.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.scripted import Talk


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with Scripted(str(tmp_path_factory.mktemp("w") / "s")) as scripted:
        yield scripted


@pytest.fixture
def connection(server: Scripted) -> Iterator[wire.Connection]:
    with wire.Connection(server.path) as made:
        yield made


def _pipe_with(text: bytes) -> int:
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    return read


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


# Calls


def test_a_call_returns_the_parameters_of_the_reply(server: Scripted, connection: wire.Connection) -> None:
    server.script["Container.Exists"] = lambda talk: talk.send({"exists": talk.parameters["name"] == "web"})
    assert connection.call("Container.Exists", {"name": "web"}) == {"exists": True}
    assert connection.call("io.pyman.Container.Exists", {"name": "no"}) == {"exists": False}


def test_a_stream_yields_every_reply_up_to_the_last(server: Scripted, connection: wire.Connection) -> None:
    def count(talk: Talk) -> None:
        assert talk.message["more"] is True
        for number in range(3):
            talk.send({"number": number}, continues=number < 2)

    server.script["Event.Subscribe"] = count
    assert [reply.parameters["number"] for reply in connection.stream("Event.Subscribe")] == [0, 1, 2]
    assert [reply.parameters["number"] for reply in connection.stream("Event.Subscribe")] == [0, 1, 2]


def test_an_abandoned_stream_ends_the_connection(server: Scripted, connection: wire.Connection) -> None:
    def endless(talk: Talk) -> None:
        talk.send({}, continues=True)
        talk.wait_for_end()

    server.script["Event.Subscribe"] = endless
    for _ in connection.stream("Event.Subscribe"):
        break
    server.script["System.Version"] = lambda talk: talk.send({"Version": "1"})
    assert connection.call("System.Version") == {"Version": "1"}, "the next call takes a new connection"


def test_replies_may_come_in_any_pieces(server: Scripted, connection: wire.Connection) -> None:
    replies = [{"parameters": {"n": n, "t": "ä" * n}, "continues": n < 4} for n in range(5)]
    data = b"".join(json.dumps(reply, ensure_ascii=False).encode() + b"\0" for reply in replies)

    def in_pieces(talk: Talk) -> None:
        size = talk.parameters["size"]
        for at in range(0, len(data), size):
            talk.send_raw(data[at : at + size])

    server.script["Event.Subscribe"] = in_pieces
    for size in (1, 7, len(data)):
        got = list(connection.stream("Event.Subscribe", {"size": size}))
        assert [reply.parameters for reply in got] == [reply["parameters"] for reply in replies]


def test_a_reply_of_megabytes_arrives_whole(server: Scripted, connection: wire.Connection) -> None:
    server.script["Container.List"] = lambda talk: talk.send({"containers": ["x" * 1000] * 5000})
    assert connection.call("Container.List") == {"containers": ["x" * 1000] * 5000}


def test_a_request_of_megabytes_arrives_whole(server: Scripted, connection: wire.Connection) -> None:
    server.script["Container.Create"] = lambda talk: talk.send({"size": len(talk.parameters["spec"])})
    assert connection.call("Container.Create", {"spec": "x" * 5_000_000}) == {"size": 5_000_000}


def test_a_second_call_during_the_first_is_refused(server: Scripted, connection: wire.Connection) -> None:
    server.script["Event.Subscribe"] = lambda talk: talk.send({}, continues=True)
    connection.send("Event.Subscribe")
    with pytest.raises(
        InvalidArgument, match=r"cannot call Container\.List: Event\.Subscribe is not finished"
    ):
        connection.call("Container.List")


# Errors


def test_the_class_that_the_supervisor_raised_is_raised_again(
    server: Scripted, connection: wire.Connection
) -> None:
    server.script["Container.Inspect"] = lambda talk: talk.fail(
        NoSuchContainer("cannot find the container 'web'", subject="web", hint="see pyman ps")
    )
    with pytest.raises(NoSuchContainer) as caught:
        connection.call("Container.Inspect")
    assert (caught.value.subject, caught.value.hint) == ("web", "see pyman ps")
    server.script["System.Version"] = lambda talk: talk.send({})
    assert connection.call("System.Version") == {}, "an error ends the call, not the connection"


@pytest.mark.parametrize(
    "reply",
    [
        b"nonsense\0",
        b'{"parameters": 7}\0',
        b"[]\0",
        b"\0",
        b'{"parameters": {"a": "\xff"}}\0',
        b'{"parameters": {}, "descriptors": "two"}\0',
        b'{"parameters": {}, "descriptors": -1}\0',
        b'{"parameters": {}, "descriptors": 17}\0',
    ],
)
def test_what_is_not_a_reply_is_a_protocol_error(
    server: Scripted, connection: wire.Connection, reply: bytes
) -> None:
    server.script["System.Version"] = lambda talk: talk.send_raw(reply)
    with pytest.raises(ProtocolError):
        connection.call("System.Version")
    assert connection.fileno() == -1


def test_a_reply_without_end_is_given_up(
    server: Scripted, connection: wire.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_REPLY", 100_000)

    def endless(talk: Talk) -> None:
        while True:  # until the client hangs up
            talk.send_raw(b"x" * 50_000)

    server.script["System.Version"] = endless
    with pytest.raises(PymanError, match="cannot read a reply of more than"):
        connection.call("System.Version")


# Descriptors


def test_descriptors_go_both_ways_in_order(server: Scripted, connection: wire.Connection) -> None:
    def exchange(talk: Talk) -> None:
        texts = [_read(os.dup(descriptor)) for descriptor in talk.descriptors]
        pipes = [_pipe_with(text.upper()) for text in texts]
        talk.send({"texts": len(texts)}, pipes, continues=True)
        talk.send({}, pipes[:1])
        for pipe in pipes:
            os.close(pipe)

    server.script["Container.Run"] = exchange
    mine = [_pipe_with(text) for text in (b"one", b"two", b"three")]
    first, last = connection.stream("Container.Run", {}, mine)
    for descriptor in mine:
        os.close(descriptor)
    taken = [first.take() for _ in range(3)]
    last.close()
    assert all(not os.get_inheritable(descriptor) for descriptor in taken)
    assert [_read(descriptor) for descriptor in taken] == [b"ONE", b"TWO", b"THREE"]
    with pytest.raises(ProtocolError, match="lacks a descriptor"):
        first.take()


def test_descriptors_belong_to_their_own_message_when_replies_arrive_together(
    server: Scripted, connection: wire.Connection
) -> None:
    def together(talk: Talk) -> None:
        pipe = _pipe_with(b"x")
        talk.send_raw(b'{"parameters":{"n":0},"continues":true}\0{"parameters":{"n":1},"continues":true}\0')
        talk.send({"n": 2}, [pipe], continues=True)
        talk.send({"n": 3})
        os.close(pipe)

    server.script["Container.Logs"] = together
    connection.send("Container.Logs")
    server.wait_for("Container.Logs")
    counts = []
    for _ in range(4):
        reply = connection.receive()
        counts.append(len(reply.descriptors))
        reply.close()
    assert counts == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "announced, sent",
    [(1, 0), (None, 1), (1, 2), (17, 17), (16, 200)],
    ids=["missing", "not announced", "one too many", "seventeen", "a flood"],
)
@pytest.mark.parametrize("error", [False, True])
def test_wrong_descriptors_end_the_call_and_none_stays_open(
    server: Scripted, connection: wire.Connection, announced: int | None, sent: int, error: bool
) -> None:
    own, other = os.pipe()

    def script(talk: Talk) -> None:
        reply: dict[str, Any] = {"parameters": {}} if announced is None else {"descriptors": announced}
        if error:
            reply["error"] = "io.pyman.InternalError"
        talk.send_raw(json.dumps(reply).encode() + b"\0", [own] * sent)

    server.script["Container.Run"] = script
    with pytest.raises(ProtocolError):
        connection.call("Container.Run")
    _only_one_left(own, other)


def test_descriptors_of_an_error_are_closed(server: Scripted, connection: wire.Connection) -> None:
    own, other = os.pipe()
    reply = b'{"error":"io.pyman.NameInUse","parameters":{"message":"m"},"descriptors":2}\0'
    server.script["Container.Run"] = lambda talk: talk.send_raw(reply, [own, own])
    with pytest.raises(NameInUse):
        connection.call("Container.Run")
    _only_one_left(own, other)


def _only_one_left(own: int, other: int) -> None:
    """Nothing holds the pipe's end but the number that made it."""
    os.close(own)
    with pytest.raises(BrokenPipeError):
        os.write(other, b"x")
    os.close(other)


def test_more_than_sixteen_are_not_sent(connection: wire.Connection) -> None:
    with pytest.raises(InvalidArgument, match="cannot pass 17 descriptors"):
        connection.call("Container.Run", {}, [0] * 17)


# The other end goes away


@pytest.mark.parametrize(
    ("method", "hint"),
    [
        ("Container.Stop", "what was begun goes on"),
        ("Network.Connect", "finishes what was begun or takes it back"),
    ],
)
def test_a_connection_that_breaks_in_mid_call_says_what_becomes_of_the_work(
    server: Scripted, connection: wire.Connection, method: str, hint: str
) -> None:
    server.script[method] = lambda talk: talk.hang_up()
    with pytest.raises(EngineUnavailable, match=f"cannot finish {method}: .* {hint}"):
        connection.call(method)
    assert len(server.calls) == 1, "a request that may change something is never sent twice"


@pytest.mark.parametrize("times", [1, 2])
def test_what_only_asks_is_asked_of_the_next_one(
    server: Scripted, connection: wire.Connection, times: int
) -> None:
    """Once: it is not asked for ever."""
    server.script["Container.List"] = lambda talk: (
        talk.hang_up() if len(server.calls) <= times else talk.send({"containers": []})
    )
    if times == 1:
        assert connection.call("Container.List") == {"containers": []}
    else:
        with pytest.raises(EngineUnavailable, match=r"cannot finish Container\.List"):
            connection.call("Container.List")
    assert len(server.calls) == 2


def test_a_peer_that_went_away_between_two_calls_is_replaced(
    server: Scripted, connection: wire.Connection
) -> None:
    gone = threading.Event()

    def once(talk: Talk) -> None:
        talk.send({"n": len(server.calls)})
        talk.hang_up()
        gone.set()

    server.script["System.Version"] = once
    assert connection.call("System.Version") == {"n": 1}
    assert gone.wait(20)
    assert connection.call("System.Version") == {"n": 2}


def test_an_answer_that_came_before_the_hang_up_is_read(
    server: Scripted, connection: wire.Connection
) -> None:
    def refuse(talk: Talk) -> None:
        talk.fail(InvalidArgument("cannot read more than 1 MiB"))
        talk.hang_up()

    server.script["Container.Create"] = refuse
    with pytest.raises(InvalidArgument, match="1 MiB"):
        connection.call("Container.Create", {"x": "y" * 1000})


def test_nobody_at_the_socket_is_engine_unavailable(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cannot reach a supervisor"):
        wire.Connection(str(tmp_path / "absent"))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    with pytest.raises(EngineUnavailable, match="Connection refused"):
        wire.Connection(str(tmp_path / "stale"))


def test_a_path_longer_than_an_address_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with Scripted(str(deep / "pyman.sock")) as server, wire.Connection(server.path) as connection:
        server.script["System.Version"] = lambda talk: talk.send({"Version": "1"})
        assert connection.call("System.Version") == {"Version": "1"}


# Which supervisor


@pytest.fixture
def selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wire.Selection:
    path = str(tmp_path / "s.sock")
    monkeypatch.setattr(wire, "socket_path", lambda *_: path)
    return wire.Selection(environ={}, uid=0)


def test_a_supervisor_is_started_where_none_answers(
    selection: wire.Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Scripted] = []
    monkeypatch.setattr(launch, "launch", lambda given: started.append(Scripted(given.socket)))
    with pytest.raises(EngineUnavailable):
        wire.connect(selection, start=False)
    assert not started
    with wire.connect(selection) as connection:
        (server,) = started
        server.script["System.Version"] = lambda talk: talk.send({"Version": "1"})
        assert connection.call("System.Version") == {"Version": "1"}
        server.close()


def test_the_given_options_are_compared_with_the_supervisor(selection: wire.Selection) -> None:
    selection.runroot = "/srv/../srv/run"
    with Scripted(selection.socket) as server:
        server.script["System.Match"] = lambda talk: talk.fail(OptionDiffers("cannot use --runroot"))
        with pytest.raises(OptionDiffers):
            wire.connect(selection)
        assert server.calls == [("System.Match", {"runroot": "/srv/run"})]


@pytest.mark.parametrize(
    "root, config, environ",
    [
        ("", "", {}),
        ("/srv/a", "", {}),
        ("/srv/../srv/a", "", {}),
        ("", "/etc/x.conf", {}),
        ("", "", {"CONTAINERS_CONF": "/etc/x.conf"}),
        ("/srv/a", "/etc/x.conf", {}),
        ("/srv/ä", "", {}),
    ],
)
@pytest.mark.parametrize("uid", [0, 4711])
@pytest.mark.parametrize("xdg", ["", "/run/user/4711/", "relative"])
def test_client_and_supervisor_agree_on_the_socket(
    tmp_path: Path, root: str, config: str, environ: dict[str, str], uid: int, xdg: str
) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("")
    places = {key: str(conf) for key in environ}
    places.update({"HOME": str(tmp_path)} | ({"XDG_RUNTIME_DIR": xdg} if xdg else {}))
    config = str(conf) if config else ""
    layout = Layout.of(load(Options(root=root or None, config=config or None), places, uid))
    assert layout.socket == wire.socket_path(root, config, places, uid)


# JSON


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_values)
def test_json_is_what_every_other_program_reads_and_writes(value: Any) -> None:
    assert json.loads(wire.encode(value)) == value
    assert wire.decode(json.dumps(value)) == value
    assert (
        wire.decode(json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value
    )


@given(st.text(max_size=30))
def test_what_is_not_json_is_refused_as_json_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text, strict=False)
    except ValueError:
        with pytest.raises(ProtocolError):
            wire.decode(text)
    else:
        assert repr(wire.decode(text)) == repr(expected)  # NaN is not what it is equal to


def test_what_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot write a object as JSON"):
        wire.encode({"a": object()})


# Start-up


def test_the_stream_verbs_import_nothing_slow() -> None:
    slow = {
        "argparse", "array", "asyncio", "collections", "contextlib", "ctypes", "datetime", "enum", "functools",
        "hashlib", "json", "re", "signal", "socket", "struct", "subprocess", "termios", "threading", "typing",
    }  # fmt: skip
    program = (
        "import sys; import pyman.cli.main, pyman.cli.context, pyman.cli.run, pyman.cli.exec, pyman.cli.attach,"
        " pyman.cli.logs, pyman.cli.events; print(*sys.modules)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]);" + program,
            os.getcwd(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert slow.isdisjoint(done.stdout.split())
