"""The file of the service's API keys: read, and changed by one at a time; who reads sees the old or the new."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fraud_assets.core.access.api_keys import ApiKey, KeysError, keys_from_json, keys_to_json


def read_keys(file: Path) -> list[ApiKey]:
    """The keys; none where there is no file.

    Raises:
        KeysError: when the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise KeysError(f"the file of keys cannot be read: {error}") from error
    return keys_from_json(text)


def change_keys(file: Path, change: Callable[[list[ApiKey]], list[ApiKey]]) -> list[ApiKey]:
    """Writes what a change makes of the keys; running services see it within a second.

    Args:
        file: theirs; nobody else may read it.
        change: takes the keys that there are, and gives those that shall be.

    Raises:
        KeysError: when the file cannot be read or written.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.with_name(f"{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = change(read_keys(file))
            handle, name = tempfile.mkstemp(prefix=".keys-", dir=file.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as scratch:
                scratch.write(keys_to_json(changed))
                scratch.flush()
                os.fsync(scratch.fileno())
            Path(name).replace(file)
    except OSError as error:
        raise KeysError(f"the file of keys cannot be written: {error}") from error
    return changed
