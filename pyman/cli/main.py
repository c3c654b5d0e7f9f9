"""The command line's front door: which verb, where it lives, and what becomes of its failure.

`COMMANDS` has a row for each verb: the module and function that do it, the name of its table of options in
that module, the usage of its arguments, how few and how many of them there may be (-1: any number), and one
line of help. A module is imported when its verb is called, never before: that is what keeps start-up short.

The exit status is the verb's own; 125 for a failure of the engine or a mistake on the command line, or what
the error's class says (126, 127); 130 after an interrupt. An error is one line on standard error.
"""

from __future__ import annotations

import sys

from pyman.cli.context import Context, flush
from pyman.cli.options import FLAG, TEXT, Parsed, parse
from pyman.errors import InvalidArgument, PymanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.cli.options import Option

__all__ = [
    "ALIASES",
    "COMMANDS",
    "CONTAINER_VERBS",
    "GLOBAL_OPTIONS",
    "GROUPS",
    "IMAGE_VERBS",
    "PASSES",
    "STOPS",
    "main",
    "program",
    "resolve",
]

GLOBAL_OPTIONS: tuple[Option, ...] = (
    ("config", "", TEXT, "FILE", "Configuration file to use instead of containers.conf"),
    (
        "log-level",
        "",
        TEXT,
        "LEVEL",
        "How much is told of internal errors; and logged by a supervisor that this starts",
    ),
    ("namespace", "", TEXT, "NAME", "The part of the engine's state to see and to create containers in"),
    ("network-config-dir", "", TEXT, "DIR", "Where the definitions of networks are"),
    ("root", "", TEXT, "DIR", "Where containers and the state live; selects the supervisor"),
    ("runroot", "", TEXT, "DIR", "Where the storage keeps what does not outlive a boot"),
    ("runtime", "", TEXT, "NAME", "OCI runtime of new containers, a name or a path"),
    ("tmpdir", "", TEXT, "DIR", "Where the engine keeps what does not outlive a boot"),
    ("version", "v", FLAG, "", "Show the version of this program"),
)

Command = tuple[str, str, str, str, int, int, str]

_MANY = "CONTAINER [CONTAINER...]"
_LINE = "IMAGE|ROOTFS [COMMAND [ARG...]]"
_IMAGES = "IMAGE [IMAGE...]"
_BUILD = "[OPTION|CONTEXT...]"

# fmt: off
COMMANDS: dict[str, Command] = {
    "attach": ("attach", "attach", "ATTACH_OPTIONS", "CONTAINER", 0, 1, "Attach to a running container"),
    "build": ("build", "build", "BUILD_OPTIONS", _BUILD, 0, -1, "Build an image with Buildah"),
    "commit": ("rootfs", "commit", "COMMIT_OPTIONS", "CONTAINER [IMAGE]", 1, 2, "Make an image of a container"),
    "completion": ("completion", "completion", "COMPLETION_OPTIONS", "bash|zsh|fish", 1, 1, "Make a completion script"),
    "cp": ("copy", "copy", "COPY_OPTIONS", "[CONTAINER:]PATH|- [CONTAINER:]PATH|-", 2, 2, "Copy files into a container, out of it, or to another"),
    "create": ("create", "create", "CREATE_OPTIONS", _LINE, 1, -1, "Create a container without starting it"),
    "diff": ("diff", "diff", "DIFF_OPTIONS", "CONTAINER|IMAGE [CONTAINER|IMAGE]", 0, 2, "Show what a container or an image changes"),
    "events": ("events", "events", "EVENTS_OPTIONS", "", 0, 0, "Show what happens, as it happens"),
    "exec": ("exec", "execute", "EXEC_OPTIONS", "CONTAINER COMMAND [ARG...]", 1, -1, "Run a command in a container"),
    "exists": ("container", "exists", "EXISTS_OPTIONS", "CONTAINER", 1, 1, "Say by the exit status if it exists"),
    "export": ("rootfs", "export", "EXPORT_OPTIONS", "CONTAINER", 1, 1, "Write a container's files into a tar archive"),
    "help": ("help", "show", "HELP_OPTIONS", "[COMMAND...]", 0, -1, "Show the help of a command"),
    "history": ("history", "history", "HISTORY_OPTIONS", "IMAGE", 1, 1, "Show how an image was made"),
    "images": ("images", "images", "IMAGES_OPTIONS", "[IMAGE]", 0, 1, "List images"),
    "import": ("load", "import_image", "IMPORT_OPTIONS", "FILE|ADDRESS|- [NAME]", 1, 2, "Make an image of a tar archive of files"),
    "info": ("system", "info", "INFO_OPTIONS", "", 0, 0, "Show the host, the store and the supervisor"),
    "init": ("container", "init", "INIT_OPTIONS", _MANY, 0, -1, "Make containers ready to start"),
    "inspect": ("inspect", "inspect", "INSPECT_OPTIONS", "CONTAINER|IMAGE...", 0, -1, "Show everything known of containers and images"),
    "kill": ("container", "kill", "KILL_OPTIONS", _MANY, 0, -1, "Send a signal to containers"),
    "load": ("load", "load", "LOAD_OPTIONS", "", 0, 0, "Load images from an archive"),
    "login": ("login", "login", "LOGIN_OPTIONS", "[REGISTRY]", 0, 1, "Log in to a registry"),
    "logout": ("login", "logout", "LOGOUT_OPTIONS", "[REGISTRY]", 0, 1, "Forget the login for a registry"),
    "logs": ("logs", "logs", "LOGS_OPTIONS", _MANY, 0, -1, "Show what containers have written"),
    "mount": ("rootfs", "mount", "MOUNT_OPTIONS", "[CONTAINER...]", 0, -1, "Mount containers' files, or show those that are mounted"),
    "pause": ("container", "pause", "PAUSE_OPTIONS", _MANY, 0, -1, "Freeze all processes of containers"),
    "port": ("port", "port", "PORT_OPTIONS", "[CONTAINER [PORT[/PROTOCOL]]]", 0, 2, "Show at which ports of the host a container is reached"),
    "ps": ("ps", "ps", "PS_OPTIONS", "", 0, 0, "List containers"),
    "pull": ("pull", "pull", "PULL_OPTIONS", _IMAGES, 1, -1, "Bring images here from a registry or an archive"),
    "push": ("push", "push", "PUSH_OPTIONS", "IMAGE [DESTINATION]", 1, 2, "Send an image to a registry or elsewhere"),
    "rename": ("container", "rename", "RENAME_OPTIONS", "CONTAINER NAME", 2, 2, "Give a container another name"),
    "restart": ("container", "restart", "RESTART_OPTIONS", _MANY, 0, -1, "Stop containers and start them again"),
    "rm": ("container", "rm", "RM_OPTIONS", _MANY, 0, -1, "Remove containers"),
    "rmi": ("image", "rmi", "RMI_OPTIONS", _IMAGES, 0, -1, "Remove images"),
    "run": ("run", "run", "RUN_OPTIONS", _LINE, 1, -1, "Create and start a container"),
    "save": ("save", "save", "SAVE_OPTIONS", _IMAGES, 1, -1, "Write images into an archive"),
    "search": ("search", "search", "SEARCH_OPTIONS", "TERM", 1, 1, "Search registries for images"),
    "start": ("container", "start", "START_OPTIONS", _MANY, 0, -1, "Start containers"),
    "stats": ("stats", "stats", "STATS_OPTIONS", "[CONTAINER...]", 0, -1, "Show what containers use"),
    "stop": ("container", "stop", "STOP_OPTIONS", _MANY, 0, -1, "Stop containers"),
    "tag": ("image", "tag", "TAG_OPTIONS", "IMAGE NAME [NAME...]", 2, -1, "Give an image further names"),
    "top": ("top", "top", "TOP_OPTIONS", "CONTAINER [COLUMN...|PS-OPTION...]", 0, -1, "Show the processes of a container"),
    "unmount": ("rootfs", "unmount", "UNMOUNT_OPTIONS", "[CONTAINER...]", 0, -1, "Undo mounts of containers"),
    "unpause": ("container", "unpause", "UNPAUSE_OPTIONS", _MANY, 0, -1, "Thaw the processes of containers"),
    "unshare": ("maintain", "unshare", "UNSHARE_OPTIONS", "[COMMAND [ARG...]]", 0, -1, "Run a command in the user's namespaces"),
    "untag": ("image", "untag", "UNTAG_OPTIONS", "IMAGE [NAME...]", 1, -1, "Take names away from an image"),
    "update": ("update", "update", "UPDATE_OPTIONS", "CONTAINER", 0, 1, "Change limits and settings of a container"),
    "version": ("system", "version", "VERSION_OPTIONS", "", 0, 0, "Show the versions of client and supervisor"),
    "wait": ("container", "wait", "WAIT_OPTIONS", _MANY, 0, -1, "Wait until containers have ended"),
    "why": ("container", "why", "WHY_OPTIONS", "CONTAINER", 0, 1, "Explain why it was or was not restarted"),
    "container diff": ("diff", "container_diff", "CONTAINER_DIFF_OPTIONS", "CONTAINER [CONTAINER|IMAGE]", 0, 2, "Show what a container changes"),
    "container inspect": ("inspect", "container_inspect", "CONTAINER_INSPECT_OPTIONS", _MANY, 0, -1, "Show containers"),
    "container prune": ("container", "prune", "PRUNE_OPTIONS", "", 0, 0, "Remove all containers that do not run"),
    "healthcheck run": ("healthcheck", "run", "RUN_OPTIONS", "CONTAINER", 1, 1, "Run the health check of a container"),
    "image diff": ("diff", "image_diff", "IMAGE_DIFF_OPTIONS", "IMAGE [IMAGE]", 1, 2, "Show what an image changes"),
    "image exists": ("image", "exists", "EXISTS_OPTIONS", "IMAGE", 1, 1, "Say by the exit status if it exists"),
    "image inspect": ("inspect", "image_inspect", "IMAGE_INSPECT_OPTIONS", _IMAGES, 0, -1, "Show images"),
    "image mount": ("image", "mount", "MOUNT_OPTIONS", "[IMAGE...]", 0, -1, "Mount images, or show those that are mounted"),
    "image prune": ("image", "prune", "PRUNE_OPTIONS", "", 0, 0, "Remove images that are not used"),
    "image tree": ("history", "tree", "TREE_OPTIONS", "IMAGE", 1, 1, "Show the layers of an image as a tree"),
    "image unmount": ("image", "unmount", "UNMOUNT_OPTIONS", "[IMAGE...]", 0, -1, "Unmount images"),
    "manifest add": ("manifest", "add", "ADD_OPTIONS", "LIST IMAGE|FILE [IMAGE|FILE...]", 2, -1, "Add images to a list"),
    "manifest annotate": ("manifest", "annotate", "ANNOTATE_OPTIONS", "LIST [DIGEST]", 1, 2, "Change what a list says of an image, or of itself"),
    "manifest create": ("manifest", "create", "CREATE_OPTIONS", "LIST [IMAGE...]", 1, -1, "Make a list"),
    "manifest exists": ("manifest", "exists", "EXISTS_OPTIONS", "LIST", 1, 1, "Say by the exit status if it exists"),
    "manifest inspect": ("manifest", "inspect", "INSPECT_OPTIONS", "LIST", 1, 1, "Show a list, here or in a registry"),
    "manifest push": ("manifest", "push", "PUSH_OPTIONS", "LIST [DESTINATION]", 1, 2, "Send a list to a registry or elsewhere"),
    "manifest remove": ("manifest", "remove", "REMOVE_OPTIONS", "LIST DIGEST", 2, 2, "Take an image out of a list"),
    "manifest rm": ("manifest", "rm", "RM_OPTIONS", "LIST [LIST...]", 1, -1, "Remove lists"),
    "network connect": ("network", "connect", "CONNECT_OPTIONS", "NETWORK CONTAINER", 2, 2, "Put a container on a network"),
    "network create": ("network", "create", "CREATE_OPTIONS", "[NAME]", 0, 1, "Define a network"),
    "network disconnect": ("network", "disconnect", "DISCONNECT_OPTIONS", "NETWORK CONTAINER", 2, 2, "Take a container off a network"),
    "network exists": ("network", "exists", "EXISTS_OPTIONS", "NETWORK", 1, 1, "Say by the exit status if it exists"),
    "network inspect": ("network", "inspect", "INSPECT_OPTIONS", "NETWORK...", 1, -1, "Show networks"),
    "network ls": ("network", "list_networks", "LS_OPTIONS", "", 0, 0, "List networks"),
    "network prune": ("network", "prune", "PRUNE_OPTIONS", "", 0, 0, "Remove networks that no container is on"),
    "network reload": ("network", "reload", "RELOAD_OPTIONS", "[CONTAINER...]", 0, -1, "Make anew what somebody has removed of containers' networks"),
    "network rm": ("network", "rm", "RM_OPTIONS", "NETWORK...", 1, -1, "Remove networks"),
    "network update": ("network", "update", "UPDATE_OPTIONS", "NETWORK", 1, 1, "Change a network"),
    "secret create": ("secret", "create", "CREATE_OPTIONS", "NAME FILE|-", 2, 2, "Make a secret"),
    "secret exists": ("secret", "exists", "EXISTS_OPTIONS", "SECRET", 1, 1, "Say by the exit status if it exists"),
    "secret inspect": ("secret", "inspect", "INSPECT_OPTIONS", "SECRET...", 1, -1, "Show secrets"),
    "secret ls": ("secret", "list_secrets", "LS_OPTIONS", "", 0, 0, "List secrets"),
    "secret rm": ("secret", "rm", "RM_OPTIONS", "SECRET...", 0, -1, "Remove secrets"),
    "system check": ("system", "check", "CHECK_OPTIONS", "", 0, 0, "Compare the state with what is there"),
    "system df": ("disk", "df", "DF_OPTIONS", "", 0, 0, "Show how much room images, containers and volumes take"),
    "system events prune": ("system", "events_prune", "EVENTS_PRUNE_OPTIONS", "", 0, 0, "Forget old events"),
    "system locks": ("system", "locks", "LOCKS_OPTIONS", "", 0, 0, "Show the locks and their owners"),
    "system migrate": ("maintain", "migrate", "MIGRATE_OPTIONS", "", 0, 0, "Stop all containers and rewrite them for this version"),
    "system prune": ("disk", "prune", "PRUNE_OPTIONS", "", 0, 0, "Remove what nothing uses"),
    "system reload": ("system", "reload", "RELOAD_OPTIONS", "", 0, 0, "Read the configuration files again"),
    "system renumber": ("maintain", "renumber", "RENUMBER_OPTIONS", "", 0, 0, "Give every object a new lock"),
    "system reset": ("maintain", "reset", "RESET_OPTIONS", "", 0, 0, "Remove every container and all state"),
    "system service": ("service", "service", "SERVICE_OPTIONS", "[install|status|uninstall]", 0, 1, "The supervisor"),
    "volume create": ("volume", "create", "CREATE_OPTIONS", "[NAME]", 0, 1, "Make a volume"),
    "volume exists": ("volume", "exists", "EXISTS_OPTIONS", "VOLUME", 1, 1, "Say by the exit status if it exists"),
    "volume export": ("volume", "export", "EXPORT_OPTIONS", "VOLUME", 1, 1, "Write what is in a volume into a tar archive"),
    "volume import": ("volume", "import_volume", "IMPORT_OPTIONS", "VOLUME FILE|-", 2, 2, "Unpack a tar archive into a volume"),
    "volume inspect": ("volume", "inspect", "INSPECT_OPTIONS", "VOLUME...", 0, -1, "Show volumes"),
    "volume ls": ("volume", "list_volumes", "LS_OPTIONS", "", 0, 0, "List volumes"),
    "volume mount": ("volume", "mount", "MOUNT_OPTIONS", "VOLUME", 1, 1, "Mount what a volume mounts, and show where"),
    "volume prune": ("volume", "prune", "PRUNE_OPTIONS", "", 0, 0, "Remove volumes that no container uses"),
    "volume reload": ("volume", "reload", "RELOAD_OPTIONS", "", 0, 0, "Compare drivers and records"),
    "volume rm": ("volume", "rm", "RM_OPTIONS", "VOLUME...", 0, -1, "Remove volumes"),
    "volume unmount": ("volume", "unmount", "UNMOUNT_OPTIONS", "VOLUME", 1, 1, "Undo a mount of a volume"),
    "__complete": ("completion", "complete", "COMPLETE_OPTIONS", "[WORD...]", 0, -1, ""),
}

# fmt: on

CONTAINER_VERBS = (
    "attach", "commit", "cp", "create", "exec", "exists", "export", "init", "kill", "logs", "mount", "pause", "port", "ps",
    "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unmount", "unpause", "update", "wait", "why",
)  # fmt: skip
"""Verbs that are also called `container VERB`."""

IMAGE_VERBS = ("build", "history", "import", "load", "pull", "push", "save", "search", "tag", "untag")
"""Verbs that are also called `image VERB`."""

ALIASES = {
    "container list": "ps",
    "container ls": "ps",
    "container umount": "unmount",
    "ls": "ps",
    "list": "ps",
    "system info": "info",
    "umount": "unmount",
    **{f"container {verb}": verb for verb in CONTAINER_VERBS},
    "image list": "images",
    "image ls": "images",
    "image rm": "rmi",
    "image umount": "image unmount",
    "network list": "network ls",
    "network remove": "network rm",
    "secret list": "secret ls",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "volume umount": "volume unmount",
    **{f"image {verb}": verb for verb in IMAGE_VERBS},
}

GROUPS = {
    "container": "Manage containers",
    "healthcheck": "Manage health checks",
    "image": "Manage images",
    "manifest": "Manage lists of images for several platforms",
    "network": "Manage networks",
    "secret": "Manage secrets",
    "system": "Manage the engine",
    "volume": "Manage volumes",
    "system events": "Manage the journal of events",
}

LATER = frozenset(("auto-update", "generate", "kube", "machine", "play", "pod", "quadlet"))
"""Podman's verbs that are not there yet: no slip of the fingers for `stop` or `start`."""
NEVER = {
    "image scp": "copying an image to another host is 'pyman save … | ssh HOST pyman load'",
    "image sign": "images are not signed here: use skopeo or cosign",
    "image trust": "the policy is a file, containers-policy.json(5), and honoured",
    "artifact": "artifacts are here in manifest lists alone: manifest add --artifact",
    "container checkpoint": "the state of processes is not written to disk",
    "container cleanup": "the supervisor clears up behind a container that has ended, without being asked",
    "container clone": "inspect --format '{{.Config.CreateCommand}}' shows the command that makes another one",
    "container restore": "the state of processes is not written to disk",
    "container runlabel": "what an image brings along is not run on the host; image inspect shows its labels",
    "farm": "builds run on this host",
    "system connection": "an engine is selected by --root and --config; another host's with ssh HOST pyman",
}
"""Podman's verbs that are not meant to come, and why."""
STOPS = frozenset(("create", "exec", "run", "top", "unshare", "__complete"))
"""Verbs whose first argument ends the options: the rest belongs to the container's command."""
PASSES = frozenset(("build",))
"""Verbs whose options are another program's: they are passed on as they are."""


def program() -> None:
    """The console script. Everything has been written when `main` returns, and there is nothing to be taken
    apart: that would take a tenth of the time of a short command."""
    import os

    status = main()
    try:
        sys.stderr.flush()
    except OSError:
        pass
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return the exit status."""
    _occupy()
    if argv is None:
        _settle()
    words = sys.argv[1:] if argv is None else list(argv)
    ctx: Context | None = None
    try:
        try:
            _check_text(words)
            options = parse(words, GLOBAL_OPTIONS, stop=True)
            ctx = Context(options, ["pyman", *words])
            status = _dispatch(ctx, options)
        finally:
            if ctx is not None:
                ctx.close()
            flush()
    except PymanError as error:
        _say(f"Error: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141  # as if by SIGPIPE: whoever read the output (`| head`) has had enough
    except Exception as error:  # the boundary: whatever it is, a person gets one line
        if ctx is not None and ctx.debug:
            raise
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _say(f"Error: internal error ({detail}): run again with --log-level debug to see where it happened")
        return 125
    return status


def _check_text(words: Sequence[str]) -> None:
    """What is no UTF-8 can neither be sent nor be written into a container's configuration."""
    for word in words:
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            shown = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise InvalidArgument(f"cannot use the argument '{shown}': it is not UTF-8")


def _dispatch(ctx: Context, options: Parsed) -> int:
    words = options.arguments
    if options.version:
        from pyman.cli.system import client_version

        ctx.out(f"pyman version {client_version()}")
        return 0
    if not words or options.help:
        from pyman.cli.help import overview

        overview(ctx)
        return 0 if options.help else _nothing(ctx, "pyman")
    name, rest = resolve(words)
    if name in GROUPS:
        return _group(ctx, name, rest)
    module, function, table, usage, fewest, most, _summary = COMMANDS[name]
    home = __import__(f"pyman.cli.{module}", None, None, (function,))
    if name in PASSES:
        args = Parsed(name, {"help": False}, set(), rest)
    else:
        args = parse(rest, getattr(home, table), command=name, stop=name in STOPS)
    if args.help and name != "__complete":
        from pyman.cli.help import command_help

        command_help(ctx, name, getattr(home, table))
        return 0
    count = len(args.arguments)
    if count < fewest or count > most >= 0:
        raise _wrong_count(name, usage, args.arguments, most)
    verb: Callable[[Context, Parsed], int] = getattr(home, function)
    return verb(ctx, args)


def resolve(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command (or group) that the words name, and the words after it. Raises InvalidArgument."""
    for length in (3, 2, 1):
        path = " ".join(words[:length])
        path = ALIASES.get(path, path)
        if path in COMMANDS or path in GROUPS:
            return path, list(words[length:])
    raise _unknown(words[0], "")


def _group(ctx: Context, name: str, rest: list[str]) -> int:
    if rest and not rest[0].startswith("-"):
        raise _unknown(rest[0], name)
    helped = parse(rest, (), command=name).help
    from pyman.cli.help import group_help

    group_help(ctx, name)
    return 0 if helped else _nothing(ctx, f"pyman {name}")


def _nothing(ctx: Context, path: str) -> int:
    ctx.fail(f"'{path}' needs a command")
    return 125


def _unknown(word: str, group: str) -> InvalidArgument:
    from pyman.cli.options import similar

    prefix = f"{group} " if group else ""
    known = [path[len(prefix) :] for path in (*COMMANDS, *ALIASES, *GROUPS) if path.startswith(prefix)]
    close = similar(word, [path for path in known if path and path[0] != "_" and " " not in path])
    see = f"see 'pyman {prefix}--help'"
    hint = f"did you mean '{prefix}{close}'?" if close else see
    if prefix + word in LATER:
        hint = "this version does not have it yet"
    if prefix + word in NEVER:
        hint = NEVER[prefix + word]
    return InvalidArgument(f"unknown command '{prefix}{word}'", subject=word, hint=hint)


def _wrong_count(name: str, usage: str, arguments: list[str], most: int) -> InvalidArgument:
    if not usage:
        problem = f"takes no arguments, but got '{arguments[0]}'"
    elif len(arguments) > most >= 0:
        problem = f"takes {usage}, but got also '{arguments[most]}'"
    else:
        problem = f"needs {usage}"
    return InvalidArgument(f"'pyman {name}' {problem}", subject=name, hint=f"see 'pyman {name} --help'")


def _say(line: str) -> None:
    from pyman.cli.context import one_line

    try:
        sys.stderr.write(one_line(line) + "\n")
        sys.stderr.flush()
    except OSError:
        pass


def _occupy() -> None:
    """A descriptor that the caller has closed must not become one of our sockets: it is /dev/null."""
    import os

    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for good
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for good
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for good


def _settle() -> None:
    """For the life of this process: output that has a way to write every character, and a lazy collector."""
    import gc

    gc.set_threshold(50_000)  # a listing of a thousand containers is no garbage
    unicode = (sys.stdout.encoding or "").lower() == "utf-8"
    sys.stdout.reconfigure(errors="surrogateescape" if unicode else "backslashreplace")  # type: ignore[union-attr]
