"""How a file that people bring along is written: as the contract says, or plainly.

Sources write as their contract says; a file of chargebacks or one to score may come from elsewhere, such as a plain
CSV file in UTF-8. Its header tells which it is. How a file is then read belongs to `reader.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fraud_assets.adapters.files.reader import OpenedFile, SourceError, open_rows
from fraud_assets.core.contracts.contract import Contract, ContractError, Csv
from fraud_assets.core.drafting.profiling import detect_encoding

HEAD = 2**20  # bytes


def open_by_header(
    path: Path, contract: Contract, expected: Callable[[Sequence[str]], bool], wanted: Sequence[str]
) -> OpenedFile:
    """Opens a file in the first way of writing in which its header has the columns that are expected.

    Args:
        path: the file.
        contract: whose way is tried first, unless the bytes say that it cannot be.
        expected: whether these are the names of its columns.
        wanted: names of columns, to tell the header from lines before it.

    Returns:
        The file; where no way gives the columns, as the contract says it is written.

    Raises:
        SourceError: when it cannot be read in any way.
    """
    problem: SourceError | ContractError | None = None
    first: OpenedFile | None = None
    for style in _styles(path, contract.csv):
        try:
            opened = open_rows(path, contract.model_copy(update={"csv": style}), wanted=wanted)
        except (SourceError, ContractError) as error:
            problem = problem or error
            continue
        if expected(opened.names):
            return opened
        first = first or opened
    if first is None:
        raise problem or SourceError(f"{path} cannot be read")
    return first


def _styles(path: Path, style: Csv) -> list[Csv]:
    """The ways of writing text, the likeliest first."""
    plain = Csv()
    if not path.is_file():
        return [style]
    with path.open("rb") as file:
        head = file.read(HEAD)
    # Text of one byte a letter is hardly ever valid UTF-8 by chance; the reverse always is.
    one_by_one = style.model_copy(update={"encoding": "utf-8"})
    styles = [one_by_one, style, plain] if not head.isascii() and _is_utf8(head) else [style, one_by_one, plain]
    detected = detect_encoding(iter([head]))
    styles += [one.model_copy(update={"encoding": detected}) for one in (style, plain)]
    return list({one.model_dump_json(): one for one in styles}.values())


def _is_utf8(head: bytes) -> bool:
    try:
        # The last letter may be cut.
        head[: max(len(head) - 3, 0) or len(head)].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 7
    return True
