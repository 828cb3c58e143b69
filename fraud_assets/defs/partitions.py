"""The months, and what all assets have in common.

Every asset's month depends, for Dagster, on the same month of the assets before it, so that a backfill of some months
runs these months, each in one run, oldest first. The earlier months that an asset also looks at it reads from the
tables: if Dagster knew of them, it would extend a backfill of one month to every later month that looks back at it.

Dagster finds the code location by its name, imports it, and hands nothing in, and it needs the months, columns and
sensors while it does. So this is the one place that reads the settings at import; the code location is built on them. A
command of `fraud` builds it on its own (`definitions.py`), and takes only the contract from here.
"""

import base64
from collections.abc import Iterable
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.core.lineage.tables.declared import TABLES, WRITTEN_ELSEWHERE
from fraud_assets.core.months import month_end
from fraud_assets.settings import read_settings

SETTINGS = read_settings()
CONTRACT = SETTINGS.loaded_contract

MONTHS = dg.MonthlyPartitionsDefinition(
    start_date=CONTRACT.first_month,
    end_date=f"{month_end(CONTRACT.last_month):%Y-%m}" if CONTRACT.last_month else None,
    fmt="%Y-%m",
    timezone=CONTRACT.timezone,
)
# When a month that it is made of is new, and none of them is missing or in work: in any month and not the latest only,
# because late deliveries and labels are about earlier ones. A run that makes both by itself sets off nothing.
AFTER_ITS_INPUTS = dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
RANGE_IN_ONE_RUN = dg.BackfillPolicy.single_run()
PERSONAL = {"pii": "true"}  # of a column that names somebody, and of an asset with such a column
MONTH_BY_MONTH = dg.BackfillPolicy.multi_run(1)
# Training keeps every core busy: where dagster.yaml lets several runs go on at once, one of them trains.
TRAINING_POOL = "training"


def describe(name: str, group: str, kinds: set[str]) -> dict[str, Any]:
    """The arguments that every asset shares: group, owner, kinds, tags, and its columns with what they mean."""
    table = (TABLES | WRITTEN_ELSEWHERE)[name](CONTRACT)
    columns = [
        dg.TableColumn(
            field.name,
            str(field.type),
            description=table.descriptions.get(field.name),
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
            tags=PERSONAL if field.name in table.personal else {},
        )
        for field in table.schema
    ]
    return {
        "group_name": group,
        "owners": ["team:fraud"],
        "kinds": kinds,
        "tags": {"layer": table.layer or "", **(PERSONAL if table.personal else {})},
        "metadata": {
            "dagster/column_schema": dg.TableSchema(columns),
            "dagster/table_name": f"public.{name}",
        },
    }


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A plot that the Dagster UI opens on a click."""
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def bullets(sentences: Iterable[str]) -> dg.MarkdownMetadataValue:
    """Sentences as a list in the Dagster UI; for people, and never to be read back."""
    return dg.MetadataValue.md("\n".join("- " + sentence.replace("\n", "\n  ") for sentence in sentences))


def single_month(context: dg.AssetExecutionContext) -> str:
    """The month of a run that has one."""
    return str(context.partition_key)


def month_column(rows: pa.Table, months: list[str]) -> pa.Table:
    """The rows with their `month` as a first column.

    Args:
        rows: of one month each, in order.
        months: the month of each row.
    """
    dates = pa.array([f"{month}-01" for month in months], pa.string()).cast(pa.date32())
    return rows.add_column(0, "month", dates)
