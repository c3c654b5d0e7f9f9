"""Options that describe a container, the create request made of them, and `pyman create`.

`run` takes the same options and a few more (`RUN_OPTIONS`). The spec says only what was asked for: an absent
field takes the engine's default. What belongs to the caller's process (working directory, environment) is
read here and travels in the request, for the supervisor must never use its own.
"""

from __future__ import annotations

import os

from pyman.cli.cidfile import CidFile
from pyman.cli.dependencies import DEPENDENCY_OPTIONS, dependency_settings
from pyman.cli.etc_files import ETC_OPTIONS, etc_settings
from pyman.cli.healthcheck import HEALTH_OPTIONS, health_settings
from pyman.cli.later import LATER_OPTIONS
from pyman.cli.mounts import MOUNT_OPTIONS, mount_settings
from pyman.cli.namespaces import NAMESPACE_OPTIONS, namespace_settings
from pyman.cli.networking_options import NETWORKING_OPTIONS, network_settings
from pyman.cli.options import COUNT, CSV, FLAG, LIST, SECONDS, TEXT, TRUE
from pyman.cli.places import placed
from pyman.cli.preserving import PRESERVE_OPTIONS
from pyman.cli.pulling import Pulling
from pyman.cli.registry_options import (
    AUTHFILE,
    CERT_DIR,
    CONTENT_TRUST,
    CREDS,
    DECRYPTION_KEY,
    PLATFORM_OPTIONS,
    RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
    access_of,
    platform_of,
    pull_policy,
)
from pyman.cli.resources import RESOURCE_OPTIONS, resource_settings
from pyman.cli.restart import RESTART_OPTIONS, restart_settings
from pyman.cli.secret_option import SECRET_OPTIONS, secret_settings
from pyman.cli.security import SECURITY_OPTIONS, security_settings
from pyman.cli.systemd import SYSTEMD_OPTIONS, systemd_settings
from pyman.cli.userns import USERNS_OPTIONS, userns_settings
from pyman.cli.values import absolute, environment, labels, proxies, read_pairs, rlimits, size
from pyman.errors import InvalidArgument, NotSupported, ProtocolError
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

    T = TypeVar("T")

__all__ = ["CREATE_OPTIONS", "RUN_OPTIONS", "create", "of_image", "pull_wish", "spec_from"]

IMAGE_OPTIONS: tuple[Option, ...] = (
    AUTHFILE,
    CERT_DIR,
    CREDS,
    CONTENT_TRUST,
    DECRYPTION_KEY,
    ("image-volume", "", TEXT, "MODE", "What the image's volumes are: anonymous, tmpfs, or ignore"),
    *PLATFORM_OPTIONS,
    ("pull", "", TEXT, "POLICY", "When the image is pulled: always, missing (default), newer, never"),
    ("quiet", "q", FLAG, "", "Do not show the progress of a pull"),
    *RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
)
"""About the image that a container is made from."""

CREATE_OPTIONS: tuple[Option, ...] = (
    ("annotation", "", LIST, "KEY=VALUE", "Add an annotation"),
    ("attach", "a", CSV, "STREAM", "Attach to stdin, stdout or stderr"),
    ("cidfile", "", TEXT, "FILE", "Write the container's id to a file, which must not exist"),
    *DEPENDENCY_OPTIONS,
    ("conmon-pidfile", "", TEXT, "FILE", "Write the process id of the container's monitor to a file"),
    ("entrypoint", "", TEXT, "COMMAND", "What the command is given to: a word, or a JSON list of words"),
    ("env", "e", LIST, "NAME[=VALUE]", "Set a variable; without a value the caller's own is taken"),
    ("env-file", "", CSV, "FILE", "Set the variables in a file"),
    ("env-host", "", FLAG, "", "Set all of the caller's variables"),
    (
        "env-merge",
        "",
        LIST,
        "NAME=VALUE",
        "Set a variable to a value with others of the image's in it, as in a shell",
    ),
    *ETC_OPTIONS,
    ("expose", "", CSV, "PORT[-PORT][/PROTOCOL]", "A port that the container serves: tcp, udp or sctp"),
    ("group-add", "", CSV, "GROUP", "Further groups of the command; keep-groups alone: the caller's"),
    *HEALTH_OPTIONS,
    ("http-proxy", "", TRUE, "", "Set the caller's variables of proxies"),
    ("init", "", FLAG, "", "Run an init that passes signals on and reaps processes"),
    ("init-path", "", TEXT, "FILE", "The init program to use"),
    ("interactive", "i", FLAG, "", "Keep standard input open"),
    ("label", "l", LIST, "KEY[=VALUE]", "Set a label"),
    ("label-file", "", CSV, "FILE", "Set the labels in a file"),
    ("log-driver", "", TEXT, "DRIVER", "Where output goes: k8s-file, json-file, none, passthrough"),
    ("log-opt", "", CSV, "KEY=VALUE", "Setting of the log driver: path, max-size, max-file, tag"),
    *MOUNT_OPTIONS,
    *NAMESPACE_OPTIONS,
    *NETWORKING_OPTIONS,
    ("name", "", TEXT, "NAME", "The container's name"),
    ("pidfile", "", TEXT, "FILE", "Write the process id of the container's command to a file"),
    ("privileged", "", FLAG, "", "Give the container every privilege on the host"),
    ("read-only", "", FLAG, "", "Make the root filesystem read-only"),
    ("read-only-tmpfs", "", TRUE, "", "With --read-only: tmpfs on /run, /tmp and /var/tmp"),
    ("replace", "", FLAG, "", "Remove a container of the same name first"),
    *RESOURCE_OPTIONS,
    *RESTART_OPTIONS,
    ("rm", "", FLAG, "", "Remove the container when it has ended"),
    (
        "rootfs",
        "",
        FLAG,
        "",
        "The first argument is a directory to use as root filesystem; DIR:O protects it, DIR:idmap keeps its ids",
    ),
    ("runtime", "", TEXT, "NAME", "OCI runtime, a name or a path"),
    *SECRET_OPTIONS,
    *SECURITY_OPTIONS,
    ("stop-signal", "", TEXT, "SIGNAL", "The signal that asks the container to stop"),
    ("stop-timeout", "", SECONDS, "SECONDS", "How long a stop waits before SIGKILL"),
    *SYSTEMD_OPTIONS,
    ("timeout", "", COUNT, "SECONDS", "Kill the container after so many seconds"),
    ("tty", "t", FLAG, "", "Give the container a terminal"),
    ("ulimit", "", CSV, "NAME=SOFT[:HARD]", "Set a resource limit; host takes the caller's"),
    ("umask", "", TEXT, "MODE", "The command's umask, octal"),
    ("unsetenv", "", LIST, "NAME", "Leave a default variable out"),
    ("unsetenv-all", "", FLAG, "", "Leave all default variables out"),
    ("user", "u", TEXT, "USER[:GROUP]", "The command's user and group"),
    *USERNS_OPTIONS,
    ("workdir", "w", TEXT, "DIR", "The command's working directory"),
    *IMAGE_OPTIONS,
    *LATER_OPTIONS,
)

RUN_OPTIONS: tuple[Option, ...] = (
    *CREATE_OPTIONS,
    ("detach", "d", FLAG, "", "Run it in the background and print its id"),
    ("detach-keys", "", TEXT, "KEYS", "Keys that detach from the container"),
    *PRESERVE_OPTIONS,
    ("rmi", "", FLAG, "", "Remove the image with the container, unless others use it; implies --rm"),
    ("sig-proxy", "", TRUE, "", "Pass signals on to the container's command"),
)

_COPIED = {
    "name": "name",
    "interactive": "stdin",
    "tty": "terminal",
    "privileged": "privileged",
    "user": "user",
    "workdir": "work_dir",
    "umask": "umask",
    "init": "init",
    "rm": "remove",
    "stop_signal": "stop_signal",
    "stop_timeout": "stop_timeout",
    "timeout": "timeout",
    "read_only": "read_only_filesystem",
    "env_host": "env_host",
    "unsetenv": "unsetenv",
    "unsetenv_all": "unsetenv_all",
    "group_add": "groups",
}
"""Options whose value is the spec's field."""


def create(ctx: Context, args: Parsed) -> int:
    spec, caller = spec_from(args, ctx)
    request = {"spec": spec, "caller": caller, "replace": args.replace, **pull_wish(args)}
    with CidFile(args.cidfile) as cid_file:
        reply = of_image(ctx, request, lambda request: _create(ctx, request, quiet=args.quiet))
        cid_file.write(reply["id"])
    for warning in reply.get("warnings") or ():
        ctx.warn(warning)
    ctx.out(reply["id"])
    return 0


def _create(ctx: Context, request: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    with Pulling(quiet=quiet) as pulling:
        for reply in ctx.connect().stream("Container.Create", request):
            reply.close()
            if not reply.continues:
                return reply.parameters
            pulling.show(reply.parameters)
    raise ProtocolError("cannot use the answer to Container.Create: it has no end")  # pragma: no cover


def of_image(ctx: Context, request: dict[str, Any], make: Callable[[dict[str, Any]], T]) -> T:
    """What `make` gives for a create or run request, whose image a person may have to choose first."""
    image = request["spec"].get("image", "")
    if not image:
        return make(request)
    from pyman.cli.shortnames import decided

    def bring(name: str, wish: dict[str, Any]) -> T:
        spec, pull = {**request["spec"], "image": name}, {**request.get("pull", {}), **wish}
        return make({**request, "spec": spec, "pull": pull} if pull else request)

    return decided(ctx, image, bring)


def pull_wish(args: Parsed) -> dict[str, Any]:
    """The part of a create or run request that says how the image is brought here. Raises InvalidArgument."""
    pull: dict[str, Any] = {}
    if args.pull:
        pull["policy"] = pull_policy(args.pull, "--pull")
    if platform := platform_of(args):
        pull["platform"] = platform
    if access := access_of(args):
        pull["access"] = access
    if args.quiet:
        pull["quiet"] = True
    return {"pull": pull} if pull and not args.rootfs else {}


def spec_from(args: Parsed, ctx: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec and the caller of a create or run request. Raises InvalidArgument, NotSupported."""
    spec: dict[str, Any] = {}
    for option, field in _COPIED.items():
        value = getattr(args, option)
        if value or (value == 0 and value is not False):
            spec[field] = value
    if not args.read_only_tmpfs:
        spec["read_write_tmpfs"] = False
    if args.init_path:
        spec["init"], spec["init_path"] = True, args.init_path
    _root_filesystem(spec, args)
    if args.given("entrypoint"):
        spec["entrypoint"] = _entrypoint(args.entrypoint)
    _environment(spec, args)
    _labels(spec, args)
    spec.update(namespace_settings(args))
    spec.update(network_settings(args))
    spec.update(resource_settings(args))
    spec.update(mount_settings(args))
    spec.update(userns_settings(args))
    spec.update(restart_settings(args))
    spec.update(dependency_settings(args))
    spec.update(health_settings(args))
    spec.update(security_settings(args))
    spec.update(secret_settings(args))
    spec.update(systemd_settings(args))
    spec.update(etc_settings(args))
    _log(spec, args)
    for option, field in (
        ("pidfile", "pid_file"),
        ("conmon_pidfile", "conmon_pid_file"),
        ("cidfile", "cid_file"),
    ):
        if getattr(args, option):
            spec[field] = absolute(getattr(args, option))
    if args.ulimit:
        spec["r_limits"] = rlimits(args.ulimit)
    if args.runtime or ctx.runtime:
        spec["oci_runtime"] = args.runtime or ctx.runtime
    if args.has("detach_keys") and args.given("detach_keys"):
        spec["detach_keys"] = args.detach_keys
    spec["create_command"] = ctx.command_line
    _removal(spec, args)
    _conflicts(args)
    caller = _caller(args)
    _check_text({**caller.get("environment", {}), **spec.get("env", {})})
    return spec, caller


def _check_text(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        text = name + value
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidArgument(f"cannot pass the environment variable {name!a} on: it is not UTF-8")


def _with_image(args: Parsed) -> bool:
    return args.has("rmi") and bool(args.rmi)


def _removal(spec: dict[str, Any], args: Parsed) -> None:
    if _with_image(args):
        if args.given("rm") and not args.rm:
            raise InvalidArgument("cannot use --rmi without --rm")
        spec["remove"] = spec["removeImage"] = True


def _conflicts(args: Parsed) -> None:
    if (args.rm or _with_image(args)) and args.restart not in ("", "no"):
        raise InvalidArgument(
            "cannot use --rm together with --restart", hint="a removed container cannot restart"
        )
    if args.replace and not args.name:
        raise InvalidArgument("cannot use --replace without --name")
    for stream in args.attach:
        if stream.lower() not in ("stdin", "stdout", "stderr"):
            raise InvalidArgument(
                f"option --attach cannot be '{stream}'", hint="it must be stdin, stdout or stderr"
            )


def _caller(args: Parsed) -> dict[str, Any]:
    caller: dict[str, Any] = {}
    try:
        caller["cwd"] = os.getcwd()
    except OSError:
        pass  # a directory that was removed: only absolute paths can be meant
    if args.env_host:
        # A socket that means nothing in the container.
        caller["environment"] = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    elif args.http_proxy and (found := proxies(os.environ)):
        caller["environment"] = found
    if args.sdnotify != "ignore" and os.environ.get("NOTIFY_SOCKET"):
        caller["notify_socket"] = os.environ["NOTIFY_SOCKET"]
    if "keep-groups" in args.group_add:
        caller["groups"] = os.getgroups()
    caller["umask"] = os.umask(0o022)
    os.umask(caller["umask"])
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="surrogateescape") as file:
            caller["cgroup"] = file.read()
    except OSError:
        pass
    return caller


def _root_filesystem(spec: dict[str, Any], args: Parsed) -> None:
    first, command = args.arguments[0], args.arguments[1:]
    if command:
        spec["command"] = command
    if not args.rootfs:
        spec["image"] = placed(first)
        if args.image_volume:
            mode = args.image_volume.lower()
            spec["image_volume_mode"] = "anonymous" if mode == "bind" else mode
        return
    for option in ("arch", "image-volume", "os", "platform", "variant"):
        if getattr(args, option.replace("-", "_")):
            raise InvalidArgument(f"cannot use --{option} together with --rootfs: there is no image")
    path, colon, option = first.rpartition(":")
    if colon and option == "O":
        spec["rootfs_overlay"], first = True, path
    elif colon and option == "idmap":
        spec["rootfs_idmap"], first = True, path
    elif colon and option.startswith("idmap="):
        raise NotSupported(f"cannot use the root filesystem '{first}': idmap takes no maps of its own")
    spec["rootfs"] = absolute(first)


def _entrypoint(text: str) -> list[str]:
    if text[:1] == "[":
        from pyman.wire import decode

        try:
            words = decode(text)
        except ProtocolError:
            words = None  # a word that begins with a bracket
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [text]


def _environment(spec: dict[str, Any], args: Parsed) -> None:
    variables: dict[str, str] = {}
    for path in args.env_file:
        lines = read_pairs(path, "--env-file")
        variables.update(environment(lines, os.environ, f"the file '{path}'"))
    variables.update(environment(args.env, os.environ, "option --env"))
    if variables:
        spec["env"] = variables
    if args.env_merge:
        spec["envmerge"] = args.env_merge
    if args.given("http_proxy"):
        spec["httpproxy"] = args.http_proxy
    if args.expose:
        from pyman.cli.exposing import exposed

        spec["expose"] = exposed(args.expose)


def _labels(spec: dict[str, Any], args: Parsed) -> None:
    found: dict[str, str] = {}
    for path in args.label_file:
        found.update(labels(read_pairs(path, "--label-file"), f"the file '{path}'"))
    found.update(labels(args.label, "option --label"))
    if found:
        spec["labels"] = found
    annotations = {}
    for pair in args.annotation:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"option --annotation cannot be '{pair}'", hint="it must be KEY=VALUE")
        annotations[key] = value
    if annotations:
        spec["annotations"] = annotations


def _log(spec: dict[str, Any], args: Parsed) -> None:
    log: dict[str, Any] = {}
    if args.log_driver:
        log["driver"] = args.log_driver
    for pair in args.log_opt:
        key, _, value = pair.partition("=")
        problem = InvalidArgument(f"option --log-opt cannot be '{pair}'", hint=_LOG_HINTS.get(key, _LOG_HINT))
        if key not in _LOG_HINTS or not value:
            raise problem
        if key == "path":
            log["path"] = absolute(value)
        elif key == "tag":
            log["tag"] = value
        elif key == "max-size":
            number = size(value, base=1000)
            if number is None:
                raise problem
            log["size"] = number
        else:
            if not is_decimal(value) or int(value) < 1:
                raise problem
            log["max_files"] = int(value)
    if log:
        spec["log_configuration"] = log


_LOG_HINT = "it must be path=, max-size=, max-file= or tag="
_LOG_HINTS = {
    "path": "it must name a file",
    "max-size": "it must be a size such as 10mb",
    "max-file": "it must be a number of files from 1 on",
    "tag": "it must name a tag",
}
