"""Telling services who the challengers are: a file beside the one that names the live model.

Who they are belongs to `core/decisions/challengers.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fraud_assets.adapters.bento import PackagedBento
from fraud_assets.adapters.live_bento import read_challengers, write_challengers
from fraud_assets.core.decisions.challengers import named_challengers
from fraud_assets.core.decisions.ledger import Event, champion_version
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.core.rollout.challengers import Challenger, Challengers
from fraud_assets.settings import Settings

logger = logging.getLogger(__name__)

Package = Callable[[int], PackagedBento]


def name_challengers(events: Sequence[Event], settings: Settings, package: Package) -> dict[int, str]:
    """Tells services who the challengers are now; which of them cannot be packaged, with why.

    One that cannot be is left out: what is live must not fail because of it.

    Args:
        events: of the ledger.
        settings: of the home.
        package: packages a version.
    """
    live = champion_version(events)
    named = named_challengers(events, settings.promotion_mode) if live is not None else []
    models, left_out = list[Challenger](), dict[int, str]()
    for one in named:
        try:
            packaged = package(one.version)
        except (PlatformError, ScoringError, OSError) as error:
            left_out[one.version] = " ".join(str(error).split())
            logger.warning("version %s is no challenger: %s", one.version, left_out[one.version])
            continue
        folder = packaged.path.relative_to(settings.bentoml_home).as_posix()
        digests = {name: digest for name, digest in packaged.digests.items() if name != "bento"}
        models.append(Challenger(one.version, packaged.tag, folder, digests, one.share, one.key))
    if models or read_challengers(settings.bentoml_home) is not None:
        write_challengers(settings.bentoml_home, Challengers(live or 0, tuple(models)))
    return left_out
