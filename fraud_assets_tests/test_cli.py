"""The `fraud` command: what it prints, in both forms, and how it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.simulator import simulate_month
from fraud_assets.workflows.runs.run_months import months_to_run

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


def ask(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, list(arguments))


def refusal(*arguments: str) -> str:
    """The one sentence with which the command refuses."""
    result = ask(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ")
    # YAML's own errors point into the text below it.
    assert "\n" not in sentence or "is not valid YAML" in sentence
    return sentence


def strict_json(text: str) -> Any:
    """JSON as every parser reads it: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# Before anything ran


@pytest.mark.usefixtures("empty_home")
def test_status_before_any_run_has_no_champion_no_drift_and_no_decision() -> None:
    status = strict_json(ask("status", "--json").stdout)
    assert status["champion"] is None
    assert status["drift"] is None
    assert status["decision"] is None
    assert set(
        status["months"].values() if isinstance(status["months"], set) else map(len, status["months"].values())
    ) == {0}


@pytest.mark.usefixtures("empty_home")
def test_status_for_people_says_that_nothing_is_live() -> None:
    result = ask("status")
    assert result.exit_code == 0
    assert "no model has been promoted yet" in result.stdout


@pytest.mark.usefixtures("empty_home")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drift"], "there is no drift report yet"),
        (["report"], "there is no drift report yet"),
        (["promote", "1", "--reason", "try"], "no month has been evaluated yet"),
        (["score", "examples/flat_transactions_2024-01.csv"], "no model has been promoted yet"),
        (["serve"], "no model has been promoted and packaged yet"),
    ],
)
def test_what_needs_a_run_says_so_before_the_first(arguments: list[str], said: str) -> None:
    assert said in refusal(*arguments)


# Months


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2024-12"], "2024-12 to "),
        (["--to", "2999-01"], "2025-01 to 2999-01 is not within them"),
        (["--from", "2025-03", "--to", "2025-02"], "2025-03 to 2025-02 is not within them"),
        (["--from", "2025-13"], "'2025-13' is not a month"),
        (["--from", "January"], "'January' is not a month"),
        (["--to", "2025-1"], "'2025-1' is not a month"),
    ],
)
def test_months_that_do_not_exist_are_refused(arguments: list[str], said: str) -> None:
    assert said in refusal("run", *arguments)


def test_the_month_that_is_not_over_yet_is_refused(simulator_contract: Contract) -> None:
    noon = datetime(2025, 6, 30, 23, 59, tzinfo=UTC)
    assert months_to_run(simulator_contract, "2025-04", None, noon) == ["2025-04", "2025-05"]
    with pytest.raises(ValueError, match="has the months 2025-01 to 2025-05"):
        months_to_run(simulator_contract, "2025-04", "2025-06", noon)


def test_the_first_instant_of_the_next_month_closes_a_month(simulator_contract: Contract) -> None:
    midnight = datetime(2025, 7, 1, tzinfo=UTC)
    assert months_to_run(simulator_contract, "2025-06", None, midnight) == ["2025-06"]


# Settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FRAUD_CONTRACT", "contracts/nowhere.yaml", "there is no contract at"),
        (
            "FRAUD_SOURCE",
            "oracle",
            "FRAUD_SOURCE is 'oracle': Input should be 'simulator', 'files', 'parquet', 'csv' or",
        ),
        ("FRAUD_SIMULATOR_CUSTOMERS", "many", "FRAUD_SIMULATOR_CUSTOMERS is 'many': Input should be a valid integer"),
        ("FRAUD_SIMULATOR_DRIFT", "nonsense", "drift 'nonsense' cannot be read: the month is missing"),
        ("FRAUD_SOURCE", "csv", "a csv source needs FRAUD_SOURCE_PATH"),
        ("FRAUD_SOURCE", "postgres", "needs FRAUD_SOURCE_URL and FRAUD_SOURCE_QUERY"),
        ("FRAUD_DATABASE_URL", "nonsense", "PostgreSQL cannot be reached"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert said in refusal("run", "--from", "2025-01", "--to", "2025-01")


def test_a_home_that_is_a_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "file"))
    assert "FRAUD_HOME cannot be used" in refusal("status")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "is not valid YAML"),
        ("- 1", "is not a valid contract"),
        ("name: Simulator\nfirst_month: 2025-01", "name is 'Simulator'"),
        ("", "is not a valid contract"),
    ],
)
def test_a_broken_contract_is_named_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    contract = tmp_path / "[broken].yaml"
    contract.write_text(text)
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    sentence = refusal("status")
    assert said in sentence
    assert "[broken].yaml" in sentence


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_DATABASE_URL", "postgresql://localhost:1/fraud")
    result = ask("status")
    assert result.exit_code == 1
    assert "check FRAUD_DATABASE_URL" in result.stderr
    assert isinstance(result.exception, SystemExit)


# Status and drift


@pytest.mark.usefixtures("in_world")
def test_status_names_what_is_live_with_its_evidence_and_its_bento() -> None:
    champion = strict_json(ask("status", "--json").stdout)["champion"]
    assert champion["model"]["model_version"] == champion["version"]
    assert champion["evaluation"]["model_version"] == champion["version"]
    assert champion["evaluation"]["window_from"] >= champion["model"]["as_of"]
    assert champion["reference"]["window_from"] == champion["evaluation"]["window_from"]
    assert champion["bento_tag"].startswith(f"fraud_scorer:v{champion['version']}-")


@pytest.mark.usefixtures("in_world")
def test_status_for_people_shows_the_version_the_metrics_and_the_drift() -> None:
    shown = ask("status").stdout
    for text in ("Live: version", "average precision", "Bento: fraud_scorer:", "DRIFT"):
        assert text in shown


def test_drift_begins_with_the_verdict_of_the_newest_month(in_world: World) -> None:
    verdict, *features = strict_json(ask("drift", "--json").stdout)
    assert (verdict["kind"], verdict["drift_status"]) == ("verdict", "DRIFT")
    assert verdict["month"].startswith(in_world.months[-1])
    gravity = ["DRIFT", "WATCH", "INSUFFICIENT_DATA", "OK"]
    found = [gravity.index(row["drift_status"]) for row in features]
    assert found == sorted(found)
    assert found[0] == 0


def test_drift_of_an_earlier_month_is_that_month_s(in_world: World) -> None:
    rows = strict_json(ask("drift", in_world.months[0], "--json").stdout)
    assert [row["drift_status"] for row in rows] == ["INSUFFICIENT_DATA"]


@pytest.mark.usefixtures("in_world")
def test_drift_for_people_has_a_line_for_each_feature() -> None:
    rows = strict_json(ask("drift", "--json").stdout)
    shown = ask("drift").stdout
    assert all(row["feature"][:12] in shown for row in rows[1:])


@pytest.mark.usefixtures("in_world")
def test_drift_of_a_month_that_was_not_run_lists_those_that_were() -> None:
    assert "no drift report of 2030-01 yet; stored months: ['2025-01'" in refusal("drift", "2030-01")


# The monthly report


def test_report_writes_the_newest_month_s_page_and_says_where(in_world: World, tmp_path: Path) -> None:
    said = ask("report", "--output", str(tmp_path / "page.html"))
    assert said.stdout.strip() == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"<title>DRIFT {in_world.months[-1]}: drift report of simulator</title>" in page


def test_report_lies_in_the_home_where_no_file_is_named(in_world: World) -> None:
    month = in_world.months[0]
    (file,) = strict_json(ask("report", month, "--json").stdout).values()
    assert Path(file) == in_world.settings.reports / f"drift_report_{month}.html"
    assert f"NOT ENOUGH DATA {month}" in Path(file).read_text()


@pytest.mark.usefixtures("in_world")
def test_report_opens_the_page_in_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(opened.append(url) or True))
    assert ask("report", "--open", "-o", str(tmp_path / "a page.html")).exit_code == 0
    assert opened == [f"{tmp_path.as_uri()}/a%20page.html"]


@pytest.mark.usefixtures("in_world")
def test_report_says_where_the_page_is_when_there_is_no_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    file = tmp_path / "page.html"
    assert f"no browser to open it with here; the page is at {file}" in refusal("report", "--open", "-o", str(file))
    assert file.exists()


@pytest.mark.usefixtures("in_world")
def test_report_of_a_month_that_was_not_run_lists_those_that_were() -> None:
    assert "no drift report of 2030-01 yet; stored months: ['2025-01'" in refusal("report", "2030-01")


@pytest.mark.usefixtures("in_world")
def test_report_into_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    assert "the page cannot be written" in refusal("report", "--output", str(tmp_path))


# Scoring files


@pytest.fixture
def rows(world: World) -> pa.Table:
    """The last 40 transactions of the last month, as the source delivers them."""
    month = simulate_month(world.months[-1], world.simulator).sort_by("event_timestamp")
    return month.slice(month.num_rows - 40)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[pa.Table, str], str]:
    def write(rows: pa.Table, name: str) -> str:
        path = tmp_path / name
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(rows, path)
        else:
            pyarrow.csv.write_csv(rows, path)
        return str(path)

    return write


def scored(*arguments: str) -> list[dict[str, Any]]:
    """Scores as JSON."""
    result = ask("score", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return list(strict_json(result.stdout))


@pytest.mark.usefixtures("in_world")
def test_a_csv_and_a_parquet_file_of_the_same_rows_get_the_same_scores(
    rows: pa.Table, write: Callable[[pa.Table, str], str]
) -> None:
    texts, typed = scored(write(rows, "rows.csv")), scored(write(rows, "rows.parquet"))
    assert [row["score"] for row in texts] == [row["score"] for row in typed]
    assert [row["transaction_id"] for row in typed] == rows["transaction_id"].to_pylist()
    assert all(0 <= row["score"] <= 1 and row["decision"] in ("review", "approve") for row in typed)


def test_a_stored_transaction_gets_the_score_that_its_stored_features_give(
    in_world: World, rows: pa.Table, write: Callable[[pa.Table, str], str]
) -> None:
    from fraud_assets.adapters.postgres.months import open_store

    features = open_store(in_world.settings).read("transaction_features", first_month=in_world.months[-1])
    wanted = set(rows["transaction_id"].to_pylist())
    features = features.filter(pa.array([value in wanted for value in features["transaction_id"].to_pylist()]))
    by_features = {row["transaction_id"]: row["score"] for row in scored(write(features, "features.parquet"))}
    raw = {row["transaction_id"]: row["score"] for row in scored(write(rows, "rows.parquet"))}
    assert raw.keys() == by_features.keys()
    assert list(raw.values()) == pytest.approx([by_features[key] for key in raw], abs=1e-6)


@pytest.mark.usefixtures("in_world")
def test_rows_of_features_score_the_same_from_csv_as_from_parquet(
    in_world: World, write: Callable[[pa.Table, str], str]
) -> None:
    from fraud_assets.adapters.postgres.months import open_store

    features = open_store(in_world.settings).read("transaction_features", first_month=in_world.months[-1]).slice(0, 30)
    texts, typed = scored(write(features, "features.csv")), scored(write(features, "features.parquet"))
    assert [row["score"] for row in texts] == pytest.approx([row["score"] for row in typed], abs=1e-6)


@pytest.mark.usefixtures("in_world")
def test_the_order_of_a_file_is_kept(rows: pa.Table, write: Callable[[pa.Table, str], str]) -> None:
    straight = {row["transaction_id"]: row["score"] for row in scored(write(rows, "rows.parquet"))}
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(rows.num_rows)))
    found = scored(write(shuffled, "shuffled.parquet"))
    assert [row["transaction_id"] for row in found] == shuffled["transaction_id"].to_pylist()
    assert {row["transaction_id"]: row["score"] for row in found} == straight


@pytest.mark.usefixtures("in_world")
def test_without_an_output_the_scores_are_csv_on_the_screen(
    rows: pa.Table, write: Callable[[pa.Table, str], str]
) -> None:
    shown = list(csv.DictReader(io.StringIO(ask("score", write(rows, "rows.csv")).stdout)))
    assert len(shown) == rows.num_rows
    assert set(rows.column_names) | {"score", "decision", "model_version"} == set(shown[0])


@pytest.mark.usefixtures("in_world")
def test_reasons_are_columns_beside_the_score_and_a_scored_file_can_be_scored_again(
    rows: pa.Table, write: Callable[[pa.Table, str], str], tmp_path: Path
) -> None:
    target = tmp_path / "scored.parquet"
    for explain in ("3", "2"):
        source = str(target) if target.exists() else write(rows, "rows.parquet")
        assert ask("score", source, "--explain", explain, "--output", str(target)).exit_code == 0
        found = pyarrow.parquet.read_table(target)
        reasons = [f"score_reason_{number}" for number in range(1, int(explain) + 1)]
        assert found.column_names == [*rows.column_names, "score", "decision", "model_version", *reasons]
        # Each ends with what it adds to the raw score, the strongest first.
        for row in found.to_pylist():
            added = [float(row[name].rsplit("(", 1)[1].rstrip(")")) for name in reasons if row[name]]
            assert added
            assert [abs(one) for one in added] == sorted((abs(one) for one in added), reverse=True)


@pytest.mark.usefixtures("in_world")
@pytest.mark.parametrize("name", ["scored.csv", "scored.parquet"])
def test_scores_are_written_to_a_file_of_the_kind_that_its_name_says(
    rows: pa.Table, write: Callable[[pa.Table, str], str], tmp_path: Path, name: str
) -> None:
    result = ask("score", write(rows, "rows.csv"), "--output", str(tmp_path / name))
    assert result.exit_code == 0
    read = pyarrow.parquet.read_table if name.endswith("parquet") else pyarrow.csv.read_csv
    assert read(tmp_path / name).num_rows == rows.num_rows
    assert result.stdout == ""


@pytest.mark.usefixtures("in_world")
def test_a_broken_row_is_named_by_its_number_and_the_others_are_scored(
    rows: pa.Table, write: Callable[[pa.Table, str], str], tmp_path: Path
) -> None:
    path = Path(write(rows, "rows.csv"))
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace(lines[3].split(",")[4], "a lot", 1)  # the header is line 0
    path.write_text("\n".join(lines))
    result = ask("score", str(path), "--output", str(tmp_path / "scored.parquet"))
    assert result.exit_code == 1
    assert "not scored: row 3 of rows.csv: amount is not a number" in result.stderr
    found = pyarrow.parquet.read_table(tmp_path / "scored.parquet")
    assert found.num_rows == rows.num_rows
    assert [number for number, score in enumerate(found["score"].to_pylist(), 1) if score is None] == [3]


@pytest.mark.usefixtures("in_world")
def test_a_file_in_which_every_row_is_broken_still_names_each(
    rows: pa.Table, write: Callable[[pa.Table, str], str]
) -> None:
    broken = rows.slice(0, 3).set_column(1, "event_timestamp", pa.array(["never", "", "soon"]))
    result = ask("score", write(broken, "broken.parquet"))
    assert result.exit_code == 1
    # By their reasons, those that are alike together.
    assert all(f"row {number} of broken.parquet" in result.stderr for number in (1, 2, 3))
    assert len(result.stdout.strip().splitlines()) == 4


@pytest.mark.usefixtures("in_world")
def test_a_broken_row_of_features_is_named_by_its_number_and_column(
    in_world: World, write: Callable[[pa.Table, str], str]
) -> None:
    from fraud_assets.adapters.postgres.months import open_store

    features = open_store(in_world.settings).read("transaction_features", first_month=in_world.months[-1]).slice(0, 3)
    amounts = pa.array(["1.5", "a lot", "3"])
    broken = features.set_column(features.column_names.index("amount"), "amount", amounts)
    sentence = refusal("score", write(broken, "features.csv"))
    assert "row 2" in sentence
    assert "amount" in sentence


@pytest.mark.usefixtures("in_world")
def test_an_empty_file_gives_no_scores_and_no_error(rows: pa.Table, write: Callable[[pa.Table, str], str]) -> None:
    assert scored(write(rows.slice(0, 0), "empty.parquet")) == []


@pytest.mark.usefixtures("in_world")
def test_what_was_scored_can_be_scored_again(
    rows: pa.Table, write: Callable[[pa.Table, str], str], tmp_path: Path
) -> None:
    first = tmp_path / "first.parquet"
    assert ask("score", write(rows, "rows.parquet"), "-o", str(first)).exit_code == 0
    result = ask("score", str(first), "-o", str(tmp_path / "second.parquet"))
    assert result.exit_code == 0, result.output
    second = pyarrow.parquet.read_table(tmp_path / "second.parquet")
    assert second.equals(pyarrow.parquet.read_table(first))


@pytest.mark.usefixtures("in_world")
def test_a_customer_who_was_never_seen_is_scored(rows: pa.Table, write: Callable[[pa.Table, str], str]) -> None:
    strangers = rows.set_column(2, "customer_id", pa.array([9_000_000 + n for n in range(rows.num_rows)]))
    strangers = strangers.set_column(0, "transaction_id", pa.array([10**9 + n for n in range(rows.num_rows)]))
    assert len(scored(write(strangers, "strangers.parquet"))) == rows.num_rows


@pytest.mark.usefixtures("in_world")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("rows.csv", b"\xff\xfe\x00", "cannot be read as UTF-8 CSV"),
        ("rows.csv", b"a,b\n1,2\n", "rows.csv lacks 'event_timestamp'"),
        ("rows.csv", b"", "rows.csv is empty"),
        ("rows.csv", b"a,b\n1,2,3\n", "rows.csv lacks 'event_timestamp'"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refusal("score", str(tmp_path / name))


@pytest.mark.usefixtures("in_world")
def test_an_unknown_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "there is no file" in refusal("score", str(tmp_path / "none.csv"))
    assert "there is no file" in refusal("score", str(tmp_path))


@pytest.mark.usefixtures("in_world")
@pytest.mark.parametrize("name", ["none/scored.csv", "none/scored.parquet"])
def test_an_output_that_cannot_be_written_is_refused(
    rows: pa.Table, write: Callable[[pa.Table, str], str], tmp_path: Path, name: str
) -> None:
    assert "cannot be written" in refusal("score", write(rows, "rows.csv"), "-o", str(tmp_path / name))


# The database


def test_a_query_prints_tab_separated_rows_without_a_header(in_world: World) -> None:
    shown = ask("db", "--query", "SELECT month, promoted FROM champion ORDER BY month").stdout
    assert shown.splitlines()[0].split("\t") == ["2025-01-01", "False"]
    assert len(shown.splitlines()) == len(in_world.months)


@pytest.mark.usefixtures("in_world")
def test_a_query_as_json_names_its_columns() -> None:
    assert strict_json(ask("db", "--query", "SELECT 1 AS a, NULL AS b, '%' AS c", "--json").stdout) == [
        {"a": 1, "b": None, "c": "%"}
    ]


@pytest.mark.usefixtures("in_world")
@pytest.mark.parametrize(
    "query",
    ["DELETE FROM ledger", "DROP TABLE champion", "CREATE TABLE x (a int)", "UPDATE platform SET contract = 'x'"],
)
def test_a_query_that_writes_is_refused(in_world: World, query: str) -> None:
    before = in_world.digests()
    assert "read-only transaction" in refusal("db", "--query", query)
    assert in_world.digests() == before


@pytest.mark.usefixtures("in_world")
def test_a_query_about_a_table_that_is_not_there_says_so() -> None:
    result = ask("db", "--query", "SELECT * FROM nothing")
    assert result.exit_code == 1
    assert 'relation "nothing" does not exist' in result.stderr


def test_a_stopped_database_starts_again_with_all_its_data(spare_world: World) -> None:
    before = spare_world.digests()
    assert spare_world.fraud("db", "stop").stdout.strip() == "stopped"
    assert spare_world.fraud("db", "stop").stdout.strip() == "was not running"
    assert spare_world.fraud("db").stdout.strip() == spare_world.url
    assert spare_world.digests() == before


def test_a_server_of_someone_else_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_DATABASE_URL", "postgresql://example.invalid/fraud")
    assert "stop it where it runs" in refusal("db", "stop")


# Rows that were lost


def test_lost_and_altered_rows_are_found_and_stored_again_by_a_run_of_their_month(spare_world: World) -> None:
    month, first = spare_world.months[1], f"{spare_world.months[1]}-03"
    before = spare_world.digests()["transaction_features"]
    said = spare_world.fraud("doctor", "--verify").stdout
    assert "0 not as they were written (every value was compared)" in said
    with psycopg.connect(spare_world.url) as connection:
        lost = connection.execute(
            "DELETE FROM raw_transactions WHERE event_timestamp >= %s AND event_timestamp < %s::date + 1",
            [first, first],
        ).rowcount
        connection.execute(f"UPDATE months.transaction_features_{month.replace('-', '_')} SET amount = amount + 1")
    stored = strict_json(spare_world.fraud("doctor", "--json", fails=True).stdout)
    assert [(one["table"], one["month"]) for one in stored["damages"]] == [("raw_transactions", month)]
    said = spare_world.fraud("doctor", "--verify", fails=True).stdout
    assert f"raw_transactions {month}: " in said
    assert f"transaction_features {month}: all " in said
    # What reads them says so, instead of making something of the rest.
    later = spare_world.fraud("run", "--from", spare_world.months[2], "--to", spare_world.months[2], fails=True).stdout
    assert "rows of raw_transactions were deleted or added outside of the platform" in later
    told = spare_world.fraud("run", "--from", month, "--to", month).stdout
    assert f"delivered again: {lost:,} added" in told
    spare_world.fraud("run", "--from", spare_world.months[2], "--to", spare_world.months[2])
    assert "0 not as they were written" in spare_world.fraud("doctor", "--verify").stdout
    assert spare_world.digests()["transaction_features"] == before


# Promotion by hand


def test_a_version_that_does_not_exist_is_not_promoted(in_world: World) -> None:
    before = in_world.digests()
    assert "the registry has no version 99 of 'fraud'" in refusal("promote", "99", "--reason", "a try")
    assert in_world.digests() == before


def test_a_promotion_without_a_reason_is_refused() -> None:
    result = ask("promote", "1")
    assert result.exit_code == 2
    assert "--reason" in result.output


def live() -> dict[str, Any]:
    """The champion as `fraud status` tells it."""
    return dict(strict_json(ask("status", "--json").stdout)["champion"])


def test_a_promotion_by_hand_moves_the_ledger_the_alias_and_the_bento(in_spare_world: World) -> None:
    before = live()
    chosen = 1 if before["version"] != 1 else 2
    told = strict_json(ask("promote", str(chosen), "--reason", "it was better", "--json").stdout)
    assert told == {"version": chosen, "month": in_spare_world.months[-1], "reason": "it was better"}
    after = live()
    assert after["version"] == chosen
    assert after["reasons"] == [{"rule": "by_hand", "text": "it was better", "column": None}]
    assert after["bento_tag"].startswith(f"fraud_scorer:v{chosen}-")
    assert (in_spare_world.home / "simulator" / "bentoml" / "bentos" / after["bento_tag"].replace(":", "/")).is_dir()
    aliases = dict(in_spare_world.query("SELECT alias, version FROM mlflow.registered_model_aliases"))
    assert (aliases["champion"], aliases["previous_champion"]) == (chosen, before["version"])
    decided = in_spare_world.query("SELECT champion_version FROM champion ORDER BY month DESC LIMIT 1")
    assert decided == [(chosen,)]


def test_a_promotion_by_hand_outlasts_a_repeated_run_of_its_month(in_spare_world: World) -> None:
    month = in_spare_world.months[-1]
    chosen = 1 if live()["version"] != 1 else 2
    assert ask("promote", str(chosen), "--reason", "it was better").exit_code == 0
    assert ask("run", "--from", month, "--to", month).exit_code == 0
    assert live()["version"] == chosen


def alias(world: World) -> list[tuple[Any, ...]]:
    return world.query("SELECT alias, version FROM mlflow.registered_model_aliases ORDER BY 1")


@pytest.mark.parametrize(
    ("file", "broken"),
    [
        ("serving/model.onnx", "flipped"), ("serving/manifest.json", "flipped"), ("reference/model.onnx", "flipped"),
        ("serving/model.onnx", "gone"),
    ],
)  # fmt: skip
def test_a_version_with_a_broken_file_is_not_promoted_and_what_is_live_stays(
    spare_world: World, file: str, broken: str
) -> None:
    [(live,)] = spare_world.query("SELECT champion_version FROM champion ORDER BY month DESC LIMIT 1")
    chosen = 1 if live != 1 else 2
    # Where they were when the world was copied.
    [(uri,)] = spare_world.query(
        f"SELECT artifact_uri FROM mlflow.runs JOIN mlflow.model_versions ON run_uuid = run_id WHERE version = {chosen}"
    )
    path = Path(uri.removeprefix("file://")) / file
    whole, before, pointed = path.read_bytes(), spare_world.digests(), alias(spare_world)
    middle = len(whole) // 2
    if broken == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    try:
        said = spare_world.fraud("promote", str(chosen), "--reason", "a try", fails=True)
        assert "error:" in said.stderr
        assert spare_world.digests() == before
        assert alias(spare_world) == pointed
    finally:
        path.write_bytes(whole)


# The command in a process of its own


def test_run_as_json_leaves_standard_output_to_json(spare_world: World) -> None:
    month = spare_world.months[0]
    said = strict_json(spare_world.fraud("run", "--from", month, "--to", month, "--json").stdout)
    [outcome] = said["months"]
    assert (outcome["month"], outcome["failed"]) == (month, [])
    assert said["refreshed"] == {"stale": [], "rebuilt": [], "failed": [], "left": []}


def test_a_long_home_with_a_space_works(tmp_path: Path) -> None:
    from fraud_assets_tests.worlds import World

    far = World(tmp_path / ("a long way " * 12).strip() / "home", {})
    try:
        assert json.loads(far.fraud("status", "--json").stdout)["champion"] is None
        assert far.query("SELECT to_regclass('platform')") == [(None,)]  # who reads creates nothing
        far.fraud("db", "upgrade")
        assert far.query("SELECT contract FROM platform") == [("simulator",)]
    finally:
        far.fraud("db", "stop")
