"""A process that scores what others answered: one version, over the traffic that is kept, for as long as it is wanted.

It ends with its parent, whose end of the pipe closes then. A chunk that takes too long ends the process, whatever the
model does: the alarm is the kernel's. Who starts it again belongs to `processes.py`.

    python -m bentos.fraud_scorer.challengers.shadow MODEL_FOLDER ROLE
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fraud_assets.adapters.online.history import DATABASE_VARIABLE
from fraud_assets.adapters.scores.shadow import MOST_BEHIND, Outcome, ShadowStore
from fraud_assets.adapters.scores.sink import SinkError
from fraud_assets.core.models.scoring import ModelManifest, Scorer, ScoringError

logger = logging.getLogger("bentoml.fraud_scorer")

CHUNK = 200
# For a chunk: 50 ms a row, beside whatever else the machine does.
SECONDS_VARIABLE, SECONDS = "FRAUD_SHADOW_SECONDS", 10
BEHIND_VARIABLE = "FRAUD_SHADOW_BEHIND"
LOOK_SECONDS = 0.5
RETRY_SECONDS = 3.0
LOWER_PRIORITY = 10


class Shadow:
    """Scores kept rows with one version."""

    def __init__(self, scorer: Scorer, store: ShadowStore, seconds: int = SECONDS) -> None:
        self._scorer, self._store, self._seconds = scorer, store, seconds
        self._contract = scorer.manifest.contract
        self._is_begun = False

    def step(self) -> int:
        """Scores the next rows; how many there were.

        Raises:
            SinkError: when the database cannot be reached.
        """
        if not self._is_begun:
            if given_up := self._store.begin():
                late = [Outcome(row["number"], self._month(row), None, "late") for row in given_up]
                self._store.keep(late, f"{len(late)} transactions took longer than {self._seconds} s, or ended it")
            self._is_begun = True
        rows = self._store.next_rows(CHUNK)
        if rows:
            self._store.attempt([row["number"] for row in rows])
            signal.alarm(self._seconds)
            try:
                outcomes, said = self._scored(rows)
            finally:
                signal.alarm(0)
            self._store.keep(outcomes, said)
        return len(rows)

    def _scored(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Outcome], str]:
        """What the version says of rows, and what was wrong."""
        made, said = [], ""
        try:
            scores = self._scorer.score_rows([_features(row) for row in rows]).tolist()
            return [Outcome(row["number"], self._month(row), one) for row, one in zip(rows, scores, strict=True)], ""
        except (ScoringError, KeyError):
            # One by one, for those that can be.
            pass
        for row in rows:
            score = None
            try:
                score = float(self._scorer.score_rows([_features(row)])[0])
            except KeyError as error:
                said = f"the service keeps no feature {error} of what it answers; start it again to keep it"
            except ScoringError as error:
                said = " ".join(str(error).split())
            made.append(Outcome(row["number"], self._month(row), score, "failed" if score is None else "scored"))
        return made, said

    def _month(self, row: Mapping[str, Any]) -> str:
        return self._contract.month_of(row["event_timestamp"])


def _features(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["features"])
    return found | (json.loads(row["more"]) if row["more"] else {})


def main(folder: Path, role: str) -> None:
    """Scores until the parent ends."""
    logging.basicConfig(level=logging.WARNING, format="shadow: %(message)s")
    with suppress(OSError):
        os.nice(LOWER_PRIORITY)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    manifest = ModelManifest.from_json((folder / "manifest.json").read_bytes())
    scorer = Scorer((folder / "model.onnx").read_bytes(), manifest)
    most_behind = int(os.environ.get(BEHIND_VARIABLE) or MOST_BEHIND)
    store = ShadowStore(os.environ[DATABASE_VARIABLE], manifest.model_version, role, manifest.threshold, most_behind)
    seconds = int(os.environ.get(SECONDS_VARIABLE) or SECONDS)
    shadow, wait, is_away = Shadow(scorer, store, seconds), threading.Event(), False
    while True:
        try:
            n = shadow.step()
            is_away = False
        except SinkError as error:
            if not is_away:
                logger.warning("version %s waits: %s", manifest.model_version, error)
            n, is_away = 0, True
        if n < CHUNK:
            wait.wait(RETRY_SECONDS if is_away else LOOK_SECONDS)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
