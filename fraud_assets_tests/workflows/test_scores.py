"""What a service is told about keeping scores, and what `fraud status` says of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from pydantic import SecretStr
from rich.console import Console

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.sink import Sink
from fraud_assets.adapters.scores.spool import Spool
from fraud_assets.adapters.scores.state import KeptState, StateFile
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.cli.tables.status import show_status
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.evaluation import KnownRows, score_window
from fraud_assets.core.lineage.staleness import inputs_of
from fraud_assets.core.models.kept_scores import Scored
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.performance.serving_skew import skew_in_words
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.metrics import evaluate_scores
from fraud_assets.core.windows import matured_window
from fraud_assets.settings import Settings
from fraud_assets.workflows.runs.refresh import read_stale
from fraud_assets.workflows.scores import read_kept, realised_month, scores_environment, skewed_month
from fraud_assets.workflows.status import read_status
from fraud_assets_tests.workflows.models.small_world import SmallWorld, build

AT = datetime(2025, 3, 31, 12, 30, tzinfo=UTC)
FLAT = Path(__file__).parents[2] / "contracts" / "registrations.yaml"


@pytest.fixture
def store(database: Database, simulator_contract: Contract) -> MonthStore:
    return MonthStore(database, simulator_contract)


def count(store: MonthStore, month: str, n: int) -> None:
    with store.database.session() as connection:
        connection.execute("INSERT INTO scored_months VALUES (%s, %s, %s)", [month, n, AT])


# What the service is told


def test_nothing_is_let_through_and_no_secret_is_made_unless_someone_says_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert scores_environment(settings) == {
        "FRAUD_SCORES_FOLDER": str(tmp_path / "simulator" / "scores"),
        "FRAUD_SCORES_SPOOL_MB": "1024",
        "FRAUD_PASS_THROUGH": "0.0",
        "FRAUD_SHADOW_SECONDS": "10",
        "FRAUD_SHADOW_BEHIND": "50000",
        "FRAUD_ERASURE_KEY_FILE": str(tmp_path / "keys" / "erasure.key"),
    }
    assert not settings.erasure_key_file.exists()
    assert not settings.pass_through_seed_file.exists()


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, pass_through=0.01, pass_through_amount=50)
    first, again = scores_environment(settings), scores_environment(settings)
    assert first == again
    assert len(first["FRAUD_PASS_THROUGH_SEED"]) == 64
    assert first["FRAUD_PASS_THROUGH_AMOUNT"] == "50.0"
    assert settings.pass_through_seed_file.stat().st_mode & 0o077 == 0
    other = Settings(home=tmp_path / "other", pass_through=0.01, pass_through_amount=50)
    assert scores_environment(other)["FRAUD_PASS_THROUGH_SEED"] != first["FRAUD_PASS_THROUGH_SEED"]


def test_a_given_secret_is_used_and_kept_out_of_sight(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, pass_through=0.01, pass_through_amount=0, pass_through_seed=SecretStr("sixteen or longer")
    )
    assert scores_environment(settings)["FRAUD_PASS_THROUGH_SEED"] == "sixteen or longer"
    assert "sixteen" not in repr(settings)
    assert not settings.pass_through_seed_file.exists()


def test_an_amount_is_asked_for_where_there_are_amounts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FRAUD_PASS_THROUGH is 0\.01: say with FRAUD_PASS_THROUGH_AMOUNT"):
        scores_environment(Settings(home=tmp_path, pass_through=0.01))
    assert "FRAUD_PASS_THROUGH_AMOUNT" not in scores_environment(
        Settings(home=tmp_path, contract=FLAT, pass_through=0.01)
    )


@pytest.mark.parametrize(
    "given", [{"pass_through": 0.2}, {"pass_through": -0.1}, {"pass_through_seed": "short"}, {"scores_spool_mb": 0}]
)
def test_settings_that_cannot_be_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Settings(**given)  # type: ignore[arg-type]


# What is said of them


def test_where_no_score_was_ever_kept_nothing_is_said(store: MonthStore, tmp_path: Path) -> None:
    assert read_kept(store, tmp_path / "none") is None
    assert read_status(store, LedgerStore(store.database))["scores"] is None


def test_the_newest_month_is_told(store: MonthStore, tmp_path: Path) -> None:
    count(store, "2025-02", 7)
    count(store, "2025-03", 1234)
    found = read_kept(store, tmp_path)
    assert found is not None
    assert found["sentence"] == "Scores: 1,234 of 2025-03 are kept, the last of 2025-03-31 12:30 UTC"
    assert (found["month"], found["n_rows"], found["lost"]) == ("2025-03", 1234, {})


def test_what_waits_and_what_is_lost_is_told_on_one_line(store: MonthStore, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10 * 2**20)
    spool.append([b"x" * 2**20] * 2)
    file = StateFile(tmp_path)
    file.write(
        KeptState(waiting=2, error="the database is away", refused=1)
        .losing("spool_full", 1000, AT)
        .losing("disk", 5, AT)
    )  # fmt: skip
    found = read_kept(store, tmp_path)
    assert found is not None
    assert found["sentence"] == (
        "Scores: none is in the database yet; 2 wait, 2.0 MB on disk (the database is away); 1,005 are lost (5 disk, "
        "1,000 spool_full), the last at 2025-03-31 12:30 UTC; 1 were refused by the database"
    )
    shown = io.StringIO()
    show_status(Console(file=shown, width=400), read_status(store, LedgerStore(store.database), scores=found))
    assert found["sentence"] in shown.getvalue()
    file.close()
    spool.close()


# What became of them, in a world of four months with real features and labels


@pytest.fixture(scope="module")
def small(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(server, "scores", tmp_path_factory.mktemp("scores"))


def keep(world: SmallWorld, months: Sequence[str], version: int = 2, *, other: float = 0.0, most: int = 10_000) -> int:
    """Scores stored transactions, as the service would have, and keeps that; with the feature `amount` so much off."""
    contract, store = world.store.contract, world.store
    scorer = Scorer(*world.registry.fetch(version))
    n = 0
    for month in months:
        features = store.read("transaction_features", first_month=month, last_month=month).slice(0, most)
        raw = store.read("raw_transactions", first_month=month, last_month=month)
        place = pc.index_in(features["transaction_id"], value_set=raw["transaction_id"].combine_chunks())
        batch = raw.take(place).select(contract.transactions_schema().names)
        scores = scorer.score(features)
        if other:
            at = features.column_names.index("amount")
            features = features.set_column(at, "amount", pc.add(features["amount"], other))
        held = scores >= scorer.manifest.threshold
        nothing = np.zeros(len(held))
        made = Scored(
            contract, version, scorer.manifest.threshold, scorer.manifest.features, None, batch, features, scores, held,
            nothing.astype(bool), nothing, AT,
        )  # fmt: skip
        sink = Sink(store.database.url)
        n += sink.insert(list(made.lines())).n_new
        sink.close()
    return n


def forget(world: SmallWorld) -> None:
    with world.store.database.session() as connection:
        connection.execute("TRUNCATE scored_transactions, scored_months")


def test_a_month_without_scores_is_empty_and_says_why(small: SmallWorld) -> None:
    forget(small)
    for found in (realised_month(small.store, "2025-04", Costs()), skewed_month(small.store, "2025-04")):
        assert found.rows.num_rows == 0
        assert found.outcome.startswith("no score was kept of a transaction from 2025-0")
        assert found.outcome.endswith("the service keeps those that it gives (`fraud serve`)")


def test_what_is_kept_is_read_back_as_it_was(small: SmallWorld) -> None:
    forget(small)
    n = keep(small, ["2025-02", "2025-03"])
    stored = StoredScores(small.store.database, small.store.contract)
    raw = small.store.read("raw_transactions", first_month="2025-02", last_month="2025-03")
    start, end = small.store.contract.month_start("2025-02"), small.store.contract.month_end("2025-03")
    read = stored.read(start, end)
    assert read.num_rows == n == raw.num_rows == sum(stored.counts().values())
    names = small.store.contract.transactions_schema().names
    assert read.select(names).cast(raw.select(names).schema).equals(raw.select(names).replace_schema_metadata(None))


def test_performance_of_scores_is_that_of_the_stored_months(small: SmallWorld) -> None:
    """The same transactions scored again and judged as `evaluation` does it."""
    forget(small)
    keep(small, ["2025-02", "2025-03", "2025-04"])
    contract, store = small.store.contract, small.store
    found = realised_month(store, "2025-04", Costs())
    (whole,) = [row for row in found.rows.to_pylist() if row["segment"] == "all"]
    window = matured_window("2025-04", contract.maturity_days, contract.zone)
    known = KnownRows(
        lambda table, first, last: store.read(table, first_month=first, last_month=last), contract, "2025-04"
    )
    known.reach(window)
    scorer = Scorer(*small.registry.fetch(2))
    scored = score_window(known.features, known.labels, {"champion": scorer}, window, contract)
    expected = evaluate_scores(
        scored.y, scored.scores["champion"], cards=scored.cards, days=scored.days, amount=scored.amount,
        threshold=scorer.manifest.threshold, replicates=1,
    )  # fmt: skip
    n_days = len(set(scored.days.tolist()))
    assert (whole["n"], whole["n_labelled"], whole["n_fraud"]) == (expected.n, expected.n, expected.n_fraud)
    for name in (
        "average_precision",
        "brier",
        "expected_over_observed",
        "precision_at_threshold",
        "recall_at_threshold",
    ):
        assert whole[name] == pytest.approx(getattr(expected, name).value, abs=1e-9), name
    assert whole["cost"] == pytest.approx(expected.expected_cost.value * n_days)
    assert whole["cost_without_review"] == pytest.approx(expected.cost_without_review.value * n_days)
    assert expected.value_detection_rate is not None
    assert whole["value_caught"] / whole["fraud_value"] == pytest.approx(expected.value_detection_rate.value)
    segments = {row["segment"] for row in found.rows.to_pylist()}
    assert segments == {"all", "date", "not_matured", "amount", "day", "merchant_segment"}
    assert found.outcome.startswith(f"version 2: {expected.n:,} scored")
    store.replace_months("model_performance", found.rows, ["2025-04"], inputs=inputs_of(*found.inputs))
    assert store.read("model_performance", first_month="2025-04", last_month="2025-04").num_rows == found.rows.num_rows


def test_features_that_were_scored_as_the_batch_has_them_have_no_skew(small: SmallWorld) -> None:
    forget(small)
    n = keep(small, ["2025-03"])
    found = skewed_month(small.store, "2025-03")
    rows = found.rows.to_pylist()
    assert {row["feature"] for row in rows} == set(small.registry.fetch(2)[1].features)
    for row in rows:
        assert (row["n_scored"], row["n_matched"], row["skewed_share"]) == (n, n, 0.0), row
    assert skew_in_words(rows) is None


def test_a_feature_that_was_another_is_found_and_no_other(small: SmallWorld) -> None:
    forget(small)
    n = keep(small, ["2025-03"], other=1.0, most=100)
    rows = skewed_month(small.store, "2025-03").rows.to_pylist()
    assert {row["feature"]: row["n_mismatch"] for row in rows if row["skewed_share"]} == {"amount": n}
    assert str(skew_in_words(rows)).startswith("1 features differ in more than 1.00 % of transactions: amount (100.0 %")


def test_scores_that_arrive_later_make_a_month_stale(small: SmallWorld) -> None:
    forget(small)
    store = small.store
    empty = skewed_month(store, "2025-03")
    store.replace_months("serving_skew", empty.rows, ["2025-03"], inputs=inputs_of(*empty.inputs))

    def reasons() -> list[tuple[str, ...]]:
        return [
            one.changes
            for one in read_stale(store, None, small.settings)
            if one.table == "serving_skew" and one.changes
        ]

    assert reasons() == []
    n = keep(small, ["2025-03"], most=20)
    assert reasons() == [(f"{n} scores of 2025-03 have been kept since",)]
    found = skewed_month(store, "2025-03")
    store.replace_months("serving_skew", found.rows, ["2025-03"], inputs=inputs_of(*found.inputs))
    assert reasons() == []
    # The same scores again are none.
    keep(small, ["2025-03"], most=20)
    assert reasons() == []
    keep(small, ["2025-03"], most=25)
    assert reasons() == [("5 scores of 2025-03 have been kept since",)]
