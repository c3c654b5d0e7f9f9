"""Files that hold a container's id: `create --cidfile` writes them, `rm --cidfile` and others read them."""

from __future__ import annotations

import os

from pyman.cli.values import absolute
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

__all__ = ["CidFile", "read_ids"]


class CidFile:
    """The file of `--cidfile`: claimed before the call, so that two callers never share it, written after
    it, and taken away again if no container was made."""

    def __init__(self, path: str) -> None:
        self.path = absolute(path)
        self._written = False

    def __enter__(self) -> Self:
        if self.path:
            try:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            except FileExistsError:
                raise InvalidArgument(
                    f"cannot use the cidfile '{self.path}': it exists",
                    subject=self.path,
                    hint="remove it if no container uses it",
                ) from None
            except OSError as problem:
                raise InvalidArgument(
                    f"cannot write the cidfile '{self.path}': {problem.strerror}", subject=self.path
                ) from problem
        return self

    def write(self, container: str) -> None:
        """Once the container exists. Does nothing without a path."""
        if not self.path:
            return
        self._written = True
        try:
            with open(self.path, "w", encoding="ascii") as file:
                file.write(container)
        except OSError as problem:
            raise InvalidArgument(
                f"cannot write the cidfile '{self.path}': {problem.strerror}",
                subject=self.path,
                hint=f"the container {container} exists",
            ) from problem

    def __exit__(self, *_: object) -> None:
        if self.path and not self._written:
            os.unlink(self.path)


def read_ids(paths: Iterable[str], *, ignore: bool = False) -> list[str]:
    """The ids in the files; with `ignore` a file that is not there names nothing. Raises InvalidArgument."""
    ids = []
    for path in paths:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                ids.append(file.readline().strip())
        except OSError as problem:
            if ignore and isinstance(problem, FileNotFoundError):
                continue
            raise InvalidArgument(
                f"cannot read the cidfile '{path}': {problem.strerror or problem}", subject=path
            ) from problem
        if not ids[-1]:
            raise InvalidArgument(f"cannot use the cidfile '{path}': it is empty", subject=path)
    return ids
