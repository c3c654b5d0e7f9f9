"""An engine's secrets in a directory of a test's own, and supervisors that work on them one after the other."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio
import trio.testing

from supervisor.runtime.secrets.book import Secrets
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pyman.api.event import Event
    from supervisor.settings.model import Settings


class Place:
    """Of an engine: its settings, and where its secrets are."""

    def __init__(self, path: Path, config: str = "") -> None:
        options = Options(root=str(path / "root"), runroot=str(path / "run"), tmpdir=str(path / "tmp"))
        (path / "containers.conf").write_text("[pyman]\ncall_deadline = 5\n" + config)
        found = load(options, {"CONTAINERS_CONF": str(path / "containers.conf")}, 0)
        self.settings: Settings = msgspec.structs.replace(
            found, xdg=msgspec.structs.replace(found.xdg, home=str(path))
        )
        self.layout = Layout.of(self.settings)
        make_directories(self.layout)
        self.directory = Path(self.layout.secrets)

    def named(self) -> dict[str, str]:
        """What secrets.json has: ids by names."""
        path = self.directory / "secrets.json"
        return dict(json.loads(path.read_text())["nameToID"]) if path.exists() else {}

    def kept(self) -> dict[str, bytes]:
        """What the file driver has: data by ids."""
        path = self.directory / "filedriver/secretsdata.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        return {id: base64.b64decode(text) for id, text in found.items()}

    def litter(self) -> list[str]:
        """Files that nobody needs."""
        known = {"secrets.json", "secrets.lock", "secretsdata.json", "secretsdata.lock", "filedriver"}
        return [path.name for path in self.directory.rglob("*") if path.name not in known]


@contextmanager
def opened(place: Place, told: list[Event] | None = None) -> Iterator[tuple[Secrets, Database]]:
    with Database.open(place.layout.database) as database:
        if told is not None:
            database.on_events = told.extend
        limiter = trio.CapacityLimiter(4)
        yield Secrets(place.layout.secrets, database, lambda: place.settings, limiter, limiter), database


def carried_out(place: Place, work: Callable[[Secrets], Awaitable[Any]]) -> list[tuple[str, str]]:
    """By a new supervisor that settles first. What it tells: status and id."""
    told: list[Event] = []

    async def main() -> None:
        with opened(place, told) as (book, database):
            async with trio.open_nursery() as nursery:
                book.recover(nursery, database.load().intents)
                await work(book)
            assert database.load().intents == {}

    trio.run(main)
    return [(event.status, event.id) for event in told]


async def nothing(_book: Secrets) -> None:
    return
