"""Keys of callers."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fraud_assets.core.access.api_keys import ApiKey
from fraud_assets.core.words import number


def show_keys(console: Console, keys: Sequence[ApiKey]) -> None:
    """The keys of the scoring service, without what is secret."""
    if not keys:
        console.print("There are no API keys: the service answers its own machine alone.", highlight=False)
        return
    table = Table("key of", "roles", "requests a minute", "made", box=box.SIMPLE)
    for one in keys:
        rate = "any number" if one.requests_per_minute is None else number(one.requests_per_minute)
        table.add_row(one.name, ", ".join(one.roles), rate, f"{one.created_at:%Y-%m-%d %H:%M}")
    console.print(table)
