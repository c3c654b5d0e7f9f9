"""The real docker-registry on a loopback port, and images to serve from it.

`RealRegistry` is a process of the test's own, with HTTP or HTTPS (a certificate of the test's own authority), open or
with a name and a password. `push` puts an image into it without a word of pyman's code.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trustme

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "PASSWORD",
    "USER",
    "Pushed",
    "RealRegistry",
    "digest_of",
    "image_config",
    "tar_layer",
]

USER = "tester"
PASSWORD = "opens the door"
_HTPASSWD = "tester:$2b$04$r/9ppMIf3nqUGp/h3LE2d.DsL4czSUCeo9P2PWefk6sr374vd2zae\n"
"""bcrypt, the cheapest: it is checked with every request."""
_LISTENING = re.compile(r"listening on [^\s\"]*:(\d+)")
_START = 20.0
"""Seconds."""
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_layer(files: Mapping[str, bytes | str], *, compress: bool = True) -> bytes:
    """A layer of these files; a text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if compress else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def image_config(layers: Sequence[bytes], **config: Any) -> bytes:
    """The configuration of an image of these (gzip) layers; keywords: its `config`, as in Cmd=["sh"]."""
    import gzip

    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer)) for layer in layers]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "test"} for _ in layers],
        }
    ).encode()


@dataclass(frozen=True)
class Pushed:
    """What is in the registry now."""

    reference: str
    """`localhost:PORT/path:tag`."""
    digest: str
    manifest: bytes
    media_type: str
    config: bytes = b""
    layers: list[bytes] = field(default_factory=list)


class RealRegistry:
    """`tls`: HTTPS; `login`: it wants USER and PASSWORD. Started by `start`, or as a context."""

    def __init__(
        self, *, tls: bool = False, login: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pm-registry-", dir="/tmp"))
        self.tls = tls
        self.login = login
        self.port = 0
        self.log = self.path / "log"
        self.authority = self.path / "ca.crt"
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._context: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """`localhost:PORT`, as it stands in a reference."""
        return f"localhost:{self.port}"

    @property
    def storage(self) -> Path:
        return self.path / "storage"

    def start(self) -> None:
        """Returns when it listens; again on the same port after `stop`."""
        with self.log.open("ab") as log:
            begin = self.log.stat().st_size
            self._process = subprocess.Popen(
                # It dies with the tests, however these end.
                ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(self._configuration())],
                env={"PATH": "/usr/bin:/bin", **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START
        while not (match := _LISTENING.search(self.log.read_text()[begin:])):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry does not start:\n{self.log.read_text()[begin:]}")
            time.sleep(0.01)
        self.port = int(match[1])

    def _configuration(self) -> Path:
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "of the test"},
        }
        if self.tls:
            config["http"]["tls"] = self._certificate()
        if self.login:
            (self.path / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.path / "htpasswd")}}
        path = self.path / "config.yml"
        path.write_text(json.dumps(config))  # which is YAML, too
        return path

    def _certificate(self) -> dict[str, str]:
        certificate, key = self.path / "server.crt", self.path / "server.key"
        if not certificate.exists():
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(self.authority))
            issued = authority.issue_cert("localhost", "127.0.0.1")
            issued.private_key_pem.write_to_path(str(key))
            for blob in issued.cert_chain_pems:
                blob.write_to_path(str(certificate), append=True)
        return {"certificate": str(certificate), "key": str(key)}

    def certs_d(self, root: Path) -> None:
        """Make the authority trusted for this registry, in a directory such as /etc/containers/certs.d."""
        directory = root / self.host
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.authority, directory / "ca.crt")

    def stop(self) -> None:
        """SIGKILL. What it has stays."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)

    # What is in it

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (in lower case) and body."""
        connection: http.client.HTTPConnection
        if self.tls:
            self._context = self._context or ssl.create_default_context(cafile=str(self.authority))
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=30, context=self._context
            )
        else:
            connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        sent = dict(headers or {})
        if self.login:
            sent["Authorization"] = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {key.lower(): value for key, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def manifest(self, path: str, tag: str) -> bytes:
        """As it is stored."""
        accept = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
        status, _, body = self.request("GET", f"/v2/{path}/manifests/{tag}", headers={"Accept": accept})
        assert status == 200, body
        return body

    def push_blob(self, path: str, data: bytes) -> str:
        status, headers, body = self.request("POST", f"/v2/{path}/blobs/uploads/")
        assert status == 202, body
        location = re.sub(r"^https?://[^/]+", "", headers["location"])
        joint = "&" if "?" in location else "?"
        digest = digest_of(data)
        status, _, body = self.request(
            "PUT",
            f"{location}{joint}digest={digest}",
            data,
            {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))},
        )
        assert status == 201, body
        return digest

    def push_manifest(self, path: str, tag: str, data: bytes, media_type: str) -> Pushed:
        status, _, body = self.request(
            "PUT", f"/v2/{path}/manifests/{tag}", data, {"Content-Type": media_type}
        )
        assert status == 201, body
        return Pushed(f"{self.host}/{path}:{tag}", digest_of(data), data, media_type)

    def push(
        self,
        path: str,
        tag: str,
        layers: Sequence[bytes],
        config: bytes | None = None,
        *,
        docker: bool = False,
    ) -> Pushed:
        """An image of these (gzip) layers: of OCI's form, or Docker's schema 2."""
        config = config if config is not None else image_config(layers)
        kinds = (DOCKER_CONFIG, DOCKER_LAYER) if docker else (OCI_CONFIG, OCI_LAYER)
        media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        for blob in (config, *layers):
            self.push_blob(path, blob)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": {"mediaType": kinds[0], "digest": digest_of(config), "size": len(config)},
                "layers": [
                    {"mediaType": kinds[1], "digest": digest_of(layer), "size": len(layer)}
                    for layer in layers
                ],
            }
        ).encode()
        pushed = self.push_manifest(path, tag, manifest, media_type)
        return Pushed(pushed.reference, pushed.digest, manifest, media_type, config, list(layers))

    def push_index(self, path: str, tag: str, members: Sequence[tuple[Pushed, str]]) -> Pushed:
        """A list of images, each with an architecture (`arm64`, `arm/v7`)."""
        listed = []
        for member, platform in members:
            architecture, _, variant = platform.partition("/")
            listed.append(
                {
                    "mediaType": member.media_type,
                    "digest": member.digest,
                    "size": len(member.manifest),
                    "platform": {
                        "os": "linux",
                        "architecture": architecture,
                        **({"variant": variant} if variant else {}),
                    },
                }
            )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return self.push_manifest(path, tag, json.dumps(index).encode(), OCI_INDEX)
