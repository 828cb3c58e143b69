"""What a service is told about keeping scores, and what `fraud status` says of them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.spool import Spool
from fraud_assets.adapters.scores.state import KeptState, StateFile
from fraud_assets.cli.tables import show_status
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.settings import Settings
from fraud_assets.workflows.scores import read_kept, scores_environment
from fraud_assets.workflows.status import read_status

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
    }
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
