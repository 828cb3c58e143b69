"""Export: the live package as one file, which another machine serves, without a network where it brings its wheels.

What is in a package belongs to `adapters/bento.py`, whether it may be served to `served.py`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from fraud_assets.adapters.bento import REQUIREMENTS
from fraud_assets.adapters.signing import public_key
from fraud_assets.core.errors import PlatformError
from fraud_assets.settings import Settings

SERVE = """\
#!/bin/sh
# Serves the model beside this file, on HOST (127.0.0.1) and PORT (5000), with Python {python} (PYTHON).
# Its packages come from wheels/ where that is here, and no network is asked then. FRAUD_DATABASE_URL names the database
# that has the history of transactions; ready features need none. FRAUD_API_KEYS names the file of API keys; without one
# only this machine is answered.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -x "$here/.venv/bin/python" ]; then
    "${{PYTHON:-python{python}}}" -m venv "$here/.venv"
    if [ -d "$here/wheels" ]; then set -- --no-index --find-links "$here/wheels"; else set --; fi
    "$here/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \\
        --require-hashes --requirement "$here/bento/{requirements}" "$@"
fi
export BENTOML_DO_NOT_TRACK=True BENTOML_HOME="$here/.bentoml"
# What is compiled is kept apart: nothing is written beside what is signed.
export PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR="$here/.numba"
exec "$here/.venv/bin/python" -m bentoml serve "$here/bento" --host "${{HOST:-127.0.0.1}}" --port "${{PORT:-5000}}"
"""


class ExportError(PlatformError):
    """A package that cannot be exported; the message says why."""


def export_package(tag: str, path: Path, target: Path, settings: Settings, *, wheels: bool) -> dict[str, Any]:
    """Writes a package that was checked into one file; the same package gives the same bytes.

    Args:
        tag: of the package.
        path: its folder.
        target: the file, a tar that gzip has packed; one that is there is replaced when the new one is whole.
        settings: of the home; its public key goes with the package.
        wheels: bring the packages that serving needs, for machines like this one.

    Returns:
        `file`, `tag`, `size` in bytes, and `wheels`, how many there are.

    Raises:
        ExportError: when the wheels cannot be fetched, or the file cannot be written.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        folder = Path(scratch) / tag.replace(":", "-")
        shutil.copytree(path, folder / "bento")
        (folder / "signing.pem.pub").write_bytes(public_key(settings.signing_key_file))
        serve = folder / "serve.sh"
        serve.write_text(SERVE.format(python=python, requirements=REQUIREMENTS.as_posix()), encoding="utf-8")
        serve.chmod(0o755)
        if wheels:
            _fetch_wheels(path / REQUIREMENTS, folder / "wheels")
        packed = Path(scratch) / "packed"
        _pack(folder, packed)
        try:
            # Beside its place first, as the two may be on different disks.
            beside = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(packed, beside)
            beside.replace(target)
        except OSError as error:
            raise ExportError(f"{target} cannot be written: {error}; name a file in a folder of yours") from error
        brought = len(list((folder / "wheels").glob("*.whl"))) if wheels else 0
    return {"file": str(target), "tag": tag, "size": target.stat().st_size, "wheels": brought}


def _fetch_wheels(requirements: Path, folder: Path) -> None:
    """The wheels for this kind of machine, each compared with its hash; none is built here."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - as named above
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise ExportError(f"the wheels cannot be fetched: {said[0]}; without --wheels, the other machine fetches them")


def _pack(folder: Path, target: Path) -> None:
    """A tar whose bytes depend on names and contents alone."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for file in sorted([folder, *folder.rglob("*")]):
            archive.add(file, file.relative_to(folder.parent).as_posix(), recursive=False, filter=plain)
