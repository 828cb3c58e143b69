"""What damage to a file does: nothing of it is lost, and no line that was not hit changes, without being said.

Small files of invented payments, and of real data where they are there, are written in many dialects, then damaged at
random: cut, flipped, doubled, quoted, shifted, moved bytes. After each, the file is either refused, or the lines
counted on it are the accepted and the rejected ones together, and every line that was not hit is there with its values
or among the rejected with its text.

    python -m benchmarks.corruptions [--number N] [--seed N] [--data DIR]
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.adapters.files.reader import SourceError, open_rows
from fraud_assets.core.contracts.column_names import find_columns
from fraud_assets.core.contracts.contract import Contract, ContractError, parse_contract
from fraud_assets.settings import PROJECT_ROOT

DATA = PROJECT_ROOT.parent / "shared" / "data"
REAL = (
    "ms_online_fraud/Fraud_Transactions.csv",
    "registrations/registrations.csv",
    "aws_coldstart/transaction_data_2K_coldstart.csv",
    "evalml_card_transactions/fraud_transactions.csv.gz",
)
N_ROWS = 60
NAMES = ("tx_id", "ts", "card", "shop", "amount", "note", "is_fraud")


@dataclass(frozen=True)
class Sound:
    """A file as it was written.

    Attributes:
        dialect: what to call it.
        names: of its columns.
        content: its bytes.
        lines: the place of each row's line in them, without its end, and the values that it holds.
        contract: how it is read.
        ending: of its name.
    """

    dialect: str
    names: tuple[str, ...]
    content: bytes
    lines: tuple[tuple[int, int, tuple[str, ...]], ...]
    contract: Contract
    ending: str = ".csv"


def invented(random_: random.Random, n: int = N_ROWS) -> list[tuple[str, ...]]:
    """Payments in which all that makes reading hard occurs: quotes, delimiters, empty and padded values, umlauts."""
    notes = ("", "plain", "a, b", 'a 3" pipe', "Köln; Süd", "x\ty|z", "  padded ", "'single'", "-", 'say ""hi""')
    return [
        (
            f"T{number:06d}", f"2024-01-{1 + number % 28:02d} {number % 24:02d}:10:00", f"C{random_.randrange(40):04d}",
            f"S{random_.randrange(9)}", f"{random_.lognormvariate(3, 1):.2f}", random_.choice(notes),
            str(int(random_.random() < 0.1)),
        )
        for number in range(n)
    ]  # fmt: skip


def contract_for(names: Sequence[str], style: str) -> Contract:
    """A contract that reads each column as text, under names of its own."""
    attributes = "".join(f"  a{number}: {{column: {json.dumps(name)}}}\n" for number, name in enumerate(names[2:]))
    return parse_contract(
        f"name: corruptions\nfirst_month: 2024-01\ncsv: {style}\ntransaction_id: {{column: {json.dumps(names[0])}}}\n"
        f"event_timestamp: {{column: {json.dumps(names[1])}}}\nattributes:\n{attributes}"
        f"label: {{column: {json.dumps(names[-1])}, delay_days: 1}}\nmaturity_days: 1\nquarantine_limit: 1\n"
    )


def written(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    delimiter: str = ",",
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
    end: str = "\n",
    encoding: str = "utf-8",
) -> Sound:
    """Rows as delimited text."""
    content, lines = bytearray(), []
    for number, row in enumerate([names, *rows]):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(row)
        line = (text.getvalue()).encode(encoding)
        if number:
            lines.append((len(content), len(content) + len(line), tuple(row)))
        content += line + end.encode(encoding)
    style = json.dumps({"encoding": encoding, "delimiter": delimiter})
    quotes = {csv.QUOTE_MINIMAL: "few quotes", csv.QUOTE_ALL: "all in quotes"}[quoting]
    dialect = f"{encoding}, {delimiter!r}, {quotes}, {end!r}"
    return Sound(dialect, tuple(names), bytes(content), tuple(lines), contract_for(names, style))


def json_lines(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Sound:
    """Rows as JSON Lines."""
    content, lines = bytearray(), []
    for row in rows:
        line = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False).encode()
        lines.append((len(content), len(content) + len(line), tuple(row)))
        content += line + b"\n"
    return Sound("JSON Lines", tuple(names), bytes(content), tuple(lines), contract_for(names, "{}"), ".jsonl")


def sound_files(random_: random.Random, data: Path | None) -> Iterator[Sound]:
    """The files that are damaged."""
    rows = invented(random_)
    for delimiter in ",;\t|":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
            for end in ("\n", "\r\n"):
                yield written(NAMES, rows, delimiter=delimiter, quoting=quoting, end=end)
    yield written(NAMES, rows, end="\r")
    yield written(NAMES, rows, encoding="cp1252", delimiter=";")
    yield written(NAMES, rows, encoding="utf-16-le")
    yield written(NAMES, rows, encoding="utf-16-be", quoting=csv.QUOTE_ALL, end="\r\n")
    yield json_lines(NAMES, rows)
    for name in REAL if data is not None else ():
        path = (data or Path()) / name
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            reader = csv.reader(io.StringIO(content[: 2**20].decode("utf-8", "ignore"), newline=""))
            names = next(reader)
            real = [next(reader) for _ in range(N_ROWS)]
            numbered = [[f"row {number}", *row] for number, row in enumerate(real)]
            yield written(["row_number_", *names], numbered)


# Damage


def damaged(content: bytes, random_: random.Random) -> tuple[str, bytes, list[tuple[int, int]]]:
    """One kind of damage at a random place.

    Returns:
        Its name, the bytes after it, and the places of the sound file that it hit; of an insertion the place itself.
    """
    kind = random_.choice(
        ("cut", "cut off", "flip", "double", "quote", "drop", "insert", "move", "line end", "two quotes")
    )
    n = len(content)
    first = random_.randrange(n)
    last = min(n, first + 1 + int(random_.expovariate(1 / 60)))
    if kind == "cut":
        return kind, content[:first] + content[last:], [(first, last)]
    if kind == "cut off":
        return kind, content[:first], [(first, n)]
    if kind == "flip":
        return (
            kind,
            content[:first] + bytes([content[first] ^ (1 << random_.randrange(8))]) + content[first + 1 :],
            [(first, first + 1)],
        )
    if kind == "double":
        return kind, content[:last] + content[first:last] + content[last:], [(first, last)]
    if kind == "quote":
        return kind, content[:first] + b'"' + content[first:], [(first, first)]
    if kind == "two quotes":
        return (
            kind,
            content[:first] + b'"' + content[first:last] + b'"' + content[last:],
            [(first, first), (last, last)],
        )
    if kind == "drop":
        return kind, content[:first] + content[first + 1 :], [(first, first + 1)]
    if kind == "line end":
        return kind, content[:first] + random_.choice((b"\n", b"\r", b"\r\n")) + content[first:], [(first, first)]
    if kind == "insert":
        added = bytes(random_.randrange(256) for _ in range(random_.choice((1, 1, 1, 2, 9))))
        return kind, content[:first] + added + content[first:], [(first, first)]
    place = random_.randrange(n)
    rest = content[:first] + content[last:]
    return kind, rest[:place] + content[first:last] + rest[place:], [(first, last), _in_sound(place, first, last)]


def _in_sound(place: int, first: int, last: int) -> tuple[int, int]:
    place = place if place <= first else place + last - first
    return place, place


def what_happened(sound: Sound, content: bytes, hit: list[tuple[int, int]], folder: Path) -> tuple[str, str | None]:
    """Whether the file was refused or read; and what was lost or changed in silence, if anything was."""
    path = folder / f"2024-01{sound.ending}"
    path.write_bytes(content)
    try:
        opened = open_rows(path, sound.contract)
        rows = opened.table()
        # As the intake finds them.
        found = find_columns({name: name for name in sound.names}, opened.names, path.name, "")
    except (SourceError, ContractError):
        return "refused", None
    accepted: dict[str | None, list[tuple[str | None, ...]]] = {}
    columns = [rows.column(found[name]).to_pylist() for name in sound.names]
    for values in zip(*columns, strict=True):
        accepted.setdefault(values[0], []).append(tuple(value or None for value in values))
    n_accepted = len(columns[0])
    if opened.n_counted != n_accepted + len(opened.rejected):
        return "read", f"counted {opened.n_counted}, accepted {n_accepted}, rejected {len(opened.rejected)}"
    texts = {line.text for line in opened.rejected}
    for first, last, values in sound.lines:
        # A line is hit, too, where its end or that of the line before is.
        if any(start <= last + 2 and end >= first - 2 for start, end in hit):
            continue
        expected = tuple(value if value not in ("", "NULL") else None for value in values)
        if expected in accepted.get(values[0], []):
            continue
        encoding = "utf-8" if sound.ending != ".csv" else sound.contract.csv.encoding
        if sound.content[first:last].decode(encoding) not in texts:
            return "read", f"row {values[0]} is neither accepted as it was nor among the rejected"
    return "rejected lines" if opened.rejected else "read", None


def damage_files(number: int, seed: int, data: Path | None) -> tuple[Counter[str], list[str]]:
    """Damages files so many times; what happened how often, and what was lost or changed in silence."""
    random_ = random.Random(seed)
    files = list(sound_files(random_, data))
    outcomes, silent = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for sound in files:
            outcome, lost = what_happened(sound, sound.content, [], Path(folder))
            if outcome != "read" or lost is not None:
                silent.append(f"{sound.dialect}, undamaged: {outcome} {lost or ''}")
        for one in range(number):
            sound = files[one % len(files)]
            kind, content, hit = damaged(sound.content, random_)
            outcome, lost = what_happened(sound, content, hit, Path(folder))
            outcomes[outcome] += 1
            if lost is not None:
                silent.append(f"{sound.dialect}, {kind} at {hit} (number {one}, seed {seed}): {lost}")
    return outcomes, silent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("Random damage to files: nothing is lost or changed in silence.")
    parser.add_argument("--number", type=int, default=5_000, help="how many times a file is damaged")
    parser.add_argument("--seed", type=int, default=1, help="of the damage")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real data, used where it is there")
    options = parser.parse_args(arguments)
    outcomes, silent = damage_files(options.number, options.seed, options.data)
    for line in silent[:20]:
        print(line)
    rows = [Row("damaged", options.number, "files")]
    rows += [Row(outcome.replace(" ", "_"), n, "files") for outcome, n in sorted(outcomes.items())]
    rows.append(at_most("lost_or_changed_in_silence", len(silent), "files", 0))
    return report("corruptions", rows, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
