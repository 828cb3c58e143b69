"""Whether a package may be served: what the ledger promoted, as its key signed it, down to the last byte.

How a folder is signed belongs to `adapters/signing.py`, which package is the live one to `truth.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_assets.adapters.bento import MODEL_FOLDER, digest_bento, remove_caches
from fraud_assets.adapters.signing import public_key, verify_folder
from fraud_assets.core.decisions.ledger import Event, champion_version
from fraud_assets.core.errors import PlatformError


class ServingError(PlatformError):
    """A package that is not served; the message says what is wrong with it, and what to do."""


def recorded_digests(events: Sequence[Event]) -> dict[str, str]:
    """SHA-256 by name of what is live: the files as they were registered, the package as it was promoted last."""
    live = champion_version(events)
    digests: dict[str, str] = {}
    for event in events:
        if event.model_version == live and event.kind in ("registered", "promoted", "rolled_back"):
            digests = {**event.digests, **digests, **{n: one for n, one in event.digests.items() if n == "bento"}}
    return digests


def check_served(path: Path, tag: str, version: int, digests: Mapping[str, str], key_file: Path) -> None:
    """Passes when a package is what was promoted.

    The database says what that is: the digests of model and manifest, and of all that was packaged. A package that was
    built again by another version of the platform has other code, and another tag: then its signature says that it was
    built here.

    Args:
        path: the folder of the package.
        tag: its name in the database, which ends with the first digits of its digest.
        version: of the model that is live.
        digests: SHA-256 by name, as the ledger has them; empty of a promotion from before they were recorded.
        key_file: the key that it must be signed with.

    Raises:
        ServingError: otherwise.
    """
    remedy = f"Nothing is served. `fraud promote {version} --reason ...` packages it again from the registry"
    if not (path / "bento.yaml").is_file():
        raise ServingError(f"the package {tag} is not there ({path}). {remedy}")
    remove_caches(path)
    try:
        found = verify_folder(path, public_key(key_file))
        content = digest_bento(path)
    except PlatformError as error:
        raise ServingError(f"the package {tag} is not the one that was promoted: {error}. {remedy}") from error
    ending = tag.rpartition("-")[2]
    if not content.startswith(ending):
        raise ServingError(f"the package {tag} holds something else than its name says ({content[:8]}). {remedy}")
    for name in ("model.onnx", "manifest.json"):
        there, wanted = found.get(f"src/{MODEL_FOLDER.as_posix()}/{name}"), digests.get(name)
        if wanted is not None and there != wanted:
            raise ServingError(
                f"{name} in the package {tag} is not what the ledger promoted as version {version}: its SHA-256 is "
                f"{(there or 'missing')[:12]}, the ledger says {wanted[:12]}. {remedy}"
            )
    promoted = digests.get("bento", "")
    if promoted.startswith(ending) and promoted != content:
        raise ServingError(f"the package {tag} is not the one that the ledger promoted ({promoted[:12]}). {remedy}")
