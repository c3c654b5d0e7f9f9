"""Images pulled from a real registry, by a real supervisor, into a store that the other engines read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import nothing_in, others_of
from tests.storage.images import busybox
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry, image_config, tar_layer
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(
        bool(missing("podman", "skopeo", "docker-registry")),
        reason=missing("podman", "skopeo", "docker-registry"),
    ),
    pytest.mark.oci_runtime("runc"),
]

IMAGE = "io.pyman.Image"
PLAIN = {"tls_verify": False}


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


def pull(engine: Engine, reference: str, **parameters: Any) -> list[dict[str, Any]]:
    """Every reply; the last is the result."""
    request = {"reference": reference, "access": PLAIN, **parameters}
    return engine.call_stream(f"{IMAGE}.Pull", request)


def listed(engine: Engine, **parameters: Any) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = engine.call(f"{IMAGE}.List", parameters)["images"]
    return images


def statuses(engine: Engine) -> list[str]:
    return [event["Status"] for event in engine.events(type=["image"])]


def partials(engine: Engine) -> list[str]:
    directory = engine.root / "pyman/partials"
    return os.listdir(directory) if directory.exists() else []


def test_an_image_is_pulled_listed_run_and_pushed_by_the_others(
    engine: Engine, registry: RealRegistry
) -> None:
    layers = [
        tar_layer(busybox_files()),
        tar_layer({"word": b"said"}),
        tar_layer({".wh.unwanted": b"", "sub/.wh..wh..opq": b""}),
    ]
    pushed = registry.push("org/app", "1", layers, image_config(layers, Cmd=["sh"]))
    replies = pull(engine, pushed.reference)
    last = replies[-1]
    (image,) = listed(engine)
    assert last["ids"] == [image["id"]]
    assert last["names"] == image["names"] == [pushed.reference]
    assert image["digest"] == pushed.digest
    texts = [reply["text"] for reply in replies if reply["text"]]
    assert texts[0] == f"Trying to pull {pushed.reference}..."
    done = {r["progress"]["digest"]: r["progress"] for r in replies if r.get("progress")}
    assert {state["action"] for state in done.values()} == {"done"}
    assert all(state["bytes"] == state["total"] for state in done.values())
    others = others_of(engine)
    assert [found["Id"] for found in others.images()] == [image["id"]]
    assert others.run_in(pushed.reference, "read word </word; echo $word") == "said"
    again = pushed.reference.replace(":1", ":2")
    others.skopeo("copy", "--dest-tls-verify=false", others.storage(image["id"]), f"docker://{again}")
    third = pushed.reference.replace(":1", ":3")
    others.podman("push", "--quiet", "--tls-verify=false", pushed.reference, f"docker://{third}")
    leave_no_mount(engine)
    # They compress anew, so that the manifest is another; the image is the same.
    for reference in (again, third):
        assert pull(engine, reference)[-1]["ids"] == [image["id"]]
    assert [(event["Status"], event["Name"]) for event in engine.events(type=["image"])] == [
        ("pull", pushed.reference),
        ("pull", again),
        ("pull", third),
    ]
    assert partials(engine) == []


def busybox_files() -> dict[str, bytes | str]:
    files: dict[str, bytes | str] = {"unwanted": b"x", "sub/file": b"y"}
    files.update((name, content) for name, content in busybox().items() if not name.endswith("/"))
    return files


def test_an_ordinary_list_gives_the_member_for_the_platform(engine: Engine, registry: RealRegistry) -> None:
    amd, arm = (
        registry.push("multi", architecture, [layer], platform_config(layer, architecture))
        for architecture in ("amd64", "arm64")
        for layer in [tar_layer({"arch": architecture.encode()})]
    )
    index = registry.push_index("multi", "list", [(amd, "amd64"), (arm, "arm64")])
    first = pull(engine, index.reference, platform={"os": "linux", "arch": "arm64"})[-1]
    (image,) = listed(engine)
    assert (image["arch"], image["names"]) == ("arm64", [index.reference])
    assert f"{registry.host}/multi@{index.digest}" in image["repo_digests"]
    second = pull(engine, index.reference, platform={"os": "linux", "arch": "x86_64"})[-1]
    assert second["ids"] != first["ids"]
    assert {found["arch"]: found["names"] for found in listed(engine)} == {
        "amd64": [index.reference],
        "arm64": [],
    }
    with pytest.raises(VarlinkError) as caught:
        pull(engine, index.reference, platform={"os": "linux", "arch": "s390x"})
    assert caught.value.name == "io.pyman.NotSupported"
    assert "linux/amd64, linux/arm64" in caught.value.parameters["hint"]
    by_digest = f"{registry.host}/multi@{index.digest}"
    assert pull(engine, by_digest, platform={"arch": "amd64"})[-1]["ids"] == second["ids"]
    assert engine.call(f"{IMAGE}.Exists", {"name": by_digest}) == {"exists": True}


def platform_config(layer: bytes, architecture: str) -> bytes:
    return image_config([layer]).replace(b'"amd64"', f'"{architecture}"'.encode())


def test_policies_ask_the_registry_when_they_say_so(engine: Engine, registry: RealRegistry) -> None:
    first = registry.push("policy", "1", [tar_layer({"version": b"1"})])
    reference = first.reference
    with pytest.raises(VarlinkError) as caught:
        pull(engine, reference, policy="never")
    assert caught.value.name == "io.pyman.NoSuchImage"
    id = pull(engine, reference, policy="missing")[-1]["ids"]
    registry.push("policy", "1", [tar_layer({"version": b"2"})])
    assert pull(engine, reference, policy="missing")[-1]["ids"] == id
    assert pull(engine, reference, policy="never")[-1]["ids"] == id
    newer = pull(engine, reference, policy="newer")[-1]["ids"]
    assert newer != id
    again = pull(engine, reference, policy="newer")
    assert again[-1]["ids"] == newer
    assert not [reply for reply in again if reply["text"].startswith("Trying")]
    assert pull(engine, reference, policy="always")[-1]["ids"] == newer
    assert statuses(engine) == ["pull", "pull", "pull"]
    with pytest.raises(VarlinkError, match="policy 'sometimes'"):
        pull(engine, reference, policy="sometimes")


def test_all_tags_come_with_one_call(engine: Engine, registry: RealRegistry) -> None:
    for tag in ("a", "b"):
        registry.push("tags", tag, [tar_layer({"tag": tag.encode()})])
    last = pull(engine, f"{registry.host}/tags", all_tags=True)[-1]
    assert sorted(last["names"]) == [f"{registry.host}/tags:{tag}" for tag in ("a", "b")]
    assert sorted(found["id"] for found in listed(engine)) == sorted(last["ids"])


def test_a_pull_that_fails_is_told_and_leaves_nothing(engine: Engine, registry: RealRegistry) -> None:
    with pytest.raises(VarlinkError) as caught:
        pull(engine, f"{registry.host}/nothing:1")
    assert caught.value.name == "io.pyman.UnknownInRegistry"
    layer, odd = tar_layer({"a": b"b"}), tar_layer({"x": b"y"})
    wrong = image_config([odd])
    pushed = registry.push("wrong", "1", [layer], wrong)
    with pytest.raises(VarlinkError) as caught:
        pull(engine, pushed.reference)
    assert caught.value.name == "io.pyman.DigestMismatch"
    pushed = registry.push("wrong", "2", [layer, odd], image_config([layer]))
    with pytest.raises(VarlinkError, match="2 layers, its configuration 1"):
        pull(engine, pushed.reference)
    assert listed(engine) == []
    assert statuses(engine) == ["pull-error"] * 3
    (event,) = engine.events(type=["image"])[1:2]
    assert event["Name"].endswith("/wrong:1")
    assert "error" in event["Attributes"]
    assert partials(engine) == []
    until(lambda: nothing_in(engine), "something of it is left")


def test_what_the_layers_of_an_image_change_is_told(engine: Engine, registry: RealRegistry) -> None:
    files: dict[str, bytes | str] = {"a": b"1", "b": b"1", "dir/c": b"1"}
    layers = [
        tar_layer(files),
        tar_layer({"b": b"22", "d": b"1", ".wh.a": b""}),
        tar_layer({"e": b"1", ".wh.d": b""}),
    ]
    base = registry.push("diff", "base", layers[:1])
    top = registry.push("diff", "top", layers)
    for pushed in (base, top):
        pull(engine, pushed.reference)
    assert engine.call(f"{IMAGE}.Diff", {"names": [top.reference]}) == {
        "changed": [],
        "added": ["/e"],
        "deleted": ["/d"],
    }
    assert engine.call(f"{IMAGE}.Diff", {"names": [top.reference, base.reference]}) == {
        "changed": ["/b"],
        "added": ["/e"],
        "deleted": ["/a"],
    }
    assert engine.call(f"{IMAGE}.Diff", {"names": [base.reference, top.reference]}) == {
        "changed": ["/b"],
        "added": ["/a"],
        "deleted": ["/e"],
    }


def configure(engine: Engine, name: str, text: str) -> None:
    """Of the user whose engine it is; read again when it has changed."""
    directory = engine.path / ".config/containers"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)


def test_a_short_name_is_tried_where_registries_conf_says_and_found_so_afterwards(
    engine: Engine, registry: RealRegistry
) -> None:
    pushed = registry.push("short/app", "latest", [tar_layer({"short": b"x"})])
    configure(
        engine,
        "registries.conf",
        f'unqualified-search-registries = ["localhost:1", "{registry.host}"]\nshort-name-mode = "permissive"\n'
        f'[aliases]\n"known" = "{registry.host}/short/app"\n',
    )
    replies = pull(engine, "short/app", access={"tls_verify": False, "retry": 0})
    texts = [reply["text"] for reply in replies if reply["text"]]
    assert texts[0].startswith('Resolving "short/app" using unqualified-search registries (')
    assert texts[1:3] == [
        "Trying to pull localhost:1/short/app:latest...",
        f"Trying to pull {registry.host}/short/app:latest...",
    ]
    assert replies[-1]["names"] == [pushed.reference]
    for name in ("short/app", "app", "known"):
        assert engine.call(f"{IMAGE}.Exists", {"name": name}) == {"exists": True}, name
    again = pull(engine, "known")
    assert again[0]["text"] == f"Trying to pull {pushed.reference}..."
    with pytest.raises(VarlinkError) as caught:
        pull(engine, "nowhere", access={"tls_verify": False, "retry": 0})
    assert "from any of 2 places" in caught.value.parameters["message"]
    assert statuses(engine) == ["pull", "pull", "pull-error"]


def test_what_the_policy_rejects_is_not_taken(engine: Engine, registry: RealRegistry) -> None:
    pushed = registry.push("refused/app", "1", [tar_layer({"refused": b"x"})])
    configure(engine, "policy.json", '{"default": [{"type": "reject"}]}')
    with pytest.raises(VarlinkError) as caught:
        pull(engine, pushed.reference)
    assert caught.value.name == "io.pyman.SignatureRefused"
    assert listed(engine) == []


def test_what_is_no_image_or_has_too_many_layers_is_refused_unread(
    engine: Engine, registry: RealRegistry
) -> None:
    layer = tar_layer({"one": b"x"})
    artifact = registry.push("odd", "artifact", [layer], b"{}")
    with pytest.raises(VarlinkError, match="it is no image"):
        pull(engine, artifact.reference)
    tall = registry.push("odd", "tall", [layer], image_config([layer] * 501))
    manifest = json.loads(tall.manifest)
    manifest["layers"] *= 501
    registry.push_manifest("odd", "tall", json.dumps(manifest).encode(), tall.media_type)
    with pytest.raises(VarlinkError, match="it has 501 layers"):
        pull(engine, tall.reference)
    assert listed(engine) == []
    until(lambda: nothing_in(engine), "something of it is left")


def test_a_layer_may_stand_twice_in_an_image(engine: Engine, registry: RealRegistry) -> None:
    one, two = tar_layer({"same": b"1"}), tar_layer({"same": b"2", "other": b"x"})
    layers = [one, two, one, two, one]
    pushed = registry.push("twice", "1", layers)
    id = pull(engine, pushed.reference)[-1]["ids"][0]
    assert len(engine.call(f"{IMAGE}.Tree", {"name": id})["layers"]) == len(layers)
    (mounted,) = engine.call(f"{IMAGE}.Mount", {"names": [id]})["images"]
    with open(f"{mounted['path']}/same", "rb") as file:
        assert file.read() == b"1"
    engine.call(f"{IMAGE}.Unmount", {"names": [id]})
    assert partials(engine) == []
