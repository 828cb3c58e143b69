"""The platform's computing as a bare script: Parquet files, no Dagster, MLflow, ledger or Postgres.

What the platform is measured against, so it calls the same functions on the same rows and reaches the same
decisions, training in as many processes; it keeps no history of them, draws nothing, serves nothing, and a crash
leaves half a month.

    python -m benchmarks.bare --from 2025-01 --to 2025-06 --folder DIR --json FILE
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.evidence import promotion_signals
from fraud_assets.core.decisions.promotion import judge_evidence
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.evaluation.evaluation import (
    CANDIDATES,
    Compared,
    EvaluationError,
    Reviewed,
    Role,
    ScoredWindow,
    compare,
    evaluation_rows,
    score_window,
    segment_rows,
    window_segments,
    with_pairs,
    with_parts,
)
from fraud_assets.core.evaluation.pair import LOOKED_AT, choose_waiting, look_number
from fraud_assets.core.evaluation.segments import Segment
from fraud_assets.core.features.declarations import forced_texts, history_days, model_columns
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.intake.accept import accept
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.scoring import ModelManifest, Scorer, digest_model
from fraud_assets.core.models.training import Candidate, TrainingConfig, TrainingError, TrainingResult, train
from fraud_assets.core.monitoring.month import report_month
from fraud_assets.core.monitoring.plan import Champion, EarlierReport, Subject, first_needs, plan_report
from fraud_assets.core.months import month_end, month_of, month_start, months_between, shift_month
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import (
    TrainedMonth,
    Window,
    choose_challenger,
    evaluation_window,
    months_back,
    pair_window,
    training_months,
)
from fraud_assets.settings import Settings


@dataclass(frozen=True)
class BareMonth:
    """What a month came to.

    Attributes:
        month: YYYY-MM.
        drift_status: of its report.
        average_precision: of each role that was judged.
        validation_status: of the promotion decision.
        champion_version: what was live after it.
    """

    month: str
    drift_status: str
    average_precision: dict[str, float]
    validation_status: str
    champion_version: int | None


@dataclass(frozen=True)
class _Model:
    """A trained month: the scorers of the model and of its reference, and what its validation promised."""

    trained: TrainedMonth
    serving: Scorer
    reference: Scorer
    promise: pa.Table


@dataclass
class BareRun:
    """The months of one source, computed one after the other.

    Attributes:
        source: delivers months.
        contract: of the source.
        contract_yaml: its text, which goes into manifests.
        folder: where months are kept, one Parquet file a table and month.
        config: how models are trained.
        workers: processes that may fit at once.
    """

    source: Source
    contract: Contract
    contract_yaml: str
    folder: Path
    config: TrainingConfig
    workers: int = 1
    _models: list[_Model] = field(default_factory=list)
    _delivered: list[pa.Table] = field(default_factory=list)
    _champion: int | None = None
    _first_event: datetime | None = None
    _reports: dict[str, EarlierReport] = field(default_factory=dict)
    _looked_at: list[dict[str, Any]] = field(default_factory=list)

    def run(self, months: Sequence[str]) -> list[BareMonth]:
        """Computes the months, which must be in order and begin with the contract's first."""
        return [self._month(month) for month in months]

    def _month(self, month: str) -> BareMonth:
        self._take_in(month)
        features = self._features(month)
        drift = self._drift(month, features)
        evaluation, segments = self._evaluate(month)
        self._train(month)
        trained = [{"model_version": one.trained.version, "inputs_digest": "bare"} for one in self._models]
        decided = []
        for role in CANDIDATES:
            if role == "waiting" and role not in evaluation["role"].to_pylist():
                continue
            signals = promotion_signals(
                evaluation, segments, month, self._champion,
                contract=self.contract, role=role, drift=drift, trained=trained,
            )  # fmt: skip
            decided.append(verdict := judge_evidence(signals))
            if verdict.promote:
                self._champion = signals.challenger_version
                break
        verdict = decided[-1] if decided[-1].promote else decided[0]
        judged = {row["role"]: row["average_precision"] for row in evaluation.to_pylist()}
        return BareMonth(month, drift["drift_status"][0].as_py(), judged, verdict.validation_status, self._champion)

    def _take_in(self, month: str) -> None:
        with accept(self.source.read(month), self.contract, month) as taken:
            transactions = taken.transactions().read_all()
        self._write("raw_transactions", month, transactions)
        days = pa.array([date.fromisoformat(f"{month}-01")] * taken.quarantined.num_rows, pa.date32())
        self._write("quarantined_transactions", month, taken.quarantined.add_column(0, "month", days))
        came_with = pa.array(["delivery"] * taken.statements.num_rows, pa.string())
        self._delivered.append(taken.statements.append_column("origin", came_with))
        stated = pa.concat_tables(self._delivered)
        self._write(
            "fraud_labels",
            month,
            stated.filter(
                (pc.field("label_timestamp") >= self.contract.month_start(month))
                & (pc.field("label_timestamp") < self.contract.month_end(month))
            ),
        )
        first: datetime = pc.min(transactions["event_timestamp"]).as_py()
        self._first_event = min(self._first_event or first, first)

    def _features(self, month: str) -> pa.Table:
        back = months_back(history_days(self.contract))
        features = compute_features(
            self._read("raw_transactions", shift_month(month, -back), month),
            self._read("fraud_labels", shift_month(month, -back - self.contract.label.lookback_months), month),
            self.contract,
            start=month_start(month),
            end=month_end(month),
        )
        self._write("transaction_features", month, features)
        return features

    def _drift(self, month: str, features: pa.Table) -> pa.Table:
        live = self._model(self._champion)
        subject = Subject(
            month=month,
            current=features,
            champion=Champion(live.serving, live.promise) if live else None,
            first_event=self._first_event,
            earlier=self._reports,
            contract=self.contract,
        )
        rows = self._load(first_needs(subject))
        plan = plan_report(subject, rows)
        report = report_month(plan, rows | self._load(plan.needs), config=DriftConfig(), costs=Costs())
        self._reports[month] = EarlierReport(report.champion_version, report.verdict.drift_status, report.findings)
        verdict = report.verdict
        return pa.table(
            {
                "kind": ["verdict"],
                "drift_status": [verdict.drift_status],
                "blame": pa.array([verdict.blame], pa.string()),
            }
        )

    def _train(self, month: str) -> None:
        first, last = training_months(month, self.config.window_months, self.contract.first_month)
        features = self._read("transaction_features", first, last)
        statements = self._read("fraud_labels", self.contract.first_month, last)
        maturity = self.contract.maturity_days
        labels = labels_as_of(features, statements, month_end(month), maturity_days=maturity)
        names = model_columns(self.contract)
        try:
            result = train(
                features, labels, names, maturity_days=maturity, config=self.config, card=self.contract.card,
                forced=forced_texts(self.contract), workers=self.workers,
            )  # fmt: skip
        except TrainingError as error:
            print(f"{month}: {error}", file=sys.stderr)
            return
        version = len(self._models) + 1
        self._models.append(
            _Model(
                TrainedMonth(month, version),
                self._scorer(result.chosen, result, month, version),
                self._scorer(result.reference, result, month, version),
                result.validation,
            )
        )

    def _scorer(self, candidate: Candidate, result: TrainingResult, month: str, version: int) -> Scorer:
        onnx = to_onnx(candidate.estimator, len(result.encoder.columns))
        manifest = ModelManifest(
            model_name="bare",
            model_version=version,
            trained_month=month,
            as_of=month_end(month).isoformat(),
            features=result.encoder.inputs,
            encoder=result.encoder,
            threshold=candidate.threshold,
            family=candidate.family,
            contract_yaml=self.contract_yaml,
            model_digest=digest_model(onnx),
            training_from=result.training_from,
            training_to=result.training_to,
            rule=candidate.rule,
        )
        (self.folder / f"model_{version}_{candidate.family}.onnx").write_bytes(onnx)
        return Scorer(onnx, manifest)

    def _evaluate(self, month: str) -> tuple[pa.Table, pa.Table]:
        schema, of_parts = (TABLES[name](self.contract).schema for name in ("evaluation", "evaluation_segments"))
        models, window = self._compared(month)
        if not models:
            return schema.empty_table(), of_parts.empty_table()
        first = month_of(window.start)
        features = self._read("transaction_features", first, month)
        statements = self._read("fraud_labels", first, month)
        labels = labels_as_of(features, statements, month_end(month), maturity_days=self.contract.maturity_days)
        try:
            scored = score_window(features, labels, models, window, self.contract)
        except EvaluationError as error:
            print(f"{month}: {error}", file=sys.stderr)
            return schema.empty_table(), of_parts.empty_table()
        rows = evaluation_rows(scored, models, month=month, as_of=month_end(month), window=window, schema=schema)
        segments = window_segments(scored, window, self.contract, history=[features])
        parts = segment_rows(scored, models, segments, month=month, schema=of_parts)
        pairs = self._pairs(month, models, window, scored, segments)
        rows, parts = with_pairs(rows, pairs), with_parts(parts, pairs)
        self._looked_at += rows.select(LOOKED_AT).to_pylist()
        return rows, parts

    def _pairs(
        self, month: str, models: dict[Role, Scorer], window: Window, scored: ScoredWindow, segments: list[Segment]
    ) -> list[Compared]:
        if "champion" not in models:
            return []
        pairs, live = [], models["champion"].manifest
        for role in CANDIDATES:
            if role not in models:
                continue
            manifest = models[role].manifest
            since = month_end(max(manifest.trained_month, live.trained_month))
            together, paired = pair_window(window, month, self.contract.maturity_days, since), scored
            if together != window:
                first = month_of(together.start)
                features = self._read("transaction_features", first, month)
                statements = self._read("fraud_labels", first, month)
                labels = labels_as_of(features, statements, month_end(month), maturity_days=self.contract.maturity_days)
                both: dict[Role, Scorer] = {"champion": models["champion"], role: models[role]}
                paired = score_window(features, labels, both, together, self.contract)
            look = look_number(self._looked_at, live.model_version, manifest.model_version)
            reviews = Reviewed(self.config.review_capacity, self.config.costs)
            pairs.append(
                compare(paired, scored, segments, models, role, since=together.start, reviews=reviews, look=look)
            )
        return pairs

    def _compared(self, month: str) -> tuple[dict[Role, Scorer], Window]:
        maturity = self.contract.maturity_days
        trained = [model.trained for model in self._models]
        challenger = choose_challenger(trained, month, maturity, self._champion)
        by_role: dict[Role, _Model | None] = {
            "champion": self._model(self._champion),
            "challenger": self._model(challenger.version if challenger else None),
        }
        live = self._model(self._champion)
        if live and challenger:
            between = {one.version for one in trained if live.trained.month < one.month < challenger.month}
            by_role["waiting"] = self._model(choose_waiting(self._looked_at, live.trained.version, between))
        there = {role: model for role, model in by_role.items() if model is not None}
        models: dict[Role, Scorer] = {role: model.serving for role, model in there.items()}
        if there:
            models["reference"] = max(there.values(), key=lambda model: model.trained.as_of).reference
        return models, evaluation_window(month, maturity, [model.trained for model in there.values()])

    def _model(self, version: int | None) -> _Model | None:
        return None if version is None else self._models[version - 1]

    def _write(self, name: str, month: str, rows: pa.Table) -> None:
        order = [(column, "ascending") for column in TABLES[name](self.contract).order]
        pyarrow.parquet.write_table(rows.sort_by(order), self.folder / f"{name}_{month}.parquet")

    def _read(self, name: str, first: str, last: str) -> pa.Table:
        files = [
            self.folder / f"{name}_{month}.parquet"
            for month in months_between(max(first, self.contract.first_month), last)
        ]
        tables = [pyarrow.parquet.read_table(file) for file in files]
        return pa.concat_tables(tables) if tables else TABLES[name](self.contract).schema.empty_table()

    def _load(self, needs: Sequence[Needed]) -> MonthRows:
        loaded = {need: self._read(need.table, need.first, need.last).select(list(need.columns)) for need in needs}
        return MonthRows(loaded, self.contract)


def bare_run(settings: Settings, folder: Path) -> BareRun:
    """A bare run of the settings' source and contract, with the settings' training.

    Args:
        settings: the platform's.
        folder: an empty one.
    """
    return BareRun(
        source=open_source(settings),
        contract=settings.loaded_contract,
        contract_yaml=settings.contract_path.read_text(encoding="utf-8"),
        folder=folder,
        config=settings.training,
        workers=settings.training_workers,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The platform's computing in a script, without the platform.")
    parser.add_argument("--from", dest="first", required=True, metavar="YYYY-MM", help="the contract's first month")
    parser.add_argument("--to", dest="last", required=True, metavar="YYYY-MM")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the months")
    parser.add_argument("--json", type=Path, required=True, help="where to write what each month came to")
    options = parser.parse_args(arguments)
    found = bare_run(Settings(), options.folder).run(months_between(options.first, options.last))
    outcomes: list[dict[str, Any]] = [asdict(month) for month in found]
    options.json.write_text(json.dumps(outcomes, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
