"""The image verbs as a person uses them: a real supervisor, a real docker-registry, archives on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.registry import PASSWORD, USER, image_config, tar_layer

if TYPE_CHECKING:
    from tests.support.engine import Engine
    from tests.support.registry import Pushed, RealRegistry

pytestmark = [
    pytest.mark.oci_runtime("runc"),
    pytest.mark.skipif(os.geteuid() != 0, reason="ordinary users have tests of their own"),
]

PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def served(registry: RealRegistry) -> Pushed:
    """Two layers, one of them busybox."""
    program = Path(shutil.which("busybox") or "").read_bytes()
    links = {f"bin/{name}": "busybox" for name in ("cat", "echo", "rm", "sh")}
    layers = [tar_layer({"bin/busybox": program, **links}), tar_layer({"etc/issue": b"hello\n"})]
    return registry.push("cli/app", "1", layers, image_config(layers, Cmd=["cat", "/etc/issue"], Env=["A=b"]))


@pytest.fixture
def app(shared_engine: Engine, served: Pushed) -> str:
    """The image, pulled. Removed by `clean`."""
    shared_engine.cli("pull", "-q", PLAIN, served.reference)
    return served.reference


@pytest.fixture(autouse=True)
def clean(shared_engine: Engine) -> None:
    """Every test begins with an empty store."""
    shared_engine.cli("rmi", "-af")


def digest(layer: bytes) -> str:
    from hashlib import sha256

    return f"sha256:{sha256(layer).hexdigest()}"


def test_a_pull_prints_the_id_and_tells_the_rest_beside_it(shared_engine: Engine, served: Pushed) -> None:
    done = shared_engine.cli("pull", PLAIN, served.reference)
    identity = digest(served.config).removeprefix("sha256:")
    assert done.stdout == f"{identity}\n"
    lines = done.stderr.splitlines()
    assert lines[0] == f"Trying to pull {served.reference}..."
    assert lines[-1] == "Writing manifest to image destination"
    for layer in served.layers:
        assert f"Copying blob {digest(layer)} done" in lines
    assert shared_engine.cli("pull", "-q", PLAIN, served.reference).stderr == ""
    assert shared_engine.out("pull", "--policy", "never", "cli/app:1") == identity


def test_pulling_says_why_it_cannot(shared_engine: Engine, registry: RealRegistry, tmp_path: Path) -> None:
    for words, reason in [
        ([PLAIN, f"{registry.host}/cli/none"], "Error: cannot pull "),
        (["--policy", "never", "cli/none"], "Error: cannot find "),
        (["-q", f"dir:{tmp_path}/none"], "Error: cannot "),
        ([PLAIN, "Upper/Case"], "Error: cannot "),
    ]:
        done = shared_engine.cli("pull", *words, check=False)
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr.splitlines()[-1].startswith(reason)


def test_an_interrupted_pull_leaves_nothing(shared_engine: Engine, registry: RealRegistry) -> None:
    big = tar_layer({"random": os.urandom(40_000_000)}, compress=True)
    pushed = registry.push("cli/big", "1", [big], image_config([big]))
    with shared_engine.spawn("pull", PLAIN, pushed.reference) as pull:
        assert pull.stderr is not None
        while b"Copying blob" not in (line := pull.stderr.readline()):
            assert line
        pull.send_signal(signal.SIGINT)
        assert pull.wait(20) == 130
    assert shared_engine.out("images", "-aq") == ""
    assert len(shared_engine.out("pull", "-q", PLAIN, pushed.reference)) == 64


def test_an_image_is_run_and_its_configuration_holds(shared_engine: Engine, app: str) -> None:
    assert shared_engine.out("run", "--rm", app) == "hello"
    assert shared_engine.out("run", "--rm", app, "sh", "-c", "echo $A") == "b"


def test_names_are_taken_before_the_image(shared_engine: Engine, app: str) -> None:
    shared_engine.cli("tag", app, "mine:1")
    identity = shared_engine.out("image", "inspect", "-f", "{{.Id}}", "mine:1")
    assert shared_engine.out("rmi", app) == f"Untagged: {app}"
    shared_engine.cli("create", "--name", "user", "mine:1")
    done = shared_engine.cli("rmi", "mine:1", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: cannot remove ")
    assert shared_engine.cli("rmi", "nope", check=False).returncode == 1
    assert shared_engine.cli("rmi", "-i", "nope").stdout == ""
    shared_engine.cli("rm", "user")
    assert shared_engine.out("rmi", identity[:12]) == f"Untagged: localhost/mine:1\nDeleted: {identity}"


def test_prune_removes_what_nobody_uses(shared_engine: Engine, app: str) -> None:
    identity = shared_engine.out("images", "-q", "--no-trunc").removeprefix("sha256:")
    assert shared_engine.out("image", "prune", "-f") == ""
    assert shared_engine.out("image", "prune", "-af", "--filter", "label=none") == ""
    asked = shared_engine.cli("image", "prune", "-a", input="n\n")
    assert asked.stdout.startswith("WARNING! This command removes all images without at least one container")
    assert shared_engine.out("image", "prune", "-af") == identity
    assert app not in shared_engine.out("images")


def test_what_is_pushed_comes_back_the_same(
    shared_engine: Engine, registry: RealRegistry, app: str, tmp_path: Path
) -> None:
    target = f"{registry.host}/cli/copy:2"
    shared_engine.cli("tag", app, target)
    done = shared_engine.cli("push", PLAIN, "--digestfile", tmp_path / "digest", target)
    assert done.stdout == ""
    assert "Writing manifest to image destination" in done.stderr
    written = digest(registry.manifest("cli/copy", "2"))
    assert (tmp_path / "digest").read_text() == written
    assert shared_engine.cli("push", "-q", PLAIN, target).stderr == ""
    assert shared_engine.out("search", PLAIN, "--list-tags", f"{registry.host}/cli/copy").split() == [
        "NAME", "TAG", f"{registry.host}/cli/copy", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "docker-dir", "oci-dir"])
def test_what_is_saved_is_loaded_again(shared_engine: Engine, app: str, tmp_path: Path, form: str) -> None:
    identity = shared_engine.out("images", "-q", "--no-trunc")
    shared_engine.cli("tag", app, "localhost/saved:1")
    path = tmp_path / "saved"
    shared_engine.cli("save", "--format", form, "-o", path, "localhost/saved:1")
    shared_engine.cli("rmi", "-af")
    loaded = shared_engine.out("load", "-i", path)
    assert loaded.startswith("Loaded image: ")
    assert shared_engine.out("images", "-q", "--no-trunc") == identity
    if form == "docker-archive":
        assert loaded == "Loaded image: localhost/saved:1"


def test_archives_flow_through_pipes(shared_engine: Engine, app: str) -> None:
    with shared_engine.spawn("save", app) as save:
        load = shared_engine.spawn("load", "-q", stdin=save.stdout.fileno() if save.stdout else None)
        with load:
            out, err = load.communicate(timeout=30)
        assert (load.returncode, save.wait(20)) == (0, 0), err
    assert out.decode() == f"Loaded image: {app}\n"


def test_files_become_an_image(shared_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "files.tar").write_bytes(tar_layer({"a": b"b"}, compress=False))
    done = shared_engine.cli("import", "-c", "CMD /a", "-m", "by hand", tmp_path / "files.tar", "made:1")
    identity = done.stdout.strip().removeprefix("sha256:")
    form = "{{.Id}} {{.Config.Cmd}} {{.Comment}}"
    assert shared_engine.out("image", "inspect", "-f", form, "made:1").split()[0] == identity
    assert "Loaded" not in done.stderr
    with (tmp_path / "files.tar").open("rb") as file:
        assert shared_engine.out("import", "-q", "-", input=file.read()).startswith("sha256:")


def test_a_login_lasts_until_the_logout(
    shared_engine: Engine, secure_registry: RealRegistry, tmp_path: Path
) -> None:
    host = secure_registry.host
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_bytes(secure_registry.authority.read_bytes())
    options = ["--authfile", f"{tmp_path}/auth.json", "--cert-dir", f"{tmp_path}/certs"]
    layers = [tar_layer({"a": b"b"})]
    pushed = secure_registry.push("cli/secret", "1", layers, image_config(layers))
    wrong = shared_engine.cli("login", *options, "-u", USER, "-p", "wrong", host, check=False)
    assert (wrong.returncode, wrong.stdout) == (125, "")
    assert wrong.stderr.startswith("Error: cannot log in to ")
    done = shared_engine.cli("login", *options, "-u", USER, "--password-stdin", host, input=PASSWORD + "\n")
    assert done.stdout == "Login Succeeded!\n"
    assert shared_engine.out("login", "--get-login", *options, host) == USER
    assert "Already logged in" in shared_engine.out("login", *options, host)
    assert len(shared_engine.out("pull", "-q", *options, pushed.reference)) == 64
    assert (tmp_path / "auth.json").stat().st_mode & 0o777 == 0o600
    assert shared_engine.out("logout", *options[:2], host) == f"Removed login credentials for {host}"
    assert shared_engine.cli("logout", *options[:2], host, check=False).returncode == 125
    denied = shared_engine.cli("pull", "-q", *options, pushed.reference, check=False)
    assert (denied.returncode, denied.stdout) == (125, "")
    creds = ["--creds", f"{USER}:{PASSWORD}", *options[2:]]
    assert len(shared_engine.out("pull", "-q", *creds, pushed.reference)) == 64
    assert PASSWORD not in shared_engine.log_text(1000)


def test_a_login_is_kept_for_docker_which_others_read(
    shared_engine: Engine, secure_registry: RealRegistry, tmp_path: Path
) -> None:
    host, file = secure_registry.host, tmp_path / "config.json"
    (tmp_path / "ca.crt").write_bytes(secure_registry.authority.read_bytes())
    file.write_text('{"psFormat": "table"}')
    secure_registry.push("cli/docker", "1", [tar_layer({"a": b"b"})])
    words = ["login", f"--compat-auth-file={file}", f"--cert-dir={tmp_path}", "-u", USER, "--password-stdin"]
    shared_engine.cli(*words, host, input=PASSWORD)
    content = json.loads(file.read_text())
    assert (content["psFormat"], list(content["auths"])) == ("table", [host])
    argv = [
        "skopeo",
        "inspect",
        f"--authfile={file}",
        f"--cert-dir={tmp_path}",
        f"docker://{host}/cli/docker:1",
    ]
    assert subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0
    refused = shared_engine.cli(*words, f"{host}/cli", input=PASSWORD, check=False)
    assert (refused.returncode, "in Docker's form" in refused.stderr) == (125, True)
    refused = shared_engine.cli(*words, f"--authfile={file}", host, input=PASSWORD, check=False)
    assert "together with --authfile" in refused.stderr
    shared_engine.cli("logout", "--compat-auth-file", file, host)
    assert json.loads(file.read_text())["auths"] == {}
    missing = shared_engine.cli("logout", "--compat-auth-file", tmp_path / "none", host, check=False)
    assert "there is no such file" in missing.stderr


def test_a_list_is_made_of_images_and_pushed(
    shared_engine: Engine, registry: RealRegistry, app: str, tmp_path: Path
) -> None:
    assert len(shared_engine.out("manifest", "create", "all:1", app)) == 64
    layers = [tar_layer({"a": b"c"})]
    other = registry.push("cli/arm", "1", layers, image_config(layers))
    shared_engine.cli(
        "manifest", "add", PLAIN, "--arch", "arm", "--variant", "v7", "all:1", f"docker://{other.reference}"
    )
    shown = json.loads(shared_engine.out("manifest", "inspect", "all:1"))
    platforms = [member["platform"]["architecture"] for member in shown["manifests"]]
    assert platforms == ["amd64", "arm"]
    shared_engine.cli("manifest", "annotate", "--arch", "arm64", "all:1", other.digest)
    target = f"{registry.host}/cli/all:1"
    shared_engine.cli(
        "manifest", "push", "-q", PLAIN, "--digestfile", tmp_path / "digest", "all:1", f"docker://{target}"
    )
    assert (tmp_path / "digest").read_text() == digest(registry.manifest("cli/all", "1"))
    remote = json.loads(shared_engine.out("manifest", "inspect", PLAIN, target))
    assert [member["digest"] for member in remote["manifests"]][1] == other.digest
    assert shared_engine.cli("manifest", "exists", "all:1").returncode == 0
    assert shared_engine.cli("manifest", "exists", app, check=False).returncode == 1
    shared_engine.cli("manifest", "remove", "all:1", other.digest)
    assert len(json.loads(shared_engine.out("manifest", "inspect", "all:1"))["manifests"]) == 1
    assert shared_engine.cli("manifest", "rm", app, check=False).returncode == 125
    assert shared_engine.out("manifest", "rm", "all:1").startswith("Untagged: localhost/all:1\nDeleted: ")


@pytest.mark.slow
def test_a_build_is_buildahs_on_this_store(shared_engine: Engine, app: str, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {app}\nCOPY Containerfile /c\nLABEL built=yes\n")
    done = shared_engine.cli("build", "-t", "built:1", ".", cwd=tmp_path, timeout=60)
    identity = done.stdout.splitlines()[-1]
    words = ["build", "-q", "-t", "built:1", "--iidfile", "id", "."]
    assert shared_engine.out(*words, cwd=tmp_path, timeout=60) == ""
    assert (tmp_path / "id").read_text().removeprefix("sha256:") == identity
    assert shared_engine.out("build", "-q", ".", cwd=tmp_path, timeout=60) == identity
    assert shared_engine.out("image", "inspect", "-f", "{{.Config.Labels.built}}", "built:1") == "yes"
    (tmp_path / "Containerfile").write_text("FROM scratch\nNONSENSE\n")
    failed = shared_engine.cli("build", ".", cwd=tmp_path, timeout=60, check=False)
    assert failed.returncode == 125
    assert "NONSENSE" in failed.stderr


def test_an_image_is_mounted_and_compared(shared_engine: Engine, app: str) -> None:
    assert shared_engine.out("image", "diff", app).splitlines() == ["A /etc", "A /etc/issue"]
    path = shared_engine.out("image", "mount", app)
    assert path in shared_engine.out("image", "mount")
    with open(f"{path}/etc/issue", encoding="ascii") as file:
        assert file.read() == "hello\n"
    identity = shared_engine.out("images", "-q", "--no-trunc").removeprefix("sha256:")
    assert shared_engine.out("image", "unmount", app) == identity
    assert shared_engine.out("image", "mount") == ""


def test_a_containers_files_are_looked_at_and_kept(shared_engine: Engine, app: str, tmp_path: Path) -> None:
    shared_engine.cli("run", "--name", "work", app, "sh", "-c", "echo new > /made; rm /etc/issue")
    assert shared_engine.out("diff", "work").splitlines() == ["C /etc", "D /etc/issue", "A /made"]
    path = shared_engine.out("mount", "work")
    with open(f"{path}/made", encoding="ascii") as file:
        assert file.read() == "new\n"
    assert shared_engine.out("mount").split()[1] == path
    assert shared_engine.out("unmount", "work") == "work"
    shared_engine.cli("export", "-o", tmp_path / "files.tar", "work")
    listed = subprocess.run(["tar", "tf", tmp_path / "files.tar"], capture_output=True, text=True, check=True)
    assert "made" in [name.removeprefix("./") for name in listed.stdout.splitlines()]
    identity = shared_engine.out("commit", "-q", "-c", "CMD cat /made", "work", "kept:1")
    assert len(identity) == 64
    assert shared_engine.out("run", "--rm", "kept:1") == "new"


def test_start_up_of_images_is_quick(shared_engine: Engine) -> None:
    """What the command imports, measured where it counts: in the program itself."""
    shared_engine.cli("images")
    code = (
        "import sys\nfrom pyman.cli.main import main\n"
        f"main({shared_engine.command('images')[1:]!r})\n"
        "print(sorted({'argparse', 'datetime', 'enum', 'json', 're', 'rich', 'socket', 'typing', 'urllib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True, text=True, check=True, env=shared_engine.environment,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
