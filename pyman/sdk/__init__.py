"""The asynchronous client, on anyio: it runs under asyncio and under Trio. Its front door is `pyman.client`.

- One `Engine` holds a pool of connections; every call has one for itself while it lasts.
- Results are the Structs of `pyman.api`, errors those of `pyman.errors`, as the supervisor raised them.
- A call that is cancelled ends its connection, and that ends the wait at the supervisor.
- No background tasks: work happens only inside the calls that are awaited.
"""
