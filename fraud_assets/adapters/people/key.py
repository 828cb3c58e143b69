"""The key of the hashes by which erased persons are recognised: a file of its owner's alone, not in the database."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fraud_assets.core.people.pseudonyms import Erased, ErasureError

KEY_BYTES = 32
KEY_VARIABLE = "FRAUD_ERASURE_KEY_FILE"
"""By which a service is told where the key lies."""
ERASED = "SELECT entity, hash, pseudonym FROM public.erased_entities"


def make_key(file: Path) -> bytes:
    """The key in a file, which is made where there is none.

    Raises:
        ErasureError: when the file is no such key, or others than its owner may read it.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_key(file)
    except OSError as error:
        raise ErasureError(f"the key {file} cannot be made: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="ascii") as output:
        output.write(secrets.token_hex(KEY_BYTES))
        output.flush()
        os.fsync(output.fileno())
    return read_key(file)


def write_whole(file: Path, text: str) -> None:
    """Writes a file of its owner's alone: the old one or the new one is there, never a part.

    Raises:
        OSError: when it cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=".erased-", dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as scratch:
        scratch.write(text)
        scratch.flush()
        os.fsync(scratch.fileno())
    Path(name).replace(file)


def read_key(file: Path | None) -> bytes:
    """The key in a file.

    Raises:
        ErasureError: when it is not there, or is no such key, or others than its owner may read it.
    """
    remedy = "without it, persons who were erased would come back with the next delivery; put it back from where "
    remedy += "you keep the keys of the home"
    if file is None or not file.is_file():
        raise ErasureError(f"the key {file or 'of erased persons'} is not there, and {remedy}")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise ErasureError(
            f"the key {file} can be read by others than its owner (mode {mode:o}): run `chmod 600` on it"
        )
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ErasureError(f"{file} is no key of erased persons, and {remedy}") from error
    if len(key) != KEY_BYTES:
        raise ErasureError(f"{file} is no key of erased persons, and {remedy}")
    return key


def erased_by(rows: Iterable[Mapping[str, str]], file: Path | None) -> Erased:
    """Everybody who was erased, from rows with `entity`, `hash` and `pseudonym`.

    Raises:
        ErasureError: when there is somebody, and not the key.
    """
    by_entity: dict[str, dict[str, str]] = {}
    for row in rows:
        by_entity.setdefault(row["entity"], {})[row["hash"]] = row["pseudonym"]
    return Erased(read_key(file), by_entity) if by_entity else Erased()
