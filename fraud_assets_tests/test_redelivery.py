"""A month that is delivered again, through the command, on files in a folder: what is rebuilt, and what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.lineage.staleness import Partition
from fraud_assets.workflows.runs.refresh import open_stale

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

CONTRACT = """
name: redelivery_tests
first_month: 2025-01
last_month: 2025-03
file_pattern: "cards_{month}.csv"
transaction_id: {column: id, type: string}
event_timestamp: {column: at}
entities:
  customer_id: {column: who, type: string}
amount: {column: amount, type: number, minimum: 0}
label: {column: fraud, delay_days: 7}
maturity_days: 14
quarantine_limit: 0.5
"""
JANUARY, FEBRUARY, MARCH = "2025-01", "2025-02", "2025-03"
CHANGING = ("transaction_features", "drift_report", "trained_model", "evaluation")
NOTHING: dict[str, Any] = {"stale": [], "rebuilt": [], "failed": [], "left": []}


@dataclass
class Cards:
    """A folder of deliveries, and the command on it.

    Attributes:
        world: the platform, on the session's server.
        folder: with the contract and one file a month.
        rows: of each month the day and the amount of its rows, by their id.
    """

    world: World
    folder: Path
    rows: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)

    def deliver(self, month: str, changed: dict[str, tuple[int, float] | None]) -> None:
        """Writes a month's file: as it was, but for these rows; None leaves one out."""
        rows = self.rows.get(month, {}) | changed
        self.rows[month] = {name: row for name, row in rows.items() if row is not None}
        lines = [
            f"{name},{month}-{day:02d} 10:00:00,c{day % 3},{amount},{int(day == 10)}\n"
            for name, (day, amount) in self.rows[month].items()
        ]
        (self.folder / f"cards_{month}.csv").write_text("id,at,who,amount,fraud\n" + "".join(lines), encoding="utf-8")

    def run(self, first: str, last: str, *more: str) -> Step:
        """`fraud run --json` for these months."""
        done = self.world.fraud("run", "--from", first, "--to", last, "--json", *more)
        settings = self.world.settings
        stored = {partition: digest for partition, (digest, _) in open_store(settings).current().items()}
        stale = {one.partition: one.changes for one in open_stale(settings)}
        return Step(json.loads(done.stdout)["refreshed"], done.stderr, stored, stale)


@dataclass(frozen=True)
class Step:
    """What came of a run.

    Attributes:
        refreshed: what it says was rebuilt.
        told: what it told beside its JSON.
        stored: the digest of each stored month, by table and month.
        stale: what is stale after it, and the changes behind it.
    """

    refreshed: dict[str, Any]
    told: str
    stored: dict[Partition, str]
    stale: dict[Partition, tuple[str, ...]]

    def months_changed_since(self, before: Step) -> set[str]:
        """The months of which a table has other rows than after `before`."""
        return {month for (table, month), digest in self.stored.items() if digest != before.stored[table, month]}


@pytest.fixture(scope="module")
def steps(home: Path, server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    """Three months in order; January and March are delivered again, and only January is run; once more; February."""
    from fraud_assets_tests.worlds import World

    server("redelivery_tests")
    folder = tmp_path_factory.mktemp("cards")
    given = {
        "FRAUD_CONTRACT": str(folder / "cards.yaml"), "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": str(folder),
    }  # fmt: skip
    cards = Cards(World(home, given), folder)
    (cards.folder / "cards.yaml").write_text(CONTRACT, encoding="utf-8")
    for month in (JANUARY, FEBRUARY, MARCH):
        cards.deliver(month, {f"{month}-{day:02d}": (day, day + 0.5) for day in range(1, 11)})
    found = {"in order": cards.run(JANUARY, MARCH)}
    # One altered, one left out, one new.
    cards.deliver(JANUARY, {"2025-01-08": (8, 99.0), "2025-01-09": None, "2025-01-20": (20, 5.0)})
    cards.deliver(MARCH, {"2025-03-01": (1, 77.0)})
    found["left"] = cards.run(JANUARY, JANUARY, "--no-refresh")
    # And with an id that February has, which belongs to the first month that has it.
    cards.deliver(JANUARY, {"2025-01-08": (8, 100.0), "2025-02-05": (21, 6.0)})
    found["made anew"] = cards.run(JANUARY, JANUARY)
    found["February"] = cards.run(FEBRUARY, FEBRUARY)
    return found


def test_months_run_in_order_make_nothing_anew(steps: dict[str, Step]) -> None:
    assert steps["in order"].refreshed == NOTHING
    assert "stale" not in steps["in order"].told


def test_without_refresh_later_months_are_left_and_told_with_the_command_that_makes_them_anew(
    steps: dict[str, Step],
) -> None:
    left = steps["left"]
    assert left.months_changed_since(steps["in order"]) == {JANUARY}
    assert left.refreshed["rebuilt"] == []
    assert left.refreshed["left"] == left.refreshed["stale"]
    found = {(one["table"], one["month"]) for one in left.refreshed["left"]}
    assert found >= {(table, month) for table in CHANGING for month in (FEBRUARY, MARCH)}
    assert {month for _, month in found} == {FEBRUARY, MARCH}
    was, now = (steps[name].stored["raw_transactions", JANUARY][:8] for name in ("in order", "left"))
    assert (
        f"{len(found)} months of tables (2025-02 to 2025-03) became stale by this run and are left stale "
        f"(`fraud refresh` rebuilds them): raw_transactions 2025-01 has changed since (was {was}, is {now}); "
    ) in left.told


def test_a_month_delivered_again_makes_later_months_anew_right_away_in_order_and_once(steps: dict[str, Step]) -> None:
    made = steps["made anew"]
    rebuilt = [(one["table"], one["month"]) for one in made.refreshed["rebuilt"]]
    assert len(rebuilt) == len(set(rebuilt))
    assert [month for _, month in rebuilt] == sorted(month for _, month in rebuilt)
    for month in (FEBRUARY, MARCH):
        assert [table for table, of in rebuilt if of == month and table in CHANGING] == list(CHANGING)
    assert (made.refreshed["failed"], made.refreshed["left"]) == ([], [])
    n = len(made.refreshed["stale"])
    assert f"{n} months of tables (2025-02 to 2025-03) became stale by this run and are rebuilt: " in made.told


def test_a_row_s_id_goes_to_the_first_month_that_has_it_although_that_came_later(steps: dict[str, Step]) -> None:
    assert "2025-01 came later, with ids among those of 2025-02" in steps["made anew"].told
    assert "2025-02  raw_transactions 1 removed; quarantined_transactions 1 added" in steps["made anew"].told


def test_only_transactions_of_the_customers_whose_past_changed_have_other_features(steps: dict[str, Step]) -> None:
    """Customers are days modulo 3.

    January changed for c2 (the 8th and 20th) and c0 (the 9th and 21st): in February that is c2 on the 2nd and 8th, c0
    on the 3rd, 6th and 9th. In March, within ninety days, it is c2 on the 2nd, 5th and 8th, c0 on the 3rd, 6th and 9th.
    """
    found = {one["month"]: one for one in steps["made anew"].refreshed["rebuilt"] if one["table"] == CHANGING[0]}
    assert {month: (one["added"], one["removed"], one["altered"]) for month, one in found.items()} == {
        FEBRUARY: (0, 1, 5),
        MARCH: (0, 0, 6),
    }


def test_what_was_made_anew_is_what_a_run_of_its_month_makes(steps: dict[str, Step]) -> None:
    assert steps["February"].months_changed_since(steps["made anew"]) == set()
    assert steps["February"].refreshed == NOTHING


def test_what_was_stale_for_another_reason_is_left(steps: dict[str, Step]) -> None:
    """March was delivered again too, but nobody ran it."""
    for name in ("left", "made anew"):
        [change] = steps[name].stale["raw_transactions", MARCH]
        assert change.startswith("the delivery of 2025-03 has changed since")
        assert steps[name].stored["raw_transactions", MARCH] == steps["in order"].stored["raw_transactions", MARCH]
    assert {partition for partition, changes in steps["made anew"].stale.items() if changes} == {
        (table, MARCH) for table in ("quarantined_transactions", "delivered_labels", "raw_transactions")
    }
