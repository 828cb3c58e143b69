"""What `fraud erase` and `fraud retain` tell people: each place, what became of it or would, and what is left."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from fraud_assets.adapters import dagster_storage
from fraud_assets.cli import app
from fraud_assets.cli.upkeep import people
from fraud_assets.workflows.people import erase, retain

PLACES: dict[str, Any] = {
    "months": {"raw_transactions": {"2024-01": 1500, "2024-02": 2}},
    "rows": {"public.scored_transactions": 3},
    "files": ["/home/old.parquet", "/home/refused.jsonl"],
    "left": ["the backup /b still has these rows"],
}
NOTHING: dict[str, Any] = {"months": {}, "rows": {}, "files": [], "left": []}


def told(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], *command: str) -> list[str]:
    """What a command prints where this was found."""
    monkeypatch.setattr(people, "open_settings", lambda **_: SimpleNamespace(retention_months=12))
    monkeypatch.setattr(dagster_storage, "busy_instance", lambda _: nullcontext())
    for workflow in (erase, retain):
        monkeypatch.setattr(workflow, "look", lambda *_: found)
    monkeypatch.setattr(erase, "erase", lambda *_, **__: found)
    monkeypatch.setattr(retain, "retain", lambda *_, **__: found)
    result = CliRunner().invoke(app, command, env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_erase_tells_what_would_change_and_what_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = PLACES | {"erased": False, "entity": "customer_id", "pseudonym": "p-1"}
    assert told(monkeypatch, found, "erase", "customer", "17") == [
        "raw_transactions: 2024-01: 1,500, 2024-02: 2 rows would get a pseudonym",
        "public.scored_transactions: 3 rows would get a pseudonym",
        "/home/old.parquet would be changed",
        "/home/refused.jsonl would be changed",
        "Would not be changed by this command:",
        "- the backup /b still has these rows",
        "Nothing was changed; give --yes to do it.",
    ]
    found |= {"erased": True, "complete": True}
    assert told(monkeypatch, found, "erase", "customer", "17", "--yes") == [
        "raw_transactions: 2024-01: 1,500, 2024-02: 2 rows have a pseudonym",
        "public.scored_transactions: 3 rows have a pseudonym",
        "/home/old.parquet was changed",
        "/home/refused.jsonl was changed",
        "Not changed by this command:",
        "- the backup /b still has these rows",
        "From now on customer_id is p-1 here, also when the identifier is delivered again.",
    ]


def test_retain_tells_what_would_go_and_what_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = PLACES | {"removed": False, "kept_from": "2024-03", "versions": ["version 1 cannot be made again"]}
    assert told(monkeypatch, found, "retain") == [
        "raw_transactions: 2024-01: 1,500, 2024-02: 2 rows would be removed",
        "public.scored_transactions: 3 rows would be removed",
        "/home/old.parquet would be deleted",
        "/home/refused.jsonl would lose old scores",
        "- version 1 cannot be made again",
        "Would not be removed by this command:",
        "- the backup /b still has these rows",
        "Rows from 2024-03 on stay. Nothing was changed; give --yes to do it.",
    ]
    assert told(monkeypatch, found | {"removed": True}, "retain", "--yes") == [
        "raw_transactions: 2024-01: 1,500, 2024-02: 2 rows were removed",
        "public.scored_transactions: 3 rows were removed",
        "/home/old.parquet was deleted",
        "/home/refused.jsonl lost old scores",
        "- version 1 cannot be made again",
        "Not removed by this command:",
        "- the backup /b still has these rows",
        "Rows from 2024-03 on are kept; so are all counts, reports, models and the ledger.",
    ]


def test_both_say_that_nothing_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = NOTHING | {"erased": False, "entity": "customer_id"}
    assert told(monkeypatch, found, "erase", "customer", "17")[0] == "no row has this identifier"
    found = NOTHING | {"removed": False, "kept_from": "2024-03", "versions": []}
    assert told(monkeypatch, found, "retain")[0] == "no row of a person is from before 2024-03"
