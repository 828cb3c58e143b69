"""A version made once more from what was recorded of it: to the same bytes, or with what has changed since.

How a model is trained belongs to `core/models`; nothing is registered, and nothing that is stored is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.people.removed import Removed
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.provenance import code_version, library_versions
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.lineage.configuration import setting_changed, setting_values
from fraud_assets.core.lineage.staleness import DRAWN, Inputs, Partition, evidence_inputs, inputs_of
from fraud_assets.core.models.scoring import ModelManifest, digest_model
from fraud_assets.core.models.train_month import manifest_of, train_month, training_frame
from fraud_assets.core.models.training import Candidate, TrainingError, TrainingResult
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.windows import training_months
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.scores import drawn_in

READ = ("transaction_features", "fraud_labels")
SHOWN = 5  # changes of one kind that are named, before it is said how many more there are


class ReproductionError(PlatformError):
    """A version that cannot be made again; the message says what is missing."""


@dataclass(frozen=True)
class Recorded:
    """What is known of how a version was made.

    Attributes:
        manifest: of the version.
        event: its `registered` event.
        config: how it was trained; None where the settings have changed and those of then were not kept.
        contract: of the source, as it was then.
    """

    manifest: ModelManifest
    event: Event
    config: TrainingConfig | None
    contract: Contract


@dataclass(frozen=True)
class Reproduction:
    """What came of making a version again.

    Attributes:
        version, month: which, and at whose end it was trained.
        same: whether every file came out with the same bytes.
        digests: of each file by name, the recorded digest and that of now; None where nothing was made.
        changes: what is another now, so that nothing was made, or something else came out.
        differences: what is another now, and made no difference, or maybe made one.
    """

    version: int
    month: str
    same: bool
    digests: Mapping[str, tuple[str, str | None]]
    changes: tuple[str, ...]
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def reproduce(
    settings: Settings, store: MonthStore, ledger: LedgerStore, registry: Registry, version: int
) -> Reproduction:
    """Trains a version again from the months that it was trained on, where they are still the same.

    Args:
        settings: of the home.
        store: the tables.
        ledger: has what each version was made of.
        registry: of the models.
        version: which.

    Raises:
        RegistryError: when there is no such version.
        ReproductionError: when it is not recorded what it was made of.
    """
    recorded = _recorded(settings, ledger, registry, version)
    manifest, event = recorded.manifest, recorded.event
    features, statements, drawn, let_through = _rows(store, recorded, recorded.config or settings.training)
    changes = [
        *_changed_settings(settings, recorded),
        *_changed_inputs(recorded, features, statements, let_through, store.removed()),
    ]
    differences = _changed_code(event)
    if recorded.config is not None:
        kept = _settings_of_now(recorded.config, settings.training)
        differences += tuple(f"{one}; that of then was used" for one in kept)
    files = {"model.onnx": manifest.model_digest, "manifest.json": _digest(manifest)}
    _, reference = registry.fetch(version, "reference")
    files["reference/model.onnx"] = reference.model_digest
    if changes or recorded.config is None:
        left: dict[str, tuple[str, str | None]] = {name: (digest, None) for name, digest in files.items()}
        return Reproduction(version, manifest.trained_month, False, left, tuple(changes), differences)
    try:
        result = train_month(
            manifest.trained_month, features, statements, recorded.contract, recorded.config,
            workers=settings.training_workers, drawn=drawn,
        )  # fmt: skip
    except TrainingError as error:
        raise ReproductionError(f"version {version} cannot be trained again: {error}") from error
    made = _made(result.chosen, result, recorded)
    made["reference/model.onnx"] = digest_model(to_onnx(result.reference.estimator, len(result.encoder.columns)))
    digests: dict[str, tuple[str, str | None]] = {name: (digest, made[name]) for name, digest in files.items()}
    other = [name for name, (was, is_now) in digests.items() if was != is_now]
    if other and not _changed_code(event):
        changes.append(
            "the same rows and settings gave another model by the same code and libraries, as far as they were "
            "recorded: another processor may compute another last digit; please report it"
        )
    return Reproduction(version, manifest.trained_month, not other, digests, tuple(changes), differences)


def export_frame(
    settings: Settings, store: MonthStore, ledger: LedgerStore, registry: Registry, version: int, path: Path
) -> int:
    """Writes the rows that a version was trained on, with their labels as they were known then, as Parquet.

    The file's metadata have the version, the as-of time and the digests of the months.

    Returns:
        How many rows.

    Raises:
        ReproductionError: when they are not the same any more, with what has changed.
        ValueError: when the file cannot be written.
    """
    recorded = _recorded(settings, ledger, registry, version)
    features, statements, drawn, let_through = _rows(store, recorded, recorded.config or settings.training)
    window = [] if recorded.config is not None else _changed_settings(settings, recorded)
    if changes := [*window, *_changed_inputs(recorded, features, statements, let_through, store.removed())]:
        raise ReproductionError(f"the rows of version {version} are not there any more: {'; '.join(changes)}")
    frame = training_frame(recorded.manifest.trained_month, features, statements, recorded.contract, drawn=drawn)
    about = {
        "model_version": version,
        "as_of": recorded.manifest.as_of,
        "inputs": {table: recorded.event.evidence[table] for table in READ},
    }
    frame = frame.replace_schema_metadata({"fraud_assets.training_frame": json.dumps(about, sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(frame, path, compression="zstd")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}; name another file") from error
    return int(frame.num_rows)


def _recorded(settings: Settings, ledger: LedgerStore, registry: Registry, version: int) -> Recorded:
    _, manifest = registry.fetch(version)
    event = next((one for one in ledger.events() if one.kind == "registered" and one.model_version == version), None)
    if event is None or not all(event.evidence.get(table) for table in READ):
        raise ReproductionError(
            f"it is not recorded what version {version} was made of, as it is older than that; "
            "a version that is trained now can be reproduced"
        )
    config: TrainingConfig | None = settings.training
    digest = event.evidence.get("training", {}).get("")
    if config is None or config.digest != digest:
        text = registry.recipe(version)
        config = None if text is None else TrainingConfig.from_json(text)
        if config is not None and config.digest != digest:
            config = None  # the code's own defaults or names have changed
    return Recorded(manifest, event, config, manifest.contract)


def _rows(
    store: MonthStore, recorded: Recorded, config: TrainingConfig
) -> tuple[pa.Table, pa.Table, pa.Table | None, Inputs]:
    """The months that it was trained on, as they are stored now, with the columns that its contract has.

    And what could be let through in them, as a table and as an input: none where nothing was when it was trained.
    """
    contract = recorded.contract
    first, last = training_months(recorded.manifest.trained_month, config.window_months, contract.first_month)
    then = MonthStore(store.database, contract)
    features, statements = (then.read(name, first_month=first, last_month=last) for name in READ)
    drawn, let_through = drawn_in(then, first, last) if DRAWN in recorded.event.evidence else (None, {})
    return features, statements, drawn, let_through


def _changed_settings(settings: Settings, recorded: Recorded) -> list[str]:
    """What is to be said of settings; nothing where those of then were kept."""
    if recorded.config is not None:
        return []
    return [
        "the training settings have changed since, or the code that reads them, and those of then were not kept: "
        f"the digest was {str(recorded.event.evidence.get('training', {}).get(''))[:12]} and is "
        f"{settings.training.digest[:12]}"
    ]


def _changed_inputs(
    recorded: Recorded,
    features: pa.Table,
    statements: pa.Table,
    let_through: Inputs,
    removed: Mapping[Partition, Removed],
) -> list[str]:
    """The months that are others now, as sentences."""
    was = recorded.event.evidence
    now = inputs_of(evidence_inputs(recorded.contract), features, statements)
    changes = []
    for table in READ:
        months = sorted(set(was.get(table, {})) | set(now.get(table, {})))
        told = [
            f"{table} {month} was {_short(was.get(table, {}).get(month))} and {_is_now(now[table].get(month), gone)}"
            for month in months
            if was.get(table, {}).get(month) != now[table].get(month)
            for gone in [removed.get((table, month))]
        ]
        changes += told[:SHOWN] + ([f"and {len(told) - SHOWN} more months of {table}"] if len(told) > SHOWN else [])
    if was.get(DRAWN, {}) != let_through.get(DRAWN, {}):
        changes.append("what could be let through at random is not kept any more as it was, or more of it has come")
    if was.get("contract") != now["contract"]:
        changes.append("the contract in the version's manifest reads as another one by the code of now")
    return changes


def _changed_code(event: Event) -> tuple[str, ...]:
    """What computes and is of another version now, as sentences."""
    found = []
    if event.code_version is not None and (now := code_version(PROJECT_ROOT)) != event.code_version:
        found.append(f"the code was {event.code_version} and is {now}")
    installed = library_versions()
    for name in sorted({*event.libraries, *installed} if event.libraries else ()):
        was, is_now = event.libraries.get(name), installed.get(name)
        if was != is_now:
            found.append(f"{name} was {was or 'not there'} and is {is_now or 'not there'}")
    if event.code_version is None:
        found.append("by which code and libraries it was made is not recorded, as it is older than that")
    return tuple(found)


def _made(candidate: Candidate, result: TrainingResult, recorded: Recorded) -> dict[str, str]:
    """The digests of the files that came out."""
    was = recorded.manifest
    onnx = to_onnx(candidate.estimator, len(result.encoder.columns))
    manifest = manifest_of(
        candidate, result, onnx, name=was.model_name, version=was.model_version, month=was.trained_month,
        contract=recorded.contract, contract_yaml=was.contract_yaml,
    )  # fmt: skip
    if was.score_shares is None:
        # Of a version from before they were noted.
        manifest = manifest.model_copy(update={"score_shares": None})
    return {"model.onnx": manifest.model_digest, "manifest.json": _digest(manifest)}


def _digest(manifest: ModelManifest) -> str:
    return manifest.digests["manifest.json"]


def _is_now(digest: str | None, gone: Removed | None) -> str:
    if gone is None:
        return f"is {_short(digest)}"
    return f"its rows were removed on {gone.removed_at:%Y-%m-%d} because of their age (FRAUD_RETENTION_MONTHS)"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "not there"


def _settings_of_now(was: TrainingConfig, is_now: TrainingConfig) -> list[str]:
    """The settings that are others now, as sentences."""
    before, after = setting_values(was), setting_values(is_now)
    names = [field.name for field in fields(was) if field.name in before]
    return [
        setting_changed("training", name, before[name], after[name]) for name in names if before[name] != after[name]
    ]
