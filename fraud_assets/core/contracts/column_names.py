"""Which column of a file is the one that a contract names.

The exact name counts first. Without it, a name that differs in its Unicode form, in upper and lower case or in the
blanks around it is taken where just one column has it; where several have it, nothing is guessed.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence

from fraud_assets.core.contracts.contract import ContractError


def plain_name(name: str) -> str:
    """A name without what people do not see of it.

    >>> plain_name(" Betrag\\ufeff ") == plain_name("BETRAG")
    True
    """
    shown = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def find_columns(wanted: Mapping[str, str], given: Sequence[str], origin: str, remedy: str) -> dict[str, int]:
    """Where the wanted columns stand.

    Args:
        wanted: names of columns, by what each is for.
        given: the names that a file has.
        origin: what to call the file.
        remedy: what to do where one is missing.

    Returns:
        The position of each name of `wanted`.

    Raises:
        ContractError: when one is missing, there twice, or may be one of several.
    """
    found: dict[str, int] = {}
    missing: dict[str, str] = {}
    for purpose, name in wanted.items():
        places = [position for position, other in enumerate(given) if other == name]
        if not places:
            alike = plain_name(name)
            taken = set(wanted.values())
            places = [
                position for position, other in enumerate(given) if plain_name(other) == alike and other not in taken
            ]
            if len(places) > 1:
                raise ContractError(
                    f"{origin} has no column {name!r} (for {purpose}), and {[given[place] for place in places]} are "
                    f"all written like it: {remedy}"
                )
        if len(places) > 1:
            raise ContractError(f"{origin} has more than one column called [{name!r}]: correct the file")
        if places:
            found[name] = places[0]
        else:
            missing[purpose] = name
    if missing:
        listed = ", ".join(f"{name!r} (for {purpose}){_alike(name, given)}" for purpose, name in missing.items())
        raise ContractError(f"{origin} lacks {listed}; it has {list(given)}: {remedy}")
    return found


def _alike(name: str, given: Sequence[str]) -> str:
    by_plain = {plain_name(other): other for other in given}
    closest = difflib.get_close_matches(plain_name(name), by_plain, n=1, cutoff=0.7)
    return f" (did you mean {by_plain[closest[0]]!r}?)" if closest else ""
