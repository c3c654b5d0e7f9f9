"""A program that commits events and copies them into a log, to be killed while it does.

`python -m tests.events.copier DATABASE LOG`: a line for each event, flushed.
"""

from __future__ import annotations

import os
import sys

import trio

from supervisor.events.journal import Journal
from supervisor.events.sinks import FileSink
from supervisor.state.database import Database
from tests.events.samples import draft


async def main(path: str, log: str) -> None:
    with Database.open(path) as database:
        journal = Journal(database)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FileSink(log, 20_000_000).run, journal)
            while True:
                (event,) = await database.commit([], [draft()])
                os.write(1, b"%d\n" % event.seq)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
