"""The files that name the model to be served and those beside it, and what running services say of themselves."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from fraud_assets.core.decisions.truth import Service
from fraud_assets.core.models.live import LIVE_FILE, SERVICES_FOLDER, LiveModel
from fraud_assets.core.rollout.challengers import CHALLENGERS_FILE, Challengers


def read_live(bentoml_home: Path) -> LiveModel | None:
    """The model that is named for serving; None where none is, or the file says something else."""
    with suppress(OSError, ValueError):
        return LiveModel.from_json((bentoml_home / LIVE_FILE).read_text(encoding="utf-8"))
    return None


def write_live(bentoml_home: Path, live: LiveModel) -> None:
    """Names a model for serving, unless a later row of the ledger has named one; who reads sees the old or the new."""
    kept = read_live(bentoml_home)
    if kept is not None and (kept == live or kept.row > live.row):
        return
    _replace(bentoml_home / LIVE_FILE, live.to_json())


def read_challengers(bentoml_home: Path) -> Challengers | None:
    """The challengers that are named; None where none ever were, or the file says something else."""
    with suppress(OSError, ValueError):
        return Challengers.from_json((bentoml_home / CHALLENGERS_FILE).read_text(encoding="utf-8"))
    return None


def write_challengers(bentoml_home: Path, named: Challengers) -> None:
    """Names the challengers; who reads sees those before or these."""
    if read_challengers(bentoml_home) != named:
        _replace(bentoml_home / CHALLENGERS_FILE, named.to_json())


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.stem}-", dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as scratch:
        scratch.write(text)
    Path(name).replace(file)


def read_services(bentoml_home: Path) -> tuple[Service, ...]:
    """What the running services of this machine answer with; a file that a killed one left behind is left out."""
    found = []
    for file in sorted((bentoml_home / SERVICES_FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError), file.open(encoding="utf-8") as opened:
            if not _is_locked(opened.fileno()):
                continue
            said = json.load(opened)
            found.append(Service(int(said["process"]), int(said["model_version"]), str(said["refused"])))
    return tuple(found)


def _is_locked(handle: int) -> bool:
    """Whether the process that holds the lock of a file lives."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
