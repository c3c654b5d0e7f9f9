"""`pyman system service`: the supervisor in the foreground, and its systemd units.

    pyman system service              run it here, until Ctrl-C or SIGTERM
    pyman system service install      write the units pyman.service and pyman.socket
    pyman system service status       what is installed, what systemd says, who answers on the socket
    pyman system service uninstall    stop and remove the units

The units serve the default supervisor of the system (root) or of a user; whatever else it is to use belongs
into containers.conf. Where no systemd runs, files are written and removed all the same, and the output says
what remains to be done.
"""

from __future__ import annotations

import contextlib
import os
import sys

from pyman.cli.options import FLAG, TEXT
from pyman.errors import InvalidArgument, PermissionDenied, PymanError, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["SERVICE_OPTIONS", "service"]

SERVICE_OPTIONS: tuple[Option, ...] = (
    ("on-stop", "", TEXT, "leave|stop", "What becomes of containers when it ends (in the foreground)"),
    ("unit-dir", "", TEXT, "DIR", "Where the units are, instead of systemd's own place for them"),
    ("user", "", FLAG, "", "The units of a user's supervisor (default for all users but root)"),
)

UNITS = ("pyman.socket", "pyman.service")
_SYSTEMD = "/run/systemd/system"
_NOT_RUNNING = 3
"""Exit status of `status` where no supervisor answers, as systemctl's."""


def service(ctx: Context, args: Parsed) -> int:
    action = args.arguments[0] if args.arguments else ""
    if not action:
        return _foreground(ctx, args)
    known = {"install": _install, "status": _status, "uninstall": _uninstall}
    if action not in known:
        raise InvalidArgument(
            f"unknown action '{action}' of the service",
            subject=action,
            hint="give install, status or uninstall",
        )
    return known[action](ctx, _Units(args))


def _foreground(ctx: Context, args: Parsed) -> int:
    from pyman.cli.launch import command

    words = command(ctx.selection)
    if args.on_stop:
        words.append(f"--on-stop={args.on_stop}")
    try:
        os.execv(words[0], words)  # noqa: S606 - a list of words, as wanted
    except OSError as error:
        raise StorageFailed(f"cannot execute '{words[0]}': {error.strerror}", subject=words[0]) from error


class _Units:
    """Where the units are, what they say, and how systemd is spoken to."""

    def __init__(self, args: Parsed) -> None:
        self.user: bool = args.user or os.geteuid() != 0
        self.elsewhere = bool(args.unit_dir)
        self.directory = os.path.abspath(args.unit_dir) if args.unit_dir else _directory(self.user)
        self.systemctl = ["systemctl", "--user"] if self.user else ["systemctl"]

    @property
    def managed(self) -> bool:
        """Whether a systemd runs that reads these files."""
        return not self.elsewhere and os.path.isdir(_SYSTEMD)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def text(self, name: str) -> str:
        import pyman

        home = os.path.dirname(os.path.dirname(os.path.abspath(pyman.__file__)))
        kind = "user" if self.user else "system"
        path = f"{home}/supervisor/units/{kind}/{name}"
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise StorageFailed(f"cannot read '{path}': {error.strerror}", subject=path) from error
        return text.replace("ExecStart=/usr/bin/pyman-supervisor", f"ExecStart={_program()}")

    def present(self, name: str) -> str | None:
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def ask(self, *words: str) -> str:
        """What systemctl prints, failures included."""
        import subprocess

        try:
            done = subprocess.run(
                [*self.systemctl, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError:
            return "systemctl is not installed"
        return (done.stdout or done.stderr).decode(errors="replace").strip()


_WITHOUT_LINGER = (
    "when the user's last session ends; to have it run from boot to shutdown: loginctl enable-linger"
)


def _lingers() -> bool:
    """Whether systemd runs the user's service manager without a session too."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False
    return os.path.exists(f"/var/lib/systemd/linger/{name}")


def _directory(user: bool) -> str:
    if not user:
        return "/etc/systemd/system"
    home = os.environ.get("HOME") or os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return f"{config if config.startswith('/') else home + '/.config'}/systemd/user"


def _program() -> str:
    """The command line of the supervisor, as ExecStart= wants it written."""
    script = os.path.join(os.path.dirname(sys.executable), "pyman-supervisor")
    words = [script] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "supervisor"]
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if any(letter in word for letter in " \t'\"\\") else escaped


def _install(ctx: Context, units: _Units) -> int:
    for name in ("root", "runroot", "tmpdir", "config", "network_config_dir"):
        if getattr(ctx, name):
            option = name.replace("_", "-")
            raise InvalidArgument(
                f"cannot install the service with --{option}: it serves the default supervisor",
                subject=option,
                hint="put what it is to use into containers.conf or storage.conf",
            )
    for name in UNITS:
        _write(units, name)
        ctx.out(f"written: {units.path(name)}")
    enable = " ".join([*units.systemctl, "enable", "--now", "pyman.socket"])
    if units.managed:
        problem = units.ask("daemon-reload")
        if problem:
            ctx.warn(f"systemd has not read them: {problem}")
        ctx.out(f"To have it started on demand and at boot: {enable}")
        ctx.out(
            "Containers with a restart policy come back at boot only with: "
            + enable.replace("socket", "service")
        )
    elif units.elsewhere:
        ctx.out("systemd reads them once they are in a directory of its own")
    else:
        ctx.out(f"No systemd runs here: the units take effect where one does, after: {enable}")
        ctx.out("Without one, the first command that needs the supervisor starts it")
    if units.managed and units.user and not _lingers():
        ctx.out(f"It ends, and the containers with it, {_WITHOUT_LINGER}")
    return 0


def _write(units: _Units, name: str) -> None:
    path = units.path(name)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        os.makedirs(units.directory, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(units.text(name))
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise _failed("write", path, error) from error


def _status(ctx: Context, units: _Units) -> int:
    for name in UNITS:
        present = units.present(name)
        state = "not installed"
        if present is not None:
            state = "installed" if present == units.text(name) else "installed, not as this version writes it"
        ctx.out(f"{units.path(name)}: {state}")
    if units.managed:
        for name in filter(units.present, UNITS):
            ctx.out(f"{name}: {units.ask('is-enabled', name)}, {units.ask('is-active', name)}")
        if units.user:
            ctx.out("lingering: on" if _lingers() else f"lingering: off, so it ends {_WITHOUT_LINGER}")
    elif not units.elsewhere:
        ctx.out("systemd: does not run here")
    return _supervisor(ctx)


def _supervisor(ctx: Context) -> int:
    from pyman.wire import connect

    path = ctx.selection.socket
    try:
        with connect(ctx.selection, start=False) as connection:
            told = connection.call("System.Info")["supervisor"]
    except PymanError as error:
        ctx.out(f"supervisor: {error}")
        return _NOT_RUNNING
    pids = ", ".join(
        f"{name} {told[key]}" for name, key in (("keeper", "keeperPid"), ("daemon", "pid")) if key in told
    )
    ctx.out(f"supervisor: answers on {path} ({pids})")
    return 0


def _uninstall(ctx: Context, units: _Units) -> int:
    there = [name for name in UNITS if os.path.lexists(units.path(name))]
    if not there:
        ctx.out(f"nothing is installed in {units.directory}")
        return 0
    if units.managed:
        problem = units.ask("disable", "--now", *there)
        if problem and "Removed" not in problem:
            ctx.warn(problem)
    for name in there:
        path = units.path(name)
        try:
            os.unlink(path)
        except OSError as error:
            raise _failed("remove", path, error) from error
        ctx.out(f"removed: {path}")
    if units.managed:
        units.ask("daemon-reload")
    return 0


def _failed(verb: str, path: str, error: OSError) -> PymanError:
    kind = PermissionDenied if isinstance(error, PermissionError) else StorageFailed
    hint = "be root, or give --user" if kind is PermissionDenied else ""
    return kind(f"cannot {verb} '{path}': {error.strerror}", subject=path, hint=hint)
