"""What begins by itself when data arrive: features after transactions and labels, the report after features.

The condition is evaluated by Dagster on a graph with the same edges, whose runs take no time; that the platform's own
assets carry it is looked up.
"""

from __future__ import annotations

import dagster as dg
import pytest

from fraud_assets.defs.partitions import AFTER_ITS_INPUTS, MONTHS

pytest_plugins = ["fraud_assets_tests.worlds"]


@dg.asset(partitions_def=MONTHS)
def raw_transactions() -> None:
    """Transactions."""


@dg.asset(partitions_def=MONTHS)
def fraud_labels() -> None:
    """Labels."""


@dg.asset(partitions_def=MONTHS, deps=[raw_transactions, fraud_labels], automation_condition=AFTER_ITS_INPUTS)
def transaction_features() -> None:
    """Features."""


@dg.asset(partitions_def=MONTHS, deps=[transaction_features], automation_condition=AFTER_ITS_INPUTS)
def drift_report() -> None:
    """Report."""


GRAPH = [raw_transactions, fraud_labels, transaction_features, drift_report]
ALL = [asset.key.to_user_string() for asset in GRAPH]


class Months:
    """A graph whose months are made by hand, and what would be made by itself at each look."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, None

    def make(self, month: str, *names: str) -> None:
        """One run that makes a month of these assets."""
        dg.materialize(GRAPH, selection=list(names), partition_key=month, instance=self.instance)

    def asked(self) -> set[tuple[str, str]]:
        """The months that are asked for now."""
        looked = dg.evaluate_automation_conditions(
            dg.Definitions(assets=GRAPH), self.instance, dg.AssetSelection.assets(*ALL), cursor=self.cursor
        )
        self.cursor = looked.cursor
        return {
            (name, month)
            for name in ALL
            for month in looked.get_requested_partitions(dg.AssetKey(name)) or ()
            if month is not None
        }


@pytest.fixture
def months():
    with dg.DagsterInstance.ephemeral() as instance:
        yield Months(instance)


def test_nothing_begins_where_nothing_was_loaded(months):
    assert months.asked() == set()


def test_features_and_report_follow_transactions_and_labels_once(months):
    months.asked()
    months.make("2025-03", "raw_transactions")
    assert months.asked() == set()
    months.make("2025-03", "fraud_labels")
    assert months.asked() == {("transaction_features", "2025-03"), ("drift_report", "2025-03")}
    months.make("2025-03", "transaction_features", "drift_report")
    assert months.asked() == set()
    assert months.asked() == set()


def test_turned_on_late_it_leaves_the_past_alone_and_follows_what_comes(months):
    months.make("2025-02", *ALL)
    months.make("2025-03", "raw_transactions", "fraud_labels")
    assert months.asked() == set()
    months.make("2025-04", "raw_transactions", "fraud_labels")
    assert months.asked() == {("transaction_features", "2025-04"), ("drift_report", "2025-04")}


def test_a_run_that_makes_all_sets_off_nothing(months):
    months.asked()
    for month in ("2025-03", "2025-04"):
        months.make(month, *ALL)
    months.make("2025-03", *ALL)
    assert months.asked() == set()


def test_labels_that_were_added_to_an_earlier_month_are_followed_in_that_month_alone(months):
    for month in ("2025-02", "2025-03"):
        months.make(month, *ALL)
    months.asked()
    months.make("2025-02", "fraud_labels")
    assert months.asked() == {("transaction_features", "2025-02"), ("drift_report", "2025-02")}


def test_features_made_by_hand_are_followed_by_their_report_only(months):
    months.make("2025-02", *ALL)
    months.asked()
    months.make("2025-02", "transaction_features")
    assert months.asked() == {("drift_report", "2025-02")}
    months.make("2025-02", "drift_report")
    assert months.asked() == set()


def test_a_month_that_failed_is_not_asked_for_again_and_again(months):
    months.asked()
    months.make("2025-03", "raw_transactions", "fraud_labels")
    assert months.asked() == {("transaction_features", "2025-03"), ("drift_report", "2025-03")}
    assert [months.asked() for _ in range(3)] == [set(), set(), set()]


def test_features_and_report_are_what_begins_by_itself_and_the_sensor_for_it_is_off_until_turned_on():
    from fraud_assets.definitions import defs

    repository = defs.get_repository_def()
    graph = repository.asset_graph
    carrying = {
        node.key.to_user_string()
        for node in graph.asset_nodes
        if not node.is_external and node.automation_condition is not None
    }
    assert carrying == {"transaction_features", "drift_report"}
    sensor = repository.get_sensor_def("automation_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert not repository.has_sensor_def("default_automation_condition_sensor")
