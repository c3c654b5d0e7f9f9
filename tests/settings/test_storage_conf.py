"""Which storage.conf wins, and what becomes of its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import InvalidArgument, InvalidConfig
from supervisor.settings.model import Options
from supervisor.settings.overlay import OverlayOptions, overlay_options

if TYPE_CHECKING:
    from tests.settings.support import Machine


def test_the_administrators_storage_conf_hides_the_systems(machine: Machine) -> None:
    machine.write("usr/storage.conf", '[storage]\ngraphroot = "/usr-root"\nrunroot = "/usr-run"')
    machine.write("etc/storage.conf", '[storage]\ngraphroot = "/etc-root"')
    storage = machine.load().storage
    assert (storage.graphroot, storage.runroot) == ("/etc-root", "/run/containers/storage")


def test_a_users_store_is_in_the_home_whatever_the_systems_file_says(machine: Machine) -> None:
    machine.write("etc/storage.conf", '[storage]\ngraphroot = "/etc-root"\nrunroot = "/etc-run"')
    storage = machine.load(uid=1000).storage
    assert storage.graphroot == f"{machine.root}/home/.local/share/containers/storage"
    assert storage.runroot == f"{machine.root}/runtime/containers"


def test_rootless_storage_path_places_every_users_store(machine: Machine) -> None:
    machine.write("etc/storage.conf", '[storage]\nrootless_storage_path = "/srv/$UID/${WHERE}"')
    machine.environ["WHERE"] = "store"
    assert machine.load(uid=1000).storage.graphroot == "/srv/1000/store"
    machine.write("home/.config/containers/storage.conf", '[storage]\ngraphroot = "$HOME/own"')
    assert machine.load(uid=1000).storage.graphroot == f"{machine.root}/home/own"


def test_storage_options_are_spelled_as_on_the_command_line(machine: Machine) -> None:
    machine.write(
        "etc/storage.conf",
        '[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["/a", "/b"]\n'
        '[storage.options.overlay]\nmountopt = "nodev"\nignore_chown_errors = ""',
    )
    expected = ("additionalimagestores=/a,/b", "overlay.mountopt=nodev")
    assert machine.load().storage.options == expected
    assert machine.load(Options(root="/srv/x")).storage.options == ()
    assert machine.load(Options(storage_opt=("a=b",))).storage.options == ("a=b",)
    machine.environ["STORAGE_OPTS"] = "c=d,e=f"
    assert machine.load().storage.options == ("c=d", "e=f")


def test_the_sizes_of_automatic_user_namespaces_are_settings_of_their_own(machine: Machine) -> None:
    machine.write(
        "etc/storage.conf",
        '[storage.options]\nauto-userns-min-size = 2000\nroot-auto-userns-user = "ids"\n',
    )
    storage = machine.load().storage
    assert (storage.auto_userns_min_size, storage.auto_userns_max_size) == (2000, 65_536)
    assert (storage.root_auto_userns_user, storage.options) == ("ids", ())
    given = machine.load(Options(storage_opt=("auto-userns-max-size=5000",))).storage
    assert (given.auto_userns_max_size, given.options) == (5000, ())
    with pytest.raises(InvalidArgument, match="cannot use the storage option 'auto-userns-max-size=x'"):
        machine.load(Options(storage_opt=("auto-userns-max-size=x",)))
    machine.write("etc/storage.conf", "[storage.options]\nauto-userns-min-size = 0\n")
    with pytest.raises(
        InvalidConfig, match=r"cannot use 'storage.auto_userns_min_size' in '.*etc/storage.conf'"
    ):
        machine.load()


def test_what_concerns_mounting_is_taken_with_or_without_the_drivers_name(machine: Machine) -> None:
    machine.write(
        "etc/storage.conf",
        '[storage.options]\nmount_program = "/general"\nmountopt = "nodev, fsync=0"\n'
        '[storage.options.overlay]\nmount_program = "/special"\nforce_mask = "shared"',
    )
    settings = machine.load()
    expected = OverlayOptions("/special", ("nodev", "fsync=0"), force_mask=True)
    assert overlay_options(settings.storage.options) == expected
    assert settings.warnings == ()
    assert overlay_options(machine.load(Options(root="/srv/x")).storage.options) == OverlayOptions()


@pytest.mark.parametrize(
    "line, reason",
    [
        ('mount_program = "fuse-overlayfs"', "'fuse-overlayfs' is not an absolute path"),
        ('mountopt = "nodev,frobnicate=1"', "'frobnicate' is none"),
        ('ignore_chown_errors = "maybe"', "'maybe' is not true or false"),
        ('mount_program = "/x"\nforce_mask = "999"', "an octal mode"),
        ('force_mask = "700"', "'700' is not possible without a mount_program"),
    ],
)
def test_a_storage_option_that_cannot_be_used_is_named_with_its_file(
    machine: Machine, line: str, reason: str
) -> None:
    path = machine.write("etc/storage.conf", f"[storage.options.overlay]\n{line}")
    with pytest.raises(InvalidConfig, match=r"cannot use 'storage\.options\.overlay") as refused:
        machine.load()
    assert path in refused.value.message
    assert reason in refused.value.message


def test_one_from_the_environment_is_an_argument(machine: Machine) -> None:
    machine.environ["STORAGE_OPTS"] = "overlay.mount_program=x"
    with pytest.raises(
        InvalidArgument, match=r"option 'overlay\.mount_program=x': it is not an absolute path"
    ):
        machine.load()


def test_storage_options_without_effect_are_warned_of_by_name(machine: Machine) -> None:
    machine.write(
        "etc/storage.conf",
        '[storage.options]\nsize = "10G"\n'
        '[storage.options.overlay]\nmout_program = "/x"\nskip_mount_home = true\n'
        '[storage.options.btrfs]\nmin_space = "1G"\n[storage.options.pull_options]\nuse_hard_links = true',
    )
    size, unknown = machine.load().warnings
    assert size == "the storage option 'size' is not supported yet and has no effect"
    assert unknown.endswith("'overlay.mout_program' is ignored; did you mean 'mount_program'?")


def test_storage_conf_from_the_environment_is_the_only_one(machine: Machine) -> None:
    machine.write("etc/storage.conf", '[storage]\nrunroot = "/etc-run"')
    path = machine.write("mine.conf", '[storage]\ngraphroot = "/mine"')
    machine.environ |= {"CONTAINERS_STORAGE_CONF": path, "STORAGE_DRIVER": "vfs"}
    storage = machine.load().storage
    assert (storage.graphroot, storage.runroot, storage.driver) == ("/mine", "/run/containers/storage", "vfs")


def test_a_typing_error_in_storage_conf_is_warned_of(machine: Machine) -> None:
    machine.write("etc/storage.conf", '[storage]\ngraphrot = "/x"')
    assert "did you mean 'graphroot'?" in machine.load().warnings[0]


def test_a_store_whose_images_are_elsewhere_is_refused(machine: Machine) -> None:
    path = machine.write("etc/storage.conf", '[storage]\nimagestore = "/images"\n')
    with pytest.raises(InvalidConfig, match=f"cannot use 'storage.imagestore' in '{path}'"):
        machine.load()


def test_additional_stores_are_named_in_the_file(machine: Machine) -> None:
    machine.write(
        "etc/storage.conf",
        '[storage.options]\nadditionalimagestores = ["/a", "/b/"]\n[storage.options.overlay]\nsync = "filesystem"\n',
    )
    settings = machine.load()
    options = overlay_options(settings.storage.options)
    assert options.additional_stores == ("/a", "/b")
    assert options.sync
    assert settings.warnings == ()
