"""Which events the filters let through."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.api.event import Event
from pyman.errors import InvalidArgument
from supervisor.events.filters import compile_filters

ID = "abc123" + "0" * 58


def event(**fields: Any) -> Event:
    defaults: dict[str, Any] = {
        "id": ID,
        "image": "localhost/image:latest",
        "name": "web",
        "status": "start",
        "time": "",
        "time_nano": 0,
        "type": "container",
        "attributes": {"app": "shop", "tier": "front", "empty": ""},
        "seq": 1,
    }
    return Event(**{**defaults, **fields})


@pytest.mark.parametrize(
    "filters, fields, fits",
    [
        ({}, {}, True),
        ({"container": []}, {}, True),
        ({"container": ["web"]}, {}, True),
        ({"container": ["we"]}, {}, False),
        ({"container": ["abc1"]}, {}, True),
        ({"container": [ID]}, {}, True),
        ({"container": ["bc1"]}, {}, False),
        ({"container": ["web"]}, {"type": "volume"}, False),
        ({"container": ["db", "web"]}, {}, True),
        ({"event": ["start"]}, {}, True),
        ({"event": ["died"]}, {}, False),
        ({"event": ["died", "start"]}, {}, True),
        ({"status": ["start"]}, {}, True),
        ({"EVENT": ["start"]}, {}, True),
        ({"event": ["died"], "status": ["start"]}, {}, True),
        ({"type": ["container"]}, {}, True),
        ({"type": ["volume", "image"]}, {}, False),
        ({"label": ["app=shop"]}, {}, True),
        ({"label": ["app=other"]}, {}, False),
        ({"label": ["app"]}, {}, True),
        ({"label": ["absent"]}, {}, False),
        ({"label": ["empty="]}, {}, True),
        ({"label": ["app=other", "tier=front"]}, {}, True),
        ({"image": ["abc1"]}, {"type": "image", "name": "localhost/image:latest"}, True),
        ({"image": ["localhost/image:latest"]}, {"type": "image", "name": "localhost/image:latest"}, True),
        ({"image": ["localhost/image:latest"]}, {}, False),
        ({"pod": ["web"]}, {"type": "pod"}, True),
        ({"pod": ["web"]}, {}, False),
        ({"volume": ["data"]}, {"type": "volume", "id": "", "name": "data"}, True),
        ({"volume": ["da"]}, {"type": "volume", "id": "", "name": "data"}, True),
        ({"volume": ["other"]}, {"type": "volume", "id": "", "name": "data"}, False),
        ({"container": ["web"], "event": ["start"], "label": ["app"]}, {}, True),
        ({"container": ["web"], "event": ["died"]}, {}, False),
    ],
)
def test_values_are_alternatives_and_keys_must_all_fit(
    filters: dict[str, list[str]], fields: dict[str, Any], *, fits: bool
) -> None:
    matches = compile_filters(filters)
    assert (matches is None or matches(event(**fields))) is fits


def test_an_unknown_filter_is_named_with_those_that_are_known() -> None:
    with pytest.raises(InvalidArgument, match="'bogus'") as raised:
        compile_filters({"bogus": ["x"]})
    assert raised.value.hint == "the filters are container, event, image, label, pod, type, volume"
