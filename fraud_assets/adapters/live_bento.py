"""The file that names the packaged model to be served, and what running services say of themselves."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)

from fraud_assets.core.decisions.truth import Service
from fraud_assets.core.models.live import LIVE_FILE, SERVICES_FOLDER, LiveModel


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
    bentoml_home.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".live-", dir=bentoml_home)
    with os.fdopen(handle, "w", encoding="utf-8") as scratch:
        scratch.write(live.to_json())
    Path(name).replace(bentoml_home / LIVE_FILE)


def read_services(bentoml_home: Path) -> tuple[Service, ...]:
    """What the running services of this machine answer with; a file that a killed one left behind is left out."""
    found = []
    for file in sorted((bentoml_home / SERVICES_FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, psutil.Error):
            said = json.loads(file.read_text(encoding="utf-8"))
            process = int(said["process"])
            # A number is given to another process after a while.
            if abs(psutil.Process(process).create_time() - float(said["began"])) < 10:
                found.append(Service(process, int(said["model_version"]), str(said["refused"])))
    return tuple(found)
