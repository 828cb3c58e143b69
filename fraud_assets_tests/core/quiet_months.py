"""Months of card transactions in which nothing moves, and how the tests of drift look at them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.monitoring.verdict import judge_month

CONFIG = DriftConfig()
CLUSTERS = ("customer_id", "terminal_id")


class World:
    """Customers with a level and a pace of their own, at terminals with a level of theirs; nothing moves."""

    def __init__(self, seed, customers=250, terminals=150):
        self.rng = np.random.default_rng(seed)
        self.level = self.rng.normal(3.5, 0.6, customers)
        self.pace = self.rng.gamma(3, 0.4, customers)
        self.surcharge = self.rng.normal(0, 0.3, terminals)

    def window(self, start, days, day_shock=0.0):
        """A table of `days` days from `start`."""
        rng, customers = self.rng, len(self.level)
        counts = rng.poisson(np.tile(self.pace, days))
        customer = np.repeat(np.tile(np.arange(customers), days), counts)
        day = np.repeat(np.repeat(np.arange(days), customers), counts)
        terminal = (customer * 7 + rng.integers(0, 12, len(customer))) % len(self.surcharge)
        shock = rng.normal(0, day_shock, days)
        log_amount = self.level[customer] + self.surcharge[terminal] + shock[day]
        seconds = rng.integers(0, 86_400, len(customer))
        origin = np.datetime64(start, "us")
        return pa.table(
            {
                "event_timestamp": pa.array(
                    origin + day * np.timedelta64(1, "D") + seconds * np.timedelta64(1, "s"),
                    pa.timestamp("us", tz="UTC"),
                ),
                "customer_id": customer,
                "terminal_id": terminal,
                "amount": np.exp(rng.normal(log_amount, 0.5)),
                "customer_level": self.level[customer],
                "noise": rng.normal(size=len(customer)),
            }
        )

    def months(self, *, day_shock=0.0, pace_shock=0.0):
        """Two months; `day_shock` moves all amounts of a day, `pace_shock` a customer's pace in June."""
        may = self.window("2018-05-01", 31, day_shock)
        if pace_shock:
            self.pace = self.pace * self.rng.gamma(1 / pace_shock, pace_shock, len(self.pace))
        return may, self.window("2018-06-01", 30, day_shock)


def replaced(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def amounts(table):
    return table["amount"].to_numpy().copy()


def compare(reference, current, *features, clusters=CLUSTERS, config=CONFIG, **others):
    return measure_drift(reference, current, features=features, clusters=clusters, config=config, **others)


def status(findings):
    return judge_month(findings).drift_status


def told(findings, feature, kind="covariate"):
    """The finding of one kind about one feature."""
    (finding,) = [one for one in findings if (one.feature, one.kind) == (feature, kind)]
    return finding
