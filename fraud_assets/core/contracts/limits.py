"""What a contract may ask of the tables: names that every step can use, and rows that Postgres can hold.

Each limit is found when the contract is read and said in a sentence, not by a month that fails. What a contract means
belongs to `contract.py`, what the tables are to `lineage/tables`, what features are to `features/declarations.py`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from fraud_assets.core.contracts.feature_names import OF_ENTITIES, in_full

# PostgreSQL cuts longer names, and then two of them may be one.
LONGEST_NAME = 63
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
# Of a table in PostgreSQL, and of one row with its header in a page of 8 kB.
MOST_COLUMNS, MOST_BYTES, HEADER_BYTES = 1_600, 8_160, 23
# What a value takes, and at which multiples it can begin. A text that is long leaves 18 bytes in the row, which say
# where it is; so many short texts as to fill a row may be there, but no contract can promise that they are short.
SIZES = {"integer": (8, 8), "number": (8, 8), "time": (8, 8), "date": (4, 4), "real": (4, 4), "boolean": (1, 1)}
TEXT_SIZE = (18, 1)

RESERVED_NAMES = frozenset(
    {
        "transaction_id", "event_timestamp", "amount", "ingested_at", "is_fraud", "label_timestamp", "label_source",
        "month", "hour", "is_weekend", "score", "origin", "is_matured",
    }
)  # fmt: skip
# Those that PostgreSQL gives every table.
SYSTEM_NAMES = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
# Columns that features are made with (`features/declarations.py`), in tables in which the entities are, too.
FEATURES_OWN = frozenset(
    {"last", "mean", "spread", "largest", "change", "fraud", "seen", "genuine", "unusual_id", "happened"}
)
# Databases that every server has.
SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})

# What each entity's features add to its name, and the drift report's column of values that were not there before.
ENTITY_SUFFIXES = (*OF_ENTITIES, "new")
LONGEST_WINDOW = 3_650  # days; ten years
DERIVED_NAMES = ("amount_over_recent_mean",)
OF_AMOUNT = 7  # of the suffixes, for the one entity that spends
LONGEST_ENTITY = LONGEST_NAME - 1 - max(len(in_full(suffix, LONGEST_WINDOW)) for suffix in ENTITY_SUFFIXES)


def check_name(name: str) -> str:
    """The name, if every step can use it for a column.

    Raises:
        ValueError: otherwise, with what a name may be.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the platform's name of a column: give it a name of letters from a to z, digits and _, "
            "that begins with no digit and has at most 41 characters; what the source calls it stands in `column`, "
            "and may be anything"
        )
    if name.lower() in SYSTEM_NAMES:
        raise ValueError(f"no column may be called {name!r}: Postgres gives every table one of that name")
    if name.lower() in RESERVED_NAMES:
        raise ValueError(f"no column may be called {name!r}: that is one of the platform's own names")
    return name


def check_entity(name: str) -> str:
    """The name, if also the features of the entity can have it.

    Raises:
        ValueError: otherwise.
    """
    if name.lower() in FEATURES_OWN:
        raise ValueError(f"no entity may be called {name!r}: features are made with a column of that name")
    if len(check_name(name).removesuffix("_id")) > LONGEST_ENTITY:
        raise ValueError(
            f"the entity {name!r} has a name of {len(name)} characters, and its features would have more than the "
            f"{LONGEST_NAME} that Postgres keeps: give it a name of at most {LONGEST_ENTITY}, and one `_id`"
        )
    return name


def check_apart(
    entities: Iterable[str], attributes: Iterable[str], window_days: int, extra_features: Iterable[str] = ()
) -> None:
    """Makes sure that no two columns have one name; upper and lower case are the same to DuckDB and Spark.

    Args:
        entities: their names.
        attributes: their names.
        window_days: the longest window, which is in the names of features.
        extra_features: names of those that the contract adds.

    Raises:
        ValueError: naming what has one name, and where it comes from.
    """
    origins: dict[str, list[str]] = defaultdict(list)
    for name in RESERVED_NAMES:
        origins[name].append(f"the platform's own {name}")
    for name in DERIVED_NAMES:
        origins[name].append(f"the drift report's {name}")
    for entity in entities:
        origins[entity.lower()].append(f"entity {entity!r}")
        for suffix in ENTITY_SUFFIXES:
            feature = f"{entity.removesuffix('_id')}_{in_full(suffix, window_days)}"
            origins[feature.lower()].append(f"the feature {feature!r} of entity {entity!r}")
    for feature in extra_features:
        if len(feature) > LONGEST_NAME:
            raise ValueError(
                f"the feature {feature!r} has a name of {len(feature)} characters, and Postgres keeps {LONGEST_NAME}: "
                "give what it is made of shorter names"
            )
        origins[feature.lower()].append(f"the feature {feature!r} of `features`")
    for attribute in attributes:
        origins[attribute.lower()].append(f"attribute {attribute!r}")
    if clash := next((found for found in origins.values() if len(found) > 1), None):
        raise ValueError(f"{' and '.join(clash)} would be one column: change a name")


def check_tables(
    entities: Sequence[str], others: Sequence[str], features: Sequence[str], *, spends: bool, n_extra: int = 0
) -> None:
    """Makes sure that Postgres can hold the rows of `raw_transactions` and `transaction_features`.

    Args:
        entities: the types of the entities.
        others: the types of the amount and the attributes.
        features: the types of the attributes that models see.
        spends: whether there is an amount.
        n_extra: features that the contract adds.

    Raises:
        ValueError: naming the table, what it needs and what there is.
    """
    first = ["string", "time"]
    of_entities = len(entities) * (len(ENTITY_SUFFIXES) - 1 - OF_AMOUNT) + OF_AMOUNT * (spends and bool(entities))
    tables = {
        "raw_transactions": [*first, *entities, *others, "time"],
        "transaction_features": [*first, *entities, *["real"] * (2 + spends + of_entities + n_extra), *features],
    }
    for table, types in tables.items():
        if len(types) > MOST_COLUMNS:
            raise ValueError(
                f"a table has at most {MOST_COLUMNS:,} columns, and {table} would need {len(types):,}: leave "
                f"{len(types) - MOST_COLUMNS:,} attributes out"
            )
        if (size := row_bytes(types)) > MOST_BYTES:
            raise ValueError(
                f"Postgres holds rows of at most {MOST_BYTES:,} bytes, and one of {table}, with {len(types):,} "
                f"columns, can need {size:,}: leave attributes out (a number takes 8 bytes, a date 4, and a long text "
                f"{TEXT_SIZE[0]}, as it is kept elsewhere)"
            )


def row_bytes(types: Sequence[str]) -> int:
    """The most that a row of columns of these types takes up in its page."""
    size = _next(HEADER_BYTES + (len(types) + 7) // 8, 8)
    for kind in types:
        length, boundary = SIZES.get(kind, TEXT_SIZE)
        size = _next(size, boundary) + length
    return size


def _next(position: int, boundary: int) -> int:
    return -(-position // boundary) * boundary
