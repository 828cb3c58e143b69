"""A database that an earlier version made, upgraded by `fraud db upgrade`, and what is done with it afterwards."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_assets.adapters.postgres.database import locate_database
from fraud_assets.adapters.postgres.embedded import embedded_binary
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.postgres.schema import CONTROL_TABLES, REVISIONS, VERSION_TABLE
from fraud_assets.core.digests import digest_table
from fraud_assets_tests.worlds import World, quick_home, remove_home

DUMP = Path(__file__).parent / "old_databases" / "before_migrations.sql.gz"
COUNTS = {
    "platform": 1,
    "month_versions": 23,
    "ledger": 2,
    "retraining_decisions": 3,
    "quarantine_decisions": 1,
    "transaction_id_ranges": 2,
    "added_labels": 2,
    "quarantined_labels": 2,
    "alerts": 1,
    "alert_attempts": 2,
}
# The month had no bad row; these are written as that version did.
QUARANTINED = """
INSERT INTO public.quarantined_transactions (month, source, row_number, reasons, original, row_digest, status) VALUES
    ('2025-02-01', 'a; b.csv', 1, 'amount is below 0; merchant_segment is none of [''food; fun'', ''travel'']',
        '{"TX_AMOUNT": -1.0}', 'aa11', 'quarantined'),
    ('2025-02-01', 'a; b.csv', 2, 'has 2 values for 6 columns', '{"line": 3, "text": "x,y"}', 'bb22', 'quarantined'),
    ('2025-02-01', 'a; b.csv', 3, 'amount smells odd', '{"TX_AMOUNT": 1.0}', 'cc33', 'dropped')
"""
# As the sensor of that version wrote it: what the fixture has was written by hand.
DECIDED = """
INSERT INTO public.retraining_decisions (month, decision, trigger, reasons, report_digest, attempt_number, fact) VALUES
    ('2025-02', 'retrain', 'drift', ARRAY[
        'the data of 2025-02 drifted and no retraining was requested for this report yet',
        'the champion, version 3, shows an average precision of at most 0.580 on the labels matured by the end '
        'of 2025-02; in 2025-01 it showed at least 0.600'
    ], 'r3', 1, 'retrain:2025-02:r3:1')
"""
# Rows that were not recorded would be taken for rows that somebody added.
RECORDED = """
UPDATE public.month_versions SET n_rows = 3 WHERE table_name = 'quarantined_transactions' AND month = '2025-02'
"""
# What the upgrade rewrites: where reasons were, and the versions of months that are in another form now.
REWRITTEN = {
    "quarantined_transactions", "quarantined_labels", "ledger", "champion", "drift_report", "month_versions",
    "retraining_decisions",
}  # fmt: skip


def reason(rule: str, text: str, column: str | None = None) -> dict[str, str | None]:
    return {"rule": rule, "text": text, "column": column}


@pytest.fixture(scope="module")
def old() -> Iterator[World]:
    """A home with the database of the version before migrations; tests run in their order, and go on with it."""
    world = World(
        quick_home(), {"FRAUD_SIMULATOR_CUSTOMERS": "8", "FRAUD_SIMULATOR_TERMINALS": "16"}, ("2025-01", "2025-02")
    )
    try:
        url = locate_database(world.settings).url
        subprocess.run(
            [embedded_binary("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", url],
            input=gzip.decompress(DUMP.read_bytes()) + f"{QUARANTINED};{RECORDED};{DECIDED};".encode(), check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        yield world
    finally:
        remove_home(world.home)


@pytest.fixture(scope="module")
def upgraded(old: World) -> tuple[World, dict[str, str]]:
    """The same after `fraud db upgrade`, and the digests of all its tables before."""
    before = old.digests()
    assert {name: old.query(f"SELECT count(*) FROM {name}")[0][0] for name in COUNTS} == COUNTS
    refused = old.fraud("status", fails=True)
    assert "made by an earlier version of fraud-assets (from before its tables had a version)" in refused.stderr
    assert "`fraud db upgrade`" in refused.stderr
    told = json.loads(old.fraud("db", "version", "--json").stdout)
    assert (told["state"], told["revision"], told["pending"]) == ("behind", None, list(REVISIONS))
    assert old.digests() == before
    done = json.loads(old.fraud("db", "upgrade", "--json").stdout)
    assert (done["before"], done["revision"], done["applied"]) == (None, REVISIONS[-1], list(REVISIONS))
    return old, before


def test_every_row_is_there_after_the_upgrade(upgraded: tuple[World, dict[str, str]]) -> None:
    world, before = upgraded
    new = {
        "month_leases", "approval_requests", "asked_answers", "scored_transactions", "scored_months", "entity_lists",
        "shadow_scores", "shadow_months", "shadow_progress",
        "breaker_events", "erased_entities", "erased_digests", "removed_months",
    }  # fmt: skip
    assert {*COUNTS} | new == {table.name for table in CONTROL_TABLES.sorted_tables}
    same = {name: digest for name, digest in world.digests().items() if name not in {VERSION_TABLE, *new, *REWRITTEN}}
    assert same == {name: digest for name, digest in before.items() if name not in REWRITTEN}
    for name in REWRITTEN & COUNTS.keys() - {"month_versions"}:
        assert world.query(f"SELECT count(*) FROM {name}")[0][0] == COUNTS[name]


def test_reasons_that_were_joined_are_apart_after_the_upgrade(upgraded: tuple[World, dict[str, str]]) -> None:
    world, _ = upgraded
    quarantined = world.query("SELECT row_number, reasons FROM quarantined_transactions ORDER BY 1")
    assert {number: json.loads(reasons) for number, reasons in quarantined} == {
        1: [
            reason("below_minimum", "amount is below 0", "amount"),
            reason(
                "unknown_category", "merchant_segment is none of ['food; fun', 'travel']", "merchant_segment",
            ),
        ],
        2: [reason("not_a_row", "has 2 values for 6 columns")],
        3: [reason("earlier_version", "amount smells odd", "amount")],
    }  # fmt: skip
    labels = world.query("SELECT reasons FROM quarantined_labels ORDER BY row_number")
    assert labels == [
        ([reason(
            "unreadable_value", "transaction_id is not a whole number: write the id as the transactions have it",
            "transaction_id",
        )],),
        ([reason(
            "unknown_label",
            "is_fraud is none of true, 1, yes, fraud, false, 0, no, genuine, legit, withdrawn, withdraw, retracted: "
            "write one of them",
            "is_fraud",
        )],),
    ]  # fmt: skip
    assert world.query("SELECT reasons FROM ledger ORDER BY number") == [
        ([reason("trained", "trained by hand for this fixture")],),
        ([reason("earlier_version", "no better than the reference")],),
    ]
    assert world.query("SELECT reasons FROM retraining_decisions ORDER BY number") == [
        ([reason("earlier_version", "nothing asks for a model")],),
        ([reason("earlier_version", "drift in 2025-02")],),
        ([
            reason("drifted", "the data of 2025-02 drifted and no retraining was requested for this report yet"),
            reason(
                "worse_than_promised",
                "the champion, version 3, shows an average precision of at most 0.580 on the labels matured by the end "
                "of 2025-02; in 2025-01 it showed at least 0.600",
                "average_precision",
            ),
        ],),
    ]  # fmt: skip
    decided = world.query("SELECT reasons FROM champion ORDER BY month")
    assert [[one["rule"] for one in json.loads(reasons)] for (reasons,) in decided] == [["no_challenger"]] * 2
    first, second = (
        json.loads(reasons)
        for (reasons,) in world.query("SELECT reasons FROM drift_report WHERE kind = 'verdict' ORDER BY month")
    )
    assert first == [
        reason("nothing_compared", "there is no champion yet, and no earlier month is there that could be compared")
    ]
    assert [(one["rule"], one["column"]) for one in second] == [
        ("nothing_moved", None), ("multivariate", "all_columns"), ("label", "delay_days"), ("label", "known_frauds"),
        ("label", "fraud_rate"), ("other_reference", None), ("features_not_compared", None),
    ]  # fmt: skip
    assert second[0]["text"] == ("none of 5 things that were looked at moved beyond chance (smallest adjusted p 0.117)")


def test_a_month_in_another_form_has_a_version_with_the_digest_of_its_rows(
    upgraded: tuple[World, dict[str, str]],
) -> None:
    world, _ = upgraded
    store = open_store(world.settings)
    for name in ("quarantined_transactions", "champion", "drift_report"):
        there = {column for (column,) in world.query(
            f"SELECT column_name::text FROM information_schema.columns WHERE table_name = '{name}'"
        )}  # fmt: skip
        for month, digest in store.months(name).items():
            rows = store.read(name, first_month=month, last_month=month)
            rows = rows.select([column for column in rows.column_names if column in there])
            if rows.num_rows:
                assert digest_table(rows) == digest, (name, month)
    # What was built on them names it, so that nothing is stale that was not.
    inputs = {one: made for one, (_, made) in store.current().items()}
    assert inputs["fraud_bento", "2025-02"]["champion"] == {"2025-02": store.months("champion")["2025-02"]}
    assert inputs["drift_report", "2025-02"]["drift_report"] == {"2025-01": store.months("drift_report")["2025-01"]}
    added = world.query("SELECT table_name, month, run_id, altered FROM month_versions WHERE id > 23 ORDER BY 1, 2")
    assert added == [
        ("champion", "2025-01", None, 1), ("champion", "2025-02", None, 1),
        ("drift_report", "2025-01", None, 1), ("drift_report", "2025-02", None, 1),
        ("fraud_bento", "2025-01", None, 0), ("fraud_bento", "2025-02", None, 0),
        ("quarantined_transactions", "2025-02", None, 3),
    ]  # fmt: skip


def test_what_was_joined_is_shown_again_by_the_commands(upgraded: tuple[World, dict[str, str]]) -> None:
    world, _ = upgraded
    listed = json.loads(world.fraud("quarantine", "list", "--json").stdout)
    assert [(one["rule"], one["column"], one["rows"], one["status"]) for one in listed["counts"]] == [
        ("below_minimum", "amount", 1, "quarantined"),
        ("earlier_version", "amount", 1, "dropped"),
        ("not_a_row", None, 1, "quarantined"),
        ("unknown_category", "merchant_segment", 1, "quarantined"),
    ]
    assert "amount is below 0; merchant_segment is none of ['food; fun', 'travel']" in (
        world.fraud("quarantine", "list").stdout
    )
    assert "moved beyond chance (smallest adjusted p 0.117)" in world.fraud("drift", "2025-02").stdout
    assert "no retraining was requested for this report yet; the champion, version 3, shows" in " ".join(
        world.fraud("retraining", "list", COLUMNS="500").stdout.split()
    )


def test_the_platform_goes_on_with_what_an_earlier_version_stored(
    upgraded: tuple[World, dict[str, str]], tmp_path: Path
) -> None:
    world, _ = upgraded
    versions = world.query("SELECT t::text FROM month_versions t ORDER BY id")
    status = json.loads(world.fraud("status", "--json").stdout)
    assert status["months"]["raw_transactions"] == ["2025-01", "2025-02"]
    # As the earlier version said, too: the month was not run again after the decision about one of its rows.
    undecided = {one["table"] for one in status["stale"] if any("quarantine" in why for why in one["changes"])}
    assert undecided == {"raw_transactions", "quarantined_transactions", "delivered_labels"}
    alerts = json.loads(world.fraud("alerts", "list", "--json").stdout)
    assert [(one["sentence"], len(one["deliveries"])) for one in alerts] == [("Amounts doubled.", 2)]
    # The statements that people added are known, although their ids were numbers then.
    added = world.query("SELECT transaction_id, is_fraud, to_json(label_timestamp) #>> '{}' FROM added_labels")
    (file := tmp_path / "again.csv").write_text(
        "transaction_id,is_fraud,label_timestamp\n" + "".join(f"{i},{str(f).lower()},{at}\n" for i, f, at in added)
    )
    again = json.loads(world.fraud("labels", "add", str(file), "--json").stdout)
    assert (again["taken"], again["repeated"], again["unseen"]) == (0, 2, 0)
    outcome = json.loads(world.fraud("run", "--from", "2025-03", "--to", "2025-03", "--json").stdout)
    assert [month["failed"] for month in outcome["months"]] == [[]]
    after = world.query("SELECT t::text FROM month_versions t ORDER BY id")
    assert after[: len(versions)] == versions
    assert len(after) > len(versions)


def test_a_database_of_a_later_version_is_refused_by_every_command_that_uses_it(
    upgraded: tuple[World, dict[str, str]],
) -> None:
    world, _ = upgraded
    with_revision = f"UPDATE {VERSION_TABLE} SET version_num = '9999'"
    subprocess.run([embedded_binary("psql"), "--quiet", "--command", with_revision, world.url], check=True)
    try:
        before = world.digests()
        for arguments in (["status"], ["run", "--to", "2025-01"], ["db", "upgrade"]):
            said = world.fraud(*arguments, fails=True).stderr
            assert "made by a later version of fraud-assets (revision 9999" in said
            assert "install that version, or name another database" in said
        assert json.loads(world.fraud("db", "version", "--json").stdout)["state"] == "ahead"
        assert world.digests() == before
    finally:
        back = with_revision.replace("9999", REVISIONS[-1])
        subprocess.run([embedded_binary("psql"), "--quiet", "--command", back, world.url], check=True)
