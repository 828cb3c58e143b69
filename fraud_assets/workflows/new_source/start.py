"""From a file that nobody has described to a live model: what `fraud start` does, in order.

It drafts a contract, asks what only a person can know, writes the contract and the settings, runs the months, and says
where that ended. The draft belongs to `core/drafting/draft.py`, the run to `workflows/runs/run_months.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dotenv import dotenv_values

from fraud_assets.adapters.sources import FolderSource, SourceError
from fraud_assets.core.contracts.contract import Contract, ContractError, load_contract, parse_contract
from fraud_assets.core.drafting.draft import Draft, names_only_fraud
from fraud_assets.core.drafting.roles import Choices
from fraud_assets.core.months import shift_month
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.new_source.contract_files import (
    DataCheck,
    Described,
    check_data,
    describe_files,
    write_draft,
)
from fraud_assets.workflows.progress import Progress

SETTINGS = ("FRAUD_CONTRACT", "FRAUD_SOURCE", "FRAUD_SOURCE_PATH")
# Asks a person: the question, and what Enter takes; gives the answer.
Ask = Callable[[str, str], str]


@dataclass
class Started:
    """What was asked and written, and where it ended.

    Attributes:
        files: that were read.
        contract: its file.
        contract_is_new: whether it was written, or was there already and was used as it is.
        env: the file with the settings.
        env_is_default: whether every command reads it without being told.
        to_confirm: what a person has to look at in the contract.
        asked: each question with its answer.
        check: what will be read.
        missing: why there can be no model, in a sentence; None where one was tried.
        months: what was run, as `run_months` gives it.
        version: the live model; None where there is none.
        why: why nothing is live, as what is stored says it.
        costs, review_capacity: what the live model's threshold weighs, in words, and the reviews a day that it allows.
    """

    files: list[Path]
    contract: Path
    contract_is_new: bool = True
    env: Path | None = None
    env_is_default: bool = True
    to_confirm: list[str] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)
    check: dict[str, Any] | None = None
    missing: str | None = None
    months: list[dict[str, Any]] = field(default_factory=list)
    version: int | None = None
    why: str = ""
    costs: str | None = None
    review_capacity: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def prepare(
    path: Path, name: str | None, out: Path | None, ask: Ask | None, progress: Progress
) -> tuple[Started, Contract]:
    """Describes a file, asks what has to be asked, and writes the contract and the settings.

    Args:
        path: a file, or a folder.
        name: the contract's name; made of the file's when absent.
        out: where the contract shall lie; in contracts/ when absent.
        ask: asks a person; None where all defaults are taken.
        progress: hears what is done.

    Raises:
        ValueError: when the file cannot be read, or nothing in it can be the time of an event.
    """
    if not path.exists():
        raise SourceError(f"there is no file or folder {path}")
    with progress.working("reading the file"):
        described = describe_files(path)
        draft = described.draft(name)
    if len(described.files) > 1:
        shown = f"{described.files[0].name} to {described.files[-1].name}"
        progress.note(f"{len(described.files)} files are delivered alike and are taken together: {shown}")
    started = Started(described.files, Path())
    if ask is not None:
        draft = described.draft(name, _asked(described, draft, name, ask, started))
    name = parse_contract(draft.text).name
    file = out or PROJECT_ROOT / "contracts" / f"{name}.yaml"
    if out is None:
        draft, file = _free_place(described, draft, file)
    started.contract_is_new = not file.exists()
    if started.contract_is_new:
        write_draft(draft.text, file)
        started.to_confirm = list(draft.to_confirm)
    started.contract = file.resolve()
    contract = load_contract(file)
    _write_env(started, described, contract)
    if started.contract_is_new:
        started.missing = _missing_label(described, draft, started.contract)
    return started, contract


def look(started: Started, contract: Contract) -> DataCheck | None:
    """What the contract makes of the files; why there can be no model is noted in `started`.

    Returns:
        None where they cannot be read yet, because they lack the label's column.
    """
    source = FolderSource(started.files[0].parent, contract.file_pattern, contract)
    if started.missing and contract.label.column and contract.transaction_id is None:
        # The column of the label is one that the file has yet to get.
        return None
    check = check_data(contract, source)
    started.check = check.to_dict()
    if started.missing is None:
        started.missing = _missing_rows(check, contract, datetime.now(UTC)) or _missing_kind(check, contract)
    return check


def months_to_take(check: DataCheck, contract: Contract, today: datetime) -> list[str]:
    """The months that hold rows and are over."""
    newest = shift_month(contract.month_of(today), -1)
    return [one.month for one in check.months if one.month <= newest]


def use_settings(started: Started) -> None:
    """Lets this process and those that it starts read the contract and the files that were written."""
    os.environ |= _settings_of(started)


# Questions


def _asked(described: Described, draft: Draft, name: str | None, ask: Ask, started: Started) -> Choices:
    """Asks only what changes what will happen; Enter takes what stands in brackets."""

    def answer(question: str, default: str) -> str:
        started.asked[question] = given = ask(question, default).strip() or default
        return given

    choices = Choices()
    event, names = draft.roles.event, [column.name for column in described.profile.columns]
    if len(event.columns) == 1 and any("could be the time" in question for question in event.questions):
        chosen = answer("Which column is the time of the event?", event.columns[0].name)
        choices = replace(choices, event=_one_of(names, chosen) if chosen != event.columns[0].name else None)
    label = draft.roles.label
    if label is None:
        chosen = answer("No column looks like the label. Which one says what was fraud? (Enter: none of them)", "-")
        choices = replace(choices, label=_one_of(names, chosen) if chosen != "-" else None)
    elif label.questions:
        chosen = answer("Which column says what was fraud?", label.column.name)
        choices = replace(choices, label=_one_of(names, chosen) if chosen != label.column.name else None)
    if label is None and choices.label is None:
        return choices
    label = described.draft(name, choices).roles.label
    if label is not None and label.questions:
        seen = ", ".join(label.column.values or {})
        fraud = answer(f"Which of its values mean fraud? ({seen})", ", ".join(label.fraud))
        values = tuple(value.strip() for value in fraud.split(","))
        choices = replace(choices, label=label.column.name, fraud_values=values)
    if label is not None and label.blank_is_unknown:
        said = answer("Rows without a label: unknown, or genuine?", "unknown")
        choices = replace(choices, blank="genuine_when_mature" if said.startswith("g") else "unknown")
    if draft.roles.label_time.column is None:
        days = answer("How many days after the event does a label become known, usually?", "14")
        choices = replace(choices, delay_days=_number(days, "the days from an event to its label"))
    return _asked_of_values(draft, choices, answer)


def _asked_of_values(draft: Draft, choices: Choices, answer: Ask) -> Choices:
    if not draft.roles.event.has_offset and draft.roles.event.unit is None:
        choices = replace(choices, timezone=answer("In which time zone are the times?", "UTC"))
    amount = draft.roles.amount
    if amount and "cents" in amount.question:
        said = answer(f"Are the values of {amount.column.name!r} in cents? (yes, no)", "no")
        choices = replace(choices, amount_scale=0.01 if said.lower().startswith(("y", "j", "s", "o")) else 1.0)
    return choices


def _one_of(names: list[str], chosen: str) -> str:
    alike = [name for name in names if name.lower() == chosen.lower()]
    if chosen not in names and len(alike) != 1:
        raise ContractError(f"there is no column {chosen!r}; the columns are {', '.join(names)}")
    return chosen if chosen in names else alike[0]


def _number(text: str, what: str) -> float:
    try:
        found = float(text.replace(",", "."))
    except ValueError as error:
        raise ContractError(f"{text!r} is no number for {what}") from error
    if not 0 <= found <= 3650:
        raise ContractError(f"{text!r} cannot be {what}; give a number from 0 to 3650")
    return found


# Files


def _free_place(described: Described, draft: Draft, file: Path) -> tuple[Draft, Path]:
    """Where the contract goes: one that was drafted from this file is kept, any other is left alone."""
    name, number = file.stem, 1
    while file.exists():
        text = file.read_text(encoding="utf-8")
        if text.startswith(f"# A first contract for {described.file.name}, "):
            return draft, file
        number += 1
        file = file.with_name(f"{name[:28]}_{number}.yaml")
    if number > 1:
        text = re.sub(r"^name: .*$", f"name: {file.stem}", draft.text, count=1, flags=re.MULTILINE)
        draft = replace(draft, text=text)
    return draft, file


def _settings_of(started: Started) -> dict[str, str]:
    file, folder = started.contract, started.files[0].parent.resolve()
    shown = file.relative_to(PROJECT_ROOT) if file.is_relative_to(PROJECT_ROOT) else file
    source = "parquet" if started.files[0].suffix == ".parquet" else "csv"
    return dict(zip(SETTINGS, (str(shown), source, str(folder)), strict=True))


def _write_env(started: Started, described: Described, contract: Contract) -> None:
    """Writes the settings; a .env that names another contract is left, and they go into a file of their own."""
    wanted = _settings_of(started)
    lines = "".join(f"{name}={_env_value(value)}\n" for name, value in wanted.items())
    env = PROJECT_ROOT / ".env"
    there = {name: value for name, value in dotenv_values(env).items() if value} if env.exists() else {}
    if all(name not in there for name in SETTINGS):
        said = f"# Written by `fraud start` for {described.file.name}; .env.example says what else can be set.\n"
        with env.open("a", encoding="utf-8") as file:
            file.write(("\n" if env.stat().st_size else "") + said + lines)
    elif {name: there.get(name) for name in SETTINGS} != wanted:
        rest = [
            line
            for line in env.read_text(encoding="utf-8").splitlines()
            if not line.startswith(tuple(f"{name}=" for name in SETTINGS))
        ]
        env = PROJECT_ROOT / f".env.{contract.name}"
        env.write_text("\n".join([*rest, lines]), encoding="utf-8")
        started.env_is_default = False
    started.env = env


def _env_value(text: str) -> str:
    return text if re.fullmatch(r"[\w./:-]+", text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# What is missing


def _missing_label(described: Described, draft: Draft, contract: Path) -> str | None:
    if draft.roles.label is not None:
        return None
    if names_only_fraud(described.file.name):
        return (
            "the file's name says that its rows are frauds, and no column says otherwise: a model learns from genuine "
            "transactions beside them; add those, with a column that tells which is which, and name it in label.column "
            f"of {contract}"
        )
    return (
        f"no column says which rows were fraud. If there is one, write label: {{column: its name, delay_days: 14}} in "
        f"{contract}; if labels come in files of their own, describe them there in label.feed. Then: fraud run"
    )


def _missing_kind(check: DataCheck, contract: Contract) -> str | None:
    """What is missing where all labels say the same, or there are none."""
    label = contract.label
    if label.column is None:
        return check.feed.refused if check.feed and not check.feed.files else None
    fraud, genuine, unknown = (
        sum(getattr(month, name) for month in check.months) for name in ("n_fraud", "n_genuine", "n_unknown")
    )
    if fraud == 0:
        return (
            f"no row is stated to be fraud in {label.column!r} (label.fraud_values: {', '.join(label.fraud_values)}): "
            "a model learns from frauds; name the values that mean fraud, or another column, in label of the contract"
        )
    if genuine == 0 and (unknown == 0 or label.blank == "unknown"):
        return (
            f"all rows with a label in {label.column!r} are fraud: a model learns from genuine transactions beside "
            "them; add those, or correct label in the contract"
        )
    return None


def _missing_rows(check: DataCheck, contract: Contract, today: datetime) -> str | None:
    if not check.months or check.n_accepted == 0:
        return f"no row keeps the contract: {check.refused or 'no file has any'}"
    if not months_to_take(check, contract, today):
        return (
            f"all rows lie in {check.months[0].month} or later, and a month is taken in when it is over; run "
            "`fraud run` then, or correct event_timestamp in the contract"
        )
    return None


def no_model_yet(started: Started) -> str:
    """Why no model is live after the run, in a sentence."""
    check = started.check or {"months": []}
    fraud = sum(month["n_fraud"] for month in check["months"])
    failed = [month for month in started.months if month["failed"]]
    said = f"no model is live yet: {fraud:,} frauds are known in {len(check['months'])} months"
    if started.why:
        said += f"; {started.why}"
    if failed:
        said += f"; {len(failed)} of {len(started.months)} months failed, as told above"
    return said.rstrip(".") + ". More months bring more; `fraud status` says what is decided"


def run(
    job: dg.JobDefinition,
    settings: Settings,
    started: Started,
    contract: Contract,
    check: DataCheck,
    progress: Progress,
) -> None:
    """Runs the months that there are, oldest first."""
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.core.decisions.ledger import champion_version
    from fraud_assets.core.decisions.why import why_no_model
    from fraud_assets.workflows.runs.run_months import run_months
    from fraud_assets.workflows.why import newest_remarks

    started.costs = settings.costs.in_words(has_amount=contract.amount is not None)
    started.review_capacity = settings.review_capacity
    months = months_to_take(check, contract, datetime.now(UTC))
    started.months = run_months(job, settings, months, progress, purpose="fraud start")
    store = open_store(settings)
    started.version = champion_version(LedgerStore(store.database).events())
    if started.version is None:
        started.why = why_no_model(newest_remarks(store))
