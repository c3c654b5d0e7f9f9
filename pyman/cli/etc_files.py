"""Options of the files in a container's /etc that the engine writes."""

from __future__ import annotations

from pyman.cli.options import CSV, FLAG, TEXT
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["ETC_OPTIONS", "etc_settings"]

ETC_OPTIONS: tuple[Option, ...] = (
    ("add-host", "", CSV, "NAME[;NAME…]:IP", "Add an entry to /etc/hosts; host-gateway as IP: the host's"),
    ("chrootdirs", "", CSV, "DIR", "Have these files below directories of the container, too"),
    ("dns", "", CSV, "IP", "Name server in /etc/resolv.conf; none: leave the image's file as it is"),
    ("dns-option|dns-opt", "", CSV, "OPTION", "Option in /etc/resolv.conf"),
    ("dns-search", "", CSV, "DOMAIN", "Search domain in /etc/resolv.conf; a dot: none"),
    ("hosts-file", "", TEXT, "FILE", "What /etc/hosts has besides: a file, image or none"),
    ("no-hostname", "", FLAG, "", "Leave the image's /etc/hostname as it is"),
    ("no-hosts", "", FLAG, "", "Leave the image's /etc/hosts as it is"),
    ("tz", "", TEXT, "ZONE", "Time zone; local: the host's"),
)

_COPIED = {
    "add_host": "hostadd",
    "chrootdirs": "chroot_directories",
    "dns_option": "dns_option",
    "dns_search": "dns_search",
    "hosts_file": "base_hosts_file",
    "no_hostname": "use_image_hostname",
    "tz": "timezone",
}


def etc_settings(args: Parsed) -> dict[str, Any]:
    """Raises InvalidArgument."""
    settings = {field: value for option, field in _COPIED.items() if (value := getattr(args, option))}
    if args.given("no_hosts"):
        settings["use_image_hosts"] = args.no_hosts
    if "none" in args.dns:
        if len(args.dns) > 1:
            raise InvalidArgument("cannot use --dns none together with another --dns")
        settings["use_image_resolve_conf"] = True
    elif args.dns:
        settings["dns_server"] = args.dns
    return settings
