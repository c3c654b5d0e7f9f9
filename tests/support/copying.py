"""Cases of `cp` and what is there afterwards: the same for the tests of this engine and for those beside Podman."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["INTO", "OUT_OF", "SCRIPT", "Case", "archive", "make_source"]

SCRIPT = """\
mkdir -p /srv/sub /tmp/d1 /tmp/full/dir
echo inner > /srv/sub/inner
echo file > /srv/file
echo kept > /tmp/full/kept
ln -s /srv/sub /tmp/link
ln -s /tmp/nowhere /tmp/d1/dangling
ln -s ../srv/file /tmp/file-link
ln -s /etc/passwd /tmp/full/passwd
"""
"""What there is in a container, made by itself."""


class Case(NamedTuple):
    source: str
    target: str
    expected: str
    """Where the file `text`, or `inner`, is then; empty: it is refused."""
    options: tuple[str, ...] = ()


INTO = [
    Case("text", "/", "/text"),
    Case("text", "/other", "/other"),
    Case("text", "/tmp", "/tmp/text"),
    Case("text", "/tmp/", "/tmp/text"),
    Case("text", "/tmp/.", "/tmp/text"),
    Case("text", ".", "/srv/text"),
    Case("text", "./", "/srv/text"),
    Case("text", "name", "/srv/name"),
    Case("text", "sub", "/srv/sub/text"),
    Case("text", "../tmp", "/tmp/text"),
    Case("text", "/srv/file", "/srv/file"),
    Case("text", "/tmp/link", "/srv/sub/text"),
    Case("text", "/tmp/file-link", "/srv/file"),
    Case("text", "/tmp/d1/dangling", "/tmp/nowhere"),
    Case("text", "/tmp/d1/dangling/", ""),
    Case("text", "/nowhere/", ""),
    Case("text", "/nowhere/name", ""),
    Case("text", "/tmp/full/../../../../tmp/up", "/tmp/up"),
    Case("link-to-text", "/tmp", "/tmp/link-to-text"),
    Case("tree", "/", "/tree/text"),
    Case("tree/", "/tmp", "/tmp/tree/text"),
    Case("tree/.", "/tmp/", "/tmp/text"),
    Case("tree/.", "sub/.", "/srv/sub/text"),
    Case("tree", "/new", "/new/text"),
    Case("tree/", "/new", "/new/text"),
    Case("tree/.", "/new", "/new/text"),
    Case("tree", "/srv/file", ""),
    Case("tree", "/nowhere/new", ""),
    Case("link-to-tree", "/tmp", "/tmp/link-to-tree/text"),
    Case("dot.", "/new", "/new/text"),
    Case("kept", "/tmp/full", "", ()),
    Case("kept", "/tmp/full", "/tmp/full/kept/text", ("--overwrite",)),
    Case("dir", "/tmp/full", "", ()),
    Case("dir", "/tmp/full", "/tmp/full/dir", ("--overwrite",)),
    Case("missing", "/tmp", ""),
]

OUT_OF = [
    Case("/srv/file", "", "file"),
    Case("/srv/file", "/.", "file"),
    Case("file", "/name", "name"),
    Case("/srv/file", "/there", "there"),
    Case("/srv/file", "/link", "link"),
    Case("sub/inner", "", "inner"),
    Case("/tmp/file-link", "", "file"),
    Case("/srv/sub", "", "sub/inner"),
    Case("/srv/sub/", "", "sub/inner"),
    Case("/srv/sub/.", "", "inner"),
    Case("/srv/sub", "/new", "new/inner"),
    Case("/srv/sub/.", "/new", "new/inner"),
    Case("/tmp/link", "", "sub/inner"),
    Case("/tmp/link", "/new", "new/inner"),
    Case("/srv/sub", "/there", ""),
    Case("/srv/file", "/nowhere/name", ""),
    Case("/srv/file", "/new/", ""),
    Case("/srv/nothing", "", ""),
    Case("/tmp/d1/dangling", "", ""),
    Case("/tmp/full/dir", "", "", ()),
    Case("/tmp/full/kept", "", "", ()),
    Case("/tmp/full/kept", "", "kept", ("--overwrite",)),
]


def make_source(directory: Path) -> None:
    """What the cases of `INTO` copy. Their text is in a file of that name."""
    directory.mkdir(exist_ok=True)
    for name in ("tree", "dot.", "kept"):
        (directory / name / "sub").mkdir(parents=True)
        (directory / name / "text").write_text("copied\n")
    (directory / "text").write_text("copied\n")
    (directory / "dir").write_text("copied\n")
    (directory / "link-to-text").symlink_to("text")
    (directory / "link-to-tree").symlink_to("tree")


def archive(*members: tuple[str, bytes | str | None], uid: int = 0, mode: int = 0o644) -> bytes:
    """A tar archive. Bytes: a file, a string: a link there, None: a directory."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.uid, member.gid, member.mode = uid, uid, mode
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            made.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return data.getvalue()
