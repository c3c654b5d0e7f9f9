"""The search for duplicates of a new IPv6 address, during which nobody can be reached by it: a second or two.

Programs that make a container's interface leave it to the kernel, and nobody else has that address: for as long as they do
so it is switched off. Both functions block for an instant.
"""

from __future__ import annotations

from contextlib import suppress

from supervisor.kernel import inside

__all__ = ["search_again", "search_no_more"]

_SEARCH = "/proc/sys/net/ipv6/conf/default/accept_dad"


def search_no_more(netns: int) -> str:
    """Of interfaces that come to be in a network namespace. What the setting was, for `search_again`; empty: there is
    nothing to set."""

    def work() -> str:
        with suppress(OSError), open(_SEARCH, "r+", encoding="ascii") as file:
            former = file.read().strip()
            file.seek(0)
            file.write("0")
            return former
        return ""

    return inside.joined(netns, "network", work)


def search_again(netns: int, former: str) -> None:
    """As it was."""

    def work() -> None:
        with suppress(OSError), open(_SEARCH, "w", encoding="ascii") as file:
            file.write(former)

    if former:
        inside.joined(netns, "network", work)
