"""Small files made after public bug reports, through the entrances at which they failed, with the right values."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bentos.fraud_scorer.transactions import RequestError, TransactionReader
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import ContractError, load_contract, parse_contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.intake.accept import accept
from fraud_assets.core.models.scoring import SCORES_SCHEMA, ModelManifest, Scorer
from fraud_assets.workflows.labels import add_file
from fraud_assets.workflows.new_source.feed_check import check_feed
from fraud_assets.workflows.score_file import score_file

CASES = Path(__file__).parent / "cases"
NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


class CountingScorer(Scorer):
    """Scores a row with its card's count of the last 30 days, so that history shows in the score."""

    def __init__(self, contract_file: Path, entity: str) -> None:
        contract = load_contract(contract_file)
        self.feature = f"{entity}_count_30d"
        self.manifest = ModelManifest(
            model_name="cards", model_version=1, trained_month="2024-01", as_of="2024-02-01T00:00:00+00:00",
            features=feature_names(contract), threshold=0.5, family="logistic_regression",
            contract_yaml=contract_file.read_text(encoding="utf-8"), model_digest="0" * 64,
        )  # fmt: skip

    def score_table(self, features: pa.Table) -> pa.Table:
        counts = features[self.feature].to_numpy(zero_copy_only=False).astype(float)
        return pa.table([counts, ["approve"] * len(counts), np.full(len(counts), 1)], schema=SCORES_SCHEMA)


def loaded(database, case: str) -> MonthStore:
    """A store with the case's January, as `fraud run` takes it in."""
    contract = load_contract(CASES / case / "contract.yaml")
    store = MonthStore(database, contract)
    with accept(
        FolderSource(CASES / case, contract.file_pattern, contract).read("2024-01"), contract, "2024-01"
    ) as intake:
        rows = intake.transactions().read_all()
    moment = store.table("raw_transactions").schema.field("ingested_at").type
    rows = rows.append_column("ingested_at", pa.array([NOW] * rows.num_rows, moment))
    store.replace_months("raw_transactions", rows, ["2024-01"])
    store.replace_months("fraud_labels", store.table("fraud_labels").schema.empty_table(), ["2024-01"])
    return store


@pytest.mark.parametrize(
    ("case", "entity", "column"),
    [("entity-upper-case", "Card", "card"), ("labels-and-score-ignore-encoding", "customer", "Karte")],
)
def test_the_file_that_was_taken_in_is_scored_with_its_history(database, case, entity, column):
    store = loaded(database, case)
    (file,) = (CASES / case).glob("*2024-01.csv")
    scored, problems = score_file(file, CountingScorer(CASES / case / "contract.yaml", entity), database)
    assert len(problems) == 0
    cards = scored[column].to_pylist()
    # Its rows come in order of time.
    assert scored["score"].to_pylist() == [cards[:position].count(card) for position, card in enumerate(cards)]
    assert max(scored["score"].to_pylist()) >= 2
    assert store.read("raw_transactions", first_month="2024-01").num_rows == len(cards) == 60


def test_score_keeps_umlauts_commas_and_the_order_of_the_file(database):
    case = CASES / "labels-and-score-ignore-encoding"
    loaded(database, case.name)
    file = case / "umsatz_2024-01.csv"
    scored, _ = score_file(file, CountingScorer(case / "contract.yaml", "customer"), database)
    lines = [line.split(";") for line in file.read_text(encoding="cp1252").splitlines()]
    assert scored.column_names == [*lines[0], "score", "decision", "model_version"]
    assert [list(row.values())[:-3] for row in scored.to_pylist()] == lines[1:]
    assert lines[1][3].startswith("Bäcker ")


def test_a_line_that_is_no_row_stays_in_its_place_without_a_score(database, tmp_path):
    case = CASES / "entity-upper-case"
    loaded(database, case.name)
    lines = (case / "tx_2024-01.csv").read_text(encoding="utf-8").splitlines()
    lines[3] += ",one,two,many"
    file = tmp_path / "tx_2024-01.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    scored, problems = score_file(file, CountingScorer(case / "contract.yaml", "Card"), database)
    assert [position for position, score in enumerate(scored["score"].to_pylist()) if score is None] == [2]
    assert scored["tx_id"][2].as_py() == lines[3]
    assert len(problems) == 1
    assert problems.sentences()[0].startswith("row 3 of tx_2024-01.csv: line 4 ")


@pytest.mark.parametrize(
    ("case", "file", "taken"),
    [("labels-and-score-ignore-encoding", "chargebacks.csv", 1), ("padded-text", "labels.csv", 4)],
)
def test_labels_of_the_case_are_taken_and_are_about_what_was_seen(database, case, file, taken):
    store = loaded(database, case)
    added = _add(store, CASES / case / file)
    assert (added.taken, added.unseen, added.refused) == (taken, 0, [])


def _add(store, file):
    # Labels of a month that is not stored wait for it, and need neither the job nor the settings.
    with store.database.session() as connection:
        connection.execute("DELETE FROM month_versions WHERE table_name = 'fraud_labels'")
        connection.execute("DROP TABLE fraud_labels")
    return add_file(lambda: pytest.fail("no month of labels is stored"), pytest.fail, store, file, now=NOW)


def test_padded_text_is_one_card_and_blanks_are_no_shop(database):
    rows = loaded(database, "padded-text").read("raw_transactions", first_month="2024-01")
    cards = rows["customer_id"].to_pylist()
    assert len(set(cards)) == len({card.strip() for card in cards}) == 39
    assert "" not in {(shop or "x").strip() for shop in rows["terminal_id"].to_pylist()}
    assert rows["terminal_id"].null_count > 0


def test_a_feed_with_its_own_format_is_taken_when_the_contract_says_it():
    case = CASES / "label-feed-own-format"
    text = (case / "contract.yaml").read_text(encoding="utf-8")
    said = text.replace("label_timestamp: booked", 'label_timestamp: {column: booked, format: "%d.%m.%Y %H:%M:%S"}')
    contract = parse_contract(said)
    found = check_feed(contract, FolderSource(case, contract.file_pattern, contract), "2024-01", NOW)
    assert found is not None
    assert (found.n_refused, found.refused) == (0, None)
    assert found.n_taken == found.n_fraud == found.n_read > 10


@pytest.mark.parametrize(
    ("card", "device", "said"),
    [("C0001", "", None), ("C0001", "  ", None), ("X-77", None, "does not match"), ("", None, "is missing")],
)
def test_the_service_reads_a_transaction_as_the_intake_does(card, device, said):
    reader = TransactionReader(load_contract(CASES / "serve-empty-text" / "contract.yaml"))
    row = {
        "transaction_id": "Z1", "event_timestamp": "2024-04-28T12:00:00Z", "customer_id": card, "terminal_id": "S003",
        "device_id": device, "amount": 80.0, "channel": "web", "v": 2.5,
    }  # fmt: skip
    if said is None:
        assert reader.read([row]).equals(reader.read([row | {"device_id": None}]))
        return
    with pytest.raises(RequestError, match=f"transactions.0.customer_id: customer_id {said}"):
        reader.read([row])


def test_a_contract_of_1650_columns_is_refused_when_it_is_read():
    columns = "\n".join(
        f"  vendor_{number:04d}: {{column: vendor_{number:04d}, type: number}}" for number in range(1_650)
    )
    text = (CASES / "entity-upper-case" / "contract.yaml").read_text(encoding="utf-8")
    with pytest.raises(ContractError, match="at most 1,600 columns, and raw_transactions would need 1,658"):
        parse_contract(text.replace("attributes:", f"attributes:\n{columns}"))
