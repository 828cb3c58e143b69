"""Which packaged model shall be served: what promotion writes, and a running service reads.

The file is small, and replaced whole. Who writes it has read the ledger and found it whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LIVE_FILE = "live.json"
"""Its name, in the store of bentos."""
SERVICES_FOLDER = "services"
"""Beside it: a file for each process of a service, with what it answers with."""
LIVE_VARIABLE = "FRAUD_LIVE_FILE"
"""The environment variable that tells a service where the file is; without it, a service keeps its model."""


@dataclass(frozen=True)
class LiveModel:
    """The model to be served.

    Attributes:
        model_version: of the registered model.
        row: number of the ledger's last row when it was named.
        hash: of that row.
        bento: tag of the bento that has it.
        folder: the bento's folder, from the folder of the file on.
        digests: SHA-256 by name of the model's files.
        entry: number of the ledger's row that made it live; 0 where it was named before that was noted.
        since: when that was, in ISO 8601; empty likewise.
        previous: the model that a rollback brings back, as it was named for serving; None where there is none.
    """

    model_version: int
    row: int
    hash: str
    bento: str
    folder: str
    digests: Mapping[str, str]
    entry: int = 0
    since: str = ""
    previous: LiveModel | None = None

    def to_json(self) -> str:
        """As the file has it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LiveModel:
        """What a file says.

        Raises:
            ValueError: when it says something else.
        """
        try:
            said: dict[str, Any] = json.loads(text)
            return cls._read(said)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the file names no model to serve ({error}); `fraud reconcile` writes it again"
            ) from error

    @classmethod
    def _read(cls, said: dict[str, Any]) -> LiveModel:
        before = said.get("previous")
        return cls(
            model_version=int(said["model_version"]),
            row=int(said["row"]),
            hash=str(said["hash"]),
            bento=str(said["bento"]),
            folder=str(said["folder"]),
            digests={str(name): str(digest) for name, digest in said["digests"].items()},
            entry=int(said.get("entry", 0)),
            since=str(said.get("since", "")),
            previous=None if before is None else cls._read(before),
        )
