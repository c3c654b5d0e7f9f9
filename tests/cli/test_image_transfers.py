"""Verbs that bring images here or take them elsewhere: requests, descriptors, results, and what a failure leaves."""

from __future__ import annotations

import http.server
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pyman import wire
from pyman.cli.main import main
from pyman.errors import NoSuchImage, UnknownInRegistry
from tests.cli.fake import IMAGE, check_calls, image
from tests.support.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor
    from tests.support.scripted import Talk

DIGEST = f"sha256:{64 * 'd'}"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "BUILDAH_LAYERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    path = str(tmp_path_factory.mktemp("s") / "s")
    monkeypatch.setattr(wire, "socket_path", lambda *_: path)
    with Scripted(path) as scripted:
        yield scripted
        check_calls(scripted.calls)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def result(**changes: Any) -> dict[str, Any]:
    return {"progress": None, "text": "", "ids": [], "names": [], "digest": "", **changes}


# -- pull and push ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, request_",
    [
        (["a"], {}),
        (["-a", "a"], {"all_tags": True}),
        (["--policy", "ifnewer", "a"], {"policy": "newer"}),
        (["--platform", "linux/arm64", "-q", "a"], {"platform": {"os": "linux", "arch": "arm64"}, "quiet": True}),
        (["--tls-verify=false", "--creds", "u:p", "--retry", "1", "a"],
         {"access": {"tls_verify": False, "username": "u", "password": "p", "retry": 1}}),
    ],
)  # fmt: skip
def test_options_of_pull_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], request_: dict[str, Any]
) -> None:
    fake.answers["Image.Pull"] = result(ids=[IMAGE, "0fa5"])
    assert run(capsys, "pull", *words) == (0, f"{IMAGE}\n0fa5\n", "")
    default: dict[str, Any] = {
        "all_tags": False, "policy": "always", "platform": {}, "access": {}, "quiet": False, "reference": "a",
    }  # fmt: skip
    assert fake.asked("Image.Pull") == {**default, **request_}


def test_pull_of_several_brings_what_it_can(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    missing = UnknownInRegistry("cannot find 'b' in the registry")
    fake.answers["Image.Pull"] = lambda asked: missing if asked["reference"] == "b" else result(ids=[IMAGE])
    assert run(capsys, "pull", "a", "b", "c") == (
        125, f"{IMAGE}\n{IMAGE}\n", "Error: cannot find 'b' in the registry\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "words, request_",
    [
        (["a"], {}),
        (["a", "dir:/x"], {"destination": "dir:/x"}),
        (["-f", "v2s2", "--compression-format", "zstd", "--compression-level", "3", "a"],
         {"format": "v2s2", "compression": "zstd", "compression_level": 3, "force_compression": True}),
        (["--compression-format", "zstd", "--force-compression=false", "a"], {"compression": "zstd"}),
        (["--compress", "a", "dir:/x"], {"destination": "dir:/x", "compression": "gzip"}),
        (["--force-compression", "--remove-signatures", "--all=false", "-q", "a"],
         {"force_compression": True, "remove_signatures": True, "all": False, "quiet": True}),
    ],
)  # fmt: skip
def test_options_of_push_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], request_: dict[str, Any]
) -> None:
    fake.answers["Image.Push"] = result(digest=DIGEST)
    assert run(capsys, "push", *words) == (0, "", "")
    default: dict[str, Any] = {
        "name": "a", "destination": "", "access": {}, "format": "", "compression": "", "compression_level": None,
        "force_compression": False, "remove_signatures": False, "all": True, "quiet": False,
    }  # fmt: skip
    assert fake.asked("Image.Push") == {**default, **request_}


def test_the_digest_of_a_push_goes_into_a_file(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.answers["Image.Push"] = result(digest=DIGEST)
    assert run(capsys, "push", "--digestfile", str(tmp_path / "d"), "a")[0] == 0
    assert (tmp_path / "d").read_text() == DIGEST
    status, _, err = run(capsys, "push", "--digestfile", str(tmp_path / "no" / "d"), "a")
    assert (status, err.startswith(f"Error: cannot write the digest '{DIGEST}' to ")) == (125, True)


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("import http://127.0.0.1:1/x", "cannot download 'http://127.0.0.1:1/x': Connection refused"),
        ("push --format v2s1 a", "option --format cannot be 'v2s1': it must be oci, v2s2"),
        ("push --compression-format lz4 a", "option --compression-format cannot be 'lz4': it must be gzip, zstd, none"),
        ("push --sign-by me a", "cannot use --sign-by: images are not signed here: use skopeo or cosign"),
        ("push --encryption-key=k a", "cannot use --encryption-key: images are not encrypted here: use skopeo"),
        ("pull --decryption-key k a", "cannot use --decryption-key: encrypted images are not read"),
        ("pull --policy x a", "option --policy cannot be 'x': it must be always, missing, newer or never"),
        ("save --format tar a", "option --format cannot be 'tar': it must be docker-archive, oci-archive, docker-dir, oci-dir"),
        ("save --compress a", "cannot use --compress with this format: it is for docker-dir alone"),
        ("save -m --format oci-archive a", "cannot use --multi-image-archive with this format: it is for docker-archive alone"),
        ("save --format oci-dir a", "cannot save to a directory without its name: use --output"),
        ("load -i /no/such", "cannot read '/no/such': No such file or directory"),
        ("import /no/such", "cannot read '/no/such': No such file or directory"),
        ("manifest push --compression-format lz4 a", "option --compression-format cannot be 'lz4': it must be gzip, zstd, none"),
        ("manifest annotate a", "'pyman manifest annotate' needs an image of the list: give its digest, or --index for the list"),
        ("manifest annotate --index a b", "cannot use --index together with an image of the list"),
        ("manifest add --artifact-subject x a b", "cannot use --artifact-subject without --artifact"),
        ("manifest create --annotation x a", "option --annotation cannot be 'x': it must be KEY=VALUE"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, sentence: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    status, out, err = run(capsys, *line.split())
    assert (status, out, err.splitlines()[-1]) == (125, "", f"Error: {sentence}")


# -- archives -----------------------------------------------------------------------------------


def reading(**answer: Any) -> Callable[[Talk], None]:
    """Reads the archive, and answers with what was in it."""

    def script(talk: Talk) -> None:
        content = b""
        while piece := os.read(talk.descriptors[0], 1 << 16):
            content += piece
        talk.send(result(text=f"read {content.decode()}"), continues=True)
        talk.send(result(**answer))

    return script


def test_load_passes_the_archive_on(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.tar").write_text("archive")
    server.script["Image.Load"] = reading(names=["localhost/one:1", "localhost/two:1"], ids=[IMAGE])
    assert run(capsys, "load", "-i", str(tmp_path / "a.tar")) == (
        0, "Loaded image: localhost/one:1\nLoaded image: localhost/two:1\n", "read archive\n",
    )  # fmt: skip
    server.script["Image.Load"] = reading(ids=[IMAGE])
    assert run(capsys, "load", "-q", "-i", str(tmp_path / "a.tar")) == (0, f"Loaded image: {IMAGE}\n", "")


def test_load_of_a_directory_names_it(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").mkdir()
    server.script["Image.Load"] = lambda talk: talk.send(result(names=["localhost/one:1"]))
    assert run(capsys, "load", "-i", "image")[0] == 0
    assert server.asked("Image.Load") == [{"path": str(tmp_path / "image"), "quiet": False}]


class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a.tar" else 404)
        self.send_header("Content-Length", "10" if self.path == "/a.tar" else "0")
        self.end_headers()
        if self.path == "/a.tar":
            self.wfile.write(b"downloaded")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        thread.join()


def test_what_has_an_address_is_downloaded_first(
    server: Scripted, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    server.script["Image.Import"] = reading(ids=[IMAGE])
    done = run(capsys, "import", f"{address}/a.tar", "one")
    assert done[:2] == (0, f"sha256:{IMAGE}\n")
    assert done[2].endswith("read downloaded\n")
    status, out, err = run(capsys, "load", "-q", "-i", f"{address}/b.tar")
    assert (status, out) == (125, "")
    assert err == f"Error: cannot download '{address}/b.tar': HTTP Error 404: Not Found\n"


def test_options_of_import_become_the_request(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.tar").write_text("files")
    server.script["Image.Import"] = reading(ids=[IMAGE])
    words = ["-c", 'CMD ["a", "b"]', "--change", "ENV A=b", "-m", "hello", "--os", "linux", "--arch", "arm64"]
    assert run(capsys, "import", "-q", *words, str(tmp_path / "a.tar"), "one:1") == (
        0,
        f"sha256:{IMAGE}\n",
        "",
    )
    assert server.asked("Image.Import") == [
        {
            "reference": "one:1",
            "changes": ['CMD ["a", "b"]', "ENV A=b"],
            "message": "hello",
            "platform": {"os": "linux", "arch": "arm64"},
            "quiet": True,
        }
    ]


def writing(talk: Talk) -> None:
    os.write(talk.descriptors[0], b"archive")
    if talk.message.get("more"):
        talk.send(result(text="Writing manifest to image destination"), continues=True)
    talk.send(result())


def test_save_writes_into_the_file_that_it_is_told(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.script["Image.Save"] = writing
    words = ["save", "--format", "oci-archive", "--uncompressed", "-o", str(tmp_path / "a.tar"), "one", "two"]
    assert run(capsys, *words) == (0, "", "Writing manifest to image destination\n")
    assert (tmp_path / "a.tar").read_text() == "archive"
    assert server.asked("Image.Save") == [
        {
            "names": ["one", "two"],
            "format": "oci-archive",
            "compress": False,
            "uncompressed": True,
            "multi_image_archive": None,
            "path": f"{tmp_path}/a.tar",
        }
    ]


def test_a_save_that_fails_leaves_what_was_there(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(talk: Talk) -> None:
        os.write(talk.descriptors[0], b"half")
        talk.fail(NoSuchImage("cannot find the image 'two'"))

    server.script["Image.Save"] = fail
    (tmp_path / "old.tar").write_text("old")
    for name in ("old.tar", "new.tar"):
        assert run(capsys, "save", "-o", str(tmp_path / name), "two") == (
            125, "", "Error: cannot find the image 'two'\n",
        )  # fmt: skip
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.tar", "old")]


def test_a_directory_is_written_by_the_supervisor(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.script["Image.Save"] = lambda talk: talk.send(result())
    assert run(capsys, "save", "-q", "--format", "docker-dir", "--compress", "-o", "d", "one") == (0, "", "")
    (asked,) = server.asked("Image.Save")
    assert (asked["path"], asked["compress"]) == (str(tmp_path / "d"), True)


@pytest.mark.parametrize(
    "words, descriptor, sentence",
    [
        (
            ["save", "one"],
            1,
            "cannot save the archive to a terminal: redirect standard output, or use --output",
        ),
        (
            ["export", "web"],
            1,
            "cannot export the files to a terminal: redirect standard output, or use --output",
        ),
        (["load"], 0, "cannot load an image from a terminal: redirect standard input, or use --input"),
        (["import", "-"], 0, "cannot import from a terminal: redirect standard input"),
    ],
)
def test_an_archive_never_meets_a_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    descriptor: int,
    sentence: str,
) -> None:
    monkeypatch.setattr("os.isatty", lambda number: number == descriptor)
    assert run(capsys, *words) == (125, "", f"Error: {sentence}\n")


def test_export_writes_a_containers_files(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.script["Container.Export"] = writing
    assert run(capsys, "export", "-o", str(tmp_path / "a.tar"), "web") == (0, "", "")
    assert (tmp_path / "a.tar").read_text() == "archive"
    assert server.asked("Container.Export") == [{"name": "web"}]


# -- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, method, request_",
    [
        ("create --all -a --annotation a=b --insecure list one two", "ManifestCreate",
         {"name": "list", "images": ["one", "two"], "all": True, "amend": True, "annotations": {"a": "b"},
          "access": {"tls_verify": False}}),
        ("add --arch arm --variant v7 --os-version 1 --features a,b --annotation x=y --creds u:p list one", "ManifestAdd",
         {"name": "list", "images": ["one"], "all": False, "platform": {"arch": "arm", "variant": "v7"},
          "os_version": "1", "features": ["a", "b"], "annotations": {"x": "y"},
          "access": {"username": "u", "password": "p"}}),
        ("add --artifact --artifact-type a/b --artifact-exclude-titles --artifact-subject one list /tmp/file", "ManifestAdd",
         {"name": "list", "images": ["/tmp/file"], "all": False, "platform": {}, "os_version": "", "features": [],
          "annotations": {}, "access": {},
          "artifact": {"type": "a/b", "config": "", "config_type": "", "layer_type": "", "exclude_titles": True,
                       "subject": "one"}}),
        ("annotate --os linux list sha256:d", "ManifestAnnotate",
         {"name": "list", "digest": "sha256:d", "platform": {"os": "linux"}, "os_version": "", "features": [],
          "annotations": {}, "os_features": [], "subject": ""}),
        ("annotate --os-features a,b --annotation x=y list sha256:d", "ManifestAnnotate",
         {"name": "list", "digest": "sha256:d", "platform": {}, "os_version": "", "features": [],
          "annotations": {"x": "y"}, "os_features": ["a", "b"], "subject": ""}),
        ("annotate --index --subject oci:/tmp/x --annotation x=y list", "ManifestAnnotate",
         {"name": "list", "digest": "", "platform": {}, "os_version": "", "features": [],
          "annotations": {"x": "y"}, "os_features": [], "subject": "oci:/tmp/x"}),
        ("remove list sha256:d", "ManifestAnnotate", {"name": "list", "digest": "sha256:d", "remove": True}),
    ],
)  # fmt: skip
def test_options_of_lists_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], line: str, method: str, request_: dict[str, Any]
) -> None:
    fake.answers[f"Image.{method}"] = {"id": IMAGE}
    assert run(capsys, "manifest", *line.split()) == (0, f"{IMAGE}\n", "")
    assert fake.asked(f"Image.{method}") == request_


def test_a_list_is_shown_as_json(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.ManifestInspect"] = {"manifest": {"schemaVersion": 2, "manifests": []}}
    made = '{\n    "schemaVersion": 2,\n    "manifests": []\n}\n'
    assert run(capsys, "manifest", "inspect", "-v", "--tls-verify=false", "list") == (0, made, "")
    assert fake.asked("Image.ManifestInspect") == {"name": "list", "access": {"tls_verify": False}}


def test_a_list_is_pushed_with_its_images(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.answers["Image.ManifestPush"] = result(digest=DIGEST)
    words = ["--rm", "--digestfile", str(tmp_path / "d"), "list"]
    assert run(capsys, "manifest", "push", *words) == (0, "", "")
    assert (tmp_path / "d").read_text() == DIGEST
    assert fake.asked("Image.ManifestPush") == {
        "name": "list", "destination": "list", "access": {}, "all": True, "format": "", "remove_after": True,
        "quiet": False, "compression": "", "compression_level": None, "force_compression": False,
        "add_compression": None, "remove_signatures": False,
    }  # fmt: skip


def test_a_list_is_pushed_in_other_compressions(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.ManifestPush"] = result(digest=DIGEST)
    words = (
        "--compression-format zstd --compression-level 3 --add-compression gzip,zstd --remove-signatures list"
    )
    assert run(capsys, "manifest", "push", *words.split()) == (0, "", "")
    asked = fake.asked("Image.ManifestPush")
    assert (asked["compression"], asked["compression_level"], asked["force_compression"]) == ("zstd", 3, True)
    assert (asked["add_compression"], asked["remove_signatures"]) == (["gzip", "zstd"], True)


def test_only_a_list_exists_as_a_list(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.List"] = lambda asked: {
        "images": [image(is_manifest_list=True)] if asked.get("names") == ["list"] else []
    }
    assert run(capsys, "manifest", "exists", "list") == (0, "", "")
    assert fake.asked("Image.List") == {"names": ["list"], "filters": {"manifest": ["true"]}, "all": True}
    assert run(capsys, "manifest", "exists", "one") == (1, "", "")
    assert fake.calls[-1][1] == {"names": [], "filters": {"manifest": ["true"], "id": ["one"]}, "all": True}
    assert run(capsys, "manifest", "exists", "l*") == (1, "", "")


# -- build --------------------------------------------------------------------------------------


def test_build_passes_everything_on_and_keeps_the_exit_code(
    server: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[list[tuple[int, int]]] = []
    mine = [(os.fstat(number).st_dev, os.fstat(number).st_ino) for number in (0, 1, 2)]

    def built(talk: Talk) -> None:
        came.append([(os.fstat(number).st_dev, os.fstat(number).st_ino) for number in talk.descriptors])
        talk.send({"exit_code": 3, "id": ""})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILD_ME", "ä")
    monkeypatch.setenv("NO_UTF8", "\udcff")
    server.script["Image.Build"] = built
    words = ["-t", "one", "--tag=two:1", "-qtthree", "--build-arg", "A=b", "--squash", "--help-me", "."]
    assert run(capsys, "image", "build", *words) == (3, "", "")
    (asked,) = server.asked("Image.Build")
    expected = ["--layers=true", "--force-rm=true", *words[:6], "--layers=false", "--help-me", "."]
    assert asked["arguments"] == expected
    assert (asked["cwd"], asked["tags"]) == (str(tmp_path), ["one", "two:1", "three"])
    assert asked["environment"]["BUILD_ME"] == "ä"
    assert "NO_UTF8" not in asked["environment"]
    assert came == [mine]


@pytest.mark.parametrize(
    "words, arguments",
    [
        ([], ["--layers=true", "--force-rm=true"]),
        (
            ["--squash-all", "-f", "-"],
            ["--layers=true", "--force-rm=true", "--squash", "--layers=false", "-f", "-"],
        ),
    ],
)
def test_squashing_means_what_it_means_to_podman(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], arguments: list[str]
) -> None:
    fake.answers["Image.Build"] = {"exit_code": 0, "id": IMAGE}
    assert run(capsys, "build", *words) == (0, f"{IMAGE}\n", "")
    assert fake.asked("Image.Build")["arguments"] == arguments


@pytest.mark.parametrize("words", [["--iidfile", "x"], ["--iidfile=x"]])
def test_an_id_that_goes_into_a_file_is_not_printed(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    fake.answers["Image.Build"] = {"exit_code": 0, "id": IMAGE}
    assert run(capsys, "build", *words, ".") == (0, "", "")


def test_the_help_of_build_says_whose_options_these_are(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "build", "--help")
    assert status == 0
    assert "Every other option of 'buildah build' is passed on as it is: see buildah-build(1)." in out
    assert "--tag NAME" in out
