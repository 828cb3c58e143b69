"""API keys: made at random, shown once, and kept as a hash with a name and roles."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

Role = Literal["score", "decide", "feedback", "admin"]

KEYS_VARIABLE = "FRAUD_API_KEYS"
"""The environment variable that tells a service where the file of keys is."""
ROLES: Mapping[Role, str] = {
    "score": "gets probabilities, decisions and reasons",
    "decide": "gets decisions alone: no probability, no threshold, no reasons",
    "feedback": "sends labels",
    "admin": "approves and rejects models",
}
# Whoever finds a key, in a repository or a log, shall see what it is.
PREFIX = "fraud_"
RANDOM_BYTES = 32


class KeysError(ValueError):
    """Keys that cannot be used; the message says why, and holds no part of a key."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key.

    Attributes:
        name: of its bearer, as logs and the ledger have it.
        roles: what it may do.
        sha256: of the key, in hexadecimal. A key is 256 random bits, so no slower hash is needed.
        created_at: when it was made, ISO 8601.
        requests_per_minute: how many it may send in a minute; None for any number.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: datetime
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None

    def may(self, any_of: Iterable[Role]) -> bool:
        """Whether it has one of these roles."""
        return not set(any_of).isdisjoint(self.roles)

    @property
    def decisions_only(self) -> bool:
        """Whether its bearer gets decisions, and nothing that they were made of."""
        return "score" not in self.roles


_KEYS = TypeAdapter(dict[Literal["keys"], list[ApiKey]])


def hash_key(key: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_key(
    keys: Sequence[ApiKey], name: str, roles: Sequence[str], now: datetime, requests_per_minute: int | None = None
) -> tuple[str, list[ApiKey]]:
    """A new key.

    Args:
        keys: those that there are.
        name: of its bearer.
        roles: of `ROLES`, one or more.
        now: the present moment.
        requests_per_minute: how many it may send.

    Returns:
        The key's text, which is nowhere else, and all keys with it.

    Raises:
        KeysError: for a name that another key has, or that cannot be, or a role that there is none of.
    """
    if any(one.name == name for one in keys):
        raise KeysError(
            f"there is a key {name!r} already; `fraud keys remove {name}` takes it back. To change a key without a "
            "gap, add one of another name, let its bearer use that, then remove this one"
        )
    if unknown := [role for role in roles if role not in ROLES]:
        raise KeysError(f"there is no role {', '.join(unknown)}; the roles are {', '.join(ROLES)}")
    if not roles:
        raise KeysError(f"a key needs a role; the roles are {', '.join(ROLES)}")
    text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    made = {
        "name": name,
        "roles": list(dict.fromkeys(roles)),
        "sha256": hash_key(text),
        "created_at": now.isoformat(),
        "requests_per_minute": requests_per_minute,
    }
    try:
        return text, [*keys, *_KEYS.validate_python({"keys": [made]})["keys"]]
    except ValidationError as error:
        (problem, *_) = error.errors()
        raise KeysError(
            f"{problem['loc'][2]} cannot be {problem['input']!r}: a name has up to 64 letters, digits, dots, dashes "
            "and underscores, and a rate is 1 or more"
        ) from None


def without_key(keys: Sequence[ApiKey], name: str) -> list[ApiKey]:
    """All keys but the one of this name.

    Raises:
        KeysError: when there is none.
    """
    left = [one for one in keys if one.name != name]
    if len(left) == len(keys):
        raise KeysError(f"there is no key {name!r}; there are {', '.join(one.name for one in keys) or 'none'}")
    return left


def keys_from_json(text: str) -> list[ApiKey]:
    """The keys that a file has.

    Raises:
        KeysError: when it has something else, or a name or a key twice.
    """
    try:
        keys = _KEYS.validate_json(text)["keys"]
    except (ValidationError, KeyError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "keys"
        raise KeysError(f"the file of keys cannot be read ({where or 'no JSON'}); `fraud keys add` writes it") from None
    for what in ("name", "sha256"):
        values = [getattr(one, what) for one in keys]
        if len(set(values)) < len(values):
            raise KeysError(f"the file of keys has a {what} twice; remove one of the two")
    return keys


def keys_to_json(keys: Iterable[ApiKey]) -> str:
    """As the file has them."""
    return json.dumps({"keys": [asdict(one) for one in keys]}, indent=2, default=str) + "\n"
