"""What requests about images show of themselves."""

from __future__ import annotations

from pyman.api.pull import PullWish, RegistryAccess


def test_a_password_is_not_shown() -> None:
    access = RegistryAccess(username="somebody", password="hush", cert_dir="/certs")
    shown = repr(PullWish(access=access))
    assert "hush" not in shown
    assert "somebody" in shown
    assert "/certs" in shown
