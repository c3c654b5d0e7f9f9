"""`pyman images`: rows, columns, sorting, formats, and what is asked of the supervisor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.images import spaced_size, split_name
from pyman.cli.main import main
from tests.cli.fake import IMAGE, image

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor

OLD = image(
    id="0fa54a9744bb" + 52 * "0", names=[], created=999_900_000, size=48, dangling=True, history=[], labels={},
    containers=0, repo_digests=[],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyman.cli.images.time.time", lambda: 1e9)


def listing(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    fake.answers["Image.List"] = {"images": [image(), OLD]}
    assert main(["images", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_an_image_has_a_line_for_each_name(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing(fake, capsys) == (
        "REPOSITORY              TAG         IMAGE ID      CREATED             SIZE\n"
        "registry.example/a/one  1           9167761d6a6e  About a minute ago  1.99 MB\n"
        "localhost/two           latest      9167761d6a6e  About a minute ago  1.99 MB\n"
        "<none>                  <none>      0fa54a9744bb  28 hours ago        48 B\n"
    )


def test_further_columns_are_asked_for(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    header, row, *_ = listing(fake, capsys, "--digests", "--history", "--no-trunc").splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE", "HISTORY"]
    assert f"sha256:{64 * 'd'}  sha256:{IMAGE}" in row
    assert row.endswith("localhost/two:latest, registry.example/a/one:1")


def test_an_image_of_an_additional_store_shows_that_it_is_read_only(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.List"] = {"images": [image(read_only=True), OLD]}
    assert main(["images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["R/O", "true", "true", "false"]


@pytest.mark.parametrize(
    "words, expected",
    [
        (["-q"], f"{IMAGE[:12]}\n0fa54a9744bb\n"),
        (["-q", "--no-trunc"], f"sha256:{IMAGE}\nsha256:{OLD['id']}\n"),
        (["--noheading", "--sort", "size"], ("<none>                  <none>      0fa54a9744bb  28 hours ago        48 B\n"
         "registry.example/a/one  1           9167761d6a6e  About a minute ago  1.99 MB\n"
         "localhost/two           latest      9167761d6a6e  About a minute ago  1.99 MB\n")),
        (["--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"],
         ("registry.example/a/one:1 9167761d6a6e 1.99 MB\nlocalhost/two:latest 9167761d6a6e 1.99 MB\n"
         "<none>:<none> 0fa54a9744bb 48 B\n")),
        (["--format", "{{.CreatedAt}} {{.CreatedSince}} {{.RepoTags}} {{.Labels}} {{.Containers}} {{.Dangling}}"],
         "2001-09-09 01:45:00 +0000 UTC About a minute ago [registry.example/a/one:1 localhost/two:latest] map[who:me] 1 false\n"
         * 2 + "2001-09-07 22:00:00 +0000 UTC 28 hours ago [] map[] 0 true\n"),
        (["--format", "table {{.Tag}} {{.VirtualSize}}", "--sort", "tag"],
         "TAG         VIRTUAL SIZE\n1           1986633\n<none>      48\nlatest      1986633\n"),
        (["-n", "--format", "table {{.Tag}}\t{{.Os}}"], "1           linux\nlatest      linux\n<none>      linux\n"),
        (["--sort", "id", "--format", "{{.ID}}"], "0fa54a9744bb\n9167761d6a6e\n9167761d6a6e\n"),
        (["--sort", "repository", "--format", "{{.Repository}}"], "<none>\nlocalhost/two\nregistry.example/a/one\n"),
        (["--sort", "created", "--format", "{{.ID}}"], "9167761d6a6e\n9167761d6a6e\n0fa54a9744bb\n"),
    ],
)  # fmt: skip
def test_formats_and_orders(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert listing(fake, capsys, *words) == expected


def test_json_has_podmans_keys_and_leaves_out_what_is_empty(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = json.loads(listing(fake, capsys, "--format", "json"))
    assert {**first, "Repository": "localhost/two", "Tag": "latest"} == second
    assert second == {
        "Id": IMAGE,
        "ParentId": "",
        "RepoTags": None,
        "RepoDigests": [f"registry.example/a/one@sha256:{64 * 'd'}"],
        "Size": 1986633,
        "SharedSize": 0,
        "VirtualSize": 1986633,
        "Labels": {"who": "me"},
        "Containers": 1,
        "Arch": "amd64",
        "Digest": f"sha256:{64 * 'd'}",
        "History": ["localhost/two:latest", "registry.example/a/one:1"],
        "Names": ["registry.example/a/one:1", "localhost/two:latest"],
        "Os": "linux",
        "Created": 999999900,
        "CreatedAt": "2001-09-09T01:45:00Z",
        "Repository": "localhost/two",
        "Tag": "latest",
    }
    assert third["Labels"] is None
    assert third["Dangling"] is True
    assert "History" not in third


@pytest.mark.parametrize(
    "words, request_",
    [
        ([], {"filters": {}, "names": [], "all": False}),
        (["-a", "alpine"], {"filters": {}, "names": ["alpine"], "all": True}),
        (
            ["-f", "dangling=true", "--filter", "label=a=b,c", "-f", "label!=x"],
            {
                "filters": {"dangling": ["true"], "label": ["a=b,c"], "label!": ["x"]},
                "names": [],
                "all": False,
            },
        ),
    ],
)
def test_options_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], request_: dict[str, Any]
) -> None:
    listing(fake, capsys, *words)
    assert fake.asked("Image.List") == request_


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--sort", "age"], "option --sort cannot be 'age': it must be created, id, repository, size, tag"),
        (["-f", "a=b", "x"], "cannot use --filter together with the name of an image"),
        (["-f", "a"], "cannot use the filter 'a': it must be KEY=VALUE"),
        (["a", "b"], "'pyman images' takes [IMAGE], but got also 'b': see 'pyman images --help'"),
    ],
)
def test_what_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["images", *words]) == 125
    assert capsys.readouterr().err == f"Error: {sentence}\n"


@pytest.mark.parametrize(
    "name, pair",
    [
        ("localhost:5000/a/b:1", ("localhost:5000/a/b", "1")),
        ("localhost:5000/a", ("localhost:5000/a", "<none>")),
        (f"quay.example/a@sha256:{64 * 'd'}", ("quay.example/a", "<none>")),
        (f"quay.example/a:1@sha256:{64 * 'd'}", ("quay.example/a", "1")),
    ],
)
def test_a_name_is_a_repository_and_a_tag(name: str, pair: tuple[str, str]) -> None:
    assert split_name(name) == pair


def test_names_by_digest_have_one_line_and_only_where_there_is_no_tag(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    digested = [f"q.example/a@sha256:{64 * letter}" for letter in "de"]
    fake.answers["Image.List"] = {
        "images": [image(names=digested), image(names=[*digested, "q.example/b:1"])]
    }
    assert main(["images", "--format", "{{.Repository}} {{.Tag}}"]) == 0
    assert capsys.readouterr().out == "q.example/a <none>\nq.example/b 1\n"


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (7_840_000, "7.84 MB"), (123_456_789_000, "123 GB")],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert spaced_size(count) == text


def test_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pyman.cli.main import main; main(['images', '--help'])\n"
        "import pyman.cli.table, pyman.cli.template, pyman.wire\n"
        "heavy = {'argparse', 'asyncio', 'datetime', 'enum', 'inspect', 'json', 'msgspec', 're', 'rich', 'socket',"
        " 'subprocess', 'trio', 'typing', 'urllib', 'pyman.cli.transfer'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"sys_path = {sys.path!r}; import sys; sys.path[:] = sys_path\n" + code],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stderr == "[]\n"
