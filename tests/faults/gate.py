"""An OCI runtime and a conmon that obey the test: they wait at a gate, fail, or are killed, at one exact step.

Each is a small script in front of the real program. A closed gate is a pair of FIFOs: the script writes its pid
into the first and reads the second before it goes on, so the test knows that a step has been reached and
nothing after it has happened. A gate holds one caller; the next passes.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Program"]

PATIENCE = 20.0

_SCRIPT = """\
#!/bin/sh
# What the test wants of this step is in {orders}; without an order the real program does it.
verb=none
for word; do
    case "$word" in
        --version) exec {real} "$@" ;;
        create|start|delete|pause|resume|state|update|exec|kill|--exec) verb="${{word#--}}"; break ;;
        --api-version) verb=monitor ;;
    esac
done
gate() {{
    if [ -p "{orders}/$1.at" ]; then
        exec 8>"{orders}/$1.at" 9<"{orders}/$1.go"
        rm "{orders}/$1.at"
        echo $$ >&8
        exec 8>&-
        read -r _ <&9
        exec 9<&-
    fi
}}
[ -f "{orders}/$verb.kill" ] && kill -KILL $$
[ -f "{orders}/$verb.stop" ] && kill -STOP $$
if [ -f "{orders}/$verb.fail" ]; then
    cat "{orders}/$verb.fail" >&2
    exit 1
fi
gate "before-$verb"
if [ -p "{orders}/after-$verb.at" ]; then
    {real} "$@"
    code=$?
    gate "after-$verb"
    exit $code
fi
exec {real} "$@"
"""


class Program:
    """A script named as the real program, in a directory of its own. Verbs of a runtime: create, start,
    delete, pause, resume, state, update, exec, kill; of conmon: monitor (a container's) and exec."""

    def __init__(self, directory: Path, name: str) -> None:
        self.orders = directory / f"{name}-orders"
        self.orders.mkdir(parents=True)
        self.path = directory / name
        real = shutil.which(name)
        assert real is not None
        self.path.write_text(_SCRIPT.format(orders=self.orders, real=real))
        self.path.chmod(0o755)
        self._ends: dict[str, tuple[int, int]] = {}

    # Gates

    def hold(self, step: str) -> None:
        """Close the gate at `before-VERB` or `after-VERB` for the next caller."""
        assert step not in self._ends
        paths = [self.orders / f"{step}.{end}" for end in ("go", "at")]
        for path in paths:
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        go, at = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in paths)
        self._ends[step] = (at, go)

    def reached(self, step: str) -> int:
        """Wait until somebody stands at the gate; its pid."""
        at, _ = self._ends[step]
        assert select.select([at], [], [], PATIENCE)[0], f"nobody came to {step}"
        return int(os.read(at, 64).split()[0])

    def let_go(self, step: str) -> None:
        """Open the gate, whether somebody stands there or not."""
        at, go = self._ends.pop(step)
        (self.orders / f"{step}.at").unlink(missing_ok=True)
        os.write(go, b"\n")
        os.close(at)
        os.close(go)

    def detain(self, step: str) -> int:
        """Leave the one who stands at the gate there, and make way for another gate at the same step.
        It goes on when the descriptor that this gives is written to, or closed."""
        at, go = self._ends.pop(step)
        os.close(at)
        return go

    # Faults

    def fail(self, verb: str, text: str) -> None:
        """From now on the step ends with exit status 1 and these words on standard error."""
        (self.orders / f"{verb}.fail").write_text(text)

    def kill(self, verb: str) -> None:
        """From now on the step is killed before it begins."""
        (self.orders / f"{verb}.kill").touch()

    def stop(self, verb: str) -> None:
        """From now on the step stops (SIGSTOP) before it begins."""
        (self.orders / f"{verb}.stop").touch()

    def obey(self) -> None:
        """Forget the faults and open every gate."""
        for step in list(self._ends):
            self.let_go(step)
        for path in self.orders.iterdir():
            if path.suffix in (".fail", ".kill", ".stop"):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
