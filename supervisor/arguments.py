"""The options of `pyman-supervisor`, the same for keeper, daemon and maintenance.

Paths become absolute when they are read, because the keeper leaves the directory it was started in.
Standard library only.
"""

from __future__ import annotations

import os
import sys

from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["COMMAND", "HELP", "SELECTING", "Arguments", "parse", "spelled"]

COMMAND = (sys.executable, "-P", os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py"))
"""How this program is started, by itself. By its file: what `-m` imports to find that takes 4 ms."""

SELECTING = ("root", "runroot", "tmpdir", "config")
"""Options that say which supervisor is meant; all of them are paths."""

_SETTING = (
    "log-level",
    "on-stop",
    "storage-driver",
    "runtime",
    "conmon",
    "cgroup-manager",
    "events-backend",
    "namespace",
    "volumepath",
    "network-config-dir",
)
"""Options that overrule one setting of the configuration files."""

_PATHS = frozenset((*SELECTING, "conmon", "volumepath", "network-config-dir"))

HELP = """\
Usage:
  pyman-supervisor [options]                     run the supervisor in the foreground
  pyman-supervisor [options] maintain renumber   work on the state while no supervisor runs: give every
                                                 object a new lock,
      migrate [--new-runtime NAME]               move containers to this version's form, or to another
                                                 OCI runtime,
      check [--repair]                           compare the state with itself,
      reset                                      remove every container and the whole state
Options:
  --root DIR          where containers and the state live; selects the supervisor
  --runroot DIR       where the storage keeps what does not outlive a boot
  --tmpdir DIR        where the engine keeps what does not outlive a boot
  --config FILE       configuration file to use instead of containers.conf
  --on-stop WORD      what becomes of containers at the end: leave or stop
  --log-level LEVEL   trace, debug, info, warn or error
"""


_LEVELS = {"trace": "debug", "warn": "warning", "fatal": "error", "panic": "error"}
"""Podman's words for ours."""


class Arguments:
    """`options` by name, without dashes in front; `words` is what is no option."""

    __slots__ = ("help", "options", "words")

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        self.words: list[str] = []
        self.help = False


def parse(words: Sequence[str], more: Sequence[str] = ()) -> Arguments:
    """Take a command line apart; `more` are further options that have a value. Raises InvalidArgument.

    What follows the first word that is no option is left as it stands, options included.
    """
    known = {*SELECTING, *_SETTING, *more}
    found = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            found.help = True
        elif not word.startswith("-"):
            found.words = [word, *rest]
            break
        else:
            name, equals, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or name not in known:
                raise InvalidArgument(
                    f"cannot use the option '{word}'", subject=word, hint="see 'pyman-supervisor --help'"
                )
            if not equals:
                if not rest:
                    raise InvalidArgument(f"cannot use the option '--{name}' without a value", subject=name)
                value = rest.pop(0)
            if name == "log-level":
                value = _LEVELS.get(value, value)
            found.options[name] = os.path.abspath(value) if name in _PATHS and value else value
    return found


def spelled(options: Mapping[str, str]) -> list[str]:
    """The options as words of a command line."""
    return [f"--{name}={value}" for name, value in options.items()]
