"""Following the live model: what is named for serving is loaded beside the model that answers, tried, then swapped in.

A model that cannot be loaded, or that another version of the platform has packaged, is refused: the one before goes on
answering, and says why. Who names a model, and by what right, belongs to `workflows/models/truth.py`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from prometheus_client import Counter

from bentos.fraud_scorer.loaded import LoadedModel
from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.models.live import LIVE_VARIABLE, SERVICES_FOLDER, LiveModel
from fraud_assets.core.models.scoring import ScoringError

logger = logging.getLogger("bentoml.fraud_scorer")

LOOK_SECONDS = 0.5
# A model that was refused is tried again: its disk may have been full, or its folder not there yet.
RETRY_SECONDS = 30.0
SWAPS = Counter("fraud_scorer_model_swaps", "Models that were named for serving while it ran, by outcome", ["outcome"])
for outcome in ("taken", "refused"):
    SWAPS.labels(outcome)  # from the start, so that the first is a rise


class Follower:
    """Looks for another live model, in a thread of its own."""

    def __init__(
        self, model: Callable[[], LoadedModel], load: Callable[[Path, LiveModel], LoadedModel],
        take: Callable[[LoadedModel], None],
    ) -> None:  # fmt: skip
        """Does nothing yet.

        Args:
            model: gives the model that answers.
            load: loads the one in a folder.
            take: lets a loaded one answer from now on.
        """
        named = os.environ.get(LIVE_VARIABLE)
        self._file = Path(named) if named else Path(os.devnull)
        self._is_told = bool(named)
        self._model, self._load, self._take = model, load, take
        self._refused = ""
        self._live: LiveModel | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._state: IO[str] | None = None
        self._told = 0  # characters of the longest that was written into it

    def start(self) -> None:
        """Begins to look, where a file is named."""
        if self._is_told:
            self._thread.start()

    @property
    def refused(self) -> str:
        """Why the model that is named for serving was not taken; empty where it was."""
        return self._refused

    def live_of(self, model: LoadedModel) -> LiveModel | None:
        """What was said of a model when it was named for serving; None where nothing was."""
        live = self._live
        return live if live is not None and dict(live.digests) == model.digests else None

    def previous_of(self, model: LoadedModel) -> tuple[Path, LiveModel]:
        """The folder of the champion before a model, and what was said of it when it was named for serving.

        Raises:
            ScoringError: when none is known.
        """
        live = self.live_of(model)
        if live is None or live.previous is None:
            raise ScoringError("no champion before this one is named for serving")
        return self._file.parent / live.previous.folder, live.previous

    def close(self) -> None:
        """Looks no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._state is not None:
            Path(self._state.name).unlink(missing_ok=True)
            self._state.close()

    def _follow(self) -> None:
        self._tell()
        seen: tuple[int, int] | None = None
        waited = 0.0
        while not self._over.wait(LOOK_SECONDS):
            waited += LOOK_SECONDS
            try:
                there = self._file.stat()
            except OSError:
                # Nothing is named: what answers goes on.
                continue
            if (there.st_mtime_ns, there.st_ino) == seen and not (self._refused and waited >= RETRY_SECONDS):
                continue
            seen, waited = (there.st_mtime_ns, there.st_ino), 0.0
            self._look()

    def _look(self) -> None:
        """Takes the model that the file names, or says why not."""
        before = self._model()
        try:
            live = LiveModel.from_json(self._file.read_text(encoding="utf-8"))
            if dict(live.digests) == before.digests:
                self._refused, self._live = "", live
                self._tell()
                return
            loaded = self._load(self._file.parent / live.folder, live)
        except (OSError, ValueError, ScoringError, ContractError) as error:
            self._refused = " ".join(str(error).split())
            SWAPS.labels("refused").inc()
            logger.error("version %s goes on answering: %s", before.manifest.model_version, self._refused)
        else:
            self._take(loaded)
            self._refused, self._live = "", live
            SWAPS.labels("taken").inc()
            logger.warning(
                "version %s answers now, in place of version %s",
                loaded.manifest.model_version,
                before.manifest.model_version,
            )
        self._tell()

    def _tell(self) -> None:
        """Says what answers, for `fraud status`: in a file that is locked for as long as this process lives."""
        said = {
            "process": os.getpid(),
            "model_version": self._model().manifest.model_version,
            "refused": self._refused,
        }
        try:
            if self._state is None:
                folder = self._file.parent / SERVICES_FOLDER
                folder.mkdir(exist_ok=True)
                self._state = (folder / f"{socket.gethostname()}-{os.getpid()}.json").open("w", encoding="utf-8")
                fcntl.flock(self._state, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # In one write over what was there, and never shorter: who reads meanwhile sees the old or the new.
            text = json.dumps(said)
            self._told = max(self._told, len(text))
            self._state.seek(0)
            self._state.write(text.ljust(self._told))
            self._state.flush()
        except OSError as error:
            logger.warning("what answers cannot be told in %s: %s", self._file.parent, error)


def same_sources(root: Path, other: Path) -> bool:
    """Whether two bentos hold the same code, so that a model of the one can answer in the other."""

    def sources(folder: Path) -> dict[str, bytes]:
        return {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for name in ("bentos", "fraud_assets")
            for file in sorted((folder / name).rglob("*.py"))
        }

    return sources(root) == sources(other)
