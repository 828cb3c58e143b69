"""A version's card: its facts from the tables, the ledger and the registry, and where the card is kept.

The card is made of what is stored, and of nothing else, so it can be made at any time and on any machine. What a model
makes of its features is worked out once, from a month of stored features, and kept beside the run that trained it.
What is on the card is in `pages/cards.py`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.thresholds import Calibration, Flagging, calibration_bins, threshold_rows
from fraud_assets.core.explanations.behaviour import Behaviour, behaviour
from fraud_assets.core.models.scoring import ModelManifest, Scorer
from fraud_assets.core.months import month_of, shift_month
from fraud_assets.core.statistics.bootstrap import identifier_codes
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.pages.cards import Card, CardFacts, as_html, as_markdown, model_card
from fraud_assets.settings import Settings

PAGE, TEXT, BEHAVIOUR = "card/model_card.html", "card/model_card.md", "card/behaviour.json"
SHOWN_VERDICTS = 12  # drift reports since, a year of them


def card_link(registry: Registry, version: int) -> str:
    """The card's address in MLflow's UI, whether it is there yet or not."""
    return registry.address(version, PAGE)


def write_card(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    version: int,
    *,
    output: Path | None = None,
) -> Path:
    """Writes a version's card, as HTML, or as Markdown where the file's name ends in `.md`.

    Args:
        settings: of the home.
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        version: which.
        output: the file; in the home when absent. One that is there is replaced.

    Returns:
        The file.

    Raises:
        RegistryError: when there is no such version.
        ValueError: when the file cannot be written.
    """
    card = gather_card(store, ledger, registry, version)
    path = (output or settings.reports / f"model_card_v{version}.html").expanduser().resolve()
    text = as_markdown(card) if path.suffix.lower() == ".md" else as_html(card)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the card cannot be written: {error}; name another file") from error
    return path


def publish_card(store: MonthStore, ledger: LedgerStore, registry: Registry, version: int) -> str:
    """Keeps a version's card in MLflow, beside the run that trained it, as HTML and as Markdown.

    Returns:
        `card_link`.

    Raises:
        RegistryError: when there is no such version.
    """
    card = gather_card(store, ledger, registry, version)
    registry.attach(version, TEXT, as_markdown(card))
    return registry.attach(version, PAGE, as_html(card))


def gather_card(store: MonthStore, ledger: LedgerStore, registry: Registry, version: int) -> Card:
    """The card of a version, of all that is stored about it.

    Raises:
        RegistryError: when there is no such version.
    """
    onnx, manifest = registry.fetch(version)
    contract = manifest.contract
    trained = _trained(store, manifest)
    evaluation = _evaluation(store, version)
    predictions = registry.validation(version)
    calibration, choices = _validation(predictions, manifest, contract)
    facts = CardFacts(
        contract=contract,
        manifest=manifest,
        setting=trained.get("reason"),
        n=trained.get("n"),
        n_fraud=trained.get("n_fraud"),
        events=ledger.events(),
        evaluation=evaluation,
        segments=_segments(store, evaluation, version),
        calibration=calibration,
        choices=choices,
        behaviour=_behaviour(store, registry, Scorer(onnx, manifest)),
        verdicts=_verdicts(store, manifest.trained_month),
        platform=importlib.metadata.version("fraud-assets"),
    )
    return model_card(facts)


def _trained(store: MonthStore, manifest: ModelManifest) -> Mapping[str, Any]:
    """The row of `trained_model` of a version; empty where its month has been trained again since."""
    month = manifest.trained_month
    rows = store.read("trained_model", first_month=month, last_month=month).to_pylist()
    return next((row for row in rows if row["model_version"] == manifest.model_version), {})


def _evaluation(store: MonthStore, version: int) -> list[dict[str, Any]]:
    """All roles of the months in which a version was judged."""
    rows = store.read("evaluation").to_pylist()
    mine = [row for row in rows if row["model_version"] == version and row["role"] != "reference"]
    months = {row["month"] for row in mine}
    return [row for row in rows if row["month"] in months and row["model_version"] is not None]


def _segments(store: MonthStore, evaluation: Sequence[Mapping[str, Any]], version: int) -> list[dict[str, Any]]:
    if not evaluation:
        return []
    newest = f"{max(row['month'] for row in evaluation):%Y-%m}"
    rows = store.read("evaluation_segments", first_month=newest, last_month=newest).to_pylist()
    return [row for row in rows if row["model_version"] == version and row["role"] != "reference"]


def _validation(
    predictions: pa.Table | None, manifest: ModelManifest, contract: Contract
) -> tuple[Calibration | None, list[dict[str, str | float]]]:
    """Calibration, and what thresholds would have brought, on the rows that it was validated on."""
    if predictions is None or not pc.any(predictions["is_fraud"], min_count=0).as_py():
        return None, []
    y, score = predictions["is_fraud"].to_numpy().astype(bool), predictions["score"].to_numpy()
    cards = identifier_codes(predictions[contract.card]) if contract.card else None
    bins = calibration_bins(y, score, cards)
    if manifest.rule is None:
        # From before rules were kept: by which costs its threshold was chosen is not known.
        return bins, []
    local = pc.local_timestamp(predictions["event_timestamp"].cast(pa.timestamp("us", tz=contract.timezone)))
    days = local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY
    amount = predictions["amount"].to_numpy().astype(np.float64) if "amount" in predictions.column_names else None
    flagging = Flagging.of(y, score, cards=cards, days=days, amount=amount, costs=manifest.rule.costs)
    return bins, threshold_rows(flagging, manifest.threshold)


def _behaviour(store: MonthStore, registry: Registry, scorer: Scorer) -> Behaviour | None:
    """What the model makes of its features: as it is kept, or from the newest month that it learned from."""
    manifest = scorer.manifest
    if (text := registry.text(manifest.model_version, BEHAVIOUR)) is not None:
        return Behaviour.from_json(text)
    then = MonthStore(store.database, manifest.contract)
    last = manifest.training_to
    month = month_of(last.astimezone(manifest.contract.zone)) if last else manifest.trained_month
    rows = then.read("transaction_features", first_month=month, last_month=month)
    if rows.num_rows == 0:
        return None
    found = behaviour(scorer, rows, month)
    registry.attach(manifest.model_version, BEHAVIOUR, found.to_json())
    return found


def _verdicts(store: MonthStore, trained_month: str) -> dict[str, dict[str, Any]]:
    """The verdicts of the months after a version was trained, the newest ones."""
    columns = ["month", "kind", "drift_status", "blame", "reasons", "champion_version"]
    rows = store.read("drift_report", columns, first_month=shift_month(trained_month, 1)).to_pylist()
    found = {f"{row['month']:%Y-%m}": row for row in rows if row["kind"] == "verdict"}
    return {month: found[month] for month in sorted(found)[-SHOWN_VERDICTS:]}
