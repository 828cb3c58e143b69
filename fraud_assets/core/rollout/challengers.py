"""Challengers: the versions that score live traffic beside the champion, and whom one of them answers.

Who names them, and by what right, belongs to `workflows/models/challengers.py`; what they score to
`bentos/fraud_scorer/challengers`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fraud_assets.core.contracts.contract import Contract

CHALLENGERS_FILE = "challengers.json"
"""Its name, beside the file that names the live model."""
USUAL_CHALLENGERS, MOST_CHALLENGERS = 3, 8  # at once: each is a process with a model in memory
LARGEST_SHARE = 0.5  # with more, the challenger would be the champion

Role = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Challenger:
    """A version that scores beside the champion.

    Attributes:
        model_version: of the registered model.
        bento: tag of the bento that has it.
        folder: the bento's folder, from the folder of the file on.
        digests: SHA-256 by name of the model's files.
        share: of the entities, whom it answers; 0 for shadow alone.
        key: decides which entities these are; another one would choose others.
    """

    model_version: int
    bento: str
    folder: str
    digests: Mapping[str, str]
    share: float = 0.0
    key: str = ""


@dataclass(frozen=True)
class Challengers:
    """The challengers that are named.

    Attributes:
        champion_version: the version that was live then. A service that answers with another one gives no share to
            anybody: the comparison was begun with this one.
        models: in the order in which they began.
    """

    champion_version: int
    models: tuple[Challenger, ...] = ()

    @property
    def has_share(self) -> bool:
        """Whether any of them answers."""
        return any(one.share > 0 for one in self.models)

    def chosen(self, entity: object) -> Challenger | None:
        """Who answers an entity; None for the champion. The same entity always meets the same model.

        Args:
            entity: its identifier; the champion answers where there is none.
        """
        if entity is None:
            return None
        return next((one for one in self.models if one.share > 0 and _draw(one.key, entity) < one.share), None)

    def to_json(self) -> str:
        """As the file has it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Challengers:
        """What a file says.

        Raises:
            ValueError: when it says something else.
        """
        try:
            said: dict[str, Any] = json.loads(text)
            return cls(
                champion_version=int(said["champion_version"]),
                models=tuple(
                    Challenger(
                        model_version=int(one["model_version"]),
                        bento=str(one["bento"]),
                        folder=str(one["folder"]),
                        digests={str(name): str(digest) for name, digest in one["digests"].items()},
                        share=float(one["share"]),
                        key=str(one["key"]),
                    )
                    for one in said["models"]
                )[:MOST_CHALLENGERS],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the file names no challengers ({error}); `fraud reconcile` writes it again") from error


def _draw(key: str, entity: object) -> float:
    """A number from 0 to 1 that looks random, of an entity."""
    digest = hmac.digest(key.encode(), str(entity).encode("utf-8", "surrogatepass"), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") / 2**64


def answered_column(contract: Contract) -> str:
    """The column whose values meet one model each: the card, else another entity, else the transaction itself."""
    return contract.card or next(iter(contract.entities), "transaction_id")


def together(models: Iterable[Sequence[str]], own: Sequence[str]) -> tuple[str, ...]:
    """The features that models take, without those that one of them has.

    >>> together([["amount", "channel"], ["hour", "amount"]], ["amount"])
    ('channel', 'hour')
    """
    known = set(own)
    return tuple(dict.fromkeys(name for names in models for name in names if name not in known))
