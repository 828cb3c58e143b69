"""The base of errors that the outside world causes: an unreachable server, a version that is not there."""

from __future__ import annotations


class PlatformError(RuntimeError):
    """Something outside the program is not as it must be; the message says what, where and what to do."""
