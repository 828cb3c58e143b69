"""Signatures of packaged models, in the format of OpenSSF Model Signing (OMS) 1.0, with an elliptic curve key.

A signature is a file in the folder that it signs: a Sigstore bundle with a DSSE envelope around an in-toto statement,
which names every other file with its SHA-256. `model_signing verify key` (the package model-signing) accepts it, too.
That package itself is not used: for a key in a file it would bring fourteen others, of Sigstore and TUF, and it has had
no release since October 2025.

Which folder must be signed, and what else is compared, belongs to `workflows/models/served.py`.

Sources: https://github.com/ossf/model-signing-spec, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fraud_assets.core.errors import PlatformError

SIGNATURE_FILE = "model.sig"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
# The same bytes get the same signature (RFC 6979), so that a folder that is built twice is the same.
ALGORITHM = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class SignatureError(PlatformError):
    """A folder that is not what was signed; the message names the file, and whose key it was."""


@dataclass(frozen=True)
class Key:
    """A key to sign with.

    Attributes:
        private: the key.
    """

    private: ec.EllipticCurvePrivateKey

    @property
    def public_pem(self) -> bytes:
        """What others verify with, in PEM."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def name(self) -> str:
        """SHA-256 of the public key, by which a signature names it."""
        return hashlib.sha256(self.public_pem).hexdigest()


def open_key(file: Path) -> Key:
    """The key in a file; made there when there is none, with the public one beside it as `<file>.pub`.

    Raises:
        SignatureError: when the file is no such key, or others than its owner may read it.
    """
    if not file.exists():
        _make_key(file)
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise SignatureError(
            f"the key {file} can be read by others than its owner (mode {mode:o}), who may have signed with it: delete "
            "it, and a new one is made; or, where nobody else has had it, run `chmod 600` on it"
        )
    try:
        private = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SignatureError(f"{file} is no private key in PEM without a password: {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SignatureError(
            f"{file} is no key of the curve P-256; `openssl ecparam -genkey -name prime256v1` makes one"
        )
    return Key(private)


def public_key(file: Path) -> bytes:
    """What to verify with, in PEM: the public key in a file, or that of the private one in it.

    Raises:
        SignatureError: when the file is neither, or is not there.
    """
    if not file.exists():
        raise SignatureError(f"there is no key {file}; FRAUD_SIGNING_KEY names it, or its public part")
    with suppress(ValueError):
        public = serialization.load_pem_public_key(file.read_bytes())
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return open_key(file).public_pem


def _make_key(file: Path) -> None:
    key = Key(ec.generate_private_key(ec.SECP256R1()))
    file.parent.mkdir(parents=True, exist_ok=True)
    text = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        output.write(text)
    try:
        # Fails where another process was first: the key that is there stays.
        os.link(scratch, file)
    except FileExistsError:
        return
    finally:
        scratch.unlink()
    file.with_name(f"{file.name}.pub").write_bytes(key.public_pem)


def sign_folder(folder: Path, key: Key, name: str) -> None:
    """Writes the signature of all files of a folder into it.

    Args:
        folder: the folder; no file in it may be a symbolic link.
        key: to sign with.
        name: what the folder holds, for those who read the signature.

    Raises:
        SignatureError: when something in it can be no part of a signature.
    """
    digests = digest_files(folder)
    payload = _statement(name, digests)
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.name}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(key.private.sign(_encoded(payload), ALGORITHM)).decode()}],
        },
    }
    (folder / SIGNATURE_FILE).write_text(json.dumps(bundle), encoding="utf-8")


def verify_folder(folder: Path, public_pem: bytes) -> dict[str, str]:
    """The SHA-256 of each file of a folder, which are what was signed, all of it, and nothing else.

    Args:
        folder: the folder.
        public_pem: the public key of whoever must have signed.

    Raises:
        SignatureError: when there is no signature, one by another key, or a file that was changed, added or taken away.
    """
    file = folder / SIGNATURE_FILE
    try:
        bundle = json.loads(file.read_text(encoding="utf-8"))
        envelope = bundle["dsseEnvelope"]
        signer = str(bundle["verificationMaterial"]["publicKey"]["hint"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except FileNotFoundError:
        raise SignatureError(f"{folder} is not signed") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SignatureError(f"{file} is no signature: {error!r}") from error
    mine = hashlib.sha256(public_pem).hexdigest()
    if signer != mine:
        raise SignatureError(f"{folder} is signed by another key ({signer[:12]}, and yours is {mine[:12]})")
    public = serialization.load_pem_public_key(public_pem)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise SignatureError("the public key is none of an elliptic curve")
    try:
        public.verify(signature, _encoded(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError(f"the signature {file} was changed, or made by another key") from None
    signed, found = _signed_digests(payload, file), digest_files(folder)
    wrong = [
        *(f"{name} is missing" for name in sorted(signed.keys() - found.keys())),
        *(f"{name} was added" for name in sorted(found.keys() - signed.keys())),
        *(f"{name} was changed" for name in sorted(signed.keys() & found.keys()) if signed[name] != found[name]),
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SignatureError(f"{folder} is not what was signed: {'; '.join(wrong[:3])}{more}")
    return found


def digest_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder by its path, in the order of the paths, without the signature.

    Raises:
        SignatureError: for a symbolic link, which may lead anywhere, or what is neither file nor folder.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SignatureError(f"{path} is no file of its own, and can be no part of what is signed")
        if path.is_file() and name != SIGNATURE_FILE:
            with path.open("rb") as content:
                digests[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return dict(sorted(digests.items()))


def _statement(name: str, digests: Mapping[str, str]) -> bytes:
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values()))
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_FILE],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in digests.items()],
        },
    }
    return json.dumps(statement).encode()


def _signed_digests(payload: bytes, file: Path) -> dict[str, str]:
    with suppress(ValueError, KeyError, TypeError):
        statement: dict[str, Any] = json.loads(payload)
        if statement["_type"] == STATEMENT and statement["predicateType"] == PREDICATE:
            resources = statement["predicate"]["resources"]
            if all(one["algorithm"] == "sha256" for one in resources):
                return {str(one["name"]): str(one["digest"]) for one in resources}
    raise SignatureError(f"{file} signs something else than the files of a model")


def _encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    return b" ".join([f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)}".encode(), payload])
