"""Contracts: checking one, drafting one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

contracts = typer.Typer(no_args_is_help=True, help="Contracts: check one, or draft one for a new file.")

app.add_typer(contracts, name="contract")


@contracts.command("check")
def check_contract(
    file: Annotated[Path, typer.Argument(help="The contract.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="File or folder to try it on; FRAUD_SOURCE when absent.")
    ] = None,
    month: Annotated[
        str | None, typer.Option("--month", help="Only this month, YYYY-MM; all months when absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain a contract, and show what it makes of the data; writes nothing."""
    from fraud_assets.cli.tables.contracts import show_contract, show_data_check
    from fraud_assets.workflows.new_source.contract_files import check_contract

    with clear_errors():
        contract, check = check_contract(file, data, month, lambda: open_settings(create=False))
        found = check and check.to_dict()
        if as_json:
            print_json({"file": file, "contract": contract.model_dump(mode="json"), "data": found})
        else:
            show_contract(console, contract)
            if found:
                show_data_check(console, found)
    if check and check.refused:
        raise typer.Exit(1)


@contracts.command("draft")
def draft_contract(
    file: Annotated[Path, typer.Argument(help="A file of any kind that no contract describes yet.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write, as contracts/NAME.yaml; the screen when absent.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The contract's name; the file's when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Write a first contract for a file, for a person to finish."""
    from fraud_assets.workflows.new_source.contract_files import describe_files, write_draft

    with clear_errors():
        draft = describe_files(file).draft(name)
        if out is not None:
            write_draft(draft.text, out)
    if as_json:
        print_json({"file": file, "out": out, "contract": draft.text, "to_confirm": draft.to_confirm})
    elif out is None:
        print(draft.text, end="")
    else:
        console.print(f"{out} is written. To confirm:", highlight=False, soft_wrap=True)
        for question in draft.to_confirm:
            console.print(f"- {escape(question)}", highlight=False, soft_wrap=True)
        console.print(f"Then: fraud contract check {out} --data {file}", highlight=False, soft_wrap=True)
