"""What evidently, NannyML and tests column by column say of months beside a reference, each with its defaults.

Runs in the interpreter of `requirements-peers.lock`, which has neither the platform nor its packages (evidently does
not load with pandas 3): the files in a folder come in, one JSON object goes out. What counts as found belongs to
`drift.py`.

    python drift_peers.py FOLDER [TOOL ...]

FOLDER has reference.parquet and the months to compare with it, `current*.parquet`, columns of numbers and texts alone;
and, for the estimate, promise.parquet and `scores*.parquet`, see `cbpe`.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

SIGNIFICANT = 0.05
PSI_LIMIT = 0.2  # where rules of thumb put a large shift
PSI_BINS = 10

# The columns of the current month that a tool calls drifted, given the reference and the month.
Tool = Callable[[pd.DataFrame, pd.DataFrame], list[str]]


def evidently_columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """The columns that evidently's drift preset calls drifted; its verdict on the month needs half of them."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    found = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
    drifted = []
    for metric in found:
        config = metric["config"]
        if not config["type"].endswith("ValueDrift"):
            continue
        # Of tests the value is a p-value; of distances, which it takes from 1,000 rows on, the distance.
        value, limit = metric["value"], config["threshold"]
        if value < limit if "p_value" in config["method"] else value >= limit:
            drifted.append(config["column"])
    return drifted


def nannyml_columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """The columns with an alert in any of the chunks of NannyML's univariate drift."""
    import nannyml

    columns = list(reference.columns)
    calculator = nannyml.UnivariateDriftCalculator(column_names=columns).fit(reference)
    found = calculator.calculate(current).filter(period="analysis").to_df()
    alerts = found.xs("alert", axis=1, level=-1).any()
    return sorted({name for (name, *_), alert in alerts.items() if alert})


def rejected_columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """The columns that a Kolmogorov-Smirnov test, or chi-squared where they are texts, rejects at 0.05."""
    from scipy.stats import chi2_contingency, ks_2samp

    drifted = []
    for name in reference.columns:
        before, now = reference[name].dropna(), current[name].dropna()
        if pd.api.types.is_numeric_dtype(before):
            p = ks_2samp(before, now, method="asymp").pvalue
        else:
            counts = pd.DataFrame({"before": before.value_counts(), "now": now.value_counts()}).fillna(0)
            p = chi2_contingency(counts.to_numpy()).pvalue
        if p < SIGNIFICANT:
            drifted.append(name)
    return drifted


def psi_columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """The columns whose population stability index, over deciles of the reference or its values, is above 0.2."""
    drifted = []
    for name in reference.columns:
        before, now = reference[name], current[name]
        if pd.api.types.is_numeric_dtype(before):
            edges = np.unique(np.nanquantile(before, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
            # A missing value is a bin of its own, the last.
            before, now = (
                pd.Series(np.where(side.isna(), len(edges) + 1, np.searchsorted(edges, side, side="right")))
                for side in (before, now)
            )
        shares = pd.DataFrame({"before": before.value_counts(normalize=True), "now": now.value_counts(normalize=True)})
        shares = shares.fillna(0).clip(lower=1e-4)
        if ((shares["now"] - shares["before"]) * np.log(shares["now"] / shares["before"])).sum() > PSI_LIMIT:
            drifted.append(name)
    return drifted


def cbpe(promise: pd.DataFrame, scores: pd.DataFrame) -> float:
    """The average precision that NannyML's CBPE estimates for a month.

    Args:
        promise: `y_pred_proba`, `y_pred` and `y_true` of transactions that the model had not seen.
        scores: `y_pred_proba` and `y_pred` of the month's.
    """
    import nannyml

    estimator = nannyml.CBPE(
        metrics=["average_precision"],
        y_pred_proba="y_pred_proba",
        y_pred="y_pred",
        y_true="y_true",
        problem_type="classification_binary",
        chunk_number=1,
    ).fit(promise)
    found = estimator.estimate(scores).filter(period="analysis").to_df()
    return float(found["average_precision", "value"].iloc[0])


TOOLS: dict[str, Tool] = {
    "evidently": evidently_columns,
    "nannyml": nannyml_columns,
    "tests": rejected_columns,
    "psi": psi_columns,
}


def main(folder: Path, tools: list[str]) -> int:
    # Both send what is called, and from where, unless this is set before they are loaded.
    os.environ["NML_DISABLE_USAGE_LOGGING"] = os.environ["DO_NOT_TRACK"] = "1"
    # Of constant columns, deprecated functions and the like: theirs, and nothing that this script could mend.
    warnings.simplefilter("ignore")
    reference = pd.read_parquet(folder / "reference.parquet")
    said: dict[str, dict[str, object]] = {}
    for file in sorted(folder.glob("current*.parquet")):
        current = pd.read_parquet(file)
        found = {tool: TOOLS[tool](reference, current) for tool in tools or TOOLS}
        said[file.stem] = {"columns": list(current.columns), **found}
    for file in sorted(folder.glob("scores*.parquet")):
        said[file.stem] = {"cbpe": cbpe(pd.read_parquet(folder / "promise.parquet"), pd.read_parquet(file))}
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
