"""The ledger's head outside of the database: with the version in MLflow that its last event is about, and in bentos.

The file is kept by `adapters/postgres/ledger.py` itself. Heads are kept after the rows are committed: a head that is
ahead of the ledger means that rows were cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fraud_assets.adapters.bento import labels_of_bentos
from fraud_assets.adapters.head_file import read_head
from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.chain import Fault, Head, LedgerError, find_fault
from fraud_assets.settings import Settings


def keep_head(ledger: LedgerStore, registry: Registry) -> None:
    """Keeps the head of the ledger as it is with the version that its last event is about, while MLflow has it.

    Raises:
        RegistryError: when MLflow does not take it. The ledger is as it shall be then.
    """
    events = ledger.events()
    if not events:
        return
    last = events[-1]
    try:
        if not registry.has(last.model_version):
            return
        registry.keep_head(last.model_version, Head(last.number, last.hash).text)
    except RegistryError as error:
        raise RegistryError(
            f"row {last.number} is in the ledger ({last.kind}, version {last.model_version}), but MLflow does not keep "
            f"its hash: {error}. `fraud reconcile` does it later"
        ) from error


def known_heads(registry: Registry, settings: Settings) -> list[Head]:
    """The heads that MLflow and the bentos have.

    Raises:
        RegistryError: when MLflow does not answer.
        LedgerError: when one of them has something else in its place.
    """
    kept = {f"version {version} in MLflow": text for version, text in registry.kept_heads().items()}
    for tag, labels in labels_of_bentos(settings.bentoml_home).items():
        if text := labels.get("ledger_head"):
            kept[f"the bento {tag}"] = text
    return [Head.parse(text, where) for where, text in kept.items()]


def verify_ledger(
    ledger: LedgerStore, registry: Registry, settings: Settings, file: Path | None = None
) -> dict[str, Any]:
    """Whether the ledger is as it was written, by its own hashes and by the heads that are known outside.

    Args:
        ledger: the ledger.
        registry: has heads, unless it does not answer.
        settings: of the home, which has bentos.
        file: a file with a head that was kept elsewhere.

    Returns:
        `rows`, how many there are; `head`, number and hash of the last one, None when there is none; `heads`, for each
        that is known outside `where` and `number`; `fault`, None or `number`, `what` and `sentence` of the first row
        that is wrong; `not_asked`, sentences about what could not be compared.

    Raises:
        LedgerError: when `file` is not there or no head.
    """
    rows, heads, not_asked = ledger.rows(), [], []
    if file is not None:
        kept = read_head(file)
        if kept is None:
            raise LedgerError(f"{file} is not there; name the file that was kept")
        heads.append(kept)
    for ask in (ledger.heads, lambda: known_heads(registry, settings)):
        try:
            heads += ask()
        except (RegistryError, LedgerError) as error:
            not_asked.append(str(error))
    fault = find_fault(rows, heads)
    return {
        "rows": len(rows),
        "head": {"number": rows[-1]["number"], "hash": rows[-1]["hash"]} if rows else None,
        "heads": [{"where": head.where, "number": head.number} for head in heads],
        "fault": as_row(fault) if fault else None,
        "not_asked": not_asked,
    }


def as_row(fault: Fault) -> dict[str, Any]:
    """A fault as plain values."""
    return {"number": fault.number, "what": fault.what, "sentence": fault.sentence}
