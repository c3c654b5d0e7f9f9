"""A program that commits in a loop and prints what was committed, to be killed while it does.

`python -m tests.state.committer PATH TASKS`: each line is `SEQ TASK COUNT`, flushed.
"""

from __future__ import annotations

import os
import sys

import trio

from supervisor.state.database import Database, PutMeta
from tests.state.samples import draft


async def main(path: str, tasks: int) -> None:
    with Database.open(path) as database:
        before = {int(key): int(value) for key, value in database.load().meta.items()}

        async def work(task: int) -> None:
            count = before.get(task, 0)
            while True:
                count += 1
                change = PutMeta(str(task), str(count))
                event = draft("start", task, count=str(count))
                (committed,) = await database.commit([change], [event], durable=count % 16 == 0)
                os.write(1, b"%d %d %d\n" % (committed.seq, task, count))

        async with trio.open_nursery() as nursery:
            for task in range(tasks):
                nursery.start_soon(work, task)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
