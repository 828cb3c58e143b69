"""Sources: the same rows from every place, and a clear refusal of files that are broken."""

import datetime as dt
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.sources import (
    FolderSource,
    PostgresSource,
    SimulatorSource,
    SourceError,
    open_source,
    read_table,
)
from fraud_assets.core.contracts.contract import ContractError, parse_contract
from fraud_assets.core.digests import digest_table
from fraud_assets.core.intake.accept import Delivery, Part, accept
from fraud_assets.core.simulator import SimulatorConfig, simulate_month
from fraud_assets.settings import PROJECT_ROOT, Settings

MONTH = "2025-02"
WORLD = SimulatorConfig(customers=40, terminals=60, seed=5)


@pytest.fixture(scope="module")
def simulated():
    return simulate_month(MONTH, WORLD)


def stored(intake):
    """The accepted rows."""
    return intake.transactions().read_all()


def delivered(source, month):
    """All that a source delivers for a month."""
    return pa.concat_tables(pa.Table.from_batches(part.open()) for part in source.read(month).parts)


def table_of(database, name, rows):
    with database.bulk() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(name, rows, mode="create")


def as_parquet(rows, tmp_path, database, contract):
    pyarrow.parquet.write_table(rows, tmp_path / f"transactions_{MONTH}.parquet")
    return FolderSource(tmp_path, "transactions_{month}.parquet")


def as_pandas_parquet(rows, tmp_path, database, contract):
    rows.to_pandas().astype({"merchant_segment": "category"}).to_parquet(tmp_path / f"{MONTH}.parquet")
    return FolderSource(tmp_path, "*{month}*")


def as_csv(rows, tmp_path, database, contract):
    pyarrow.csv.write_csv(rows, tmp_path / f"{MONTH}.csv")
    return FolderSource(tmp_path, "*{month}*")


def as_two_zipped_csv_files(rows, tmp_path, database, contract):
    half = rows.num_rows // 2
    for part, piece in enumerate((rows.slice(0, half), rows.slice(half))):
        with gzip.open(tmp_path / f"{MONTH}-{part}.csv.gz", "wb") as file:
            pyarrow.csv.write_csv(piece, file)
    return FolderSource(tmp_path, "{month}-*.csv.gz")


def as_postgres_table(rows, tmp_path, database, contract):
    table_of(database, "bookings", rows)
    return PostgresSource(database, "public.bookings", contract)


def as_postgres_select(rows, tmp_path, database, contract):
    table_of(database, "bookings", rows)
    return PostgresSource(database, "SELECT * FROM bookings WHERE transaction_id > 0; ", contract)


def as_simulator(rows, tmp_path, database, contract):
    return SimulatorSource(WORLD)


@pytest.mark.parametrize(
    "place",
    [
        as_simulator, as_parquet, as_pandas_parquet, as_csv, as_two_zipped_csv_files, as_postgres_table,
        as_postgres_select,
    ],
)  # fmt: skip
def test_the_same_rows_come_from_every_place(place, simulated, tmp_path, database, simulator_contract):
    source = place(simulated, tmp_path, database, simulator_contract)
    assert source.has(MONTH)
    intake = accept(source.read(MONTH), simulator_contract, MONTH)
    expected = accept(Delivery([Part("simulator", lambda: iter(simulated.to_batches()))]), simulator_contract, MONTH)
    assert intake.quarantined.num_rows == 0
    assert 1_000 < stored(intake).num_rows == simulated.num_rows
    order = [("event_timestamp", "ascending"), ("transaction_id", "ascending")]
    assert digest_table(stored(intake)) == digest_table(stored(expected))
    assert digest_table(intake.statements.sort_by(order)) == digest_table(expected.statements.sort_by(order))


# Time zones


LOCAL = parse_contract("""
name: tests
first_month: 2018-01
transaction_id: {column: id, type: integer}
timezone: America/New_York
event_timestamp: {column: at}
amount: {column: paid, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 7
quarantine_limit: 1
""")


@pytest.mark.parametrize("zoned", [True, False])
@pytest.mark.parametrize("query", ["bookings", "SELECT id, at, paid, fraud FROM bookings -- all of them"])
def test_a_month_is_cut_by_the_clocks_of_the_contract(database, zoned, query):
    """In April, New York is four hours behind UTC."""
    kind = "timestamptz" if zoned else "timestamp"
    with database.session() as connection:
        connection.execute("SET LOCAL TimeZone = 'America/New_York'")
        connection.execute(f"CREATE TABLE bookings (id int, at {kind}, paid numeric(10, 2), fraud int)")
        connection.execute(
            "INSERT INTO bookings VALUES (1, '2018-03-31 23:59:59', 1, 0), (2, '2018-04-01 00:00:00', 2.50, 1), "
            "(3, '2018-04-30 23:59:59', 3, 0), (4, '2018-05-01 00:00:00', 4, 0)"
        )
    source = PostgresSource(database, query, LOCAL)
    intake = accept(source.read("2018-04"), LOCAL, "2018-04")
    assert intake.quarantined.num_rows == 0
    found = sorted(stored(intake).to_pylist(), key=lambda row: row["transaction_id"])
    assert found == [
        {"transaction_id": 2, "event_timestamp": dt.datetime(2018, 4, 1, 4, tzinfo=dt.UTC), "amount": 2.5},
        {"transaction_id": 3, "event_timestamp": dt.datetime(2018, 5, 1, 3, 59, 59, tzinfo=dt.UTC), "amount": 3.0},
    ]
    assert source.has("2018-05")
    assert not source.has("2018-06")


def test_the_types_that_postgres_has_for_money_and_identifiers_are_read(database):
    contract = parse_contract("""
name: tests
first_month: 2018-01
transaction_id: {column: id}
event_timestamp: {column: at}
entities:
  customer_id: {column: who}
amount: {column: paid, type: number}
attributes:
  items: {column: items, type: integer}
  online: {column: online, type: boolean}
  note: {column: note, nullable: true}
label: {column: fraud, delay_days: 7}
maturity_days: 7
""")
    with database.session() as connection:
        connection.execute(
            "CREATE TABLE bookings (id uuid, at timestamptz, who varchar(9), paid numeric, items smallint, "
            "online boolean, fraud boolean, note jsonb)"
        )
        connection.execute(
            "INSERT INTO bookings VALUES "
            "('770dd590-09d7-4abd-8b83-1fbc5f94e680', '2018-04-10', 'anna', 12.50, 3, true, true, '{}'), "
            "('870dd590-09d7-4abd-8b83-1fbc5f94e680', '2018-04-11', 'bert', 1e3, 4, false, false, NULL)"
        )
    intake = accept(PostgresSource(database, "bookings", contract).read("2018-04"), contract, "2018-04")
    rows = sorted(stored(intake).to_pylist(), key=lambda row: row["customer_id"])
    assert [list(row.values())[2:] for row in rows] == [["anna", 12.5, 3, True, "{}"], ["bert", 1000.0, 4, False, None]]
    assert rows[0]["transaction_id"] == "770dd590-09d7-4abd-8b83-1fbc5f94e680"
    assert intake.statements["customer_id"].to_pylist() == ["anna"]


def test_a_table_may_be_called_like_the_beginning_of_a_query(database):
    with database.session() as connection:
        connection.execute("CREATE TABLE withdrawals (id int, at timestamptz, paid float8, fraud int)")
        connection.execute("INSERT INTO withdrawals VALUES (1, '2018-04-10', 1, 0)")
    assert delivered(PostgresSource(database, "withdrawals", LOCAL), "2018-04").num_rows == 1


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("no_such_table", "no_such_table"),
        ("SELECT 1 AS id", "at"),
        ("SELECT 1 AS id, 'x'::text AS at", "operator does not exist"),
        ("SELECT nonsense FROM", "syntax error"),
        ("platform; DROP TABLE platform", "does not exist"),
    ],
)
def test_a_query_that_cannot_be_run_is_a_source_error_with_the_settings_to_check(database, query, problem):
    with pytest.raises(SourceError, match=f"(?s){problem}.*check FRAUD_SOURCE_URL, FRAUD_SOURCE_QUERY"):
        delivered(PostgresSource(database, query, LOCAL), "2018-04")
    assert database.query("SELECT count(*) AS n FROM platform").to_pylist() == [{"n": 1}]


def test_a_database_that_is_not_there_is_a_source_error_without_the_password():
    away = Database("postgresql://me:geheim@127.0.0.1:1/none")
    with pytest.raises(SourceError, match="FRAUD_SOURCE_URL") as refusal:
        PostgresSource(away, "bookings", LOCAL).has("2018-04")
    assert "geheim" not in str(refusal.value)


def test_a_query_without_transaction_ids_is_refused(database):
    anonymous = LOCAL.model_copy(update={"transaction_id": None})
    with pytest.raises(SourceError, match="needs a transaction_id"):
        PostgresSource(database, "bookings", anonymous)


# Files


CSV = "id,at,paid,fraud\n1,2018-04-10T10:00:00,12.5,0\n2,2018-04-11T10:00:00,3,1\n"


def taken(path):
    source = FolderSource(path.parent, path.name)
    return accept(source.read("2018-04"), LOCAL, "2018-04")


def written(tmp_path, content, name="2018-04.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.rstrip("\n"),
        CSV.replace("id,at,paid,fraud", '"id","at","paid","fraud"'),
        CSV.replace("12.5", '"12.5"'),
        CSV + "\n\n",
        CSV.replace("\n", "\r"),
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace(",", "|"),
        CSV.replace("id,at", '"id",at').replace(",", ";"),
    ],
    ids=[
        "plain",
        "byte order mark",
        "windows",
        "no last newline",
        "quoted names",
        "quoted value",
        "blank lines",
        "old mac",
        "semicolons",
        "tabs",
        "bars",
        "quoted and semicolons",
    ],
)
def test_csv_files_of_every_style_give_the_same_rows(tmp_path, content):
    intake = taken(written(tmp_path, content))
    assert stored(intake)["transaction_id"].to_pylist() == [1, 2]
    assert stored(intake)["amount"].to_pylist() == [12.5, 3.0]


def test_a_zipped_csv_file_is_read_as_such(tmp_path):
    assert taken(written(tmp_path, gzip.compress(CSV.encode()), "2018-04.csv.gz")).n_transactions == 2


def test_csv_values_stay_text_for_the_contract_to_convert(tmp_path):
    """Guessed, 007 would lose its zeros, and NA would become nothing."""
    path = written(tmp_path, 'a,b,c,d\n007,NA,,"x, ""y""\nz"\n12345678901234567890,nan,NULL,\U0001f9ff\n')
    assert read_table(path).to_pylist() == [
        {"a": "007", "b": "NA", "c": None, "d": 'x, "y"\nz'},
        {"a": "12345678901234567890", "b": "nan", "c": None, "d": "\U0001f9ff"},
    ]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (CSV.replace("paid", "pay\u00e9").encode("latin-1"), "2018-04.csv"),
        ((CSV + "3,2018-04-11,1,caf\u00e9\n").encode("latin-1"), "2018-04.csv"),
        (b"", "2018-04.csv"),
        (CSV + "3,2018-04-11\n", "2018-04.csv"),
        (gzip.compress(CSV.encode() * 1000)[:60], "2018-04.csv.gz"),
    ],
    ids=["latin-1 header", "latin-1 value", "empty", "short row", "cut off"],
)
def test_a_broken_csv_file_is_refused_with_its_name(tmp_path, content, name):
    path = written(tmp_path, content, name)
    with pytest.raises(SourceError, match=r"2018-04\.csv"):
        read_table(path, LOCAL)


def test_a_csv_file_with_a_header_alone_has_no_rows(tmp_path):
    assert read_table(written(tmp_path, "id,at\n")).num_rows == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_parquet_file_that_was_cut_off_is_refused_with_its_name(tmp_path, simulated, share):
    path = tmp_path / "2018-04.parquet"
    pyarrow.parquet.write_table(simulated, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError, match=r"2018-04\.parquet (cannot be read as Parquet|is empty)"):
        read_table(path)


def test_what_a_file_is_follows_from_its_content_and_not_from_its_ending(tmp_path, simulated):
    assert read_table(written(tmp_path, CSV, "2018-04.parquet")).num_rows == 2
    pyarrow.parquet.write_table(simulated, tmp_path / "2018-04.csv")
    assert read_table(tmp_path / "2018-04.csv").num_rows == simulated.num_rows


def test_a_parquet_file_damaged_in_its_middle_is_refused(tmp_path):
    path = tmp_path / "2018-04.parquet"
    rows = pa.table({"a": np.random.default_rng(1).random(20_000)})
    pyarrow.parquet.write_table(rows, path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        read_table(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="there is no file"):
        read_table(tmp_path / "absent.csv")


def test_a_folder_without_a_file_for_the_month_says_what_it_has(tmp_path):
    written(tmp_path, CSV, "2018-03.csv")
    source = FolderSource(tmp_path, "{month}.csv")
    assert source.has("2018-03")
    assert not source.has("2018-04")
    with pytest.raises(SourceError, match=r"no file '2018-04\.csv' for 2018-04; it has \['2018-03\.csv'\]"):
        source.read("2018-04")


def test_a_folder_that_is_none_is_named_with_the_setting(tmp_path):
    source = FolderSource(tmp_path / "absent", "*{month}*")
    assert not source.has("2018-04")
    with pytest.raises(SourceError, match=r"FRAUD_SOURCE_PATH .*absent is not a folder"):
        source.read("2018-04")


def test_the_files_of_a_month_are_read_one_after_the_other_by_the_names_of_their_columns(tmp_path):
    written(tmp_path, CSV, "2018-04-a.csv")
    written(tmp_path, "fraud,paid,at,id,note\n0,7,2018-04-12,3,x\n0,-,2018-04-12,4,y\n", "2018-04-b.csv")
    intake = accept(FolderSource(tmp_path, "{month}-*.csv").read("2018-04"), LOCAL, "2018-04")
    assert stored(intake)["transaction_id"].to_pylist() == [1, 2, 3]
    assert stored(intake)["amount"].to_pylist() == [12.5, 3.0, 7.0]
    assert intake.quarantined["source"].to_pylist() == ["2018-04-b.csv"]
    assert intake.quarantined["row_number"].to_pylist() == [2]


def test_a_file_of_a_month_that_lacks_a_column_is_named(tmp_path):
    written(tmp_path, CSV, "2018-04-a.csv")
    written(tmp_path, "id,at,fraud\n3,2018-04-12,0\n", "2018-04-b.csv")
    with pytest.raises(ContractError, match=r"2018-04-b\.csv lacks 'paid'"):
        accept(FolderSource(tmp_path, "{month}-*.csv").read("2018-04"), LOCAL, "2018-04")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = written(tmp_path, CSV)
    (part,) = FolderSource(tmp_path, "{month}.csv").read("2018-04").parts
    batches = part.open()
    next(batches)
    with path.open("a", encoding="utf-8") as file:
        file.write("3,2018-04-12T10:00:00,7,0\n")
    with pytest.raises(SourceError, match=r"2018-04\.csv changed while it was read; deliver it under another name"):
        list(batches)


def test_a_file_that_is_cut_off_because_it_changed_says_so(tmp_path, simulated):
    path = tmp_path / "2018-04.parquet"
    pyarrow.parquet.write_table(simulated, path)
    (part,) = FolderSource(tmp_path, "{month}.parquet").read("2018-04").parts
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="changed while it was read"):
        list(part.open())


def test_the_fingerprint_of_a_month_changes_with_its_files_and_with_nothing_else(tmp_path):
    source = FolderSource(tmp_path, "{month}-*.csv")
    assert source.fingerprint("2018-04") is None
    path = written(tmp_path, CSV, "2018-04-a.csv")
    first = source.fingerprint("2018-04")
    written(tmp_path, CSV, "2018-05-a.csv")
    assert source.fingerprint("2018-04") == first == source.read("2018-04").fingerprint
    written(tmp_path, CSV, "2018-04-b.csv")
    second = source.fingerprint("2018-04")
    path.write_text(CSV + "3,2018-04-12T10:00:00,7,0\n", encoding="utf-8")
    assert len({first, second, source.fingerprint("2018-04")}) == 3


def test_the_fingerprint_of_a_simulated_month_is_its_world():
    other = SimulatorConfig(customers=41, terminals=60, seed=5)
    assert SimulatorSource(WORLD).fingerprint(MONTH) == SimulatorSource(WORLD).fingerprint(MONTH)
    assert SimulatorSource(WORLD).fingerprint(MONTH) != SimulatorSource(other).fingerprint(MONTH)


# From settings


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"source": "csv"}, "FRAUD_SOURCE_PATH"),
        ({"source": "parquet"}, "FRAUD_SOURCE_PATH"),
        ({"source": "postgres"}, "FRAUD_SOURCE_URL and FRAUD_SOURCE_QUERY"),
        ({"source": "postgres", "source_url": "postgresql:///x"}, "FRAUD_SOURCE_URL and FRAUD_SOURCE_QUERY"),
    ],
)
def test_a_source_whose_settings_are_missing_names_them(settings, problem):
    with pytest.raises(SourceError, match=problem):
        open_source(Settings(**settings))


def test_the_simulator_is_the_world_of_the_settings():
    settings = Settings(simulator_customers=40, simulator_terminals=60, simulator_seed=5)
    assert delivered(open_source(settings), MONTH) == simulate_month(MONTH, WORLD)


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_a_folder_source_takes_the_contracts_file_pattern(tmp_path, source):
    settings = Settings(source=source, source_path=tmp_path, contract=PROJECT_ROOT / "contracts" / "handbook.yaml")
    opened = open_source(settings)
    assert (opened.folder, opened.pattern) == (tmp_path, "transactions_{month}.parquet")
