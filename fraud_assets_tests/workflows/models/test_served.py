"""What is served is what was promoted and signed: swapped files, changed code and other keys are refused and said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from fraud_assets.adapters.bento import MODEL_FOLDER, digest_bento
from fraud_assets.adapters.live_bento import read_live
from fraud_assets.adapters.mlflow import MODEL_NAME, Registry, RegistryError
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.signing import open_key, sign_folder, verify_folder
from fraud_assets.core.models.scoring import ModelManifest, digest_model
from fraud_assets.workflows.models.served import ServingError, check_served, recorded_digests

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

MODEL = Path("src") / MODEL_FOLDER


@pytest.fixture
def ledger(in_spare_world: World) -> LedgerStore:
    return LedgerStore(Database(in_spare_world.url), in_spare_world.settings.ledger_head_file)


@pytest.fixture
def bento(spare_world: World) -> Iterator[Path]:
    """The folder of the live bento; what a test does to it is undone."""
    live = read_live(spare_world.settings.bentoml_home)
    assert live is not None
    folder = spare_world.settings.bentoml_home / live.folder
    aside = folder.with_name(f".{folder.name}-aside")
    shutil.copytree(folder, aside)
    yield folder
    shutil.rmtree(folder)
    aside.rename(folder)


def check(world: World, ledger: LedgerStore, key_file: Path | None = None) -> None:
    """As `fraud serve` does, without serving."""
    live = read_live(world.settings.bentoml_home)
    assert live is not None
    check_served(
        world.settings.bentoml_home / live.folder, live.bento, live.model_version, recorded_digests(ledger.events()),
        key_file or world.settings.signing_key_file,
    )  # fmt: skip


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def rewrite_together(folder: Path) -> None:
    """Another model and a manifest that fits it, as somebody would who knows how they are checked."""
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    manifest = ModelManifest.from_json((folder / "manifest.json").read_bytes())
    fitting = manifest.model_copy(update={"model_digest": digest_model(bytes(content))})
    (folder / "manifest.json").write_text(fitting.to_json(), encoding="utf-8")


def change_code(bento: Path) -> None:
    file = bento / "src" / "bentos" / "fraud_scorer" / "service.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nprint('somebody was here')\n", encoding="utf-8")


def test_what_was_promoted_and_signed_may_be_served(spare_world: World, ledger: LedgerStore, bento: Path) -> None:
    (bento / "src" / "bentos" / "__pycache__").mkdir(exist_ok=True)
    (bento / "src" / "bentos" / "__pycache__" / "evil.pyc").write_bytes(b"")
    check(spare_world, ledger)
    # What Python compiled is believed unread, so it goes.
    assert not (bento / "src" / "bentos" / "__pycache__").exists()
    assert set(recorded_digests(ledger.events())) == {"model.onnx", "manifest.json", "bento"}
    # Where models are only served, the public key will do.
    key = spare_world.settings.signing_key_file
    check(spare_world, ledger, key.with_name(f"{key.name}.pub"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bento: flip_a_byte(bento / MODEL / "model.onnx"), r"model\.onnx was changed"),
        (lambda bento: rewrite_together(bento / MODEL), r"manifest\.json was changed; .*model\.onnx was changed"),
        (change_code, r"service\.py was changed"),
        (lambda bento: (bento / "src" / "sitecustomize.py").write_text("import os\n"), r"sitecustomize\.py was added"),
        (lambda bento: (bento / "env/python/requirements.txt").unlink(), r"requirements\.txt is missing"),
        (lambda bento: (bento / "bento.yaml").unlink(), "is not there"),
    ],
)
def test_a_changed_package_is_not_served_and_how_to_mend_it_is_said(
    spare_world: World, ledger: LedgerStore, bento: Path, change: Callable[[Path], object], said: str
) -> None:
    change(bento)
    with pytest.raises(ServingError, match=f"{said}.*`fraud promote"):
        check(spare_world, ledger)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda bento: rewrite_together(bento / MODEL),
            r"something else than its name says|not what the ledger promoted",
        ),
        (change_code, "something else than its name says"),
    ],
)
def test_what_was_changed_and_signed_again_with_the_right_key_is_still_not_what_the_database_says(
    spare_world: World, ledger: LedgerStore, bento: Path, change: Callable[[Path], object], said: str
) -> None:
    change(bento)
    sign_folder(bento, open_key(spare_world.settings.signing_key_file), "fraud_scorer")
    with pytest.raises(ServingError, match=said):
        check(spare_world, ledger)


def test_a_model_that_was_swapped_with_its_manifest_is_named_by_the_ledger_s_digest(
    spare_world: World, ledger: LedgerStore, bento: Path
) -> None:
    """Also where the whole package was named after what it holds now, and signed."""
    rewrite_together(bento / MODEL)
    sign_folder(bento, open_key(spare_world.settings.signing_key_file), "fraud_scorer")
    tag = f"fraud_scorer:v1-{digest_bento(bento)[:8]}"
    with pytest.raises(ServingError, match=r"model\.onnx in the package .* is not what the ledger promoted"):
        check_served(bento, tag, 1, recorded_digests(ledger.events()), spare_world.settings.signing_key_file)


def test_a_signature_by_another_key_is_refused(
    spare_world: World, ledger: LedgerStore, bento: Path, tmp_path: Path
) -> None:
    sign_folder(bento, open_key(tmp_path / "mallory.pem"), "fraud_scorer")
    with pytest.raises(ServingError, match="signed by another key"):
        check(spare_world, ledger)
    with pytest.raises(ServingError, match="there is no key"):
        check(spare_world, ledger, tmp_path / "nowhere.pem")


def test_fraud_serve_refuses_a_changed_package_in_one_sentence(spare_world: World, bento: Path) -> None:
    change_code(bento)
    refused = spare_world.fraud("serve", fails=True)
    assert "service.py was changed. Nothing is served. `fraud promote" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_exported_package_is_the_same_file_each_time_and_serves_where_nothing_else_is(
    spare_world: World, tmp_path: Path
) -> None:
    from fraud_assets_tests.worlds import free_port

    for name in ("one", "two"):
        done = json.loads(spare_world.fraud("export", str(tmp_path / name), "--json").stdout)
        assert (done["wheels"], done["size"]) == (0, (tmp_path / name).stat().st_size)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("fraud_scorer-v*")
    verify_folder(folder / "bento", (folder / "signing.pem.pub").read_bytes())
    # The packages of the place where it is served; installing them needs an index, or wheels.
    (folder / ".venv").symlink_to(sys.prefix)
    port = free_port()
    elsewhere = {"PATH": "/usr/bin:/bin", "PORT": str(port), "HOME": str(tmp_path)}
    with subprocess.Popen(
        ["sh", str(folder / "serve.sh")], env=elsewhere, cwd=tmp_path, start_new_session=True
    ) as process:
        try:
            manifest = ModelManifest.from_json((folder / "bento" / MODEL / "manifest.json").read_bytes())
            features = dict.fromkeys(manifest.features)
            answer = ask(f"http://127.0.0.1:{port}/score", {"features": [features]}, process)
            assert answer["model_version"] == manifest.model_version
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    # Nothing was written beside what is signed.
    verify_folder(folder / "bento", (folder / "signing.pem.pub").read_bytes())


def ask(url: str, body: dict[str, object], process: subprocess.Popen[bytes]) -> dict[str, object]:
    """The answer of a service that may still be starting."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return dict(httpx.post(url, json=body, trust_env=False, timeout=30).raise_for_status().json())
        except httpx.TransportError:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.2)


# The registry


@pytest.fixture
def files(spare_world: World, ledger: LedgerStore) -> Iterator[tuple[int, Path]]:
    """The champion, and the folder of its files in the registry; what a test does to them is undone."""
    live = read_live(spare_world.settings.bentoml_home)
    assert live is not None
    run = Registry(spare_world.settings).client().get_model_version(MODEL_NAME, str(live.model_version)).run_id
    folder = spare_world.settings.artifacts / run / "artifacts" / "serving"
    kept = {file: file.read_bytes() for file in folder.iterdir()}
    yield live.model_version, folder
    for file, content in kept.items():
        file.write_bytes(content)


def test_a_model_and_its_manifest_that_were_rewritten_together_in_the_registry_are_refused(
    spare_world: World, files: tuple[int, Path]
) -> None:
    version, folder = files
    assert Registry(spare_world.settings).fetch(version)[1].model_version == version
    rewrite_together(folder)
    with pytest.raises(
        RegistryError, match=r"manifest\.json and model\.onnx of version .* are not what was registered"
    ):
        Registry(spare_world.settings).fetch(version)
    before = spare_world.query("SELECT count(*) FROM ledger")
    for command in (["promote", str(version), "--reason", "x"], ["score", "nothing.csv"]):
        assert "are not what was registered" in spare_world.fraud(*command, fails=True).stderr
    assert spare_world.query("SELECT count(*) FROM ledger") == before
    assert json.loads(spare_world.fraud("status", "--json").stdout)["champion"]["version"] == version


def test_a_manifest_that_was_rewritten_alone_is_refused(spare_world: World, files: tuple[int, Path]) -> None:
    version, folder = files
    manifest = ModelManifest.from_json((folder / "manifest.json").read_bytes())
    lenient = manifest.model_copy(update={"threshold": 1.0})
    (folder / "manifest.json").write_text(lenient.to_json(), encoding="utf-8")
    with pytest.raises(RegistryError, match=r"manifest\.json of version .* not what was registered"):
        Registry(spare_world.settings).fetch(version)
