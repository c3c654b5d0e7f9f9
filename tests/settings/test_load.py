"""Which file wins, and what is said about files that are wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyman.api.spec import Rlimit
from pyman.errors import InvalidArgument, InvalidConfig
from supervisor.settings.load import load, selection_of
from supervisor.settings.model import Options, changed, needs_restart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from supervisor.settings.model import Settings
    from tests.settings.support import Machine


def _locks(settings: Settings) -> int:
    return settings.engine.num_locks


# Order


def test_without_any_file_the_defaults_are_in_force_and_nothing_is_warned_of(machine: Machine) -> None:
    settings = machine.load()
    assert (settings.files, settings.warnings) == ((), ())
    assert settings.engine.num_locks == 2048
    assert settings.containers.env["TERM"] == "xterm"
    assert settings.storage.graphroot == "/var/lib/containers/storage"


def test_later_files_win_key_by_key(machine: Machine) -> None:
    """System, administrator, drop-ins by name; a key that a later file leaves out keeps its value."""
    machine.write(
        "usr/containers.conf", '[engine]\nnum_locks = 1\nnamespace = "kept"\n[containers]\npidns = "host"'
    )
    machine.write("etc/containers.conf", "[engine]\nnum_locks = 2\nstop_timeout = 5")
    machine.write("etc/containers.conf.d/20-b.conf", "[engine]\nnum_locks = 4")
    machine.write("etc/containers.conf.d/10-a.conf", "[engine]\nnum_locks = 3")
    machine.write("etc/containers.conf.d/99-not.conf.off", "[engine]\nnum_locks = 99")
    settings = machine.load()
    assert _locks(settings) == 4
    assert settings.engine.namespace == "kept"
    assert settings.engine.stop_timeout == 5.0
    assert settings.containers.pidns == "host"
    assert [os.path.basename(file) for file in settings.files] == [
        "containers.conf",
        "containers.conf",
        "10-a.conf",
        "20-b.conf",
    ]


def test_the_users_own_file_counts_for_a_user_and_not_for_root(machine: Machine) -> None:
    machine.write("etc/containers.conf", "[engine]\nnum_locks = 2")
    machine.write("home/.config/containers/containers.conf", "[engine]\nnum_locks = 5")
    machine.write("home/.config/containers/containers.conf.d/a.conf", "[engine]\nstop_timeout = 7")
    assert _locks(machine.load()) == 2
    own = machine.load(uid=1000)
    assert (_locks(own), own.engine.stop_timeout) == (5, 7.0)


def test_files_for_rootless_users_count_for_them_alone(machine: Machine) -> None:
    machine.write("etc/containers.conf", "[engine]\nnum_locks = 2")
    machine.write("etc/containers.rootless.conf", "[engine]\nnum_locks = 3")
    machine.write("etc/containers.rootless.conf.d/1000/a.conf", "[engine]\nnum_locks = 4")
    assert [_locks(machine.load(uid=uid)) for uid in (0, 1000, 1001)] == [2, 4, 3]


def test_containers_conf_in_the_environment_replaces_all_files(machine: Machine) -> None:
    machine.write("etc/containers.conf", "[engine]\nnum_locks = 2\nstop_timeout = 3")
    machine.environ["CONTAINERS_CONF"] = machine.write("one.conf", "[engine]\nnum_locks = 6")
    settings = machine.load()
    assert (_locks(settings), settings.engine.stop_timeout) == (6, 10.0)


def test_the_config_option_wins_over_the_environment(machine: Machine) -> None:
    machine.environ["CONTAINERS_CONF"] = machine.write("one.conf", "[engine]\nnum_locks = 6")
    given = machine.write("two.conf", "[engine]\nnum_locks = 7")
    assert _locks(machine.load(Options(config=given))) == 7


def test_the_override_file_comes_last_in_any_case(machine: Machine) -> None:
    machine.environ["CONTAINERS_CONF_OVERRIDE"] = machine.write("last.conf", "[engine]\nnum_locks = 8")
    given = machine.write("two.conf", "[engine]\nnum_locks = 7\nstop_timeout = 1")
    machine.write("etc/containers.conf", "[engine]\nnum_locks = 2")
    assert _locks(machine.load()) == 8
    explicit = machine.load(Options(config=given))
    assert (_locks(explicit), explicit.engine.stop_timeout) == (8, 1.0)


@pytest.mark.parametrize(
    "variable", ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF"]
)
def test_a_missing_file_named_by_a_variable_is_an_error(machine: Machine, variable: str) -> None:
    machine.environ[variable] = f"{machine.root}/none.conf"
    with pytest.raises(InvalidConfig, match=r"cannot read .*none\.conf': no such file") as caught:
        machine.load()
    assert caught.value.subject.endswith("none.conf")


def test_a_missing_file_named_by_an_option_is_an_error(machine: Machine) -> None:
    with pytest.raises(InvalidConfig, match=r"none\.conf': no such file"):
        machine.load(Options(config=f"{machine.root}/none.conf"))


def test_an_empty_device_may_be_given_as_file(machine: Machine) -> None:
    machine.environ["CONTAINERS_CONF"] = "/dev/null"
    assert machine.load().files == ("/dev/null",)


@pytest.mark.parametrize("kind", ["directory", "fifo", "endless"])
def test_what_is_no_file_is_refused_without_waiting(machine: Machine, kind: str) -> None:
    path = f"{machine.root}/thing"
    if kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = "/dev/zero"
    with pytest.raises(InvalidConfig, match="cannot read"):
        machine.load(Options(config=path))


# Lists


def test_a_list_replaces_the_earlier_one(machine: Machine) -> None:
    machine.write("usr/containers.conf", '[containers]\nenv = ["A=1"]')
    machine.write("etc/containers.conf", '[containers]\nenv = ["B=2"]')
    assert machine.load().containers.env == {"B": "2"}


def test_a_list_marked_append_adds_to_the_earlier_one_and_so_do_later_ones(machine: Machine) -> None:
    machine.write("etc/containers.conf.d/1.conf", '[containers]\nenv = ["A=1"]')
    machine.write("etc/containers.conf.d/2.conf", '[containers]\nenv = ["B=2", {append=true}]')
    machine.write("etc/containers.conf.d/3.conf", '[containers]\nenv = ["C=3"]')
    assert machine.load().containers.env == {"A": "1", "B": "2", "C": "3"}
    machine.write("etc/containers.conf.d/4.conf", '[containers]\nenv = ["D=4", {append=false}]')
    assert machine.load().containers.env == {"D": "4"}


def test_appending_without_an_earlier_list_adds_to_the_default(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[containers]\ndefault_capabilities = ["NET_RAW", {append=true}]')
    capabilities = machine.load().containers.default_capabilities
    assert {"CAP_NET_RAW", "CAP_CHOWN"} <= set(capabilities)


def test_a_wrong_attribute_in_a_list_is_an_error(machine: Machine) -> None:
    machine.write("etc/containers.conf", "[containers]\nenv = [{add=true}]")
    with pytest.raises(InvalidConfig, match="append"):
        machine.load()


def test_configured_runtimes_are_added_to_the_known_ones(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[engine.runtimes]\nmine = ["/opt/mine"]\nrunc = ["/opt/runc"]')
    runtimes = machine.load().engine.runtimes
    assert runtimes["mine"] == ("/opt/mine",)
    assert runtimes["runc"] == ("/opt/runc",)
    assert "/usr/bin/crun" in runtimes["crun"]


# Errors


def test_a_toml_error_names_file_line_and_column(machine: Machine) -> None:
    path = machine.write("etc/containers.conf", "[engine]\nnum_locks = = 3\n")
    with pytest.raises(InvalidConfig) as caught:
        machine.load()
    assert str(caught.value) == f"cannot read '{path}': line 2, column 13: invalid value"


def test_a_toml_error_at_the_end_names_the_end(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[engine]\nnamespace = "')
    with pytest.raises(InvalidConfig, match="line 2, column 14"):
        machine.load()


def test_bytes_that_are_no_utf8_are_placed(machine: Machine) -> None:
    path = machine.root / "bad.conf"
    path.write_bytes(b"[engine]\nnamespace = '\xff'\n")
    with pytest.raises(InvalidConfig, match="line 2, column 14: it is not UTF-8"):
        machine.load(Options(config=str(path)))


@pytest.mark.parametrize(
    "text, message",
    [
        ('[engine]\nnum_locks = "many"', "cannot use 'engine.num_locks' in 'F': 'many' is not an integer"),
        ("[engine]\nnum_locks = 0", "cannot use 'engine.num_locks' in 'F': '0' is not an integer above 0"),
        ("[engine]\nnum_locks = true", "cannot use 'engine.num_locks' in 'F': 'true' is not an integer"),
        ("[engine]\nruntime = 3", "cannot use 'engine.runtime' in 'F': '3' is not a string"),
        (
            '[engine]\nlock_type = "flock"',
            "cannot use 'engine.lock_type' in 'F': 'flock' is not 'shm' or 'file'",
        ),
        (
            "[engine]\nconmon_path = [1]",
            "cannot use 'engine.conmon_path' in 'F': '[1]' is not a list of strings",
        ),
        (
            "[engine]\nstop_timeout = -1",
            "cannot use 'engine.stop_timeout' in 'F': '-1' is not a number of seconds, 0 or more",
        ),
        (
            '[containers]\nenv = ["PATH"]',
            "cannot use 'containers.env' in 'F': '[\"PATH\"]' is not a list of strings of the form NAME=VALUE",
        ),
        (
            '[containers]\nshm_size = "64 parsecs"',
            "cannot use 'containers.shm_size' in 'F': '64 parsecs' is not a size such as 65536, 64m or 1g",
        ),
        ("[containers]\ninit = 1", "cannot use 'containers.init' in 'F': '1' is not true or false"),
        (
            '[containers]\ndefault_ulimits = ["nofile=2:1"]',
            "cannot use 'containers.default_ulimits' in 'F': '[\"nofile=2:1\"]' is not a soft limit that is not above the hard limit",
        ),
        ("engine = 3", "cannot use 'engine' in 'F': '3' is not a table"),
        (
            "[engine]\nruntimes = []",
            "cannot use 'engine.runtimes' in 'F': '[]' is not a table of names, each with a list of absolute paths",
        ),
        (
            "[pyman]\nrestart_factor = 0.5",
            "cannot use 'pyman.restart_factor' in 'F': '0.5' is not a number from 1 to 1000",
        ),
    ],
)
def test_a_value_that_cannot_be_used_names_file_key_value_and_what_was_expected(
    machine: Machine, text: str, message: str
) -> None:
    path = machine.write("etc/containers.conf", text)
    with pytest.raises(InvalidConfig) as caught:
        machine.load()
    assert str(caught.value) == message.replace("'F'", f"'{path}'")


def test_a_wrong_list_is_blamed_on_its_own_file_also_when_appending(machine: Machine) -> None:
    machine.write("usr/containers.conf", '[containers]\nenv = ["A=1"]')
    machine.write("etc/containers.conf", '[containers]\nenv = ["B", {append=true}]')
    with pytest.raises(InvalidConfig, match=r"etc/containers\.conf"):
        machine.load()


# Warnings


@pytest.mark.parametrize(
    "text, warning",
    [
        ("[engine]\nnum_lock = 3", "the unknown key 'engine.num_lock' is ignored; did you mean 'num_locks'?"),
        (
            "[engine]\npids_limit = 3",
            "the unknown key 'engine.pids_limit' is ignored; it belongs in [containers]",
        ),
        ("[engine]\nqwertyuiop = 3", "the unknown key 'engine.qwertyuiop' is ignored"),
        ("[engin]\nnum_locks = 3", "the unknown table 'engin' is ignored; did you mean 'engine'?"),
        ("num_locks = 3", "the unknown key outside any table 'num_locks' is ignored"),
        ("[containers]\nenv_host = true", "'containers.env_host' is not supported yet and has no effect"),
    ],
)
def test_what_has_no_effect_is_warned_of(machine: Machine, text: str, warning: str) -> None:
    path = machine.write("etc/containers.conf", text)
    assert machine.load().warnings == (f"{path}: {warning}",)


@pytest.mark.parametrize(
    "text",
    [
        '[containers]\nuserns = "host"\nkeyring = true',
        "[engine]\nservice_timeout = 5\n[machine]\ncpus = 4\n[secrets]\ndriver = 'file'",
        "[engine.service_destinations.production]\nuri = 'ssh://x'",
    ],
)
def test_what_changes_nothing_is_accepted_in_silence(machine: Machine, text: str) -> None:
    machine.write("etc/containers.conf", text)
    assert machine.load().warnings == ()


def test_journald_is_replaced_with_a_warning_where_it_cannot_be_had(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("supervisor.settings.load.JOURNALD", str(tmp_path / "none"))
    machine.write(
        "etc/containers.conf", '[containers]\nlog_driver = "journald"\n[engine]\nevents_logger = "journald"'
    )
    settings = machine.load()
    assert settings.containers.log_driver == "k8s-file"
    assert settings.engine.events_logger == "none"
    assert len(settings.warnings) == 2
    (tmp_path / "none").touch()
    settings = machine.load()
    assert settings.engine.events_logger == "journald"
    assert settings.warnings == (
        "'containers.log_driver' is 'journald', which is not supported yet: using 'k8s-file'",
    )


def test_what_images_are_compressed_with(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[engine]\ncompression_format = "zstd"\ncompression_level = 19')
    settings = machine.load()
    engine = settings.engine
    assert (engine.compression_format, engine.compression_level, settings.warnings) == ("zstd", 19, ())
    machine.write("etc/containers.conf", '[engine]\ncompression_format = "zstd:chunked"')
    settings = machine.load()
    assert settings.engine.compression_format == "zstd"
    assert settings.warnings == (
        "'engine.compression_format' has 'zstd:chunked', which is not written here: using 'zstd'",
    )
    machine.write("etc/containers.conf", '[engine]\nadd_compression = ["zstd", "zstd:chunked", "gzip"]')
    settings = machine.load()
    assert settings.engine.add_compression == ("zstd", "gzip")
    assert "'engine.add_compression' has" in "".join(settings.warnings)
    for line in (
        'add_compression = ["lzma"]',
        'compression_format = "lzma"',
        "compression_level = -1",
        'multi_image_archive = "yes"',
    ):
        machine.write("etc/containers.conf", f"[engine]\n{line}")
        with pytest.raises(InvalidConfig, match=line.partition(" ")[0]):
            machine.load()


def test_json_file_is_another_name_for_k8s_file(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[containers]\nlog_driver = "json-file"')
    settings = machine.load()
    assert (settings.containers.log_driver, settings.warnings) == ("k8s-file", ())


SYSTEMD = '[engine]\ncgroup_manager = "systemd"'


def _with_systemd(machine: Machine, monkeypatch: pytest.MonkeyPatch, *, sockets: Sequence[str]) -> None:
    """systemd runs the machine, and in the user's runtime directory is what is named."""
    monkeypatch.setattr("supervisor.settings.load.SYSTEMD", str(machine.root))
    monkeypatch.setattr("supervisor.settings.xdg.runtime_directory", lambda *_: f"{machine.root}/runtime")
    for name in sockets:
        machine.write(f"runtime/{name}", "")


def test_the_systemd_manager_needs_systemd(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write("etc/containers.conf", SYSTEMD)
    monkeypatch.setattr("supervisor.settings.load.SYSTEMD", f"{machine.root}/none")
    settings = machine.load()
    assert settings.engine.cgroup_manager == "cgroupfs"
    assert "systemd does not run this host: using 'cgroupfs'" in settings.warnings[0]
    _with_systemd(machine, monkeypatch, sockets=[])
    assert (machine.load().engine.cgroup_manager, machine.load().warnings) == ("systemd", ())


@pytest.mark.parametrize(
    "sockets, reason",
    [
        (["bus"], "the user has no service manager"),
        (["systemd/private"], "there is no session bus"),
        ([], "the user has no service manager"),
        (["systemd/private", "bus"], ""),
    ],
)
def test_a_user_has_the_systemd_manager_where_there_is_somebody_to_ask(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, sockets: list[str], reason: str
) -> None:
    _with_systemd(machine, monkeypatch, sockets=sockets)
    found = "cgroupfs" if reason else "systemd"
    settings = machine.load(uid=1000)
    assert (settings.engine.cgroup_manager, settings.warnings) == (found, ())
    assert machine.load().engine.cgroup_manager == "cgroupfs"
    machine.write("etc/containers.conf", SYSTEMD)
    settings = machine.load(uid=1000)
    assert settings.engine.cgroup_manager == found
    assert [reason in warning for warning in settings.warnings] == ([True] if reason else [])


def test_the_administrators_seccomp_profile_hides_the_systems(machine: Machine) -> None:
    assert machine.load().containers.seccomp_profile == f"{machine.root}/usr/seccomp.json"
    own = machine.write("etc/seccomp.json", "{}")
    assert machine.load().containers.seccomp_profile == own
    machine.write("etc/containers.conf", '[containers]\nseccomp_profile = "unconfined"')
    assert machine.load().containers.seccomp_profile == "unconfined"


def test_a_machine_without_seccomp_profile_says_so(machine: Machine) -> None:
    os.unlink(f"{machine.root}/usr/seccomp.json")
    settings = machine.load()
    assert settings.containers.seccomp_profile == ""
    assert "no seccomp profile" in settings.warnings[0]


# Values


def test_values_are_kept_in_the_form_in_which_they_are_used(machine: Machine) -> None:
    machine.write(
        "etc/containers.conf",
        """
        [containers]
        annotations = ["a.b=c=d"]
        default_capabilities = ["kill", "CAP_CHOWN"]
        default_sysctls = ["net.ipv4.ping_group_range=0 1"]
        default_ulimits = ["nofile=1024:2048", "core=-1"]
        shm_size = "1m"
        log_size_max = 8192
        """,
    )
    containers = machine.load().containers
    assert containers.annotations == {"a.b": "c=d"}
    assert containers.default_capabilities == ("CAP_CHOWN", "CAP_KILL")
    assert containers.default_sysctls == {"net.ipv4.ping_group_range": "0 1"}
    assert containers.default_ulimits == (
        Rlimit("RLIMIT_CORE", hard=-1, soft=-1),
        Rlimit("RLIMIT_NOFILE", hard=2048, soft=1024),
    )
    assert containers.shm_size == 1 << 20
    assert containers.log_size_max == 8192


# Options


def test_options_win_over_files(machine: Machine) -> None:
    machine.write("etc/containers.conf", '[engine]\nruntime = "crun"\n[pyman]\non_stop = "leave"')
    machine.write("etc/storage.conf", '[storage]\ngraphroot = "/etc-root"')
    options = Options(
        root="/r", runroot="/rr", runtime="runc", on_stop="stop", conmon="/c", runtime_flags=("debug",)
    )
    settings = machine.load(options)
    assert (settings.storage.graphroot, settings.storage.runroot) == ("/r", "/rr")
    assert (settings.engine.runtime, settings.engine.conmon_path) == ("runc", ("/c",))
    assert settings.engine.runtime_flags == ("--debug",)
    assert settings.pyman.on_stop == "stop"


def test_an_option_that_cannot_be_used_is_named(machine: Machine) -> None:
    with pytest.raises(InvalidArgument, match="cannot use --on-stop 'pause': it is not 'leave' or 'stop'"):
        machine.load(Options(on_stop="pause"))
    with pytest.raises(InvalidArgument, match="storage option 'x'"):
        machine.load(Options(storage_opt=("x",)))


def test_root_selects_a_supervisor_before_config_and_environment() -> None:
    environ = {"CONTAINERS_CONF": "/a/../b.conf"}
    assert selection_of(Options(), {}) == ""
    assert selection_of(Options(), environ) == "config:/b.conf"
    assert selection_of(Options(config="/c.conf"), environ) == "config:/c.conf"
    assert selection_of(Options(root="/x/", config="/c.conf"), environ) == "root:/x"


def test_loading_leaves_the_environment_alone(machine: Machine) -> None:
    before = dict(machine.environ)
    machine.load(uid=1000)
    assert machine.environ == before


# Reload


def test_changed_settings_are_named_and_those_that_need_a_restart_told_apart(machine: Machine) -> None:
    old = machine.load()
    assert changed(old, machine.load()) == []
    engine = '[engine]\nstop_timeout = 3\nlock_type = "file"\nretry = 7\nretry_delay = "2s"\n'
    machine.write("etc/containers.conf", f'{engine}[containers]\nenv = ["A=1"]')
    names = changed(old, machine.load())
    assert names == [
        "containers.env",
        "engine.lock_type",
        "engine.retry",
        "engine.retry_delay",
        "engine.stop_timeout",
    ]
    assert needs_restart(names) == ["engine.lock_type"]


def test_this_machines_own_files_can_be_read() -> None:
    settings = load(Options(), {"HOME": "/root"}, 0)
    assert all(os.path.exists(file) for file in settings.files)
