"""The descriptors that come with a request to run something: whether they are as many as it says, and whose they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyman.api.container import CreateRequest, ExecRequest, RunRequest

__all__ = ["HIGHEST", "check_create", "check_exec", "check_run"]

HIGHEST = 255
"""Of the numbers that descriptors may have in a container: what lies below is filled up."""


def check_create(request: CreateRequest) -> None:
    """InvalidArgument."""
    if request.spec.preserve_fd:
        raise InvalidArgument("cannot pass descriptors on to a container that is only created: run it")


def check_run(request: RunRequest, came: int) -> None:
    """InvalidArgument."""
    spec = request.spec
    passthrough = spec.log_configuration.driver == "passthrough"
    _check_numbers(spec.preserve_fd)
    wanted = (3 if passthrough else 0) + len(spec.preserve_fd)
    if passthrough and came != wanted:
        raise InvalidArgument(f"cannot pass streams through: {wanted} descriptors are needed, {came} came")
    if came != wanted:
        raise InvalidArgument(f"cannot pass descriptors on: {wanted} were announced, {came} came")
    if passthrough and request.attach:
        raise InvalidArgument(
            "cannot attach with the log driver passthrough: the streams are the caller's own"
        )


def check_exec(request: ExecRequest, came: int) -> None:
    """InvalidArgument."""
    _check_numbers(request.preserve_fd)
    if came != len(request.preserve_fd):
        raise InvalidArgument(
            f"cannot pass descriptors on: {len(request.preserve_fd)} were announced, {came} came"
        )


def _check_numbers(numbers: Sequence[int]) -> None:
    for number in numbers:
        if not 3 <= number <= HIGHEST:
            raise InvalidArgument(
                f"cannot pass the descriptor {number} on: their numbers are 3 to {HIGHEST}",
                subject=str(number),
            )
        if numbers.count(number) > 1:
            raise InvalidArgument(f"cannot pass the descriptor {number} on twice", subject=str(number))
