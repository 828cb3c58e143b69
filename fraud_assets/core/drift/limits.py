"""The limits of the drift report's tests of what comes in, each with the reason for its default.

Those that a team sets are settings (`settings.py`): the p, the shares of rows, PSI, missing values and volume. The
others are no settings, because the p are only right together with them: how many bins, rows, days and earlier months
a comparison needs so that its statistic holds, and how many rows are read. Limits for labels, concept and all columns
together stand where these are measured; they were measured together on simulated worlds, so that one of them alone
cannot be set without a new measurement of false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class DriftConfig:
    """The limits of the verdict, each with the reason for its default.

    Attributes:
        bins: quantile bins of the reference. Ten is what PSI's usual limits (0.10, 0.25) are stated for.
        categories: values of a text that are told apart, the reference's most frequent; the others are one. Twenty,
            so that a text of a million values costs no more than a number.
        drift_p: DRIFT needs an adjusted p below it. 0.005: at 0.01, months of simulated worlds in which only
            shared shocks happened were still called drift.
        delivered_drift_p: the same of the values that the source delivers. 0.025: of these columns, quiet months do
            not come near `drift_total_variation`, so p need not hold them off alone; and over six months
            with shocks that all rows share, a 5 % rise of amounts reaches p = 0.02 at most.
        watch_p: WATCH needs an adjusted p below it. 0.025 for each of the two families of columns is at most one quiet
            month in twenty, and WATCH costs a look, not a retraining.
        unsure_drift_p, unsure_watch_p: the same where fewer earlier months than `min_history` tell how much months
            differ. 0.001 and 0.01: there, of small months, chance alone makes a move as large as `psi_limit`, so that
            p is all that holds it off.
        min_total_variation: WATCH needs at least this share of rows in another bin. 0.005: with 290,000 rows
            smaller moves are measurable, and no one acts on half a row in a hundred.
        drift_total_variation: DRIFT needs at least this share. 0.018: amounts that rise by a twentieth move 2.1 to
            2.3 % of rows; in worlds with shocks that all rows share, quiet months reach 1.5 %.
        min_history: earlier months that must tell how much months differ before a move that is not large can be
            DRIFT. 3: two give a single difference.
        psi_limit: a move is large from this PSI on. 0.10 is the conventional lower bound of a moderate shift; 16
            features of unchanged months of the Handbook data stay below 0.002.
        missing_limit: likewise a rise of the share of missing or new values (0 to 1). 0.05: to a model, one row in
            twenty without the feature.
        reference_rows: rows of the reference that are looked at; of more, one in so many, evenly. 300,000: as many as
            a month of the Handbook has, so that most of what is uncertain comes from the month and not from this.
        score_rows: likewise of each earlier month, where scores are compared, which costs the most. 100,000: with
            50,000 of all columns, months seemed to differ so much that amounts times 1.05 were only watched.
        min_rows: rows a window must have for so many bins. 500 is fifty a bin; below that PSI from chance alone comes
            near its limit (about 9 degrees of freedom x 2 / 500 = 0.04 even if rows were independent). Of fewer rows,
            fewer bins are told apart, see `for_rows`.
        least_rows: rows a window must have at all. 50: two bins of 25, where chi-squared still holds.
        min_days: days a window must have. With fewer than 5 the variance between days is a guess.
        min_values: values a feature must have on each side for its bins to be compared; below that only the
            share of missing is. 100 is ten a bin.
        share_floor: a share below it counts as this in the PSI, which would be infinite for a bin that is
            empty on one side. 0.0001, as is common.
        volume_note: a change of rows a day (0.05 is 5 %) that is worth a WATCH if it is beyond chance. 0.05, because
            quiet months differ by less (by 1 % in the Handbook data).

    Raises:
        ValueError: when a limit is out of its range.
    """

    bins: int = 10
    categories: int = 20
    drift_p: float = 0.005
    delivered_drift_p: float = 0.025
    watch_p: float = 0.025
    unsure_drift_p: float = 0.001
    unsure_watch_p: float = 0.01
    min_total_variation: float = 0.005
    drift_total_variation: float = 0.018
    min_history: int = 3
    psi_limit: float = 0.10
    missing_limit: float = 0.05
    reference_rows: int = 300_000
    score_rows: int = 100_000
    min_rows: int = 500
    least_rows: int = 50
    min_days: int = 5
    min_values: int = 100
    share_floor: float = 1e-4
    volume_note: float = 0.05

    def for_rows(self, rows: int) -> DriftConfig:
        """The limits for windows of so many rows: as many in a bin as ever, hence fewer bins; and values likewise.

        >>> [DriftConfig().for_rows(rows).bins for rows in (50, 120, 300, 500, 10_000)]
        [2, 2, 6, 10, 10]
        """
        if rows >= self.min_rows:
            return self
        share = rows / self.min_rows
        return replace(
            self,
            bins=max(2, round(self.bins * share)),
            categories=max(2, round(self.categories * share)),
            min_values=max(min(self.least_rows // 2, self.min_values), round(self.min_values * share)),
            min_rows=min(self.least_rows, self.min_rows),
        )

    @property
    def is_small(self) -> bool:
        """Whether these are the limits for few rows."""
        return self.min_rows <= self.least_rows

    def __post_init__(self) -> None:
        for name in ("drift_p", "delivered_drift_p"):
            if not 0 < getattr(self, name) <= self.watch_p < 1:
                raise ValueError(f"need 0 < {name} <= watch_p < 1, got {getattr(self, name)} and {self.watch_p}")
        if not 0 < self.unsure_drift_p <= self.unsure_watch_p < 1:
            given = f"{self.unsure_drift_p} and {self.unsure_watch_p}"
            raise ValueError(f"need 0 < unsure_drift_p <= unsure_watch_p < 1, got {given}")
        for name, least in (
            ("bins", 2), ("categories", 1), ("min_history", 2), ("reference_rows", 1), ("score_rows", 1),
            ("min_rows", 1), ("least_rows", 1), ("min_days", 2), ("min_values", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        # Of two windows that share nothing, the index has no upper bound.
        if self.psi_limit <= 0:
            raise ValueError(f"psi_limit must be above 0, got {self.psi_limit}")
        for name in (
            "missing_limit",
            "min_total_variation",
            "drift_total_variation",
            "share_floor",
            "volume_note",
        ):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
