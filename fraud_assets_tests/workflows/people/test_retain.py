"""Removing rows of people by age: the old months lose theirs, the others keep every row, and nothing becomes stale."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.month_writer import TableError
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.lineage.expiry import RetentionError, first_kept, needed_months
from fraud_assets.core.lineage.staleness import find_stale
from fraud_assets.settings import Settings, read_settings
from fraud_assets.workflows.overview.doctor import examine
from fraud_assets.workflows.people import retain as retaining
from fraud_assets.workflows.people.retain import look, retain
from fraud_assets.workflows.status import find_damages
from fraud_assets_tests.workflows.people.small_home import MONTHS, PERSON, everything, write_features

OLD, KEPT = MONTHS
MONTHS_KEPT = 9
# Nine months after the second of the two.
NOW = datetime(2025, 11, 15, tzinfo=UTC)
LONG_AGO = datetime(2025, 1, 20, tzinfo=UTC)


@pytest.fixture
def kept(settings):
    return settings.model_copy(update={"retention_months": MONTHS_KEPT})


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def old_rows(settings, store):
    """A score, a shadow score, a label, a refused score and a file of rows, each once old and once not."""
    with store.database.session() as connection:
        connection.execute("UPDATE scored_transactions SET event_timestamp = %s", [LONG_AGO])
        connection.execute(
            "INSERT INTO scored_transactions (transaction_id, model_version, event_timestamp, scored_at, transaction, "
            "probability, threshold, decision, pass_through_probability, passed_through, features) SELECT 'new', 1, "
            "now(), now(), transaction, probability, threshold, decision, 0, false, features FROM scored_transactions"
        )
        connection.execute("INSERT INTO scored_months VALUES (%s, 1, now())", [OLD])
        connection.execute(
            "INSERT INTO added_labels (transaction_id, is_fraud, label_timestamp, label_source, file, row_number, "
            "statement) VALUES ('1', true, %s, 'analyst', 'f', 1, 'a'), ('2', true, now(), 'analyst', 'f', 2, 'b')",
            [LONG_AGO],
        )
        connection.execute("UPDATE recent_transactions SET event_timestamp = %s WHERE number = 1", [LONG_AGO])
        connection.execute(
            "INSERT INTO transaction_id_ranges VALUES (%s, 'd', '1', '9'), (%s, 'd', '10', '12')", MONTHS
        )
    settings.scores_path.mkdir(parents=True)
    lines = [json.dumps({"event_timestamp": moment.isoformat()}) for moment in (LONG_AGO, datetime.now(UTC))]
    (settings.scores_path / "refused.jsonl").write_text("\n".join([*lines, "no line"]) + "\n")
    files = {}
    for name, moment in (("old", LONG_AGO), ("new", datetime.now(UTC))):
        files[name] = settings.artifacts / name / "predictions.parquet"
        files[name].parent.mkdir(parents=True)
        times = pa.array([moment, datetime.now(UTC)], pa.timestamp("us", tz="UTC"))
        pq.write_table(pa.table({"customer_id": [PERSON, 5], "event_timestamp": times}), files[name])
    return files


def rows_of(store, table, column="transaction_id"):
    return [row[0] for row in store.database.rows(table, f"SELECT {column} FROM {table} ORDER BY 1")]


def test_a_look_names_what_would_go_and_changes_nothing(kept, store, delivered, old_rows):
    before = everything(store.database)
    found = look(kept, NOW)
    assert everything(store.database) == before
    assert all(file.is_file() for file in old_rows.values())
    assert found["kept_from"] == KEPT
    assert found["months"] == {
        name: {OLD: delivered[OLD].num_rows} for name in ("raw_transactions", "transaction_features")
    }
    assert found["rows"] == {"scored_transactions": 1, "recent_transactions": 1, "added_labels": 1}
    assert found["files"] == [str(old_rows["old"]), str(kept.scores_path / "refused.jsonl")]


def test_old_months_lose_their_rows_and_nothing_is_stale_or_broken(kept, store, instance, delivered, old_rows):
    name, digests = store.months("raw_transactions")[OLD], store.months("transaction_features")
    retain(kept, instance, NOW, actor="ada")
    assert list(store.months("raw_transactions")) == [KEPT]
    rows = store.read("raw_transactions", first_month=OLD, last_month=KEPT)
    assert rows.num_rows == delivered[KEPT].num_rows
    assert json.loads(rows.schema.metadata[b"fraud.inputs"])["raw_transactions"][OLD] is None
    assert store.months("transaction_features") == {KEPT: digests[KEPT]}
    # The features of the second month were made of both.
    assert store.current()["transaction_features", KEPT][1]["raw_transactions"][OLD] == name
    assert find_stale(store.current(), lambda table, key: None) == []
    assert find_damages(store, by_value=True)["damages"] == []
    gone = store.removed()["raw_transactions", OLD]
    assert (gone.digest, gone.n_rows, gone.is_told) == (name, delivered[OLD].num_rows, True)
    assert store.versions("raw_transactions", OLD)["n_rows"].to_pylist() == [delivered[OLD].num_rows, 0]
    assert store.first_event() == delivered[KEPT]["event_timestamp"][0].as_py()


def test_what_is_old_elsewhere_goes_and_counts_stay(kept, store, instance, old_rows):
    retain(kept, instance, NOW, actor="ada")
    assert rows_of(store, "scored_transactions") == ["new"]
    assert rows_of(store, "scored_months", "n_rows") == [1]
    assert rows_of(store, "added_labels") == ["2"]
    assert rows_of(store, "recent_transactions", "number") == [2]
    assert rows_of(store, "transaction_id_ranges", "month") == [KEPT]
    assert [name for name, file in old_rows.items() if file.is_file()] == ["new"]
    left = (kept.scores_path / "refused.jsonl").read_text().splitlines()
    assert (len(left), left[1]) == (2, "no line")
    again = look(kept, NOW)
    assert (again["months"], again["rows"], again["files"]) == ({}, {}, [])


def test_the_ledger_says_what_is_gone_and_dagster_is_told(kept, store, instance):
    names = {table: store.months(table)[OLD] for table in ("raw_transactions", "transaction_features")}
    retain(kept, instance, NOW, actor="ada")
    ledger = LedgerStore(store.database, kept.ledger_head_file)
    (event,) = ledger.events()
    assert ledger.find_fault() is None
    assert (event.kind, event.actor, event.model_version) == ("expired", "ada", 0)
    assert f"Rows of people of {OLD} were removed because of their age" in event.reasons[0].text
    assert event.evidence == {table: {OLD: name} for table, name in names.items()}
    for table in names:
        (seen,) = instance.fetch_observations(dg.AssetKey(table), limit=5).records
        assert seen.partition_key == OLD
        assert seen.event_log_entry.dagster_event.event_specific_data.asset_observation.metadata["rows"].value == 0
    retain(kept, instance, NOW, actor="ada")
    assert len(ledger.events()) == 1
    assert len(instance.fetch_observations(dg.AssetKey("raw_transactions"), limit=5).records) == 1


@pytest.mark.parametrize("step", ["remove_month", "_remove_rows", "_forget_in_dagster", "_tell_dagster"])
def test_a_removal_that_was_killed_in_between_is_completed(kept, store, instance, monkeypatch, old_rows, step):
    owner = MonthStore if step == "remove_month" else retaining
    real, calls = getattr(owner, step), []

    def killed(*given):
        # The first month goes; what comes after it does not.
        if calls or step != "remove_month":
            raise KeyboardInterrupt
        calls.append(real(*given))
        return calls[-1]

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(KeyboardInterrupt):
        retain(kept, instance, NOW, actor="ada")
    monkeypatch.undo()
    assert find_stale(store.current(), lambda table, key: None) == []
    assert find_damages(store, by_value=True)["damages"] == []
    (check,) = examine(kept, datetime.now(UTC), only=["old rows"])["checks"]
    assert check["verdict"] == "look"
    retain(kept, instance, NOW, actor="ada")
    assert {month for table, month in store.removed()} == {OLD}
    assert all(removed.is_told for removed in store.removed().values())
    assert rows_of(store, "scored_transactions") == ["new"]
    assert len(instance.fetch_observations(dg.AssetKey("raw_transactions"), limit=5).records) == 1
    assert LedgerStore(store.database, kept.ledger_head_file).find_fault() is None


def test_a_month_without_rows_is_not_made_again_in_silence(kept, store, instance, delivered):
    retain(kept, instance, NOW, actor="ada")
    with pytest.raises(TableError, match=f"the rows of raw_transactions {OLD} were removed on 20.* of their age"):
        store.require("raw_transactions", OLD)
    strict = MonthStore(store.database, store.contract, MONTHS_KEPT)
    old = f"{datetime.now(UTC) - timedelta(days=400):%Y-%m}"
    for table in ("raw_transactions", "drift_report", "trained_model"):
        with pytest.raises(RetentionError, match=f"{old} is older than FRAUD_RETENTION_MONTHS allows"):
            strict.replace_months(table, store.table(table).schema.empty_table(), [old])
    # Whoever keeps rows longer may bring them back.
    nothing = pa.table({field.name: pa.array([], field.type) for field in store.contract.labels_schema()})
    store.replace_months("raw_transactions", delivered[OLD], [OLD], inputs={"source": {OLD: "as delivered"}})
    assert list(store.months("raw_transactions")) == list(MONTHS)
    assert ("raw_transactions", OLD) not in store.removed()
    assert not write_features(store, KEPT, nothing).changed


def test_no_row_goes_before_its_time(kept, store, instance):
    a_day_before = datetime(2025, 9, 30, 23, tzinfo=UTC)
    done = retain(kept, instance, a_day_before, actor="ada")
    assert (done["kept_from"], done["months"]) == ("2024-12", {})
    assert first_kept(store.contract, MONTHS_KEPT, datetime(2025, 11, 1, tzinfo=UTC)) == KEPT
    assert first_kept(store.contract, MONTHS_KEPT, datetime(2025, 10, 31, 23, 59, tzinfo=UTC)) == OLD
    assert list(store.months("raw_transactions")) == list(MONTHS)
    assert LedgerStore(store.database, kept.ledger_head_file).events() == []


def test_a_retention_that_is_too_short_is_refused_by_its_name(monkeypatch, settings):
    needed = needed_months(settings.loaded_contract)
    assert needed == MONTHS_KEPT  # 224 days of history reach into eight months before the newest
    for value, said in ((str(needed - 1), f"FRAUD_RETENTION_MONTHS is 8, and contract .* needs at least {needed}"),
                        ("0", "FRAUD_RETENTION_MONTHS is '0'")):  # fmt: skip
        monkeypatch.setenv("FRAUD_RETENTION_MONTHS", value)
        with pytest.raises(ValueError, match=said):
            read_settings()
    monkeypatch.setenv("FRAUD_RETENTION_MONTHS", str(needed))
    assert read_settings().retention_months == needed
    monkeypatch.setenv("FRAUD_RETENTION_MONTHS", "")
    assert read_settings().retention_months is None


def test_without_a_retention_nothing_is_removed(settings, store, instance):
    for ask in (lambda: look(settings, NOW), lambda: retain(settings, instance, NOW, actor="ada")):
        with pytest.raises(RetentionError, match="FRAUD_RETENTION_MONTHS is not set"):
            ask()
    (check,) = examine(Settings(**settings.model_dump(exclude_unset=True)), NOW, only=["old rows"])["checks"]
    assert (check["verdict"], "for ever" in check["said"]) == ("ok", True)
