"""Whether everything that says which model is live says what the ledger says.

The ledger is the record. Aliases in MLflow, the package that is named for serving, and running services follow it; each
may be left behind by a crash, or be moved by hand. Gathering what they say belongs to `workflows/models/truth.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fraud_assets.core.decisions.ledger import Standing

Subject = Literal["ledger", "alias", "registry", "bento", "service"]
RECONCILE = "`fraud reconcile` repairs it"


@dataclass(frozen=True)
class Service:
    """What a running service says of itself.

    Attributes:
        process: its number.
        model_version: which it answers with.
        refused: why it did not take another one; empty where it did.
    """

    process: int
    model_version: int
    refused: str = ""


@dataclass(frozen=True)
class Seen:
    """What the outside world says.

    Attributes:
        aliases: version by alias, of those that are set; None where MLflow does not answer.
        versions: those in the registry; None where it does not answer.
        unknown: versions in the registry that the ledger has no event about.
        bento_version: the version that is named for serving; None when none is.
        bento_is_there: whether its files are.
        services: those that run on this machine.
        not_asked: why MLflow did not answer.
    """

    aliases: Mapping[str, int] | None
    versions: frozenset[int] | None
    unknown: Sequence[int] = ()
    bento_version: int | None = None
    bento_is_there: bool = True
    services: Sequence[Service] = field(default_factory=tuple)
    not_asked: str = ""


@dataclass(frozen=True)
class Disagreement:
    """Something that does not say what the ledger says.

    Attributes:
        subject: what.
        sentence: how it differs, and what to do.
    """

    subject: Subject
    sentence: str


def wanted_aliases(standing: Standing) -> dict[str, int | None]:
    """The version that each alias points to by the ledger; None for one that is not set."""
    return {
        "challenger": standing.challenger,
        "previous_champion": standing.previous,
        "champion": standing.champion,
    }


def disagreements(standing: Standing, seen: Seen) -> list[Disagreement]:
    """What does not say what the ledger says, in sentences with the remedy."""
    found: list[Disagreement] = []
    if seen.not_asked:
        found.append(Disagreement("registry", f"MLflow was not asked: {seen.not_asked}"))
    live = standing.champion
    if live is not None and seen.versions is not None and live not in seen.versions:
        found.append(
            Disagreement(
                "registry",
                f"version {live} is champion by the ledger, and MLflow has no such version any more: put it back from "
                "a backup of MLflow, or use `fraud rollback` or `fraud promote` to make another version champion",
            )
        )
    if seen.aliases is not None:
        for alias, version in wanted_aliases(standing).items():
            pointed = seen.aliases.get(alias)
            gone = version is not None and seen.versions is not None and version not in seen.versions
            if pointed != version and not (gone and pointed is None):
                found.append(
                    Disagreement(
                        "alias",
                        f"the alias {alias} in MLflow points to {_named(pointed)}, and by the ledger it is "
                        f"{_named(version)}; {RECONCILE}",
                    )
                )
    found += [
        Disagreement(
            "registry",
            f"version {version} is in MLflow, and the ledger has no event about it: a run was broken off between the "
            f"two, or somebody registered it; {RECONCILE}, and retires the version",
        )
        for version in seen.unknown
    ]
    return found + _of_serving(live, seen)


def _of_serving(live: int | None, seen: Seen) -> list[Disagreement]:
    found = []
    if seen.bento_version is not None and seen.bento_version != live:
        found.append(
            Disagreement(
                "bento",
                f"version {seen.bento_version} is named for serving, and by the ledger it is {_named(live)}; "
                f"{RECONCILE}",
            )
        )
    elif not seen.bento_is_there:
        found.append(
            Disagreement(
                "bento", f"the bento of version {live} is not there any more; {RECONCILE}, and packages it again"
            )
        )
    for service in seen.services:
        if service.model_version != live:
            why = f"it refused the other one: {service.refused}" if service.refused else "it follows within seconds"
            found.append(
                Disagreement(
                    "service",
                    f"the service (process {service.process}) answers with version {service.model_version}, and by the "
                    f"ledger it is {_named(live)}; {why}",
                )
            )
    return found


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
