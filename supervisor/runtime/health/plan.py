"""What the health check of a container is: from what its spec says and what its image has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import HealthConfig
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.imaged import Healthcheck

__all__ = ["ACTIONS", "Plan", "Startup", "check_plan", "command_of", "plan_of"]

ACTIONS = ("none", "kill", "restart", "stop")
NANO = 1_000_000_000
INTERVAL = TIMEOUT = 30 * NANO
RETRIES = 3
LOG_COUNT = 5
LOG_SIZE = 500
LEAST, MOST = NANO // 10, 10 * 365 * 86400 * NANO
"""Of times, in nanoseconds; an interval, a start period may also be 0."""
RETRIES_MOST = 1_000_000
LOG_COUNT_MOST = 1000
LOG_SIZE_MOST = 64 * 1024
"""Bytes of all entries of a log together, and so of one."""


class Startup(msgspec.Struct, frozen=True):
    """The check that comes first. Times in nanoseconds."""

    test: list[str]
    interval: int
    timeout: int
    retries: int
    """Failures after which the container is restarted; 0: never."""
    successes: int
    """As many and it has passed."""


class Plan(msgspec.Struct, frozen=True):
    """Times in nanoseconds."""

    test: list[str]
    """`CMD` and words, `CMD-SHELL` and a line, or words alone."""
    interval: int
    """0: it runs only when somebody asks for it."""
    timeout: int
    start_period: int
    retries: int
    startup: Startup | None
    on_failure: str
    """none, kill, restart, stop."""
    log_destination: str
    """local, events_logger, or the path of a directory."""
    log_count: int
    log_size: int
    """Bytes of what is kept of one answer."""


def plan_of(spec: ContainerSpec, image: Healthcheck | None) -> Plan | None:
    """None: there is no check."""
    own = spec.healthconfig
    if own is None and image is None:
        return None
    test = (own.test if own is not None else []) or (image.test if image is not None else [])
    if spec.no_healthcheck or not test or test[0] == "NONE":
        return None
    wish = own or HealthConfig()
    said = spec.startup_health_config
    startup = None
    if said is not None and said.test and said.test[0] != "NONE":
        startup = Startup(
            test=said.test,
            interval=_either(said.interval, None, INTERVAL),
            timeout=_either(said.timeout, None, TIMEOUT),
            retries=said.retries or 0,
            successes=max(1, said.successes),
        )
    return Plan(
        test=test,
        interval=_either(wish.interval, None if image is None else image.interval, INTERVAL),
        timeout=_either(wish.timeout, None if image is None else image.timeout, TIMEOUT),
        start_period=_either(wish.start_period, None if image is None else image.start_period, 0),
        retries=_either(wish.retries, None if image is None else image.retries, RETRIES),
        startup=startup,
        on_failure=spec.health_check_on_failure_action or "none",
        log_destination=spec.health_log_destination or "local",
        log_count=(LOG_COUNT if spec.health_max_log_count is None else spec.health_max_log_count)
        or LOG_COUNT_MOST,
        log_size=(LOG_SIZE if spec.health_max_log_size is None else spec.health_max_log_size)
        or LOG_SIZE_MOST,
    )


def _either(own: int | None, image: int | None, default: int) -> int:
    if own is not None:
        return own
    return default if image is None else max(0, min(image, MOST))


def command_of(test: list[str]) -> list[str]:
    """The words to run."""
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", " ".join(test[1:])]
    return test


def check_plan(spec: ContainerSpec, image: Healthcheck | None) -> None:
    """Refuse a check that cannot be meant, naming the option. InvalidArgument."""
    own, startup = spec.healthconfig, spec.startup_health_config
    if spec.no_healthcheck and (own is not None or startup is not None):
        raise InvalidArgument("cannot use --no-healthcheck together with another --health option")
    for option, config in (("--health", own), ("--health-startup", startup)):
        if config is not None:
            _check_config(option, config)
    if own is not None and own.retries == 0:
        raise InvalidArgument("cannot use --health-retries 0: it must be at least 1")
    if startup is not None and not 0 <= startup.successes <= RETRIES_MOST:
        raise InvalidArgument(f"cannot use --health-startup-success {startup.successes}")
    action = spec.health_check_on_failure_action
    if action and action not in ACTIONS:
        raise InvalidArgument(
            f"cannot use --health-on-failure '{action}'", hint=f"known are {', '.join(ACTIONS)}"
        )
    for option, value, most in (
        ("count", spec.health_max_log_count, LOG_COUNT_MOST),
        ("size", spec.health_max_log_size, LOG_SIZE_MOST),
    ):
        if value is not None and not 0 <= value <= most:
            raise InvalidArgument(f"cannot use --health-max-log-{option} {value}: it must be 0 to {most}")
    _check_destination(spec.health_log_destination)
    if plan_of(spec, image) is None:
        _check_nothing_is_in_vain(spec)


def _check_config(option: str, config: HealthConfig) -> None:
    test = config.test
    if test and ((test[0] in ("CMD", "CMD-SHELL") and len(test) < 2) or not command_of(test)[0]):
        raise InvalidArgument(f"cannot use {option}-cmd: there is no command in it")
    for name, value, least in (
        ("interval", config.interval, LEAST),
        ("timeout", config.timeout, LEAST),
        ("start-period", config.start_period, 0),
    ):
        if value is None or (value == 0 and name == "interval"):
            continue
        if not least <= value <= MOST:
            raise InvalidArgument(
                f"cannot use {option}-{name} {value / NANO:g}s: it must be at least {least / NANO:g}s"
            )
    if config.retries is not None and not 0 <= config.retries <= RETRIES_MOST:
        raise InvalidArgument(f"cannot use {option}-retries {config.retries}")


def _check_destination(path: str) -> None:
    if path in ("", "local", "events_logger"):
        return
    if not os.path.isabs(path) or not os.path.isdir(path):
        raise InvalidArgument(
            f"cannot use --health-log-destination '{path}': it is no directory",
            subject=path,
            hint="give local, events_logger, or the path of a directory",
        )


def _check_nothing_is_in_vain(spec: ContainerSpec) -> None:
    """Options of a check that there is not."""
    own = spec.healthconfig
    is_none = own is not None and own.test[:1] == ["NONE"]
    given = (
        ("--health-startup-cmd", spec.startup_health_config is not None),
        ("--health-interval, --health-timeout, --health-retries or --health-start-period", _has_more(own)),
        ("--health-on-failure", spec.health_check_on_failure_action not in ("", "none")),
        ("--health-log-destination", spec.health_log_destination not in ("", "local")),
        ("--health-max-log-count", spec.health_max_log_count is not None),
        ("--health-max-log-size", spec.health_max_log_size is not None),
    )
    for option, is_given in given:
        if is_given:
            why = "--health-cmd is none" if is_none else "there is no health check"
            raise InvalidArgument(f"cannot use {option}: {why}", hint="give a --health-cmd")


def _has_more(config: HealthConfig | None) -> bool:
    if config is None:
        return False
    return any(
        value is not None for value in (config.interval, config.timeout, config.start_period, config.retries)
    )
