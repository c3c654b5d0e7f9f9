"""A program: the real keeper and daemon around an engine that owns no container.

`python standin.py [options]` behaves as `pyman-supervisor` does. What the engine is to do comes from the
environment, so that a restarted daemon does the same:

    STANDIN_FAIL=CODE     raise that error instead of starting
    STANDIN_CRASH=N       exit with that status instead of starting
    STANDIN_BUG=TEXT      raise an exception that nobody expects
    STANDIN_EARLY=N       exit with that status before anything else
    STANDIN_SLOW=FILE     start only when this FIFO can be read
    STANDIN_CHILD=FIFO    the first daemon leaves a child that ends with status 7 once the FIFO is written to
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ERRORS
from supervisor import __main__ as program
from supervisor import entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from supervisor.kernel.process import ProcessRef
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.probes import Probes
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings


class Facts(msgspec.Struct, frozen=True):
    pid: int
    keeper_pid: int
    socket: str
    database: str
    started: int
    on_stop: str = "leave"


class _Reaped:
    def __init__(self) -> None:
        self.noted: list[tuple[int, int, int | None]] = []

    def note(self, ref: ProcessRef, status: int) -> None:
        self.noted.append((ref.pid, status, ref.start_time))


class Engine:
    """Has the shape of `supervisor.runtime.engine.Engine`."""

    def __init__(self, settings: Settings, layout: Layout, probes: Probes) -> None:
        probes.abandon()
        self.settings = settings
        self.layout = layout
        self.reaped = _Reaped()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        import trio

        from supervisor.kernel import children

        if slow := os.environ.get("STANDIN_SLOW"):
            await trio.to_thread.run_sync(lambda: open(slow, "rb").close(), abandon_on_cancel=True)
        if code := os.environ.get("STANDIN_FAIL"):
            raise ERRORS[code](f"cannot start: the test wants {code}", hint="nothing can be done")
        if text := os.environ.get("STANDIN_BUG"):
            raise RuntimeError(text)
        if status := os.environ.get("STANDIN_CRASH"):
            os._exit(int(status))
        async with trio.open_nursery() as nursery:
            await nursery.start(children.reap_orphans, self.reaped.note)
            if (fifo := os.environ.get("STANDIN_CHILD")) and not os.path.exists(f"{fifo}.pid"):
                child = children.launch(["sh", "-c", f"read _ < {fifo}; exit 7"])
                Path(f"{fifo}.pid").write_text(str(child.pid))
            task_status.started()
            await trio.sleep_forever()

    async def shutdown(self, containers: str) -> None:
        Path(f"{self.layout.static}/shutdown").write_text(containers)

    def reload(self, settings: Settings) -> None:
        self.settings = settings


class _Handlers:
    def __init__(self, engine: Engine, control: Any) -> None:
        self.engine = engine
        self.control = control

    async def info(self, _request: Any, _call: Call) -> Any:
        from pyman.api.system import InfoReply

        supervisor = msgspec.structs.asdict(self.control.facts)
        supervisor["reaped"] = self.engine.reaped.noted
        supervisor["environ"] = dict(os.environ)
        supervisor["restart_reset"] = self.engine.settings.pyman.restart_reset
        return InfoReply({}, {}, {}, {}, {}, supervisor)

    async def version(self, _request: Any, _call: Call) -> Any:
        from pyman.api.system import VersionReply

        return VersionReply("0", "1", "3", "linux", "none", "6")

    async def match(self, _request: Any, _call: Call) -> Any:
        from pyman.api.method import Nothing

        return Nothing()

    async def reload(self, _request: Any, _call: Call) -> Any:
        return self.control.reload()

    async def shutdown(self, request: Any, _call: Call) -> Any:
        from pyman.api.method import Nothing

        self.control.request_shutdown(request.containers)
        return Nothing()


def handlers(engine: Engine, control: Any) -> Mapping[str, Any]:
    from pyman.api import INTERFACES
    from pyman.errors import NotSupported

    async def refuse(_request: Any, _call: Call) -> Any:
        raise NotSupported("cannot do that: this is a stand-in")

    mine = _Handlers(engine, control)
    found: dict[str, Any] = {}
    for interface in INTERFACES:
        for method in interface.methods:
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
            handler = getattr(mine, name, None) if interface.name == "io.pyman.System" else None
            found[f"{interface.name}.{method.name}"] = handler or refuse
    return found


def _replace(name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


if __name__ == "__main__":
    _replace("supervisor.runtime.engine", Engine=Engine)
    _replace("supervisor.runtime.views.info", Facts=Facts)
    _replace("supervisor.rpc.handlers", handlers=handlers)
    vars(entry)["COMMAND"] = (sys.executable, "-P", os.path.abspath(__file__))
    if "daemon" in sys.argv and (early := os.environ.get("STANDIN_EARLY")):
        os._exit(int(early))
    raise SystemExit(program.main())
