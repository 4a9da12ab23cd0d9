"""What the emulator answers when it cannot: a status, and a message in Earth Engine's words."""

from __future__ import annotations

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class EngineError(Exception):
    """An answer other than 200.

    Parameters
    ----------
    message : str
        What the client shows.
    code : int
        HTTP status.
    """

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def reply(self) -> dict[str, dict[str, str | int]]:
        """Return the body of the answer."""
        status = _STATUS.get(self.code, "UNKNOWN")
        return {"error": {"code": self.code, "message": self.message, "status": status}}


class EmulatorError(ValueError):
    """Raised when the emulator is set up in a way that cannot work; the message says what to do."""
