"""The ledger's table: append-only, and the same fact is written once."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy.engine import make_url

from fraud_assets.adapters.head_file import read_head
from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.chain import LedgerError
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.reasons import Rule
from fraud_assets_tests.sentences import because


@pytest.fixture
def ledger(database):
    return LedgerStore(database)


def named(digest):
    """Evidence: an evaluation of this digest, decided while no champion was live."""
    return {"evaluation": {"2018-07": digest}, "ledger": {"champion before 2018-07": None}}


def test_a_ledger_that_was_never_written_is_empty(ledger):
    assert ledger.events() == []


def test_an_event_is_read_back_as_it_was_recorded(ledger):
    before = dt.datetime.now(dt.UTC)
    reasons = because("AP 0.71 exceeds 0.66; it's \U0001f44d\nreally", '- "all"; of it', rule=Rule.BETTER, column="ap")
    assert ledger.record("promoted", 3, "2018-07", reasons, actor="dagster run 1", evidence=named("abc"))
    (event,) = ledger.events()
    assert (event.number, event.kind, event.model_version, event.month) == (1, "promoted", 3, "2018-07")
    assert (event.reasons, event.actor, event.evidence) == (reasons, "dagster run 1", named("abc"))
    assert before - dt.timedelta(seconds=5) <= event.recorded_at <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)


def test_the_same_fact_on_the_same_evidence_is_written_once_whoever_says_it_again(ledger):
    assert ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    assert not ledger.record(
        "promoted", 3, "2018-07", because("in other words"), actor="another", evidence=named("abc")
    )
    (event,) = ledger.events()
    assert (event.reasons, event.actor) == (because("because"), "one")


@pytest.mark.parametrize(
    "other",
    [
        ("refused", 3, "2018-07", "abc"),
        ("promoted", 4, "2018-07", "abc"),
        ("promoted", 3, "2018-08", "abc"),
        ("promoted", 3, "2018-07", "abd"),
    ],
    ids=["kind", "version", "month", "evidence"],
)
def test_another_kind_version_month_or_evidence_is_another_fact(ledger, other):
    ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    kind, version, month, evidence = other
    assert ledger.record(kind, version, month, because("because"), actor="one", evidence=named(evidence))
    assert [event.kind for event in ledger.events()] == ["promoted", kind]


def test_events_come_in_the_order_in_which_they_were_written(ledger):
    for version in (5, 2, 9):
        ledger.record("registered", version, "2018-07", because("because"), actor="one")
    events = ledger.events()
    assert [event.model_version for event in events] == [5, 2, 9]
    assert [event.number for event in events] == sorted(event.number for event in events)


def test_the_champion_follows_from_what_was_stored(ledger):
    ledger.record("promoted", 1, "2018-06", because("better"), actor="one", evidence=named("a"))
    ledger.record("promoted", 2, "2018-07", because("better"), actor="one", evidence=named("b"))
    ledger.record("rolled_back", 1, "2018-07", because("it was not"), actor="anna", evidence=named("c"))
    assert champion_version(ledger.events()) == 1
    assert champion_version(ledger.events(), before_month="2018-07") == 1


def test_many_who_record_at_once_write_each_fact_once(ledger):
    written, failures = [], []

    def record(version):
        try:
            written.append(ledger.record("registered", version, "2018-07", because("because"), actor="one"))
        except Exception as error:  # noqa: BLE001 - any error of a writer fails the test below
            failures.append(error)

    threads = [threading.Thread(target=record, args=[version % 3]) for version in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(written) == [False] * 6 + [True] * 3
    assert sorted(event.model_version for event in ledger.events()) == [0, 1, 2]


def test_evidence_that_has_come_back_after_another_decision_is_a_new_fact(ledger):
    for digest in ("abc", "other", "abc", "abc"):
        ledger.record("refused", 3, "2018-07", because("because"), actor="one", evidence=named(digest))
    assert [event.evidence["evaluation"]["2018-07"] for event in ledger.events()] == ["abc", "other", "abc"]


def test_a_person_s_decision_between_two_runs_on_the_same_evidence_adds_nothing(ledger):
    ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    ledger.record(
        "promoted", 2, "2018-07", because("I know better"), actor="ada", evidence={"by hand": {"after event": "1"}}
    )
    assert not ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    assert champion_version(ledger.events()) == 2


# The chain


def past_the_trigger(database, text, *values):
    """As whoever may do everything with the database does it."""
    with database.session() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(text, values)


@pytest.fixture
def three(ledger):
    for version in (1, 2, 3):
        ledger.record(
            "promoted", version, f"2018-0{version}", because("better"), actor="one", evidence=named(f"e{version}"),
            metrics={"champion.ap": {"value": 0.1 + 0.2, "low": 1e-7, "high": 1e22}, "n": {"value": 3, "low": None}},
            digests={"model.onnx": "a" * 64},
        )  # fmt: skip
    return ledger


def test_what_was_recorded_of_an_event_is_read_back_and_its_hash_is_that_of_the_stored_row(three):
    event = three.events()[0]
    assert event.metrics == {
        "champion.ap": {"value": 0.1 + 0.2, "low": 1e-7, "high": 1e22},
        "n": {"value": 3, "low": None},
    }
    assert event.digests == {"model.onnx": "a" * 64}
    assert event.code_version.startswith("0.")
    assert "sources " in event.code_version
    assert {"python", "numpy", "onnxruntime", "scikit-learn"} <= set(event.libraries)
    assert [event.number for event in three.events()] == [1, 2, 3]
    assert three.find_fault() is None


def test_fifty_who_append_at_once_give_one_chain(ledger, tmp_path):
    kept = LedgerStore(ledger.database, tmp_path / "elsewhere" / "head.json")
    with ThreadPoolExecutor(50) as pool:
        new = list(
            pool.map(lambda version: kept.record("registered", version, "2018-07", [], actor="one"), range(1, 51))
        )
    assert new == [True] * 50
    rows = kept.rows()
    assert [row["number"] for row in rows] == list(range(1, 51))
    assert sorted(row["model_version"] for row in rows) == list(range(1, 51))
    assert kept.find_fault() is None
    assert read_head(kept.head_file).text == f"50:{rows[-1]['hash']}"


@pytest.mark.parametrize("statement", ["UPDATE ledger SET actor = 'x'", "DELETE FROM ledger", "TRUNCATE ledger"])
def test_the_database_refuses_to_change_the_ledger(three, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), three.database.session() as session:
        session.execute(statement)
    assert len(three.events()) == 3


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE ledger SET model_version = 9 WHERE number = 2", "row 2 was changed"),
        ("UPDATE ledger SET reasons = reasons || '[{\"x\": 1}]' WHERE number = 1", "row 1 was changed"),
        ("DELETE FROM ledger WHERE number = 2", "row 2 was deleted"),
        (
            "INSERT INTO ledger (number, kind, model_version, month, reasons, actor, fact, previous_hash, hash) "
            "VALUES (4, 'promoted', 9, '2018-09', '[]', 'mallory', 'f', 'p', 'h')",
            "row 4 was changed after it was written, or inserted by something else",
        ),
    ],
    ids=["changed", "reasons", "deleted", "inserted"],
)
def test_a_ledger_that_somebody_changed_is_not_believed_and_not_written_to(three, statement, said):
    past_the_trigger(three.database, statement)
    with pytest.raises(LedgerError, match=f"{said}.*`fraud ledger verify`"):
        three.events()
    with pytest.raises(LedgerError, match=said):
        three.record("promoted", 4, "2018-04", because("better"), actor="one")
    assert said in three.find_fault().sentence
    assert len(three.rows()) in (2, 3, 4)


def test_rows_that_were_cut_off_show_by_the_file_and_nothing_is_written_then(database, tmp_path):
    kept = LedgerStore(database, tmp_path / "head.json")
    for version in (1, 2, 3):
        kept.record("registered", version, "2018-07", [], actor="one")
    past_the_trigger(database, "DELETE FROM ledger WHERE number > 1")
    assert LedgerStore(database).find_fault() is None
    with pytest.raises(LedgerError, match=r"the last one is 1, and the file .*head.json knows row 3"):
        kept.record("registered", 4, "2018-07", [], actor="one")
    with pytest.raises(LedgerError, match="knows row 3"):
        kept.events()


def test_a_head_that_is_no_head_is_named_and_one_that_cannot_be_kept_leaves_the_row(database, tmp_path, monkeypatch):
    file = tmp_path / "head.json"
    file.write_text("{")
    with pytest.raises(LedgerError, match="is no head of a ledger"):
        LedgerStore(database, file).record("registered", 1, "2018-07", [], actor="one")
    assert LedgerStore(database).events() == []
    file.unlink()

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(LedgerError, match="row 1 is in the ledger, but its hash could not be kept"):
        LedgerStore(database, file).record("registered", 1, "2018-07", [], actor="one")
    assert len(LedgerStore(database).events()) == 1


def test_a_role_without_the_right_appends_and_can_do_no_more(three):
    with three.database.session() as connection:
        connection.execute("DROP ROLE IF EXISTS fraud_appender")
        connection.execute("CREATE ROLE fraud_appender")
        connection.execute("GRANT SELECT, INSERT ON ledger TO fraud_appender")
    try:
        url = make_url(three.database.url).update_query_dict({"options": "-crole=fraud_appender"})
        appender = LedgerStore(Database(url.render_as_string(hide_password=False)))
        assert appender.record("promoted", 4, "2018-04", because("better"), actor="one")
        assert len(appender.events()) == 4
        for statement in ("UPDATE ledger SET actor = 'x'", "DELETE FROM ledger", "TRUNCATE ledger"):
            refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied")
            with refused, appender.database.session() as session:
                session.execute(statement)
    finally:
        with three.database.session() as connection:
            connection.execute("DROP OWNED BY fraud_appender")
            connection.execute("DROP ROLE fraud_appender")


def test_rows_from_before_the_chain_are_chained_by_the_migration(server):
    database = server("chain_migration")
    with database.session() as connection:
        for text in (
            "DROP TABLE ledger CASCADE",
            "DROP FUNCTION ledger_is_append_only",
            "CREATE TABLE ledger (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "recorded_at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL, model_version bigint NOT NULL, "
            "month text NOT NULL, reasons jsonb NOT NULL, actor text NOT NULL, fact text NOT NULL UNIQUE, "
            "evidence jsonb)",
            "INSERT INTO ledger (kind, model_version, month, reasons, actor, fact) VALUES "
            "('registered', 1, '2018-06', '[{\"rule\": \"trained\", \"text\": \"x''y\", \"column\": null}]', 'o', 'a')",
            "SELECT nextval('ledger_number_seq')",
            "INSERT INTO ledger (kind, model_version, month, reasons, actor, fact, evidence) VALUES "
            "('promoted', 1, '2018-07', '[]', 'two', 'b', '{\"evaluation\": {\"2018-07\": \"e\"}}')",
            f"UPDATE {schema.VERSION_TABLE} SET version_num = '0003'",
        ):
            connection.execute(text)
    schema.upgrade(database.url)
    ledger = LedgerStore(database)
    assert [(event.number, event.kind, event.code_version) for event in ledger.events()] == [
        (1, "registered", None), (3, "promoted", None),
    ]  # fmt: skip
    assert ledger.record("promoted", 2, "2018-08", because("better"), actor="one")
    assert [event.number for event in ledger.events()] == [1, 3, 4]
    past_the_trigger(database, "UPDATE ledger SET actor = 'x' WHERE number = 1")
    assert ledger.find_fault().number == 1
