"""Messages come out of the stream as they went in, however it was cut."""

from __future__ import annotations

import contextlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import MessageTooLarge, ProtocolError
from supervisor.rpc.framing import Frames, decode_request
from supervisor.rpc.parameters import BadParameter, Parameters
from tests.rpc.contract import Echo

messages = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"x")), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "inner", "many", "number", "maybe", "method", "x"]), inner)
    ),
    max_leaves=20,
)


@given(messages, st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(message + b"\0" for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    frames, received = Frames(limit=40), []
    for start, end in itertools.pairwise([0, *cuts, len(stream)]):
        frames.feed(stream[start:end])
        while (frame := frames.next()) is not None:
            received.append(frame)
    assert received == sent
    assert frames.pending == 0


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_more_than_the_limit_is_ever_kept(stream: bytes, cut: int) -> None:
    """A message above it is refused at once, wherever its end would have been."""
    frames = Frames(limit=20)
    for start in range(0, len(stream), cut):
        frames.feed(stream[start : start + cut])
        try:
            while (frame := frames.next()) is not None:
                assert len(frame) <= 20
        except MessageTooLarge:
            assert max(map(len, stream.split(b"\0"))) > 20
            return
        assert frames.pending <= 20
    assert max(map(len, stream.split(b"\0"))) <= 20


@given(st.binary(max_size=200) | json_values.map(msgspec.json.encode))
def test_whatever_comes_is_a_call_or_a_protocol_error(message: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert decode_request(message).method is not None


@given(
    st.binary(max_size=200).map(msgspec.Raw)
    | json_values.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
)
def test_whatever_the_parameters_are_they_decode_or_are_refused(raw: msgspec.Raw) -> None:
    try:
        decoded = Parameters(Echo).decode(raw)
    except (BadParameter, ProtocolError):
        return
    assert isinstance(decoded, Echo)
    assert isinstance(decoded.text, str)


def test_a_recursive_type_is_checked_to_its_depth() -> None:
    decoder = Parameters(Tree)
    assert decoder.decode(msgspec.Raw(b'{"children":[{"children":[]}]}')) == Tree([Tree([])])
    with pytest.raises(BadParameter, match="unknown name") as caught:
        decoder.decode(msgspec.Raw(b'{"children":[{"children":[{"chidren":[]}]}]}'))
    assert caught.value.parameter == "children[0].children[0].chidren"


class Tree(msgspec.Struct):
    children: list[Tree] = []
