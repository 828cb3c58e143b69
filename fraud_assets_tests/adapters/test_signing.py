"""Signatures of folders: what was signed is found whole, and any change, or another key, is named."""

import base64
import json
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fraud_assets.adapters.signing import SIGNATURE_FILE, SignatureError, open_key, sign_folder, verify_folder


@pytest.fixture
def key(tmp_path):
    return open_key(tmp_path / "keys" / "signing.pem")


@pytest.fixture
def folder(tmp_path, key):
    folder = tmp_path / "model"
    (folder / "src").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"\x00weights")
    (folder / "src" / "service.py").write_text("print('hello')\n")
    (folder / "empty").write_bytes(b"")
    sign_folder(folder, key, "fraud_scorer:v1")
    return folder


def test_what_was_signed_is_found_with_its_digests(folder, key):
    assert verify_folder(folder, key.public_pem) == {
        # `printf '' | sha256sum`, and likewise of the others.
        "empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "model.onnx": "10dab9368f602c9d8cf00ebfa8411059526b8a5bc9668bca83f5e6f73a1f900c",
        "src/service.py": "03e693d9f2f687e0f40e36a8df7fcb4d1c22974012b7c2a55c000eb30f305824",
    }


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: flip_a_byte(folder / "model.onnx"), "model.onnx was changed"),
        (lambda folder: (folder / "src" / "service.py").write_text("import evil\n"), "src/service.py was changed"),
        (lambda folder: (folder / "src" / "more.py").write_text(""), "src/more.py was added"),
        (lambda folder: (folder / "empty").unlink(), "empty is missing"),
        (lambda folder: (folder / "empty").rename(folder / "void"), "empty is missing; void was added"),
        (lambda folder: (folder / "src" / "link").symlink_to("/etc/passwd"), "link is no file of its own"),
        (lambda folder: (folder / SIGNATURE_FILE).unlink(), "is not signed"),
        (lambda folder: (folder / SIGNATURE_FILE).write_text("{}"), "is no signature"),
        (lambda folder: (folder / SIGNATURE_FILE).write_text("[" * 10), "is no signature"),
    ],
)
def test_any_change_of_the_folder_is_named(folder, key, change, said):
    change(folder)
    with pytest.raises(SignatureError, match=said):
        verify_folder(folder, key.public_pem)


def test_a_model_that_was_changed_and_signed_again_by_another_key_is_refused(folder, key, tmp_path):
    flip_a_byte(folder / "model.onnx")
    sign_folder(folder, open_key(tmp_path / "another.pem"), "fraud_scorer:v1")
    with pytest.raises(SignatureError, match="signed by another key"):
        verify_folder(folder, key.public_pem)
    # One that says that it was yours.
    file = folder / SIGNATURE_FILE
    bundle = json.loads(file.read_text())
    bundle["verificationMaterial"]["publicKey"]["hint"] = key.name
    file.write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="was changed, or made by another key"):
        verify_folder(folder, key.public_pem)


def test_a_statement_whose_digests_were_changed_to_fit_is_refused(folder, key):
    file = folder / SIGNATURE_FILE
    before = verify_folder(folder, key.public_pem)["model.onnx"]
    flip_a_byte(folder / "model.onnx")
    bundle = json.loads(file.read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode().replace(before, "0" * 64)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.encode()).decode()
    file.write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="was changed, or made by another key"):
        verify_folder(folder, key.public_pem)


def test_the_same_files_get_the_same_signature(folder, key):
    first = (folder / SIGNATURE_FILE).read_bytes()
    sign_folder(folder, key, "fraud_scorer:v1")
    assert (folder / SIGNATURE_FILE).read_bytes() == first


def test_the_signature_has_the_layout_of_the_open_source_security_foundation(folder):
    """Version 1.0; a signature made here was accepted by model-signing 1.1.1 (`model_signing verify key`)."""
    bundle = json.loads((folder / SIGNATURE_FILE).read_text())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    envelope = bundle["dsseEnvelope"]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    assert [one["name"] for one in statement["predicate"]["resources"]] == ["empty", "model.onnx", "src/service.py"]


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path):
    file = tmp_path / "home" / "signing.pem"
    key = open_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert open_key(file).name == key.name
    assert (file.parent / "signing.pem.pub").read_bytes() == key.public_pem
    assert sorted(path.name for path in file.parent.iterdir()) == ["signing.pem", "signing.pem.pub"]
    file.chmod(0o640)
    with pytest.raises(SignatureError, match="can be read by others"):
        open_key(file)


@pytest.mark.parametrize("other", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1()), None])
def test_a_file_that_is_no_such_key_is_refused(tmp_path, other):
    file = tmp_path / "signing.pem"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(other.private_bytes(*pem) if other else b"-----BEGIN")
    file.chmod(0o600)
    with pytest.raises(SignatureError, match=r"signing\.pem is no"):
        open_key(file)
