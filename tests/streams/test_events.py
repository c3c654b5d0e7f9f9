"""events against a scripted supervisor: gaps, resuming, and what is asked for."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import EngineStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.streams.conftest import Play
    from tests.support.scripted import Talk


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "ID": "6c866e400574" + "0" * 52,
        "Image": "",
        "Name": "web",
        "Status": "start",
        "Time": "2026-11-22T11:08:30.681110505Z",
        "TimeNano": 1795345710681110505,
        "Type": "container",
        "Attributes": {},
        "Seq": number,
        "Actor": None,
        **changes,
    }


def in_turn(*turns: Callable[[Talk], None]) -> Callable[[Talk], None]:
    """A different answer for each call."""
    left = list(turns)

    def answer(talk: Talk) -> None:
        left.pop(0)(talk)

    return answer


def subscription(
    first: int, *messages: dict[str, Any], then: Callable[[Talk], None], journal: str = "j"
) -> Any:
    def answer(talk: Talk) -> None:
        talk.send({"journal": journal, "seq": first}, continues=True)
        for message in messages:
            talk.send(message, continues=True)
        then(talk)

    return answer


def last(talk: Talk) -> None:
    talk.send({})


def lost(talk: Talk) -> None:
    talk.hang_up()


def stopped(talk: Talk) -> None:
    talk.fail(EngineStopped("cannot go on: the supervisor stops"))


@pytest.mark.parametrize("broken", [lost, stopped])
def test_a_broken_subscription_is_resumed_after_the_last_event_seen(
    play: Play, broken: Callable[[Talk], None]
) -> None:
    play.server.script["Event.Subscribe"] = in_turn(
        subscription(7, {"event": event(8)}, {"event": event(9)}, then=broken),
        subscription(11, {"event": event(9)}, {"event": event(10)}, then=broken),
        subscription(11, {"event": event(11)}, then=last),
    )
    code, out, err = play.run("events", "--format", "{{.Seq}}", "-f", "type=container")
    assert (code, out, err) == (0, b"8\n9\n10\n11\n", b""), "once each, also what is sent twice"
    filters = {"type": ["container"]}
    assert play.server.asked("Event.Subscribe") == [
        {"filters": filters, "stream": True},
        {"filters": filters, "stream": True, "journal": "j", "since_seq": 9},
        {"filters": filters, "stream": True, "journal": "j", "since_seq": 10},
    ]


def test_a_subscription_to_new_events_that_broke_before_the_first_one_misses_none(play: Play) -> None:
    play.server.script["Event.Subscribe"] = in_turn(
        subscription(7, then=lost), subscription(9, {"event": event(8)}, then=last)
    )
    assert play.run("events", "--format", "{{.Seq}}")[1] == b"8\n"
    assert play.server.asked("Event.Subscribe")[1]["since_seq"] == 7


def test_a_look_at_the_past_that_broke_before_the_first_event_is_asked_for_again(play: Play) -> None:
    play.server.script["Event.Subscribe"] = in_turn(
        subscription(7, then=lost), subscription(7, {"event": event(3)}, then=last)
    )
    assert play.run("events", "--since", "5", "--format", "{{.Seq}}")[1] == b"3\n"
    assert [request.get("since") for request in play.server.asked("Event.Subscribe")] == [5 * 10**9] * 2


def test_a_gap_is_told_on_standard_error(play: Play) -> None:
    gap = {"first": 5, "last": 9, "reason": "retention"}
    play.server.script["Event.Subscribe"] = subscription(12, {"gap": gap}, {"event": event(10)}, then=last)
    code, out, err = play.run("events", "--since-seq", "4", "--format", "{{.Seq}}")
    assert (code, out) == (0, b"10\n")
    assert err == b"Warning: events 5 to 9 cannot be shown: they are no longer kept\n"


def test_a_gap_is_a_line_of_its_own_in_json(play: Play) -> None:
    gap = {"first": 5, "last": 9, "reason": "power-cut"}
    play.server.script["Event.Subscribe"] = subscription(12, {"gap": gap}, {"event": event(10)}, then=last)
    code, out, err = play.run("events", "--since-seq", "4", "--format", "json")
    assert (code, err) == (0, b"")
    first, second = out.splitlines()
    assert json.loads(first) == {"Type": "gap", "First": 5, "Last": 9, "Reason": "power-cut"}
    assert json.loads(second) == event(10)


def test_a_number_that_no_event_has_yet_is_told(play: Play) -> None:
    play.server.script["Event.Subscribe"] = subscription(12, then=last)
    code, out, err = play.run("events", "--since-seq", "500", "--stream=false")
    assert (code, out, err) == (0, b"", b"Warning: there is no event 500 yet: the last one is 12\n")


def test_a_template_may_name_any_field_of_podman_s_whatever_the_event(play: Play) -> None:
    died = event(2, Status="died", Attributes={"containerExitCode": "3", "a": "b"})
    play.server.script["Event.Subscribe"] = subscription(2, {"event": event(1)}, {"event": died}, then=last)
    form = (
        "{{.Status}} {{.ContainerExitCode}} {{.Network}}|{{.HealthStatus}}|{{.Details.Attributes}} {{.Time}}"
    )
    stamp = b"2026-11-22 11:08:30.681110505 +0000 UTC"
    assert play.run("events", "--stream=false", "--format", form) == (
        0,
        b"start 0 ||map[] " + stamp + b"\ndied 3 ||map[a:b containerExitCode:3] " + stamp + b"\n",
        b"",
    )


def test_another_journal_is_followed_from_its_beginning(play: Play) -> None:
    gap = {"first": 502, "last": 501, "reason": "journal"}
    play.server.script["Event.Subscribe"] = in_turn(
        subscription(500, {"event": event(501)}, then=lost),
        subscription(2, {"gap": gap}, {"event": event(1)}, {"event": event(2)}, then=lost, journal="k"),
        subscription(3, {"event": event(3)}, then=last, journal="k"),
    )
    code, out, err = play.run("events", "--format", "{{.Seq}}")
    assert (code, out) == (0, b"501\n1\n2\n3\n")
    assert err == b"Warning: event 501 is none of this journal, which is shown from its beginning\n"
    third = play.server.asked("Event.Subscribe")[2]
    assert (third["journal"], third["since_seq"]) == ("k", 2)


def test_an_end_in_the_future_ends_a_quiet_stream(play: Play) -> None:
    play.server.script["Event.Subscribe"] = in_turn(
        subscription(7, {"event": event(8)}, then=lambda talk: talk.wait_for_end()),
        subscription(9, {"event": event(9)}, then=last),
    )
    begin = time.monotonic()
    assert play.run("events", "--until", "500ms", "--format", "{{.Seq}}")[:2] == (0, b"8\n9\n")
    assert 0.4 < time.monotonic() - begin < 20
    final = play.server.asked("Event.Subscribe")[1]
    assert (final["stream"], final["since_seq"]) == (False, 8)


def test_a_part_of_the_past_begins_at_its_beginning(play: Play) -> None:
    play.server.script["Event.Subscribe"] = subscription(7, then=last)
    play.run("events", "--stream=false")
    play.run("events", "--until", "2026-01-01")
    requests = play.server.asked("Event.Subscribe")
    assert [(request["since"], request["stream"]) for request in requests] == [(0, False), (0, False)]


def test_every_type_has_podman_s_line(play: Play) -> None:
    identity = "6c866e400574" + "0" * 52
    kinds = [
        event(1, Attributes={"a": "b"}),
        event(2, Type="system", Status="refresh", ID="", Name=""),
        event(3, Type="image", Status="pull", Name="busybox"),
        event(4, Type="volume", Status="create", ID="", Name="data"),
        event(5, Type="network", Status="connect", Name="net"),
    ]
    messages = [{"event": one} for one in kinds]
    play.server.script["Event.Subscribe"] = subscription(7, *messages, then=last)
    code, shown, err = play.run("events", "--stream=false")
    assert err == b""
    assert code == 0
    out = shown.decode()
    stamps, texts = zip(*((line[:38], line[39:]) for line in out.splitlines()), strict=True)
    assert len(set(stamps)) == 1
    assert [text.partition(" ")[2] for text in texts] == [
        f"container start {identity} (image=, name=web, a=b)",
        "system refresh",
        f"image pull {identity} busybox",
        "volume create data",
        f"network connect {identity} (container={identity}, name=net)",
    ]


def test_an_interrupt_ends_it_quietly(play: Play) -> None:
    play.server.script["Event.Subscribe"] = subscription(
        7, {"event": event(8)}, then=lambda talk: talk.wait_for_end()
    )
    client = play.spawn("events", "--format", "{{.Seq}}")
    assert client.stdout is not None
    assert client.stdout.readline() == b"8\n"
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=20) == (b"", b"")
    assert client.returncode == 130
