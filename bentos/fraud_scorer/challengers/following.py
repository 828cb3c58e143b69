"""Following the challengers: what is named in the file is loaded, tried, and scores or answers; what is not, no more.

A challenger that cannot be loaded is refused, says why in the log, and is tried again. The champion answers whoever it
would have answered. Which entities a challenger answers belongs to `core/rollout/challengers.py`, making the answers to
`answering.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import Counter

from bentos.fraud_scorer.challengers.processes import ShadowProcesses
from bentos.fraud_scorer.loaded import LoadedModel
from fraud_assets.adapters.online.history import DATABASE_VARIABLE
from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.models.live import LIVE_VARIABLE, LiveModel
from fraud_assets.core.models.scoring import ModelManifest, ScoringError
from fraud_assets.core.rollout.challengers import CHALLENGERS_FILE, Challenger, Challengers, together

logger = logging.getLogger("bentoml.fraud_scorer")

LOOK_SECONDS = 0.5
RETRY_SECONDS = 30.0
MODEL_FOLDER = Path("src", "bentos", "fraud_scorer", "model")
REFUSED = Counter(
    "fraud_scorer_challengers_refused", "Challengers that were named and could not be loaded", ["version"]
)


@dataclass(frozen=True)
class Beside:
    """The challengers as they are now; replaced as a whole.

    Attributes:
        named: what the file says.
        answering: those with a share, by version, loaded.
        features: what they take of what the champion does not.
    """

    named: Challengers = field(default_factory=lambda: Challengers(0))
    answering: Mapping[int, LoadedModel] = field(default_factory=dict)
    features: tuple[str, ...] = ()


class ChallengerFollower:
    """Looks for challengers, in a thread of its own."""

    def __init__(self, model: Callable[[], LoadedModel], load: Callable[[Path, LiveModel], LoadedModel]) -> None:
        """Does nothing yet.

        Args:
            model: gives the model that answers.
            load: loads the one in a folder, beside it.
        """
        named = os.environ.get(LIVE_VARIABLE)
        self._file = Path(named).with_name(CHALLENGERS_FILE) if named else None
        self._model, self._load = model, load
        self.now = Beside()
        self._shadows = ShadowProcesses(self._file.parent) if self._file and os.environ.get(DATABASE_VARIABLE) else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="challengers", daemon=True)

    def start(self) -> None:
        """Begins to look, where there may be a file."""
        if self._file is not None:
            self._thread.start()

    def close(self) -> None:
        """Looks no more, and ends what scores in the shadow."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._shadows is not None:
            self._shadows.close()

    def _follow(self) -> None:
        seen: object = None
        wanted: dict[int, tuple[Path, str]] = {}
        waited, is_whole = 0.0, True
        while not self._over.wait(LOOK_SECONDS):
            waited += LOOK_SECONDS
            model = self._model()
            there = (self._mark(), model.manifest.model_version)
            if there != seen or (not is_whole and waited >= RETRY_SECONDS):
                seen, waited = there, 0.0
                wanted, is_whole = self._look(model)
            if self._shadows is not None:
                self._shadows.keep(wanted)

    def _mark(self) -> tuple[int, int] | None:
        with suppress(OSError):
            there = self._file.stat() if self._file else None
            return (there.st_mtime_ns, there.st_ino) if there else None
        return None

    def _look(self, model: LoadedModel) -> tuple[dict[int, tuple[Path, str]], bool]:
        """Takes what the file names; which processes are wanted, and whether all of it could be taken."""
        own, wanted = model.manifest.model_version, dict[int, tuple[Path, str]]()
        try:
            named = Challengers.from_json(self._file.read_text(encoding="utf-8")) if self._file else Challengers(own)
        except FileNotFoundError:
            named = Challengers(own)
        except (OSError, ValueError) as error:
            logger.error("there are no challengers: %s", error)
            self.now = Beside()
            return {}, False
        is_whole, takes, answering = True, list[tuple[str, ...]](), dict[int, LoadedModel]()
        # What is live is no challenger, whoever named it before that.
        models = [one for one in named.models if one.model_version != own]
        for one in models:
            try:
                folder, manifest = self._checked(one)
                if one.share and named.champion_version == own:
                    answering[one.model_version] = self._loaded(one)
            except (OSError, ValueError, ScoringError, ContractError) as error:
                is_whole = False
                REFUSED.labels(str(one.model_version)).inc()
                logger.error("version %s is no challenger: %s", one.model_version, " ".join(str(error).split()))
                continue
            takes.append(manifest.features)
            wanted[one.model_version] = (folder, "challenger")
        if answering:
            wanted[own] = (model.folder, "champion")
        self.now = Beside(named, answering, together(takes, model.manifest.features))
        if models:
            logger.warning("versions %s score beside version %s", sorted(set(wanted) - {own}), own)
        return wanted, is_whole

    def _checked(self, one: Challenger) -> tuple[Path, ModelManifest]:
        """Where its files are, when they are those that were named."""
        folder = self._folder(one) / MODEL_FOLDER
        contents = {name: (folder / name).read_bytes() for name in one.digests}
        for name, digest in one.digests.items():
            if hashlib.sha256(contents[name]).hexdigest() != digest:
                raise ScoringError(f"{folder / name} is not the file that was named; name the version anew")
        return folder, ModelManifest.from_json((folder / "manifest.json").read_bytes())

    def _loaded(self, one: Challenger) -> LoadedModel:
        known = self.now.answering.get(one.model_version)
        if known is not None and known.digests == dict(one.digests) and known.online is self._model().online:
            return known
        live = LiveModel(one.model_version, 0, "", one.bento, "", one.digests)
        loaded = self._load(self._folder(one), live)
        if loaded.online is not self._model().online:
            raise ScoringError("its contract is another one than the champion's: it can score in the shadow alone")
        return loaded

    def _folder(self, one: Challenger) -> Path:
        if self._file is None:
            raise ScoringError("no file names challengers")
        return self._file.parent / one.folder
