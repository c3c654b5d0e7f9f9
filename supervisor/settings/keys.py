"""The keys of containers.conf and storage.conf that pyman knows but does not turn into a setting.

Two kinds: a key in `NOT_YET` would change what a container or the engine does, so a file that sets it to
something else than its default gets a warning; a key in `WITHOUT_EFFECT` concerns only parts that pyman
does not have (a virtual machine, the REST API, the build tool) or is decided elsewhere, and is ignored.
Everything that stands in neither list nor in `model` is taken for a typing error.
"""

from __future__ import annotations

__all__ = ["KNOWN_TABLES", "NOT_YET", "WITHOUT_EFFECT"]

NOT_YET: dict[str, dict[str, object]] = {
    "containers": {
        "cgroup_conf": [],
        "container_name_as_hostname": False,
        "env_host": False,
        "keyring": True,
        "label_users": False,
    },
    "engine": {
        "hooks_dir": ["/usr/share/containers/oci/hooks.d"],
        "no_pivot_root": False,
    },
    "network": {
        "firewall_driver": "nftables",
        "netavark_plugin_dirs": [],
        "network_backend": "netavark",
    },
    "storage": {
        "imagestore": "",
        "transient_store": False,
    },
}
"""Key to Podman's default, which is accepted in silence."""

WITHOUT_EFFECT: dict[str, frozenset[str]] = {
    "containers": frozenset({"label", "prepare_volume_on_create", "userns_size"}),
    "engine": frozenset(
        {
            "active_service",
            "cdi_spec_dirs",
            "chown_copied_files",
            "compat_api_enforce_docker_hub",
            "compose_providers",
            "compose_warning_logs",
            "database_backend",
            "enable_port_reservation",
            "events_container_create_inspect_data",
            "exit_command_delay",
            "healthcheck_events",
            "image_build_format",
            "image_default_format",
            "image_default_transport",
            "infra_command",
            "infra_image",
            "kube_generate_type",
            "machine_enabled",
            "platform_to_oci_runtime",
            "pod_exit_policy",
            "remote",
            "runtime_supports_json",
            "runtime_supports_kvm",
            "service_destinations",
            "service_timeout",
            "ssh_config",
            "volume_plugin_timeout",
            "volume_plugins",
        }
    ),
    "network": frozenset({"cni_plugin_dirs"}),
    "storage": frozenset({"driver_priority", "options", "rootless_storage_path"}),
    "pyman": frozenset(),
    "secrets": frozenset(),
}

KNOWN_TABLES = frozenset(
    {
        "containers",
        "engine",
        "network",
        "pyman",
        "secrets",
        "configmaps",
        "machine",
        "farms",
        "podmansh",
        "service_destinations",
    }
)
"""Tables of containers.conf."""
