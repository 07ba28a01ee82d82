"""RequestError: what a client is told when a request cannot be answered."""

from __future__ import annotations

from rabbet.base.errors import RabbetError


class RequestError(RabbetError):
    """A request that is not answered as asked: an HTTP status, a reason, and headers if any."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


def malformed(reason: str) -> RequestError:
    """The request itself is wrong: 400 with a reason."""
    return RequestError(400, reason)
