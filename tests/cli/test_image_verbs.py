"""Verbs of images that ask and answer once: what they ask, what they print, how they end."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import main
from pyman.errors import NoSuchContainer, NoSuchImage
from tests.cli.fake import IMAGE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor

NOPE = {"code": "NoSuchImage", "message": "cannot find the image 'nope'", "subject": "nope", "hint": ""}
USED = {"code": "ImageInUse", "message": "cannot remove 'one'", "subject": "one", "hint": "use --force"}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def removed(*images: dict[str, Any], errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return {"images": list(images), "errors": errors or []}


ONE = {"id": IMAGE, "untagged": ["localhost/one:1", "localhost/uno:1"], "deleted": [IMAGE, "0fa5"], "size": 3}
TWO = {"id": "a044", "untagged": ["localhost/two:latest"], "deleted": [], "size": 0}


@pytest.mark.parametrize(
    "line, method, request_, answer",
    [
        ("tag one a:1 b", "Tag", {"name": "one", "targets": ["a:1", "b"]}, {}),
        ("image untag one", "Untag", {"name": "one", "targets": []}, {}),
        ("untag one a", "Untag", {"name": "one", "targets": ["a"]}, {}),
        ("rmi one two", "Remove",
         {"names": ["one", "two"], "all": False, "force": False, "ignore": False, "no_prune": False}, removed()),
        ("image rm -af --no-prune", "Remove",
         {"names": [], "all": True, "force": True, "ignore": True, "no_prune": True}, removed()),
        ("rmi -i one", "Remove",
         {"names": ["one"], "all": False, "force": False, "ignore": True, "no_prune": False}, removed()),
        ("image prune -f", "Prune", {"all": False, "filters": {}, "external": False, "build_cache": False}, removed()),
        ("image prune -af --external --build-cache --filter until=24h --filter label!=a", "Prune",
         {"all": True, "filters": {"until": ["24h"], "label!": ["a"]}, "external": True, "build_cache": True},
         removed()),
        ("image mount", "Mount", {"names": [], "all": False}, {"images": []}),
        ("image unmount -f one", "Unmount", {"names": ["one"], "all": False, "force": True}, {"images": []}),
        ("image umount -a", "Unmount", {"names": [], "all": True, "force": False}, {"images": []}),
        ("image diff one two", "Diff", {"names": ["one", "two"]}, {"changed": [], "added": [], "deleted": []}),
        ("manifest rm -i one", "Remove", {"names": ["one"], "ignore": True, "manifests_only": True}, removed()),
    ],
)  # fmt: skip
def test_options_become_the_request(
    fake: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    method: str,
    request_: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    fake.answers[f"Image.{method}"] = answer
    monkeypatch.delenv("TMPDIR", raising=False)
    assert run(capsys, *line.split()) == (0, "", "")
    assert fake.asked(f"Image.{method}") == request_


def test_caches_of_builds_are_looked_for_where_the_caller_has_temporary_files(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.answers["Image.Prune"] = removed()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "mine")
    assert run(capsys, "image", "prune", "-f", "--build-cache") == (0, "", "")
    assert fake.asked("Image.Prune")["tmpdir"] == f"{tmp_path}/mine"
    assert run(capsys, "image", "prune", "-f") == (0, "", "")
    assert "tmpdir" not in fake.calls[-1][1]


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("rmi", "'pyman rmi' needs an image: give names or ids, or --all"),
        ("rmi -a one", "cannot use --all together with names"),
        ("tag one", "'pyman tag' needs IMAGE NAME [NAME...]: see 'pyman tag --help'"),
        ("image unmount", "'pyman image unmount' needs an image: give names or ids, or --all"),
        ("image mount -a one", "cannot use --all together with names"),
        ("image mount --format yaml", "option --format cannot be 'yaml': it must be json"),
        ("image diff --format yaml one", "option --format cannot be 'yaml': it must be json"),
        ("image prune -f --filter id=x", "cannot prune by 'id': only label and until can be asked for"),
        (
            "image scp a b",
            "unknown command 'image scp': copying an image to another host is 'pyman save … | ssh HOST pyman load'",
        ),
        (
            "image trust",
            "unknown command 'image trust': the policy is a file, containers-policy.json(5), and honoured",
        ),
    ],
)
def test_what_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str], line: str, sentence: str) -> None:
    assert run(capsys, *line.split()) == (125, "", f"Error: {sentence}\n")


def test_rmi_says_what_was_untagged_and_what_deleted(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.Remove"] = removed(ONE, TWO)
    assert run(capsys, "rmi", "one", "two")[:2] == (
        0,
        (
            "Untagged: localhost/one:1\nUntagged: localhost/uno:1\nUntagged: localhost/two:latest\n"
            f"Deleted: {IMAGE}\nDeleted: 0fa5\n"
        ),
    )


@pytest.mark.parametrize(
    "errors, status",
    [([NOPE], 1), ([USED], 2), ([NOPE, USED], 2), ([NOPE, {**NOPE, "code": "StorageFailed"}], 125)],
)
def test_rmi_tells_by_its_exit_status_why_it_could_not(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], errors: list[dict[str, str]], status: int
) -> None:
    fake.answers["Image.Remove"] = removed(TWO, errors=errors)
    done = run(capsys, "rmi", "two", "nope", "one")
    assert done[:2] == (status, "Untagged: localhost/two:latest\n")
    assert done[2].startswith("Error: cannot ")
    assert done[2].count("\n") == len(errors)


def test_exists_says_it_by_its_status_alone(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.Exists"] = lambda asked: {"exists": asked["name"] == "one"}
    assert run(capsys, "image", "exists", "one") == (0, "", "")
    assert run(capsys, "image", "exists", "two") == (1, "", "")


@pytest.mark.parametrize("answer, asked", [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
@pytest.mark.parametrize(
    "words, warning",
    [
        ([], "This command removes all dangling images."),
        (["-a"], "This command removes all images without at least one container associated with them."),
    ],
)
def test_prune_asks_first(
    fake: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    warning: str,
    answer: str,
    asked: bool,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    fake.answers["Image.Prune"] = removed(ONE)
    status, out, _ = run(capsys, "image", "prune", *words)
    question = f"WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    assert out.startswith(question)
    assert out[len(question) :].strip() == (f"{IMAGE}\n0fa5" if asked else "")
    assert status == 0
    assert bool([name for name, _ in fake.calls if name == "Image.Prune"]) == asked


MOUNTED = [
    {"id": IMAGE, "path": "/m/1", "names": ["localhost/one:1"], "name": "one", "error": None},
    {"id": "0fa5", "path": "/m/2", "names": [], "name": "0fa", "error": None},
]


def test_a_mount_of_one_image_prints_the_path_and_of_several_a_table(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.Mount"] = {"images": MOUNTED[:1]}
    assert run(capsys, "image", "mount", "one") == (0, "/m/1\n", "")
    failed = {"id": "", "path": "", "names": [], "name": "nope", "error": NOPE}
    fake.answers["Image.Mount"] = {"images": [*MOUNTED, failed]}
    assert run(capsys, "image", "mount", "one", "0fa", "nope") == (
        125, "localhost/one:1  /m/1\n0fa5             /m/2\n", "Error: cannot find the image 'nope'\n",
    )  # fmt: skip
    assert '"mountpoint": "/m/2"' in run(capsys, "image", "mount", "--format", "json")[1]


@pytest.mark.parametrize("line", ["image mount one", "image mount -a", "mount web"])
def test_a_path_that_an_ordinary_user_could_not_follow_is_not_made(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    status, out, err = run(capsys, *line.split())
    assert (status, out) == (125, "")
    assert err.endswith("only the engine's namespaces would see it: run the command in a 'pyman unshare'\n")
    assert fake.calls == []


def test_unmount_prints_ids(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"id": "", "path": "", "names": [], "name": "nope", "error": NOPE}
    fake.answers["Image.Unmount"] = {"images": [MOUNTED[0], failed]}
    assert run(capsys, "image", "unmount", "one", "nope") == (
        125, f"{IMAGE}\n", "Error: cannot find the image 'nope'\n",
    )  # fmt: skip


def test_a_diff_is_sorted_by_path(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.Diff"] = {"changed": ["/etc", "/a\x1bb"], "added": ["/etc/x"], "deleted": ["/bin/sh"]}
    assert run(capsys, "image", "diff", "one")[1] == "C /a\\x1bb\nD /bin/sh\nC /etc\nA /etc/x\n"
    fake.answers["Image.Diff"] = {"changed": [], "added": ["/x"], "deleted": []}
    made = '{\n     "added": [\n          "/x"\n     ]\n}\n'
    assert run(capsys, "image", "diff", "--format", "json", "one")[1] == made


LAYERS = [
    {"id": "0fa54a9744bb0bbd67965a5f", "created": "2001-09-09T01:45:00.25Z", "created_by": "/bin/sh -c #(nop) LABEL z=1",
     "size": 0, "comment": "FROM base", "tags": ["localhost/one:1"]},
    {"id": "", "created": "2001-09-07T22:00:00Z", "created_by": "COPY " + "x" * 60, "size": 2048, "comment": "",
     "tags": []},
]  # fmt: skip


def test_history_in_its_forms(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyman.cli.history.time.time", lambda: 1e9)
    fake.answers["Image.History"] = {"layers": LAYERS}
    assert run(capsys, "history", "one")[1] == (
        "ID            CREATED             CREATED BY                                     SIZE        COMMENT\n"
        "0fa54a9744bb  About a minute ago  /bin/sh -c #(nop) LABEL z=1                    0 B         FROM base\n"
        f"<missing>     28 hours ago        COPY {'x' * 37}...  2.05 kB     \n"
    )
    assert run(capsys, "history", "-q", "one")[1] == "0fa54a9744bb\n<missing>\n"
    assert run(capsys, "history", "-q", "--no-trunc", "one")[1] == "0fa54a9744bb0bbd67965a5f\n<missing>\n"
    form = "{{.Created}} {{.CreatedAt}} {{.Size}} {{.Tags}}"
    assert run(capsys, "image", "history", "-H=false", "--format", form, "one")[1] == (
        "2001-09-09T01:45:00Z 2001-09-09T01:45:00Z 0 B [localhost/one:1]\n"
        "2001-09-07T22:00:00Z 2001-09-07T22:00:00Z 2.05 kB []\n"
    )
    assert run(capsys, "history", "--format", "json", "one")[1] == (
        '[{"id":"0fa54a9744bb0bbd67965a5f","created":"2001-09-09T01:45:00.25Z","CreatedBy":"/bin/sh -c #(nop) LABEL z=1",'
        '"size":0,"comment":"FROM base","tags":["localhost/one:1"],"Created":"2001-09-09T01:45:00Z"},'
        f'{{"id":"<missing>","created":"2001-09-07T22:00:00Z","CreatedBy":"COPY {"x" * 60}","size":2048,'
        '"Created":"2001-09-07T22:00:00Z"}]\n'
    )


def layer(identity: str, parent: str = "", *names: str) -> dict[str, Any]:
    return {"id": identity * 64, "size": 1_984_512, "top_of": list(names), "parent": parent * 64}


def test_a_tree_goes_straight_down_and_forks_move_in(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = [layer("a"), layer("b", "a", "localhost/one:1", "localhost/uno:1")]
    forks = [layer("c", "b"), layer("d", "c", "localhost/two:1"), layer("e", "b", "localhost/three:1")]
    reply = {"id": IMAGE, "names": ["localhost/one:1"], "size": 1_986_633, "layers": chain}
    fake.answers["Image.Tree"] = reply
    head = "Image ID: 9167761d6a6e\nTags:     [localhost/one:1]\nSize:     1.987MB\nImage Layers\n"
    assert run(capsys, "image", "tree", "one")[1] == head + (
        "├── ID: aaaaaaaaaaaa Size: 1.985MB\n"
        "└── ID: bbbbbbbbbbbb Size: 1.985MB Top Layer of: [localhost/one:1 localhost/uno:1]\n"
    )
    fake.answers["Image.Tree"] = {**reply, "layers": chain + forks}
    assert run(capsys, "image", "tree", "--whatrequires", "one")[1] == head + (
        "├── ID: aaaaaaaaaaaa Size: 1.985MB\n"
        "├── ID: bbbbbbbbbbbb Size: 1.985MB Top Layer of: [localhost/one:1 localhost/uno:1]\n"
        "├── ID: cccccccccccc Size: 1.985MB\n"
        "│   └── ID: dddddddddddd Size: 1.985MB Top Layer of: [localhost/two:1]\n"
        "└── ID: eeeeeeeeeeee Size: 1.985MB Top Layer of: [localhost/three:1]\n"
    )
    assert fake.calls[-1][1] == {"name": "one", "whatrequires": True}


def test_what_is_not_there_is_said_once(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.History"] = NoSuchImage("cannot find the image 'nope'")
    assert run(capsys, "history", "nope") == (125, "", "Error: cannot find the image 'nope'\n")


# -- a container's files ------------------------------------------------------------------------

CONTAINERS = [
    {"id": IMAGE, "name": "web", "path": "/m/1", "error": None},
    {"id": "0fa5" * 16, "name": "db", "path": "/m/2", "error": None},
]


def test_a_mount_of_containers_prints_paths_and_without_names_a_table(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Mount"] = {"containers": CONTAINERS}
    assert run(capsys, "mount", "web", "db") == (0, "/m/1\n/m/2\n", "")
    assert fake.calls[-1][1] == {"selection": {"names": ["web", "db"]}}
    assert run(capsys, "mount")[1] == f"{IMAGE[:12]}  /m/1\n0fa50fa50fa5  /m/2\n"
    assert fake.calls[-1][1] == {"selection": {}}
    assert run(capsys, "container", "mount", "--no-trunc")[1].startswith(f"{IMAGE}  /m/1\n")
    made = run(capsys, "mount", "--format", "json")[1].replace(" ", "").replace("\n", "")
    assert made.startswith(f'[{{"id":"{IMAGE}","Names":["web"],"mountpoint":"/m/1"}},')
    sentence = "Error: cannot use --latest together with names\n"
    assert run(capsys, "mount", "-l", "web") == (125, "", sentence)


def test_an_unmount_prints_what_was_named(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"name": "nope", "id": "", "error": {"code": "NoSuchContainer", "message": "cannot find it"}}
    fake.answers["Container.Unmount"] = {"results": [{"name": "web", "id": IMAGE}, failed]}
    assert run(capsys, "umount", "-f", "web", "nope") == (125, "web\n", "Error: cannot find it\n")
    assert fake.calls[-1][1] == {"selection": {"names": ["web", "nope"]}, "force": True}
    fake.answers["Container.Unmount"] = {"results": [{"name": "web", "id": IMAGE}]}
    assert run(capsys, "container", "umount", "-a") == (0, f"{IMAGE}\n", "")
    sentence = "Error: 'pyman unmount' needs a container: give names or ids, or --all or --latest\n"
    assert run(capsys, "unmount") == (125, "", sentence)


def test_commit_makes_an_image_and_prints_its_id(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.answers["Container.Commit"] = {"id": IMAGE}
    words = ["-a", "me", "-m", "why", "-c", "CMD a", "-ps", "-f", "docker", "--iidfile", str(tmp_path / "id")]
    assert run(capsys, "commit", *words, "web", "one:1") == (0, f"{IMAGE}\n", "")
    assert (tmp_path / "id").read_text() == IMAGE
    assert fake.asked("Container.Commit") == {
        "name": "web", "image": "one:1", "author": "me", "message": "why", "changes": ["CMD a"], "pause": True,
        "squash": True, "include_volumes": False, "format": "docker", "config": {},
    }  # fmt: skip
    assert (
        run(capsys, "commit", "-f", "x", "web")[2]
        == "Error: option --format cannot be 'x': it must be oci or docker\n"
    )


def test_a_diff_is_of_a_container_or_of_an_image(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = NoSuchContainer("cannot find container 'one'", subject="one")
    fake.answers["Container.Changes"] = lambda asked: (
        {"changed": ["/c"], "added": [], "deleted": []} if asked["name"] == "web" else nothing
    )
    fake.answers["Image.Diff"] = {"changed": [], "added": ["/i"], "deleted": []}
    assert run(capsys, "diff", "web") == (0, "C /c\n", "")
    assert run(capsys, "diff", "one") == (0, "A /i\n", "")
    assert run(capsys, "container", "diff", "one") == (125, "", "Error: cannot find container 'one'\n")
    assert run(capsys, "diff", "one", "two") == (0, "A /i\n", "")
    assert fake.calls[-1][1] == {"names": ["one", "two"]}
    assert run(capsys, "diff", "web", "two") == (0, "C /c\n", "")
    assert fake.calls[-1][1] == {"name": "web", "of": "two"}
    fake.answers["Image.Diff"] = NoSuchImage("cannot find the image 'one'", subject="one")
    sentence = "Error: cannot find 'one': neither a container nor an image has that name or id\n"
    assert run(capsys, "diff", "one") == (125, "", sentence)
