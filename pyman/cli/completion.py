"""Shell completion: `pyman completion SHELL` prints a small script that asks the hidden `pyman __complete`.

`__complete` is given the words of the line, the unfinished one last, and prints a candidate per line with
its help after a tab. `:files` or `:directories` as a line asks the shell to add paths. All it knows comes
from the tables of options and commands, and the containers' names from a supervisor, if one is running:
completing never starts one.
"""

from __future__ import annotations

from pyman.cli.context import LOG_LEVELS
from pyman.cli.options import FLAG, INSTRUCTIONS, REFUSED, TEXT, TRUE
from pyman.errors import InvalidArgument, PymanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["COMPLETE_OPTIONS", "COMPLETION_OPTIONS", "complete", "completion"]

COMPLETION_OPTIONS: tuple[Option, ...] = (
    ("file", "f", TEXT, "FILE", "Write the script to a file"),
    ("no-desc", "", FLAG, "", "Leave the explanations out"),
)
COMPLETE_OPTIONS: tuple[Option, ...] = (("no-desc", "", FLAG, "", ""),)

_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_CHOICES = {
    "attach": ("stdin", "stdout", "stderr"),
    "cgroupns": ("host", "private"),
    "change": INSTRUCTIONS,
    "compression-format": ("gzip", "zstd", "none"),
    "cgroups": ("enabled", "disabled", "no-conmon", "split"),
    "condition": ("running", "paused", "stopped", "exited", "removed"),
    "ipc": ("host", "private", "shareable", "none"),
    "log-driver": ("k8s-file", "json-file", "none", "passthrough"),
    "log-level": LOG_LEVELS,
    "log-opt": ("path=", "max-size=", "max-file=", "tag="),
    "network": ("bridge", "container:", "host", "none", "ns:", "pasta", "private", "slirp4netns"),
    "pid": ("host", "private"),
    "policy": ("always", "missing", "newer", "never"),
    "pull": ("always", "missing", "newer", "never"),
    "restart": _POLICIES,
    "signal": ("HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"),
    "sort": ("command", "created", "id", "image", "names", "runningfor", "size", "status"),
    "stop-signal": ("HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"),
    "type": ("container", "image", "network", "volume", "all"),
    "uts": ("host", "private"),
}
_OWN_CHOICES = {
    "container prune filter": ("label=", "until="),
    "image prune filter": ("label=", "until="),
    "images filter": (
        *("before=", "containers=", "dangling=", "digest=", "id=", "intermediate=", "label=", "manifest="),
        *("readonly=", "reference=", "since=", "until="),
    ),
    "images sort": ("created", "id", "repository", "size", "tag"),
    "manifest push format": ("oci", "v2s2"),
    "network create driver": ("bridge", "macvlan", "ipvlan"),
    "network create ipam-driver": ("host-local", "dhcp", "none"),
    "network create opt": (
        *("bclim=", "isolate=", "metric=", "mode=", "mtu=", "no_default_route=", "parent=", "vlan=", "vrf="),
    ),
    "network ls filter": ("dangling=", "driver=", "id=", "label=", "name=", "until="),
    "network prune filter": ("label=", "until="),
    "ps filter": (
        *("ancestor=", "before=", "command=", "exited=", "health=", "id=", "label=", "name=", "network="),
        *("restart-policy=", "since=", "status=", "until=", "volume="),
    ),
    "push format": ("oci", "v2s2"),
    "secret create driver": ("file", "pass", "shell"),
    "secret create driver-opts": (
        *("path=", "root=", "key=", "gpghomedir="),
        *("list=", "lookup=", "store=", "delete="),
    ),
    "secret ls filter": ("id=", "name="),
    "system prune filter": ("label=", "until="),
    "volume ls filter": (
        *("anonymous=", "dangling=", "driver=", "label=", "name=", "opt=", "scope=", "since=", "until="),
    ),
    "volume prune filter": ("all=", "anonymous=", "label=", "since=", "until="),
    "volume create opt": ("copy", "device=", "nocopy", "o=", "type="),
    "search filter": ("is-automated", "is-official", "stars="),
    "save format": ("docker-archive", "docker-dir", "oci-archive", "oci-dir"),
}
"""Where an option means something else for one command."""
_STATES = {
    "attach": ("running", "paused"),
    "exec": ("running",),
    "kill": ("running", "paused", "stopping"),
    "pause": ("running",),
    "port": ("running",),
    "start": ("created", "initialized", "exited", "stopped"),
    "stats": ("running", "paused", "stopping"),
    "stop": ("running", "paused", "stopping"),
    "top": ("running", "paused", "stopping"),
    "unpause": ("paused",),
}
"""Verbs that make sense in some states only; the others take every container."""


def completion(ctx: Context, args: Parsed) -> int:
    shell = args.arguments[0]
    if shell not in _SCRIPTS:
        raise InvalidArgument(
            f"cannot complete for the shell '{shell}'", hint=f"known are {', '.join(_SCRIPTS)}"
        )
    script = _SCRIPTS[shell].replace("@FLAGS@", "--no-desc " if args.no_desc else "")
    if not args.file:
        ctx.write(script)
        return 0
    try:
        with open(args.file, "w", encoding="utf-8") as file:
            file.write(script)
    except OSError as problem:
        raise InvalidArgument(
            f"cannot write '{args.file}': {problem.strerror}", subject=args.file
        ) from problem
    return 0


def complete(ctx: Context, args: Parsed) -> int:
    words = args.arguments or [""]
    current = words[-1]
    for candidate, text in _Line(words).candidates():
        if candidate.startswith((current, ":")):
            ctx.out(candidate if args.no_desc or not text else f"{candidate}\t{text}")
    return 0


class _Line:
    """What is known of the words before the unfinished one."""

    def __init__(self, words: Sequence[str]) -> None:
        from pyman.cli.main import GLOBAL_OPTIONS

        self.current = words[-1]
        self.path = ""
        self.command = ""
        self.table: Iterable[Option] = GLOBAL_OPTIONS
        self.arguments: list[str] = []
        self.flags: set[str] = set()
        self.globals: list[str] = []
        self.pending: Option | None = None
        self.only_arguments = False
        self.lost = False
        for word in words[:-1]:
            self._take(word)

    def _take(self, word: str) -> None:
        if not self.command and not self.path:
            self.globals.append(word)
        if self.pending is not None:
            self.pending = None
        elif self.only_arguments:
            self.arguments.append(word)
        elif word == "--":
            self.only_arguments = True
        elif word.startswith("-") and len(word) > 1:
            option = self._option(word)
            if option is not None:
                self.flags.add(option[0].split("|")[0])
                takes = option[2] not in (FLAG, TRUE) and not (option[2] == REFUSED and not option[3])
                whole = "=" not in word and (word.startswith("--") or word.endswith(option[1]))
                self.pending = option if takes and whole else None
        elif self.command:
            self._argument(word)
        else:
            self._step(word)

    def _option(self, word: str) -> Option | None:
        name = word[2:].partition("=")[0] if word.startswith("--") else ""
        for option in self.table:
            if name and name in option[0].split("|"):
                return option
            if not name and option[1] and option[1] == word[-1]:
                return option
        return None

    def _argument(self, word: str) -> None:
        from pyman.cli.main import STOPS

        self.arguments.append(word)
        self.only_arguments = self.command in STOPS

    def _step(self, word: str) -> None:
        from pyman.cli.main import ALIASES, COMMANDS, GROUPS

        if self.globals and not self.path:
            self.globals.pop()
        path = f"{self.path} {word}".strip()
        target = ALIASES.get(path, path)
        if target in COMMANDS:
            self.command = target
            module, _function, table = COMMANDS[target][:3]
            self.table = getattr(__import__(f"pyman.cli.{module}", None, None, (table,)), table)
        elif target in GROUPS:
            self.path = target
        else:
            self.lost = True

    # -- what fits ------------------------------------------------------------------------------

    def candidates(self) -> Iterable[tuple[str, str]]:
        if self.lost:
            return ()
        if self.pending is not None:
            return self._values(self.pending, "")
        if not self.only_arguments and self.current.startswith("-"):
            name, equals, _ = self.current.partition("=")
            option = self._option(name) if equals and name.startswith("--") else None
            return self._values(option, f"{name}=") if option is not None else self._options()
        if not self.command:
            return self._commands()
        return self._arguments()

    def _options(self) -> Iterable[tuple[str, str]]:
        for names, _short, kind, _metavar, text in (*self.table, ("help", "", FLAG, "", "Show this help")):
            if text and kind != REFUSED:
                yield "--" + names.split("|")[0], text

    def _values(self, option: Option, prefix: str) -> Iterable[tuple[str, str]]:
        name, metavar = option[0].split("|")[0], option[3]
        for choice in _OWN_CHOICES.get(f"{self.command} {name}", _CHOICES.get(name, ())):
            yield prefix + choice, ""
        if name == "network" and option[3] == "MODE":
            yield from self._modes(prefix)
        if metavar in ("FILE", "DIR"):
            yield ":files" if metavar == "FILE" else ":directories", ""

    def _modes(self, prefix: str) -> Iterable[tuple[str, str]]:
        """Networks, or containers whose network is joined."""
        joined = "container:"
        if self.current.startswith(prefix + joined):
            for container in self._ask("Container.List", {"all": True}, "containers"):
                yield f"{prefix}{joined}{container['Names'][0]}", container["State"]
            return
        for network in self._ask("Network.List", {}, "networks"):
            yield prefix + network["name"], network["driver"]

    def _commands(self) -> Iterable[tuple[str, str]]:
        from pyman.cli.main import ALIASES, COMMANDS, GROUPS

        prefix = f"{self.path} " if self.path else ""
        rows = {name: row[6] for name, row in COMMANDS.items()}
        rows.update({alias: rows[name] for alias, name in ALIASES.items() if self.path})
        rows.update(GROUPS)
        for name in sorted(rows):
            word = name.removeprefix(prefix)
            if name.startswith(prefix) and rows[name] and " " not in word:
                yield word, rows[name]

    def _arguments(self) -> Iterable[tuple[str, str]]:
        from pyman.cli.main import COMMANDS

        usage, most = COMMANDS[self.command][3], COMMANDS[self.command][5]
        if 0 <= most <= len(self.arguments):
            return ()
        if "rootfs" in self.flags and not self.arguments:
            return ((":directories", ""),)
        if self.command == "top" and (self.arguments or "latest" in self.flags):
            from pyman.descriptors import TITLES

            return TITLES.items()
        first = usage.lstrip("[").split("|")[0].split(" ")[0].rstrip("]").removesuffix("...")
        if first in ("CONTAINER", "IMAGE", "LIST", "NETWORK", "SECRET", "VOLUME"):
            if usage == "NETWORK CONTAINER":
                return self._containers() if self.arguments else self._networks()
            if ("..." in usage and "COMMAND" not in usage) or not self.arguments:
                return self._objects(usage)
            if "DESTINATION" in usage or usage == "IMAGE [IMAGE]":
                return self._objects("IMAGE")
            if first == "VOLUME":
                return ((":files", ""),)
            return ((":files", ""),) if "COMMAND" in usage else ()
        return self._others(usage)

    def _others(self, usage: str) -> Iterable[tuple[str, str]]:
        """Where no object of the engine is meant."""
        if usage == "NAME FILE|-":
            return ((":files", ""),) if self.arguments else ()
        if usage.startswith("FILE"):
            return ((":files", ""),) if not self.arguments else ()
        if "CONTEXT" in usage:
            return ((":files", ""),)
        if usage.startswith("[COMMAND") or self.command == "__complete":
            return self._commands()
        if usage in ("TERM", "[REGISTRY]"):
            return ()
        return [(choice, "") for choice in usage.strip("[]").split("|") if choice]

    def _objects(self, usage: str) -> Iterable[tuple[str, str]]:
        if "CONTAINER" in usage:
            yield from self._containers()
        if "IMAGE" in usage or "LIST" in usage:
            yield from self._images()
        if "VOLUME" in usage:
            yield from self._volumes()
        if "NETWORK" in usage:
            yield from self._networks()
        if "SECRET" in usage:
            yield from self._secrets()

    def _containers(self) -> Iterable[tuple[str, str]]:
        filters = {"status": list(_STATES[self.command])} if self.command in _STATES else {}
        for container in self._ask("Container.List", {"all": True, "filters": filters}, "containers"):
            words = (container["Names"][0], container["Id"][:12])
            text = " ".join(container["Command"])[:40]
            for word in words[: 2 if self.current and container["Id"].startswith(self.current) else 1]:
                if word not in self.arguments:
                    yield word, f"{container['State']}  {text}"

    def _volumes(self) -> Iterable[tuple[str, str]]:
        for volume in self._ask("Volume.List", {}, "volumes"):
            if volume["Name"] not in self.arguments:
                yield volume["Name"], volume["Driver"]

    def _networks(self) -> Iterable[tuple[str, str]]:
        for network in self._ask("Network.List", {}, "networks"):
            if network["name"] not in self.arguments:
                yield network["name"], network["driver"]

    def _secrets(self) -> Iterable[tuple[str, str]]:
        for secret in self._ask("Secret.List", {}, "secrets"):
            if secret["Spec"]["Name"] not in self.arguments:
                yield secret["Spec"]["Name"], secret["Spec"]["Driver"]["Name"]

    def _images(self) -> Iterable[tuple[str, str]]:
        """Names without what can be left out, or the ids that begin so."""
        from pyman.cli.images import split_name

        filters = {"manifest": ["true"]} if self.command.startswith("manifest") and not self.arguments else {}
        for image in self._ask("Image.List", {"filters": filters}, "images"):
            words = [*image["names"]] or [image["id"][:12]]
            for name in image["names"]:
                short = split_name(name)[0].rpartition("/")[2] + name[len(split_name(name)[0]) :]
                if self.current and short.startswith(self.current):
                    words.append(short)
            if self.current and image["id"].startswith(self.current):
                words.append(image["id"][:12])
            for word in dict.fromkeys(words):
                if word not in self.arguments:
                    yield word, image["id"][:12]

    def _ask(self, method: str, request: dict[str, Any], key: str) -> list[dict[str, Any]]:
        from pyman.cli.context import Context
        from pyman.cli.main import GLOBAL_OPTIONS
        from pyman.cli.options import parse
        from pyman.wire import connect

        try:
            ctx = Context(parse(self.globals, GLOBAL_OPTIONS, stop=True), [])
            with connect(ctx.selection, start=False) as connection:
                found: list[dict[str, Any]] = connection.call(method, request)[key]
        except PymanError:
            return []  # no supervisor, no names
        return found


_BASH = r"""# bash completion for pyman: source this file, or put it into bash-completion's directory.
_pyman() {
    local line=${COMP_LINE:0:COMP_POINT} kind=none candidate prefix= words=()
    COMPREPLY=()
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]}-1]}
    [[ $current == *[=:]* ]] && prefix=${current%"${current##*[=:]}"}
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
            :*) kind=${candidate#:} ;;
            *) COMPREPLY+=("${candidate#"$prefix"}") ;;
        esac
    done < <("${words[0]}" __complete --no-desc -- "${words[@]:1}" 2>/dev/null)
    if [[ $kind != none ]]; then
        compopt -o filenames 2>/dev/null
        local flag=-f
        [[ $kind == directories ]] && flag=-d
        while IFS= read -r candidate; do
            COMPREPLY+=("$candidate")
        done < <(compgen "$flag" -- "${current#"$prefix"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _pyman pyman
"""

_ZSH = r"""#compdef pyman
# zsh completion for pyman: put this file as _pyman into a directory of $fpath.
_pyman() {
    local candidate about kind=none
    local -a described
    while IFS=$'\t' read -r candidate about; do
        case $candidate in
            :*) kind=${candidate#:} ;;
            *) described+=("${candidate//:/\\:}${about:+:$about}") ;;
        esac
    done < <(${words[1]} __complete @FLAGS@-- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#described )) && _describe pyman described
    [[ $kind == files ]] && _files
    [[ $kind == directories ]] && _files -/
    return 0
}
if [[ $funcstack[1] == _pyman ]]; then
    _pyman "$@"
else
    compdef _pyman pyman
fi
"""

_FISH = r"""# fish completion for pyman: put this file as pyman.fish into ~/.config/fish/completions.
function __pyman_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete @FLAGS@-- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':directories'
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c pyman -f -a '(__pyman_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
