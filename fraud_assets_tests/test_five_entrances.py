"""One file through `contract check`, `run`, `score`, `labels add` and the service: the same values everywhere."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.bento import build_bento
from fraud_assets.adapters.files.writer import write_file
from fraud_assets.adapters.postgres.database import stop_embedded
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.score_file import score_file
from fraud_assets_tests.card_service import served, trained
from fraud_assets_tests.forks import forks

CONTRACT = """
name: laden
first_month: 2024-01
timezone: Europe/Berlin
file_pattern: "umsatz_{month}.csv"
missing: ["k.A.", "-"]
csv: {delimiter: ";", decimal: ",", thousands: ".", encoding: cp1252}
transaction_id: {column: Vorgang}
event_timestamp: {column: [Datum, Uhrzeit], format: "%d.%m.%Y %H:%M:%S"}
entities:
  customer_id: {column: Karte, extract: '^DE-(C\\d+)'}
  terminal_id: {column: "Händler", nullable: true}
amount: {column: "Betrag (Cent)", type: number, scale: 0.01, minimum: 0}
attributes:
  channel: {column: Weg, categories: [web, Straße], feature: true}
  score_of_old: {column: score, type: number, nullable: true, feature: true}
  known_since: {column: Kunde seit, type: date, format: "%d.%m.%Y", nullable: true}
label: {column: Betrug, fraud_values: [ja], genuine_values: [nein], delay_days: 5}
maturity_days: 14
"""
COLUMNS = (
    "Vorgang",
    "Datum",
    "Uhrzeit",
    "Karte",
    "Händler",
    "Betrag (Cent)",
    "Weg",
    "score",
    "Kunde seit",
    "Betrug",
    "Bemerkung",
)
ZONE = ZoneInfo("Europe/Berlin")


def german(number: float) -> str:
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def invented(n: int = 160) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    """Rows as the file has them, padded and with words for what is missing, and the values that they mean."""
    draw = random.Random(7)
    delivered, meant = [], []
    for number in range(n):
        moment = dt.datetime(
            2024, 1, 1 + number * 30 // n, draw.randrange(24), draw.randrange(60), draw.randrange(60), tzinfo=ZONE
        )
        cents, old = draw.randrange(100, 900_000), draw.choice([None, round(draw.gauss(0, 900), 2)])
        card, shop = f"C{draw.randrange(12):03d}", draw.choice([None, "Bäcker 1", "Café 2", "Kiosk"])
        since = draw.choice([None, dt.date(2023, draw.randrange(1, 13), 5)])
        is_fraud = cents > 700_000
        delivered.append(
            dict(
                zip(
                    COLUMNS,
                    (
                        f"T{number:04d}  ", f"{moment:%d.%m.%Y}", f"{moment:%H:%M:%S}", f"  DE-{card}-x",
                        draw.choice(["k.A.", "", "  "]) if shop is None else f"{shop}   ", german(cents),
                        draw.choice(["web", "Straße "]), "-" if old is None else german(old),
                        "k.A." if since is None else f"{since:%d.%m.%Y}", "ja" if is_fraud else "nein", "groß; teuer",
                    ),
                    strict=True,
                )
            )
        )  # fmt: skip
        meant.append(
            {
                "transaction_id": f"T{number:04d}", "event_timestamp": moment.astimezone(dt.UTC), "customer_id": card,
                "terminal_id": shop, "amount": cents * 0.01, "channel": delivered[-1]["Weg"].strip(),
                "score_of_old": old, "known_since": since, "is_fraud": is_fraud,
            }
        )  # fmt: skip
    return delivered, meant


def write(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [
        ";".join(f'"{value}"' if ";" in value else value for value in row)
        for row in [COLUMNS, *(r.values() for r in rows)]
    ]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("cp1252"))


class Shop:
    """A home with one German file, through which `fraud run` went."""

    def __init__(self, folder: Path) -> None:
        self.data, self.home = folder / "data", folder / "h"
        self.data.mkdir()
        self.contract_file = folder / "laden.yaml"
        self.contract_file.write_text(CONTRACT, encoding="utf-8")
        self.contract = load_contract(self.contract_file)
        good, self.meant = invented()
        # Two rows of three good ones that no entrance may take: an amount below zero, and a time that no clock shows.
        bad = [
            good[3] | {"Vorgang": "X1", "Betrag (Cent)": "-1,00"},
            good[4] | {"Vorgang": "X2", "Uhrzeit": "25:00:00"},
        ]
        self.rows = [*good, *bad]
        self.file = self.data / "umsatz_2024-01.csv"
        write(self.file, self.rows)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "FRAUD_HOME": str(self.home), "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": str(self.data),
            "FRAUD_CONTRACT": str(self.contract_file), "COLUMNS": "200",
        }  # fmt: skip

    def run(self, month: str) -> None:
        """In a process of its own: the assets keep the contract with which they are loaded."""
        done = forks().run(
            "fraud_assets.cli", ["run", "--from", month, "--to", month], cwd=PROJECT_ROOT,
            env=os.environ | self.environment, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def fraud(self, *arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, list(arguments), env=self.environment)
        assert done.exit_code == status, done.output
        return done.stdout

    def settings(self) -> Settings:
        return Settings(home=self.home, contract=self.contract_file)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory):
    with tempfile.TemporaryDirectory(prefix="five") as folder:
        shop = Shop(Path(folder))
        shop.run("2024-01")
        yield shop
        stop_embedded(shop.home / "postgres")


def stored(shop):
    return open_store(shop.settings()).read("raw_transactions", first_month="2024-01").drop_columns("ingested_at")


@pytest.fixture(scope="module")
def model(shop):
    """A model of the stored features, so that a wrong value moves the score."""
    rows = stored(shop)
    statements = open_store(shop.settings()).read("fraud_labels", first_month="2024-01").drop_columns("origin")
    span = {"start": shop.contract.month_start("2024-01"), "end": shop.contract.month_end("2024-01")}
    features = compute_features(rows, statements, shop.contract, **span)
    y = np.array(features["amount"].to_numpy() > 4500).astype(bool)
    return trained(CONTRACT, features, y, model_version=3)


@pytest.fixture(scope="module")
def scored(shop, model, tmp_path_factory):
    """The file as `fraud score` writes it, and what it says of rows that are not scored."""
    onnx, manifest = model
    table, problems = score_file(shop.file, Scorer(onnx, manifest), open_store(shop.settings()).database)
    out = tmp_path_factory.mktemp("out") / "scored.csv"
    write_file(out, table.schema, table.to_batches())
    text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(out, convert_options=text).to_pylist(), problems


def test_contract_check_counts_what_run_stores(shop):
    told = shop.fraud("contract", "check", str(shop.contract_file), "--data", str(shop.file), "--json")
    assert f'"n_accepted": {len(shop.meant)}' in told
    assert '"n_quarantined": 2' in told
    assert "amount is below 0" in told
    assert "event_timestamp is no time in the format" in told


def test_run_stores_the_values_that_the_file_means(shop):
    rows = {row["transaction_id"]: row for row in stored(shop).to_pylist()}
    assert set(rows) == {row["transaction_id"] for row in shop.meant}
    for meant in shop.meant:
        row = rows[meant["transaction_id"]]
        assert row.pop("amount") == pytest.approx(meant["amount"])
        assert row == {name: meant[name] for name in row}
    frauds = open_store(shop.settings()).read("fraud_labels", ["transaction_id", "is_fraud"], first_month="2024-01")
    known = {row["transaction_id"] for row in frauds.to_pylist()}
    end = shop.contract.month_end("2024-01")
    assert known == {
        row["transaction_id"] for row in shop.meant
        if row["is_fraud"] and row["event_timestamp"] + dt.timedelta(days=5) < end
    }  # fmt: skip
    quarantined = shop.fraud(
        "db", "--query", "SELECT reasons::jsonb -> 0 ->> 'text' FROM quarantined_transactions ORDER BY row_number"
    )
    assert quarantined.splitlines()[0] == "amount is below 0"
    assert quarantined.splitlines()[1].startswith("event_timestamp is no time in the format")


def test_score_keeps_the_file_s_own_columns_and_scores_the_same_rows(shop, scored):
    rows, problems = scored
    # The file has a score of its own, which the model reads: ours goes beside it.
    assert list(rows[0]) == [*COLUMNS, "fraud_score", "fraud_decision", "fraud_model_version"]
    assert [{name: row[name] for name in COLUMNS} for row in rows] == shop.rows
    assert [row["fraud_score"] is None or row["fraud_score"] == "" for row in rows] == [False] * len(shop.meant) + [
        True
    ] * 2
    assert [sentence.split(":")[0] for sentence in problems.sentences()] == [
        f"row {len(shop.meant) + number} of umsatz_2024-01.csv" for number in (1, 2)
    ]


def test_the_service_gives_the_scores_of_the_file_for_its_rows_and_for_the_stored_values(shop, model, scored, tmp_path):
    bento = build_bento(*model, bentoml_home=tmp_path / "b", project_root=PROJECT_ROOT)
    expected = [row["fraud_score"] for row in scored[0]][: len(shop.meant)]
    assert np.ptp(expected) > 0.5
    mine = stored(shop).to_pylist()
    by_id = {row["transaction_id"]: row for row in mine}
    of_platform = [
        row
        | {
            "event_timestamp": row["event_timestamp"].isoformat(),
            "known_since": row["known_since"] and row["known_since"].isoformat(),
        }
        for row in (by_id[one["transaction_id"]] for one in shop.meant)
    ]
    with served(bento, tmp_path / "serve", FRAUD_DATABASE_URL=open_store(shop.settings()).database.url) as client:
        own = client.post("/score", json={"transactions": shop.rows[:-2]})
        platform = client.post("/score", json={"transactions": of_platform})
        refused = client.post("/score", json={"transactions": shop.rows})
    for answer in (own, platform):
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [one["transaction_id"] for one in results] == [row["transaction_id"] for row in shop.meant]
        np.testing.assert_allclose([one["probability"] for one in results], expected, rtol=0, atol=1e-6)
    assert refused.status_code == 400
    places = [(one["loc"][1:], one["msg"]) for one in refused.json()["detail"]]
    n = len(shop.meant)
    assert places[0] == [[n, "Betrag (Cent)"], "amount is below 0"] or places[0] == (
        [n, "Betrag (Cent)"],
        "amount is below 0",
    )
    assert places[1][0][0] == n + 1


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "transaction_id;is_fraud;label_timestamp;Bemerkung\nT0001  ;ja;20.02.2024 10:00:00;Rückbuchung\n"),
        ("utf-8", "transaction_id,is_fraud,label_timestamp,note\nT0002,1,2024-02-20T10:00:00,Rückbuchung\n"),
        ("utf-8-sig", "transaction_id;is_fraud;label_timestamp\nT0003;true;2024-02-20\n"),
        ("cp1252", "Vorgang;Betrug;label_timestamp\n T0004;ja;20.02.2024 10:00:00\n"),
    ],
)
def test_labels_add_reads_a_file_as_the_contract_says_or_plainly(shop, tmp_path, encoding, text):
    file = tmp_path / "chargebacks.csv"
    file.write_bytes(text.encode(encoding))
    told = json.loads(shop.fraud("labels", "add", str(file), "--json"))
    assert (told["taken"], told["unseen"], told["refused"]) == (1, 0, [])
    name = text.splitlines()[1].replace(",", ";").split(";")[0].strip()
    query = "SELECT is_fraud, label_timestamp AT TIME ZONE 'Europe/Berlin' FROM added_labels WHERE transaction_id = "
    when = "2024-02-20 23:59:59.999999" if name == "T0003" else "2024-02-20 10:00:00"
    assert shop.fraud("db", "--query", f"{query}'{name}'").strip() == f"True\t{when}"


def test_labels_add_sums_ten_thousand_refused_rows_up(shop, tmp_path):
    file = tmp_path / "many.csv"
    file.write_text("transaction_id,is_fraud\n" + "".join(f"T{n},perhaps\n" for n in range(10_000)), encoding="utf-8")
    told = shop.fraud("labels", "add", str(file), status=1).splitlines()
    assert told[0].startswith("10,000 is_fraud is none of true, 1, yes, fraud")
    assert told[1].strip() == "row 1 of many.csv: transaction_id=T0, is_fraud=perhaps"
    assert "0 statements taken, 0 repeated, 10,000 refused; 0 about transactions that have not been seen." in told
    assert len(told) < 20
    listed = json.loads(shop.fraud("labels", "add", str(file), "--json", status=1))
    assert len(listed["refused"]) == 10_000
