"""Writes `pagos.csv`: invented card payments of three months, in the shape of a Spanish bank's export.

What docs/tutorial.md begins with; the same file each time. About one payment in forty is made with a stolen card: of a
larger amount than its owner's, mostly on the web and at night, at a shop where the owner never was. Some owners do that
as well, so no model can be perfect.

    python examples/write_payments.py pagos.csv
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

FIRST, DAYS, PAYMENTS = datetime(2024, 1, 1), 91, 5_400  # January to March
CARDS, SHOPS, FRAUD_SHARE = 400, 150, 0.025
COLUMNS = ("Referencia", "Fecha", "Tarjeta", "Comercio", "Canal", "País", "Importe", "Fraude")


def payments(draw: random.Random) -> list[tuple[str, ...]]:
    """The rows, oldest first; times have no offset, amounts a decimal comma."""
    usual_shops = [draw.sample(range(SHOPS), 6) for _ in range(CARDS)]
    usual_amount = [draw.lognormvariate(3.3, 0.6) for _ in range(CARDS)]
    rows = []
    for day in sorted(draw.uniform(0, DAYS) for _ in range(PAYMENTS)):
        card, stolen = draw.randrange(CARDS), draw.random() < FRAUD_SHARE
        # One payment in thirty of the owner's is unlike the others.
        unusual = stolen or draw.random() < 1 / 30
        hour = (draw.gauss(3, 3) if unusual else draw.gauss(15, 4)) % 24
        at = FIRST + timedelta(days=int(day), hours=hour)
        shop = draw.randrange(SHOPS) if unusual else draw.choice(usual_shops[card])
        channel = draw.choices(("tienda", "web", "teléfono"), (2, 7, 1) if unusual else (7, 2, 1))[0]
        country = draw.choices(("ES", "FR", "PT", "RO"), (5, 2, 1, 2) if stolen else (90, 5, 4, 1))[0]
        amount = usual_amount[card] * draw.lognormvariate(1.3 if stolen else 0, 0.5)
        rows.append((at, card, shop, channel, country, amount, stolen))
    rows.sort()
    return [
        (
            f"P{number:05d}", f"{at:%d/%m/%Y %H:%M:%S}", f"T{card:04d}", f"C{shop:03d}", channel, country,
            f"{amount:.2f}".replace(".", ","), "sí" if stolen else "no",
        )
        for number, (at, card, shop, channel, country, amount, stolen) in enumerate(rows, start=1)
    ]  # fmt: skip


def main(file: Path) -> None:
    """Writes the file."""
    with file.open("w", encoding="utf-8", newline="") as output:
        writer = csv.writer(output, delimiter=";", lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(payments(random.Random(20240101)))  # noqa: S311 - nothing secret is drawn


if __name__ == "__main__":
    main(Path(sys.argv[1]))
