"""A backup's folder: files that only their owner may read, each with its SHA-256 in the manifest.

What is in a backup, and what has to fit together in it, belongs to `workflows/backups`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fraud_assets.core.errors import PlatformError

MANIFEST, MANIFEST_DIGEST = "manifest.json", "manifest.json.sha256"
FORMAT = 1
CHUNK = 1 << 20


class BackupError(PlatformError):
    """A backup that cannot be written, trusted or restored; the message says why, and what to do."""


def copy_file(source: Path, target: Path) -> str:
    """Copies a file for its owner alone, through to the disk.

    Returns:
        Its SHA-256.
    """
    digest = hashlib.sha256()
    with source.open("rb") as content:
        # A script stays one.
        mode = 0o700 if os.fstat(content.fileno()).st_mode & 0o100 else 0o600
        out = os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
        with out:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    return digest.hexdigest()


def copy_tree(source: Path, target: Path, skipped: Collection[str] = ("__pycache__",)) -> dict[str, str]:
    """Copies the files of a folder for their owner alone; one that goes meanwhile is left out.

    Args:
        source: a folder; none is like an empty one.
        target: made, with those above it.
        skipped: names of files and folders, anywhere in it, that are not copied.

    Returns:
        The SHA-256 of each file by its path in the folder.

    Raises:
        BackupError: for a symbolic link, which may lead anywhere.
    """
    make_folder(target)
    digests = {}
    for folder, names, files in os.walk(source):
        # What is on its way into the store of bentos is no part of it yet.
        names[:] = sorted(name for name in names if name not in skipped and not name.startswith(".incoming-"))
        here = Path(folder).relative_to(source)
        for name in [*names, *files]:
            if (Path(folder) / name).is_symlink():
                raise BackupError(f"{Path(folder) / name} is a symbolic link, which a backup cannot hold; take it away")
        make_folder(target / here)
        for name in sorted(file for file in files if file not in skipped):
            try:
                digests[(here / name).as_posix()] = copy_file(Path(folder) / name, target / here / name)
            except FileNotFoundError:
                (target / here / name).unlink(missing_ok=True)
    return digests


def make_folder(folder: Path) -> None:
    """Makes a folder that only its owner may enter, and those above it; one that is there stays as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def write_text(file: Path, text: str) -> str:
    """Writes a file for its owner alone, through to the disk.

    Returns:
        Its SHA-256.
    """
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return digest_of(file)


def digest_of(file: Path) -> str:
    """A file's SHA-256."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Writes the manifest, and its own digest as `sha256sum --check` reads it."""
    said = {"format": FORMAT, **facts, "files": dict(sorted(files.items()))}
    digest = write_text(folder / MANIFEST, json.dumps(said, indent=2) + "\n")
    write_text(folder / MANIFEST_DIGEST, f"{digest}  {MANIFEST}\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a backup, which is as it was written.

    Raises:
        BackupError: when the folder is no backup, the manifest was altered, or a later version wrote it.
    """
    try:
        written = (folder / MANIFEST_DIGEST).read_text(encoding="utf-8").split()
        if not written or digest_of(folder / MANIFEST) != written[0]:
            raise BackupError(f"{folder / MANIFEST} is not as it was written; use another backup")
        said: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BackupError(f"{folder} is no backup, or not a whole one: {error.filename} is missing") from error
    except UnicodeDecodeError as error:
        raise BackupError(f"{folder / MANIFEST_DIGEST} is not as it was written; use another backup") from error
    if said["format"] > FORMAT:
        raise BackupError(f"{folder} was written by a later version of fraud-assets; install that version")
    return said


def find_damage(folder: Path, files: Mapping[str, str]) -> list[str]:
    """What is not as the manifest says, in sentences: missing, altered and additional files."""
    found = []
    for name, digest in files.items():
        try:
            if digest_of(folder / name) != digest:
                found.append(f"{name} is not as it was written")
        except OSError as error:
            found.append(f"{name} is missing" if error.errno == errno.ENOENT else f"{name} cannot be read: {error}")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    found += [f"{name} is no part of it" for name in sorted(there - files.keys() - {MANIFEST, MANIFEST_DIGEST})]
    return found


def is_backup(folder: Path) -> bool:
    """Whether a folder is a backup, damaged or not."""
    return (folder / MANIFEST).is_file() or (folder / MANIFEST_DIGEST).is_file()


def backups_in(folder: Path, contract: str) -> list[Path]:
    """The backups of a contract in a folder, oldest first; those that cannot be read are left alone."""
    found = []
    for one in folder.iterdir() if folder.is_dir() else ():
        if not one.name.startswith(".") and is_backup(one):
            try:
                manifest = read_manifest(one)
            except BackupError:
                continue
            if manifest["contract"] == contract:
                found.append((manifest["made_at"], one))
    return [one for _, one in sorted(found)]


@contextmanager
def whole_or_not_at_all(place: Path) -> Iterator[Path]:
    """A new folder that is put in its place at the end of the block; an error, or a kill, leaves no backup.

    What a killed process left behind is removed.

    Raises:
        BackupError: when the place is taken.
    """
    if place.exists():
        raise BackupError(f"{place} is there already; name another folder")
    make_folder(place.parent)
    with _alone(place.parent):
        for left in place.parent.glob(".*.unfinished"):
            shutil.rmtree(left, ignore_errors=True)
        scratch = place.with_name(f".{place.name}.unfinished")
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
            for folder in [*(path for path in scratch.rglob("*") if path.is_dir()), scratch]:
                sync(folder)
            scratch.rename(place)
            sync(place.parent)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def sync(folder: Path) -> None:
    """Names that were added to a folder, or taken from it, survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"another backup is being written into {folder}; wait until it has ended") from error
        yield
    finally:
        os.close(handle)
