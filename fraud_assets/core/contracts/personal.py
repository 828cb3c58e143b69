"""Which columns of a contract name a person, and how people call them. Erasing a person belongs to `core/people`."""

from __future__ import annotations

import re

from fraud_assets.core.contracts.contract import Contract

# Words of the names of columns that hold personal data.
PERSONAL = {"email", "mail", "ip", "phone", "iban", "pan", "ssn", "passport", "surname", "firstname", "lastname"}


def personal_columns(contract: Contract) -> tuple[str, ...]:
    """The columns that name somebody: entities, and what is called an address, a number or an account of a person.

    >>> bool(PERSONAL & set("billing_email".split("_"))), bool(PERSONAL & set("shipping_speed".split("_")))
    (True, False)
    """
    called = {name: f"{name}_{column.column}".lower() for name, column in contract.attributes.items()}
    words = {name: set(re.split(r"[^a-z0-9]+|_", said)) for name, said in called.items()}
    return (*contract.entities, *(name for name in called if words[name] & PERSONAL))


def entity_called(contract: Contract, name: str) -> str | None:
    """The contract's column for what people call `customer` or `customer_id`; None without one."""
    return next((entity for entity in contract.entities if name in (entity, entity.removesuffix("_id"))), None)
