"""What people write to have something mounted, and what of the create request it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyman.errors import InvalidArgument, NotSupported
from pyman.mounttext import mount_fields, tmpfs_fields, volume_fields


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/cwd/{path.removeprefix('./')}"


@pytest.mark.parametrize(
    ("text", "field", "wish"),
    [
        ("/data", "volumes", {"name": "", "dest": "/data"}),
        ("name:/data", "volumes", {"name": "name", "dest": "/data"}),
        ("name:/data:ro,z", "volumes", {"name": "name", "dest": "/data", "options": ["ro", "z"]}),
        ("/a:/b/./c//d/..", "mounts", {"type": "bind", "source": "/a", "destination": "/b/c"}),
        ("./a:/b:U", "mounts", {"type": "bind", "source": "/cwd/a", "destination": "/b", "options": ["U"]}),
        ("/a:/b:O", "overlay_volumes", {"source": "/a", "destination": "/b"}),
        (
            "/a:/b:O,upperdir=up,workdir=/w",
            "overlay_volumes",
            {"source": "/a", "destination": "/b", "options": ["upperdir=/cwd/up", "workdir=/w"]},
        ),
        (
            "/a:/b:idmap=uids=0-1-10#10-11-10;gids=0-1-10",
            "mounts",
            {
                "type": "bind",
                "source": "/a",
                "destination": "/b",
                "options": ["idmap=uids=0-1-10#10-11-10;gids=0-1-10"],
            },
        ),
    ],
)
def test_a_volume(text: str, field: str, wish: dict[str, Any]) -> None:
    assert volume_fields([text], _absolute) == {field: [wish]}


@pytest.mark.parametrize(
    ("text", "field", "wish"),
    [
        ("dst=/x", "volumes", {"name": "", "dest": "/x"}),
        (
            "type=volume,src=v,target=/x,volume-subpath=a,volume-opt=type=tmpfs,nocopy",
            "volumes",
            {"name": "v", "dest": "/x", "options": ["volume-opt=type=tmpfs", "nocopy"], "sub_path": "a"},
        ),
        (
            'type=bind,"src=/a,b",dst=/x,readonly,bind-propagation=rslave,bind-nonrecursive,chown=true',
            "mounts",
            {
                "type": "bind",
                "source": "/a,b",
                "destination": "/x",
                "options": ["ro", "rslave", "bind", "U"],
            },
        ),
        (
            "type=bind,src=a,dst=/x,ro=false,U=false,idmap=false,bind-nonrecursive=false,consistency=cached",
            "mounts",
            {"type": "bind", "source": "/cwd/a", "destination": "/x"},
        ),
        ("type=bind,dst=/x,rw=false,idmap", "mounts", {"type": "bind", "source": "/x", "destination": "/x", "options": ["ro", "idmap"]}),
        (
            "type=tmpfs,tmpfs-size=1m,tmpfs-mode=700,dst=/x,noswap,notmpcopyup,noatime,U",
            "mounts",
            {
                "type": "tmpfs",
                "source": "tmpfs",
                "destination": "/x",
                "options": ["size=1m", "mode=700", "noswap", "notmpcopyup", "noatime", "U"],
            },
        ),
        (
            "type=devpts,dst=/x,uid=1,gid=2,mode=620,max=3,ptmxmode=666,newinstance",
            "mounts",
            {
                "type": "devpts",
                "source": "devpts",
                "destination": "/x",
                "options": ["uid=1", "gid=2", "mode=620", "max=3", "ptmxmode=666", "newinstance"],
            },
        ),
        (
            "type=image,src=i,dst=/x,rw=true,subpath=/a",
            "image_volumes",
            {"source": "i", "destination": "/x", "read_write": True, "sub_path": "/a"},
        ),
    ],
)  # fmt: skip
def test_a_mount(text: str, field: str, wish: dict[str, Any]) -> None:
    assert mount_fields([text], _absolute) == {field: [wish]}


def test_a_tmpfs() -> None:
    found = tmpfs_fields(["/a/../b:size=1m,noexec", "/c"])
    assert found == {
        "mounts": [
            {"type": "tmpfs", "source": "tmpfs", "destination": "/b", "options": ["size=1m", "noexec"]},
            {"type": "tmpfs", "source": "tmpfs", "destination": "/c"},
        ]
    }


_words = st.lists(
    st.sampled_from(["type", "bind", "=", ",", "src", "dst", "/a", "tmpfs", "volume", "ro", "true", ":", '"', "U", "..", "x", "image", "subpath"]),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.one_of(st.text(max_size=30), _words))
@example('\r"')
def test_any_text_is_understood_or_refused(text: str) -> None:
    for read in (
        partial(volume_fields, absolute=_absolute),
        partial(mount_fields, absolute=_absolute),
        tmpfs_fields,
    ):
        try:
            found = read([text])
        except (InvalidArgument, NotSupported):
            continue
        assert sum(map(len, found.values())) == 1
