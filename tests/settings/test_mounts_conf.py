"""mounts.conf: which file counts, and which of its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.settings.support import Machine


def test_without_a_file_there_is_nothing_to_copy(machine: Machine) -> None:
    assert machine.load().subscriptions == ()


def test_the_first_file_counts_alone(machine: Machine) -> None:
    machine.write("usr/mounts.conf", "/usr/share/secrets:/run/secrets\n")
    assert machine.load().subscriptions == (("/usr/share/secrets", "/run/secrets"),)
    machine.write("etc/mounts.conf", "/a:/b\n")
    assert machine.load().subscriptions == (("/a", "/b"),)
    machine.write("home/.config/containers/mounts.conf", "")
    assert machine.load().subscriptions == (("/a", "/b"),)
    assert machine.load(uid=1000).subscriptions == ()


def test_lines_that_are_no_pairs_of_paths_are_passed_over(machine: Machine) -> None:
    lines = ["# comment", "", "rel:/x", "  /a ", "/b:", "/c:rel", "/d:/", "/e:/f/../g", "/h:/i:/j", "/a"]
    machine.write("etc/mounts.conf", "\n".join(lines))
    assert machine.load().subscriptions == (("/a", "/a"), ("/b", "/b"), ("/e", "/g"), ("/h", "/i:/j"))


def test_a_file_that_has_no_end_is_bounded(machine: Machine) -> None:
    machine.write("etc/mounts.conf", "".join(f"/{number}\n" for number in range(10_000)))
    assert len(machine.load().subscriptions) == 64
