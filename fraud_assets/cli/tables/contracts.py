"""A contract, what a file is like under it, and what a start came to."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.labels import show_feed
from fraud_assets.cli.tables.style import LEFT
from fraud_assets.core.contracts.contract import Column, Contract
from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.core.words import percent


def show_contract(console: Console, contract: Contract) -> None:
    """What a contract says."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for subject, said in _said(contract):
        table.add_row(subject, Text(said))
    console.print(table)


def _said(contract: Contract) -> list[tuple[str, str]]:
    time, label = contract.event_timestamp, contract.label
    form = f"as {time.format}" if time.format else "as ISO 8601 or a timestamp"
    if time.unit:
        form = f"in {time.unit} since {time.origin or '1970-01-01'}"
    if "{month}" in contract.file_pattern:
        files = f"one set of files a month, {contract.file_pattern}"
    else:
        files = f"all in {contract.file_pattern}"
    lines = [
        ("contract", f"{contract.name}: {contract.description or 'no description'}"),
        ("months", f"{contract.first_month} to {contract.last_month or 'now'}, cut in {contract.timezone}; {files}"),
        (
            "identifier",
            _column(contract.transaction_id) if contract.transaction_id else "none: its file and row number stand in",
        ),
        ("time", f"{' '.join(time.columns)}, {form}; in {contract.timezone} where it carries no offset"),
    ]
    lines += [("entity", f"{name}: {_column(column)}") for name, column in contract.entities.items()]
    lines.append(("amount", _column(contract.amount) if contract.amount else "none"))
    lines += [("attribute", f"{name}: {_column(column)}") for name, column in contract.attributes.items()]
    fraud, genuine = (", ".join(values) for values in (label.fraud_values, label.genuine_values))
    if label.feed:
        fraud, genuine = ", ".join(label.feed.fraud_values), ", ".join(label.feed.genuine_values)
        lines.append(("label", f"{label.feed.is_fraud} in {label.feed.file_pattern}: fraud is {fraud}; not {genuine}"))
    else:
        known = f"in {' '.join(label.known.columns)}, at most {label.max_delay_days:g} days" if label.known else None
        known = known or f"{label.delay_days:g} days after the event"
        lines.append(("label", f"{label.column}: fraud is {fraud}; genuine is {genuine}; known {known}"))
    lines.append(("maturity", f"genuine without a report after {contract.maturity_days:g} days"))
    lines.append(
        ("refused", f"a month of which more than {percent(contract.quarantine_limit)} of the rows break the contract")
    )
    return lines


def _column(column: Column) -> str:
    rules: list[str] = [column.type]
    if column.unit:
        rules.append(f"in {column.unit}")
    if column.scale != 1:
        rules.append(f"times {column.scale:g}")
    if column.extract is not None:
        rules.append(f"extract {column.extract}")
    if column.minimum is not None:
        rules.append(f"from {column.minimum:g}")
    if column.maximum is not None:
        rules.append(f"up to {column.maximum:g}")
    if column.categories is not None:
        rules.append(f"one of {', '.join(column.categories)}")
    if column.pattern is not None:
        rules.append(f"matching {column.pattern}")
    if column.nullable:
        rules.append("may be missing")
    if column.feature is not None:
        rules.append("given to models" if column.feature else "not given to models")
    return f"{column.column} ({', '.join(rules)})"


def show_prepared(console: Console, started: dict[str, Any]) -> None:
    """What was written before the run, and what a person shall look at in it."""
    verb = "is written" if started["contract_is_new"] else "exists already and is used as it is"
    console.print(f"The contract {verb}: [bold]{escape(str(started['contract']))}[/]", highlight=False, soft_wrap=True)
    console.print(f"The settings are in [bold]{escape(str(started['env']))}[/]", highlight=False, soft_wrap=True)
    if started["to_confirm"]:
        console.print("Please confirm there when you have time; until then it is used as written:", highlight=False)
    for question in started["to_confirm"]:
        console.print(f"- {escape(question)}", highlight=False, soft_wrap=True)


def show_started(console: Console, started: dict[str, Any], missing: str | None) -> None:
    """Where `fraud start` ended, and what to do next."""
    if missing:
        console.print(
            f"\n[bold yellow]Not yet:[/] {escape(missing)}.".replace("..", "."), highlight=False, soft_wrap=True
        )
    else:
        console.print(f"\n[bold green]Version {started['version']} is live.[/]", highlight=False)
        console.print(
            f"Its threshold rests on these figures: {started['costs']}, and {started['review_capacity']:,} reviews "
            "a day are possible. Set your own in "
            f"{escape(str(started['env']))}: FRAUD_REVIEW_COST, FRAUD_LOSS_SHARE, FRAUD_FIXED_LOSS and "
            "FRAUD_REVIEW_CAPACITY.",
            highlight=False,
            soft_wrap=True,
        )
    if not started["env_is_default"]:
        console.print(
            f".env names another contract and was left alone. To go on with this one: cp {escape(str(started['env']))} "
            f"{escape(str(started['env'].with_name('.env')))}",
            highlight=False,
            soft_wrap=True,
        )
    if not missing:
        console.print("Next: fraud status, fraud score FILE, fraud serve, fraud dev", highlight=False)


def show_data_check(console: Console, check: dict[str, Any]) -> None:
    """What a contract will make of the data, on one screen."""
    rates = [] if check["fraud_rate"] is None else [f"{percent(check['fraud_rate'])} fraud"]
    rates += [] if check["label_share"] is None else [f"{percent(check['label_share'])} with a label"]
    first, last = (check["months"][end]["month"] if check["months"] else check["month"] for end in (0, -1))
    console.print(
        f"\n[bold]{first if first == last else f'{first} to {last}'}[/]: {check['n_delivered']:,} rows, "
        f"{check['n_accepted']:,} accepted, {check['n_quarantined']:,} quarantined"
        + "".join(f", {rate}" for rate in rates),
        highlight=False,
    )
    if len(check["months"]) > 1:
        console.print(_months_table(check["months"]))
    if check["missing_months"]:
        console.print(f"[yellow]no row in {in_words(check['missing_months'])}[/]", highlight=False, soft_wrap=True)
    _show_uses(console, check["columns"])
    for reason in check["reasons"]:
        console.print(f"  [yellow]{reason['rows']:,}[/] {escape(reason['reason'])}", highlight=False, soft_wrap=True)
        for row in reason["examples"]:
            values = ", ".join(f"{name}={value}" for name, value in row["original"].items())
            line = Text(f"    row {row['row_number']} of {row['source']}: {values}", no_wrap=True, overflow="ellipsis")
            console.print(line)
    if check["refused"]:
        console.print(f"[red]{escape(check['refused'])}[/]", highlight=False, soft_wrap=True)
    if feed := check.get("feed"):
        show_feed(console, feed)


def _months_table(months: list[dict[str, Any]]) -> Table:
    table = Table(**LEFT)
    table.add_column("month")
    for name in ("rows", "quarantined", "fraud", "genuine", "unknown", "fraud of known"):
        table.add_column(name, justify="right")
    for row in months:
        table.add_row(
            f"[red]{row['month']}[/]" if row["refused"] else row["month"],
            f"{row['n_delivered']:,}",
            f"[yellow]{row['n_quarantined']:,}[/]" if row["n_quarantined"] else "-",
            *(f"{row[name]:,}" if row[name] else "-" for name in ("n_fraud", "n_genuine", "n_unknown")),
            "-" if row["fraud_rate"] is None else percent(row["fraud_rate"]),
        )
    return table


def _show_uses(console: Console, columns: list[dict[str, Any]]) -> None:
    """What models can use, and of the rest why not."""
    for part, said in (("entity", "history of"), ("amount", "amount"), ("attribute", "attributes")):
        used = [row["name"] for row in columns if row["part"] == part and row["used"]]
        if used:
            shown = ", ".join(used[:30]) + (f" and {len(used) - 30} more" if len(used) > 30 else "")
            console.print(f"[bold]{said}[/]: {escape(shown)}", highlight=False, soft_wrap=True)
    unused = [row for row in columns if not row["used"]]
    for row in unused[:20]:
        console.print(f"not used: {escape(row['name'])}, {escape(row['why_not'])}", highlight=False, soft_wrap=True)
    if len(unused) > 20:
        console.print(f"not used: {len(unused) - 20} more; --json lists them", highlight=False)
