"""The platform's statistics alone on the files of a folder, as `drift_peers.py` runs the peers, to race processes.

The folder has reference.parquet, current.parquet and earlier months `past *.parquet`, without which the platform calls
no small move drift; each with the columns that are compared, times, customers and terminals.

    python -m benchmarks.drift_ours FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.monitoring.verdict import judge_month

TIME, CARD, TERMINAL = "event_timestamp", "customer_id", "terminal_id"


def main(folder: Path) -> int:
    reference, current = (pq.read_table(folder / f"{name}.parquet") for name in ("reference", "current"))
    findings = measure_drift(
        reference,
        current,
        past=[pq.read_table(file) for file in sorted(folder.glob("past *.parquet"))],
        features=[name for name in current.column_names if name not in (TIME, CARD, TERMINAL)],
        clusters=(CARD, TERMINAL),
        card=CARD,
        config=DriftConfig(),
    )
    print(judge_month(findings).drift_status)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
