"""Errors as parts of an answer that tells of several images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.container import ErrorInfo

if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = ["info_of"]


def info_of(error: PymanError, name: str = "") -> ErrorInfo:
    """`name`: what the caller called it, if that is more than the error says."""
    return ErrorInfo(code=error.code, message=error.message, subject=error.subject or name, hint=error.hint)
