"""udhcpc, the DHCP client of busybox, in a container's network namespace: how it is begun, and what it calls.

It calls a program for whatever happens. That is a shell, with what has happened as its script: a file of that name in the
directory in which the client works, so that nothing there has to be executable (/run often may have nothing that is). The
script puts the address and the default route on the interface itself, so that a lease is renewed, changed and lost while
no supervisor lives; and it writes down what there is now (`lease.py` reads it).

Whoever answers on a network is a DHCP server: what it says is quoted everywhere, and checked before the kernel is told.
The address ends with the lease by itself, should nobody be there who could renew it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.errors import NotSupported
from supervisor.network.plans import DEFAULT_METRIC, is_ipv6
from supervisor.network.user_mode import programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.network.plans import Attachment, NetworkPlan

__all__ = ["PROGRAM", "SCRIPT", "arguments", "clear", "environment", "find", "lay_out", "record_of"]

PROGRAM = "udhcpc"
_EVENTS = ("bound", "deconfig", "leasefail", "nak", "renew")
_SHELL = "/bin/sh"
_ATTEMPTS = ("-t", "3", "-T", "2", "-A", "3")
"""Times that it asks, seconds between them, and until it begins anew."""
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")

SCRIPT = r"""# What udhcpc calls when something has happened to a lease: $0 says what.
set -fu
export LC_ALL=C
file=$PYMAN_LEASE interface=${interface:?}

# Of digits and dots, as of an address.
dotted() { case $1 in '' | *[!0-9.]*) return 1 ;; esac; }
number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

# Whoever reads it finds the former one or this one, never a part.
tell() { printf '%s\0' "$@" >"$file.new" && mv -f "$file.new" "$file"; }

on_interface() { [ -n "$(ip -4 -o address show dev "$interface" to "${1%/*}" 2>/dev/null)" ]; }

drop() {
    [ -z "$had" ] || ip -4 address delete "$had" dev "$interface" 2>/dev/null
    rm -f "$file.has"
    tell lost
}

routed() { ip -4 route add "$@" dev "$interface" proto dhcp 2>/dev/null; }

take() {
    dotted "${ip:-}" || exit 1
    case $ip in 0.* | 127.* | 22[4-9].* | 23?.* | 24?.* | 25?.*) exit 1 ;; esac
    bits=${mask:-32} via='' seconds=forever
    if ! number "$bits" || [ "$bits" -lt 1 ] || [ "$bits" -gt 32 ]; then exit 1; fi
    for each in ${router:-}; do
        if dotted "$each"; then via=$each; fi
        break
    done
    if number "${lease:-}" && [ "$lease" -lt 4294967295 ]; then
        seconds=$lease
        # The client asks anew no earlier.
        if [ "$seconds" -lt 16 ]; then seconds=16; fi
    fi
    if [ -n "$had" ] && [ "$had" != "$ip/$bits" ]; then
        ip -4 address delete "$had" dev "$interface" 2>/dev/null
    fi
    echo "$ip/$bits $via" >"$file.has"
    ip -4 address replace "$ip/$bits" broadcast + dev "$interface" \
        valid_lft "$seconds" preferred_lft "$seconds" || exit 1
    # Whoever has known somebody else by that address learns better: the kernel announces what a hardware address has when
    # that is set, though to what it was.
    if [ "$had" != "$ip/$bits" ]; then ip link set dev "$interface" address "$PYMAN_MAC"; fi
    if [ -n "$PYMAN_METRIC" ]; then
        if [ -n "$had_via" ] && [ "$had_via" != "$via" ]; then
            ip -4 route delete default via "$had_via" dev "$interface" metric "$PYMAN_METRIC" 2>/dev/null
        fi
        if [ -n "$via" ]; then
            routed default via "$via" metric "$PYMAN_METRIC" ||
                routed default via "$via" onlink metric "$PYMAN_METRIC"
        fi
    fi
    for each in $PYMAN_ROUTES; do
        IFS=, read -r to over metric <<END
$each
END
        routed "$to" via "$over" metric "$metric"
    done
    tell "ip=$ip" "prefix=$bits" "router=$via" "dns=${dns:-}" "domain=${domain:-}" \
        "lease=${lease:-}" "server=${serverid:-}"
}

had='' had_via=''
[ ! -e "$file.has" ] || read -r had had_via <"$file.has"
case $0 in
bound | renew) take ;;
deconfig)
    # It has just begun: what an earlier one has got may be got again.
    if [ -e "$file.begun" ]; then rm -f "$file.begun"; else drop; fi
    ;;
leasefail)
    # Unless it is there still, of an earlier one.
    [ -z "$had" ] || on_interface "$had" || drop
    ;;
esac
exit 0
"""


async def find(directories: Iterable[str], *, deadline: float) -> list[str]:
    """The words that it is begun with. `deadline`: seconds for a busybox to say whether it has it. NotSupported: it is not
    there, or what its script needs."""
    directories = list(directories)
    programs.find("ip", (), package="iproute2")
    with suppress(NotSupported):
        return [programs.find(PROGRAM, directories, package=PROGRAM)]
    with suppress(NotSupported):
        busybox = programs.find("busybox", directories, package=PROGRAM)
        if await programs.knows(busybox, PROGRAM, deadline=deadline):
            return [busybox, PROGRAM]
    raise NotSupported(
        f"cannot find the program '{PROGRAM}', which asks DHCP servers for addresses",
        subject=PROGRAM,
        hint=f"install the package {PROGRAM}, or busybox-static",
    )


def arguments(interface: str, hostname: str, former: str) -> Sequence[str]:
    """In the foreground; its lease is given back when it is ended by SIGTERM. `former`: the address that it asks for first;
    empty: any."""
    found = ["-f", "-R", "-i", interface, "-s", _SHELL, *_ATTEMPTS]
    if _HOSTNAME.fullmatch(hostname):
        found += ["-x", f"hostname:{hostname}"]
    if former:
        found += ["-r", former]
    return found


def environment(network: NetworkPlan, attachment: Attachment) -> dict[str, str]:
    """What the script has to know."""
    leads = not (network.internal or network.no_default_route)
    routes = [
        f"{each.destination},{each.gateway},{each.metric or DEFAULT_METRIC}"
        for each in network.routes
        if not is_ipv6(each.gateway)
    ]
    return {
        "PYMAN_LEASE": record_of(network.id),
        "PYMAN_MAC": attachment.mac,
        "PYMAN_METRIC": str(network.metric or DEFAULT_METRIC) if leads else "",
        "PYMAN_ROUTES": " ".join(routes),
    }


def record_of(network_id: str) -> str:
    """The file, in the client's directory, that says what there is on a network."""
    return f"lease-{network_id[:12]}"


def lay_out(directory: str, network_id: str, *, anew: bool) -> None:
    """Before it begins. `anew`: nothing of an earlier client counts. Blocks. OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for event in _EVENTS:
        _write(f"{directory}/{event}", SCRIPT)
    if anew:
        clear(directory, network_id)
    _write(f"{directory}/{record_of(network_id)}.begun", "")


def clear(directory: str, network_id: str) -> None:
    """Nothing is written down of a network. Blocks. OSError."""
    record = f"{directory}/{record_of(network_id)}"
    for name in (record, f"{record}.has", f"{record}.new", f"{record}.begun"):
        with suppress(FileNotFoundError):
            os.unlink(name)


def _write(path: str, text: str) -> None:
    """As a whole: a client of another network may be about to read it."""
    made = f"{path}.made"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    os.rename(made, path)
