"""How the `fraud` command shows things to people; what is shown comes from `workflows/status.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fraud_assets.core.access.api_keys import ApiKey
from fraud_assets.core.contracts.contract import Column, Contract
from fraud_assets.core.decisions.alerts import run_of
from fraud_assets.core.decisions.retention import Choice
from fraud_assets.core.decisions.retention import in_words as kinds_in_words
from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.core.models.decision_rule import figure
from fraud_assets.core.monitoring.verdict import in_sentences, in_short
from fraud_assets.core.reasons import joined, read_reasons
from fraud_assets.core.words import number, percent

COLOURS = {"OK": "green", "WATCH": "yellow", "DRIFT": "red", "INSUFFICIENT_DATA": "dim"}
LEFT: dict[str, Any] = {"title_justify": "left", "title_style": ""}
METRICS = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "card_precision_at_100": "card precision@100",
}


def show_status(console: Console, status: dict[str, Any]) -> None:
    """The state of the platform on one screen."""
    parts: list[Any] = [_live(status["champion"])]
    if status["champion"] and status["champion"]["decisions"]["rule"]:
        parts += ["", _promise(status["champion"])]
    if status["champion"] and status["champion"]["evaluation"]:
        parts += ["", _metrics(status["champion"])]
    parts += ["", _drift_line(status["drift"])]
    # What drift says has a line of its own.
    remarks = [remark for remark in status["why"] if remark["subject"] != "drift"]
    if remarks:
        parts += ["", Text.from_markup(f"[bold]In {remarks[0]['month']}:[/]"), *map(remark_line, remarks)]
    said = {remark["month"] for remark in remarks if remark["subject"] == "labels"}
    if labels := [one for one in status["labels"] if one["month"] not in said]:
        parts += ["", *_label_lines(labels)]
    if status["stale"]:
        parts += ["", stale_table(status["stale"])]
    if status["removed"]:
        parts += ["", Text(status["removed"][0].upper() + status["removed"][1:] + ".", style="dim")]
    if status["waiting"]:
        parts += ["", *(Text(waiting_line(one), style="yellow") for one in status["waiting"])]
    if status["scores"]:
        parts += ["", _scores_line(status["scores"])]
    for one in status.get("challengers", []):
        parts += ["", *_challenger_lines(one)]
    if status["disagreements"]:
        parts += ["", *(Text(one["sentence"], style="red") for one in status["disagreements"])]
    if status["dead_runs"]:
        parts += ["", *(Text(f"{one['sentence']}; run it again", style="red") for one in status["dead_runs"])]
    console.print(Panel(Group(*parts), title=f"fraud platform: {status['contract']}", expand=False, padding=(1, 2)))
    commands = Table.grid(padding=(0, 2))
    commands.add_row("[bold]make dev[/]", "the graph, runs and sensor (port 3000), the models (5001)")
    commands.add_row("[bold]make serve[/]", "the live model over HTTP (port 5000)")
    commands.add_row("[bold]fraud status[/]", "this summary again (.venv/bin/fraud); --json for machines")
    console.print(commands)


def waiting_line(one: Mapping[str, Any]) -> str:
    """What waits for a person, until when, and how to answer."""
    beside = "nothing is live" if one["champion"] is None else f"version {one['champion']} is live"
    return (
        f"Version {one['version']} passed on the evidence of {one['month']} and waits for a person until "
        f"{one['until']:%Y-%m-%d %H:%M} UTC, while {beside}: fraud approve {one['version']} --reason TEXT, or reject"
    )


def _scores_line(scores: Mapping[str, Any]) -> Text:
    """How many scores are kept; in red where some are lost."""
    style = "red" if scores["lost"] or scores["refused"] else "yellow" if scores["error"] else ""
    return Text(scores["sentence"], style=style)


def _challenger_lines(one: Mapping[str, Any]) -> list[Text]:
    """What a version beside the champion has done, and how it compares."""
    style = "yellow" if one["problem"] else ""
    lines = [Text(f"Challenger: {one['sentence']}", style=style)]
    if one["comparison"]:
        lines.append(Text(f"In {one['comparison']['month']:%Y-%m}: {one['comparison']['sentence']}"))
    return lines


def _label_lines(found: list[dict[str, Any]], limit: int = 3) -> list[Text]:
    """What is wrong with the label feed, of the newest months."""
    lines = [Text(f"Labels of {one['month']}: {one['sentence']}", style="yellow") for one in found[-limit:]]
    return lines + ([Text(f"and of {len(found) - limit} months before", style="yellow")] if len(found) > limit else [])


def stale_table(stale: list[dict[str, Any]], limit: int = 3) -> Table:
    """The stale months by table, with the first `limit` of the changes behind it."""
    table = Table(title=f"Stale: {len(stale)} months of tables; `fraud refresh` rebuilds them", **LEFT)
    for name in ("table", "months", "why"):
        table.add_column(name, no_wrap=name == "table")
    for name in dict.fromkeys(row["table"] for row in stale):
        rows = [row for row in stale if row["table"] == name]
        known: list[str] = list(dict.fromkeys(reason for row in rows for reason in row["changes"]))
        more = [f"and {len(known) - limit} more changes"] if len(known) > limit else []
        why = known[:limit] + more or ["built on stale months; may turn out unchanged"]
        table.add_row(name, in_words(row["month"] for row in rows), "\n".join(why))
    return table


def show_decision(console: Console, found: dict[str, Any], most: int) -> None:
    """What was behind the score of a transaction."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("[bold]transaction[/]", _named(found["transaction"]))
    model = found["model"]
    if model is None:
        facts.add_row("[bold]model[/]", escape(found["why_no_model"]))
    else:
        since = f"live since the evidence of {model['since_month']}" if model["since_month"] else "it was not live then"
        facts.add_row("[bold]model[/]", f"version {model['version']}, {model['family'].replace('_', ' ')}; {since}")
        facts.add_row("", f"trained on what was known at {model['labels_as_of']}, digest {model['digest'][:12]}")
        facts.add_row(
            "[bold]score[/]", f"{found['score']:.4f}, threshold {model['threshold']:.4f}: {found['decision']}"
        )
    for name, said in (("at_month_end", "at the month's end"), ("now", "with all labels stored")):
        facts.add_row(
            "[bold]label[/]" if name == "at_month_end" else "", f"{said}: {_label_words(found['label'][name])}"
        )
    console.print(facts, highlight=False)
    if found["not_explained"]:
        console.print(f"[yellow]{escape(found['not_explained'])}[/]", highlight=False)
    if found["raw_score"] is not None:
        unit = {"log_odds": "log odds before calibration", "share": "mean share of fraud in the leaves"}[found["unit"]]
        console.print(f"\nbase {found['base']:+.3f}, raw score {found['raw_score']:+.3f} ({unit})", highlight=False)
    shown = Table(title="What the model saw" if model else "Its features", **LEFT)
    for name in ("feature", "value", "moved it by", "in words"):
        shown.add_column(name, justify="right" if name in ("value", "moved it by") else "left")
    for one in found["features"][:most]:
        moved = "" if one["attribution"] is None else f"{one['attribution']:+.3f}"
        shown.add_row(escape(one["feature"]), escape(_cell(one["value"])), moved, escape(one["text"] or ""))
    console.print(shown)
    if len(found["features"]) > most:
        console.print(f"and {len(found['features']) - most} more features; --json has all", highlight=False)


def show_reproduction(console: Console, found: dict[str, Any]) -> None:
    """What came of making a version again."""
    name = f"Version {found['version']}, trained at the end of {found['month']},"
    made = any(is_now for _, is_now in found["digests"].values())
    if found["same"]:
        console.print(f"[green]{name} came out the same, byte for byte.[/]", highlight=False)
    elif made:
        console.print(f"[red]{name} came out another.[/]", highlight=False)
    else:
        console.print(f"[red]{name} cannot be made again: what it was made of has changed.[/]", highlight=False)
    for file, (was, is_now) in found["digests"].items():
        now = "not made" if is_now is None else "the same" if was == is_now else f"now {is_now[:12]}"
        console.print(f"  {file} {was[:12]}: {now}", highlight=False)
    for one in found["changes"]:
        console.print(f"  [red]·[/] {escape(one)}", highlight=False)
    for one in found["differences"]:
        console.print(f"  [yellow]·[/] {escape(one)}", highlight=False)


def _named(row: Mapping[str, Any]) -> str:
    moment = row["event_timestamp"].astimezone(UTC)
    rest = {
        name: value for name, value in row.items()
        if name not in ("transaction_id", "event_timestamp", "ingested_at") and value is not None
    }  # fmt: skip
    told = ", ".join(f"{name} {_cell(value)}" for name, value in rest.items())
    return escape(f"{row['transaction_id']} of {moment:%Y-%m-%d %H:%M:%S} UTC; {told}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else str(value)


def _label_words(label: Mapping[str, Any]) -> str:
    if label["is_fraud"] is None:
        return "not known"
    since = f"{label['known_since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return escape(f"{'fraud' if label['is_fraud'] else 'genuine'}, known since {since} ({label['source']})")


def show_refresh(console: Console, outcome: dict[str, Any]) -> None:
    """What a refresh did, or with `--dry-run` would do."""
    rebuilt, left = outcome["rebuilt"], outcome["left"]
    changed = [one for one in rebuilt if one["changed"]]
    if rebuilt or outcome["failed"]:
        console.print(
            f"{len(rebuilt)} rebuilt, {len(changed)} of them changed; {len(left)} still stale.", highlight=False
        )
    elif not left:
        console.print("Nothing is stale.")
    if left:
        console.print(stale_table(left))


def show_versions(console: Console, table: str, versions: list[dict[str, Any]]) -> None:
    """The versions of a table's months."""
    shown = Table(title=f"Versions of {table}", **LEFT)
    for name in ("month", "digest", "rows", "written (UTC)", "run", "added", "removed", "altered"):
        shown.add_column(name, justify="right" if name in ("rows", "added", "removed", "altered") else "left")
    for row in versions:
        counts = ("-" if row[name] is None else f"{row[name]:,}" for name in ("added", "removed", "altered"))
        shown.add_row(
            row["month"],
            row["digest"][:12],
            f"{row['n_rows']:,}",
            f"{row['written_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            (row["run_id"] or "-")[:8],
            *counts,
        )
    console.print(shown)


def _live(champion: dict[str, Any] | None) -> Text:
    if champion is None:
        return Text.from_markup("[bold]Live:[/] no model has been promoted yet.")
    model = champion["model"] or {}
    # The month may have been trained again since: its row is then about the newer version.
    family = (champion["model"] or champion["evaluation"] or {}).get("family", "not evaluated yet")
    text = Text.from_markup(
        f"[bold]Live:[/] version [bold]{champion['version']}[/], {family}, "
        f"promoted on the evidence of {champion['month']} (at {champion['since']:%Y-%m-%d %H:%M} UTC)\n"
    )
    if model.get("training_from"):
        text.append(
            f"Trained on {model['n']:,} transactions, {model['n_fraud']:,} frauds, "
            f"{model['training_from']:%Y-%m-%d} to {model['training_to']:%Y-%m-%d}\n"
        )
    text.append(f"Why:  {joined(read_reasons(champion['reasons']))}\n")
    text.append(f"Bento: {champion['bento_tag'] or 'not packaged yet'}")
    return text


def remark_line(remark: Mapping[str, Any]) -> Text:
    """A remark of a month (`decisions/why.py`): ! where somebody should look, a dot where it is the usual course."""
    mark = ("\u00b7 ", "dim") if remark["is_usual"] else ("! ", "yellow")
    return Text.assemble("  ", mark, (remark["sentence"], "dim" if remark["is_usual"] else ""))


def _promise(champion: dict[str, Any]) -> Group:
    """The decision rule, what it promised, what came of it, and the share of the promise that this is."""
    decisions, row = champion["decisions"], champion["evaluation"]
    table = Table(**LEFT)
    table.add_column("at the threshold")
    table.add_column("promised on validation", justify="right")
    table.add_column(f"in {row['month']:%Y-%m}" if row else "not judged yet", justify="right")
    table.add_column("share", justify="right")
    for name, one in decisions["figures"].items():
        if one["promised"] or one["came"]:
            share = "-" if one["share"] is None else percent(one["share"])
            shown = ("-" if one[side] is None else figure(name, **one[side]) for side in ("promised", "came"))
            table.add_row(one["label"], *shown, share)
    return Group(Text.assemble(("Rule: ", "bold"), decisions["rule"]), table)


def _metrics(champion: dict[str, Any]) -> Table:
    row, reference = champion["evaluation"], champion["reference"]
    table = Table(
        title=f"{row['n']:,} transactions, {row['n_fraud']:,} frauds (prevalence {percent(row['prevalence'])}), "
        f"{row['window_from']:%Y-%m-%d} to {row['window_to']:%Y-%m-%d}, as known at the end of {row['month']:%Y-%m}",
        title_justify="left",
        title_style="",
    )
    table.add_column("out of time")
    table.add_column(f"champion v{row['model_version']}", justify="right")
    table.add_column("reference (logistic regression)", justify="right")
    for name, label in METRICS.items():
        table.add_row(label, _interval(row, name), _interval(reference, name))
    return table


def _interval(row: dict[str, Any] | None, name: str) -> str:
    if row is None or row[name] is None:
        return "-"
    if row[f"{name}_low"] is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _drift_line(verdict: dict[str, Any] | None) -> Text:
    if verdict is None:
        return Text.from_markup("[bold]Drift:[/] no report yet.")
    has_champion = verdict["champion_version"] is not None
    return _drift_head(verdict).append(
        in_short(verdict["blame"], read_reasons(verdict["reasons"]), has_champion=has_champion)
    )


def _drift_head(verdict: dict[str, Any]) -> Text:
    status = verdict["drift_status"]
    return Text.from_markup(f"[bold]Drift[/] in {verdict['month']:%Y-%m}: [{COLOURS[status]}]{status}[/]. ")


def show_drift(console: Console, rows: list[dict[str, Any]]) -> None:
    """A month's drift report."""
    verdict, *findings = rows
    has_champion = verdict["champion_version"] is not None
    first, *more = in_sentences(verdict["blame"], read_reasons(verdict["reasons"]), has_champion=has_champion) or [""]
    console.print(_drift_head(verdict).append(first))
    for sentence in more:
        console.print(Padding(Text(sentence), (0, 0, 0, 2)), highlight=False)
    if not findings:
        return
    title = f"against {verdict['reference_from']} to {verdict['reference_to']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # What is cut short says nothing. PSI, p and causes are in the reasons, or all would not fit a narrow screen.
    for name in ("status", "kind", "what", "before", "now"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("before", "now") else "left")
    for row in findings:
        status = row["drift_status"]
        table.add_row(
            f"[{COLOURS[status]}]{'unknown' if status == 'INSUFFICIENT_DATA' else status}[/]",
            row["kind"],
            Text(row["feature"] + (f", {row['segment']}" if row["segment"] else "")),
            *_before_and_now(row),
        )
    console.print(table)


def _before_and_now(row: dict[str, Any]) -> tuple[str, str]:
    """The figure that says it best: what was measured, else the share of missing, else the median."""
    for name, say in (("value", number), ("missing", percent), ("median", number)):
        before, now = row[f"{name}_reference"], row[f"{name}_current"]
        if name == "missing" and row["kind"] != "missing":
            continue
        if before is not None or now is not None:
            return _optional(before, say), _optional(now, say)
    return "-", "-"


def _optional(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def show_quarantine(console: Console, listed: dict[str, Any]) -> None:
    """Counts of quarantined rows by month and reason, then rows."""
    if not listed["counts"]:
        console.print("No row is in quarantine.")
        return
    counts = Table(title="Rows by month and reason", **LEFT)
    for name in ("month", "status", "rows", "reason"):
        counts.add_column(name, justify="right" if name == "rows" else "left")
    for row in listed["counts"]:
        counts.add_row(row["month"], row["status"], f"{row['rows']:,}", Text(row["reason"]))
    console.print(counts)
    console.print("[bold]Rows[/]: name one by its id in `fraud quarantine release` or `drop`", soft_wrap=True)
    for row in listed["rows"]:
        values = ", ".join(f"{name}={value}" for name, value in row["original"].items())
        mark = " (dropped)" if row["status"] == "dropped" else ""
        place = f"{row['month']}  row {row['row_number']:,} of {row['source']}"
        # In lines and not in columns: on a narrow screen, columns would cut what the row is about.
        console.print(Text.assemble((row["row"], "bold"), f"  {place}{mark}"), soft_wrap=True)
        console.print(Text(f"  {joined(read_reasons(row['reasons']))}"), soft_wrap=True)
        # The values may be cut, because the table has them whole.
        console.print(Text(f"  {values}", style="dim"), no_wrap=True, overflow="ellipsis")


def show_decided(console: Console, outcome: dict[str, Any]) -> None:
    """What came of releasing or dropping rows."""
    done = "accepted" if outcome["action"] == "release" else "dropped"
    if outcome["settled"]:
        console.print(f"{len(outcome['settled']):,} rows are now {done}.", highlight=False)
    for row in outcome["remaining"]:
        console.print(f"[yellow]not stored[/] {row['row']}: {escape(row['remedy'])}", highlight=False, soft_wrap=True)
    for month, error in outcome["failed"].items():
        console.print(
            f"[red]{month}[/] could not be run again; the decision takes effect in its next run: {escape(error)}",
            highlight=False,
            soft_wrap=True,
        )
    if outcome["stale"]:
        console.print(stale_table(outcome["stale"]))


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


def show_added(console: Console, added: dict[str, Any]) -> None:
    """What came of a label file, and what is stale now."""
    show_refused(console, added["refused_for"])
    console.print(
        f"{added['taken']:,} statements taken, {added['repeated']:,} repeated, {added['n_refused']:,} refused; "
        f"{added['unseen']:,} about transactions that have not been seen.",
        highlight=False,
    )
    if added["materialized"]:
        console.print(f"fraud_labels rebuilt: {in_words(added['materialized'])}", highlight=False)
    if added["waiting"]:
        console.print(f"Taken in when they are run: {in_words(added['waiting'])}", highlight=False)
    for month, error in added["failed"].items():
        console.print(f"[red]fraud_labels {month}[/]: {escape(error)}", highlight=False, soft_wrap=True)
    if added["stale"]:
        console.print(stale_table(added["stale"]))


def show_feed(console: Console, feed: dict[str, Any]) -> None:
    """What a contract makes of its label feed."""
    if feed["files"]:
        console.print(
            f"Labels in {', '.join(feed['files'])}: {feed['n_read']:,} rows, {feed['n_taken']:,} taken, "
            f"{feed['n_fraud']:,} of them fraud, {feed['n_refused']:,} refused",
            highlight=False,
            soft_wrap=True,
        )
    show_refused(console, feed["reasons"])
    if feed["refused"]:
        console.print(f"[red]{escape(feed['refused'])}[/]", highlight=False, soft_wrap=True)


def show_refused(console: Console, reasons: list[dict[str, Any]]) -> None:
    """Why rows of label files cannot be used, with the first rows of each reason."""
    for one in reasons:
        said = escape(joined(read_reasons(one["reasons"])))
        console.print(f"[yellow]{one['rows']:,}[/] {said}", highlight=False, soft_wrap=True)
        for row in one["examples"]:
            values = ", ".join(f"{name}={value}" for name, value in row["original"].items())
            line = Text(f"    row {row['row_number']} of {row['file']}: {values}", no_wrap=True, overflow="ellipsis")
            console.print(line)


def show_completeness(console: Console, as_of: datetime, months: list[dict[str, Any]]) -> None:
    """Months of transactions with their known frauds and those still to come."""
    table = Table(title=f"Frauds known at {as_of:%Y-%m-%d %H:%M} UTC", **LEFT)
    table.add_column("month")
    table.add_column("labels")
    for name in ("transactions", "matured", "frauds", "share known", "still to come (95 %)", "expected"):
        table.add_column(name, justify="right")
    for row in months:
        colour = "red" if row["is_short"] else "green" if row["status"] == "matured" else "yellow"
        to_come, low, high = (row[f"still_to_come{end}"] for end in ("", "_low", "_high"))
        table.add_row(
            row["month"],
            f"[{colour}]{'too few' if row['is_short'] else row['status']}[/]",
            f"{row['n']:,}",
            percent(row["n_matured"] / max(row["n"], 1)),
            f"{row['n_fraud']:,}",
            _optional(row["known_share"], percent),
            "-" if to_come is None else f"{to_come:,.0f} [{low:,.0f}, {high:,.0f}]",
            "-" if row["expected"] is None else f"{row['expected']:,.0f}, at least {row['expected_low']:,.0f}",
        )
    console.print(table)


def show_retrainings(console: Console, listed: list[dict[str, Any]]) -> None:
    """Decisions on retraining, the newest first."""
    if not listed:
        console.print("No decisions yet: the drift sensor decides on each month's drift report (`fraud dev`).")
        return
    shown = Table(title="Decisions on retraining", show_lines=True, **LEFT)
    for name in ("month", "decided (UTC)", "decision", "asked by", "run", "why"):
        shown.add_column(name, overflow="fold")
    for one in listed:
        attempt = f", attempt {one['attempt_number']}" if (one["attempt_number"] or 1) > 1 else ""
        shown.add_row(
            one["month"],
            f"{one['recorded_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            Text(one["decision"] + attempt, style={"retrain": "red", "wait": "yellow"}.get(one["decision"], "dim")),
            one["trigger"] or "-",
            f"{one['run_id'][:8]} {one['run_status'].lower()}" if one["run_id"] else "-",
            escape(joined(read_reasons(one["reasons"]))),
        )
    console.print(shown)


def show_alerts(console: Console, listed: list[dict[str, Any]]) -> None:
    """Alerts, the newest first, with the state of each delivery."""
    if not listed:
        console.print("No alerts yet.")
    for alert in listed:
        console.print(Text.assemble((alert["headline"], "bold"), f"  {alert['at']:%Y-%m-%d %H:%M}"), soft_wrap=True)
        console.print(Text(f"  {alert['sentence']}"), soft_wrap=True)
        for one in alert["deliveries"]:
            said = f"  {one['state'].replace('_', ' ')}: {one['channel']}"
            if one["delivered_at"]:
                said += f" at {one['delivered_at']:%Y-%m-%d %H:%M}"
            elif one["attempts"]:
                said += f", {one['attempts']} attempts, the last: {one['last_error']}"
            style = {"delivered": "green", "waiting": "yellow", "given_up": "red"}.get(one["state"], "dim")
            console.print(Text(said, style=style), soft_wrap=True)


def show_ledger(console: Console, rows: list[dict[str, Any]]) -> None:
    """The events of the ledger, each with its reasons below."""
    if not rows:
        console.print("The ledger has no rows.")
    for row in rows:
        run = run_of(row["actor"])
        console.print(
            f"{row['number']:>4}  {row['recorded_at'].astimezone(UTC):%Y-%m-%d %H:%M}  [bold]{row['kind']}[/] version "
            f"{row['model_version']}, month {row['month']}, by {f'run {run[:8]}' if run else escape(row['actor'])}",
            highlight=False,
        )
        console.print(Padding(Text(joined(read_reasons(row["reasons"])), style="dim"), (0, 0, 0, 6)), highlight=False)


def show_prunable(console: Console, choices: Sequence[Choice], *, removed: bool) -> None:
    """What goes, or is gone, and how much room that makes; what stays only in numbers."""
    going = [choice for choice in choices if choice.goes]
    if going:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("kind", "name", "since", "why"):
            table.add_column(name, overflow="fold")
        for choice in going:
            table.add_row(choice.kept.kind, choice.kept.name, f"{choice.kept.since:%Y-%m-%d}", choice.why)
        console.print(table)
    room = sum(choice.kept.size for choice in going) / 1e6
    stay = len(choices) - len(going)
    said = f"{kinds_in_words(choices) or 'Nothing'} {'removed' if removed else 'may go'}: {room:,.1f} MB on this disk"
    console.print(f"{said}; {stay} others stay." + ("" if removed or not going else " `--yes` removes them."))


def show_verification(console: Console, found: dict[str, Any]) -> None:
    """Whether the ledger is as it was written."""
    if found["fault"]:
        console.print(f"[red]wrong:[/] {escape(found['fault']['sentence'])}", highlight=False, soft_wrap=True)
    elif found["head"]:
        head = found["head"]
        console.print(
            f"{found['rows']} rows are as they were written, to row {head['number']} ({head['hash'][:12]}).",
            highlight=False,
        )
    else:
        console.print("The ledger has no rows.")
    for one in found["heads"]:
        console.print(f"compared with {escape(one['where'])}: row {one['number']}", highlight=False, soft_wrap=True)
    for said in found["not_asked"]:
        console.print(f"[yellow]not compared:[/] {escape(said)}", highlight=False, soft_wrap=True)


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
