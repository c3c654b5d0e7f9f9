"""A file that is fetched from a container by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.networking.conftest import HOST

if TYPE_CHECKING:
    from tests.networking.conftest import Net

__all__ = ["fetches"]


def fetches(net: Net, network: str) -> None:
    """From busybox's server; curl asks on the other host, and again and again over one connection."""
    script = "mkdir /www; head -c 3000000 /dev/zero >/www/big; echo hello >/www/index.html; exec httpd -f -v -p 80 -h /www"
    net.run("web", "--network", network, "-p", "8080:80", command=("sh", "-c", script))
    curl = ("curl", "-sS", "--retry", "5", "--retry-all-errors", "--max-time", "20")
    assert net.outside.run(*curl, f"http://{HOST}:8080/index.html") == "hello\n"
    told = net.outside.run(
        *curl, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"http://{HOST}:8080/big"
    )
    assert told == "200 3000000"
    assert (
        net.host.run(*curl, *[f"http://127.0.0.1:8080/index.html?{n}" for n in range(20)]) == "hello\n" * 20
    )
