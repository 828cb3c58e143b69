"""Packaging: a model as a bento that serves it without anything else.

What a model says about itself, and scoring, belong to `core/models/scoring.py`; its conversion to ONNX to
`onnx_models.py`; the service that the bento runs to `bentos/fraud_scorer`; which version is packaged, and when, to the
assets.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from fraud_assets.adapters.serving_requirements import SERVING_PACKAGES, hashed_requirements
from fraud_assets.adapters.signing import Key, SignatureError, sign_folder, verify_folder
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.models.scoring import ModelManifest, ScoringError, digest_model

logger = logging.getLogger(__name__)

BENTO_NAME = "fraud_scorer"
SERVICE = "bentos.fraud_scorer.service:FraudScorer"
MODEL_FOLDER = Path("bentos/fraud_scorer/model")
LOCK = "requirements.lock"

REQUIREMENTS = Path("env/python/requirements.txt")


class PackagingError(PlatformError):
    """A bento that cannot be built; the message carries what the build said."""


@dataclass(frozen=True)
class PackagedBento:
    """A bento in a store.

    Attributes:
        tag: `fraud_scorer:v<model version>-<first 8 digits of digest>`.
        path: its folder, which `bentoml serve` takes.
        digest: SHA-256 over all that was put in: model, manifest, sources, requirements.
        digests: SHA-256 by name, as the ledger has them: the model's files, and `bento` for the digest.
    """

    tag: str
    path: Path
    digest: str
    digests: Mapping[str, str] = field(default_factory=dict)


# Half of it is its description: what a package is, and why it is built like this.
def build_bento(
    onnx: bytes,
    manifest: ModelManifest,
    *,
    bentoml_home: Path,
    project_root: Path,
    labels: Mapping[str, str] | None = None,
    key: Key | None = None,
) -> PackagedBento:
    """Builds the service around a model, or finds the bento built before.

    The model lies inside the bento, next to the service that reads it: the bento is the pin, needs neither a
    model store nor a registry, and can be exported, copied or put in a container as it is. Its tag follows
    from its content, so that changed sources or requirements never hide under a known tag.

    The build runs in a process of its own, because BentoML reads BENTOML_HOME once, at import, and imports
    the service into the process that builds; and in a home of its own, from which the finished bento is moved
    into the store in one step. Nothing is fetched: requirements are the versions installed here, with the lock's
    hashes. The same content gives the same bytes.

    Args:
        onnx: the model, as `to_onnx` makes it.
        manifest: what it says about itself.
        bentoml_home: the BentoML home in whose store the bento shall lie.
        project_root: the folder that holds `fraud_assets/`, `bentos/` and `requirements.lock`.
        labels: further labels of a bento that is built now; its content, digest and tag are the same with others.
        key: to sign it with. A bento of this content that was built before and is not as this key signed it is built
            anew.

    Raises:
        ScoringError: when the bytes are not the manifest's model.
        PackagingError: when sources are missing or BentoML refuses the build.
        RequirementsError: when the lock lacks what is installed.
    """
    if digest_model(onnx) != manifest.model_digest:
        raise ScoringError(
            f"the ONNX bytes are not those of {manifest.model_name} version {manifest.model_version}: their "
            "digest is "
            f"{digest_model(onnx)[:12]}, the manifest says {manifest.model_digest[:12]}"
        )
    contents = _sources(project_root) | {
        MODEL_FOLDER / "model.onnx": onnx,
        MODEL_FOLDER / "manifest.json": manifest.to_json().encode(),
    }
    requirements = hashed_requirements(project_root / LOCK)
    digest = _digest_contents(contents, requirements)
    version = f"v{manifest.model_version}-{digest[:8]}"
    packaged = PackagedBento(
        f"{BENTO_NAME}:{version}",
        bentoml_home / "bentos" / BENTO_NAME / version,
        digest,
        {"bento": digest, **manifest.digests},
    )
    if _is_built(packaged.path, key):
        return packaged

    # Not below the home: its default name begins with a dot, and BentoML builds nothing from hidden folders.
    with tempfile.TemporaryDirectory(prefix="packaging-") as folder:
        context, home = Path(folder) / "context", Path(folder) / "home"
        bentofile = _bentofile(manifest, contents, {"content_digest": digest, **(labels or {})})
        _lay_out(context, contents | {Path("bentofile.yaml"): yaml.safe_dump(bentofile, sort_keys=False).encode()})
        _run_build(context, home, version)
        built = home / "bentos" / BENTO_NAME / version
        _settle(built, requirements, manifest)
        if key is not None:
            sign_folder(built, key, packaged.tag)
        _move_in(built, packaged.path, key)
    return packaged


def _lay_out(folder: Path, contents: Mapping[Path, bytes]) -> None:
    """Writes files, by their paths below a folder."""
    for relative, content in contents.items():
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _bentofile(manifest: ModelManifest, files: Iterable[Path], labels: Mapping[str, str]) -> dict[str, Any]:
    """What BentoML is told to build."""
    return {
        "service": SERVICE,
        "name": BENTO_NAME,
        "description": (
            f"Scores transactions with {manifest.model_name} version {manifest.model_version}, trained for "
            f"{manifest.trained_month}."
        ),
        "labels": {
            "model_name": manifest.model_name,
            "model_version": str(manifest.model_version),
            "model_digest": manifest.model_digest,
            **labels,
        },
        "include": [relative.as_posix() for relative in files],
        # Locking would ask a package index; the versions are pinned already.
        "python": {"packages": list(SERVING_PACKAGES), "lock_packages": False},
    }


def score_in_bento(bento: PackagedBento, features: pa.Table) -> npt.NDArray[np.float64]:
    """The scores that a bento gives, from its own sources and its own model, in a process of its own.

    Args:
        bento: as `build_bento` gives it.
        features: a table of the model's features.

    Returns:
        Probabilities, shape (n,).

    Raises:
        PackagingError: when it does not score.
    """
    sources = bento.path / "src"
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        given, scored = Path(folder) / "features.arrow", Path(folder) / "scores.npy"
        with pa.OSFile(str(given), "wb") as file, pa.ipc.new_file(file, features.schema) as writer:
            writer.write_table(features)
        command = [sys.executable, "-c", _SCORE, str(sources / MODEL_FOLDER), str(given), str(scored)]
        environment = os.environ | {"PYTHONPATH": str(sources)}
        done = subprocess.run(  # noqa: S603 - our own code, and a folder that we built
            command, cwd=sources, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PackagingError(f"the bento {bento.tag} does not score: {done.stderr.strip()[-2000:]}")
        scores: npt.NDArray[np.float64] = np.load(scored, allow_pickle=False)
        return scores


_SCORE = """
import pathlib, sys
import numpy, pyarrow
from fraud_assets.core.models.scoring import ModelManifest, Scorer
model, given, scored = map(pathlib.Path, sys.argv[1:])
manifest = ModelManifest.from_json((model / "manifest.json").read_bytes())
features = pyarrow.ipc.open_file(given).read_all()
numpy.save(scored, Scorer((model / "model.onnx").read_bytes(), manifest).score(features))
"""


def labels_of_bentos(bentoml_home: Path) -> dict[str, dict[str, str]]:
    """The labels of the bentos in a store, by tag; a folder that is no bento is left out."""
    found = {}
    for file in sorted((bentoml_home / "bentos" / BENTO_NAME).glob("*/bento.yaml")):
        with suppress(OSError, yaml.YAMLError):
            written = yaml.safe_load(file.read_text(encoding="utf-8"))
            labels = written.get("labels") if isinstance(written, dict) else None
            if isinstance(labels, dict):
                found[f"{BENTO_NAME}:{file.parent.name}"] = {str(name): str(one) for name, one in labels.items()}
    return found


def _is_built(path: Path, key: Key | None) -> bool:
    """Whether a bento is in the store, as the key signed it where there is one."""
    if not (path / "bento.yaml").is_file():
        return False
    if key is None:
        return True
    remove_caches(path)
    try:
        verify_folder(path, key.public_pem)
    except SignatureError as error:
        logger.warning("%s; it is built again", error)
        return False
    return True


def _settle(built: Path, requirements: str, manifest: ModelManifest) -> None:
    """Gives a bento what BentoML does not: requirements with hashes, and no moment of its own."""
    (built / REQUIREMENTS).write_text(requirements, encoding="utf-8")
    (built / REQUIREMENTS).with_suffix(".in").unlink(missing_ok=True)
    description = yaml.safe_load((built / "bento.yaml").read_text(encoding="utf-8"))
    description["creation_time"] = manifest.as_of
    (built / "bento.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    remove_caches(built)


def _move_in(built: Path, place: Path, key: Key | None) -> None:
    """Copies a bento beside its place first, as the two may be on different disks, then moves it in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=place.parent) as incoming:
        copied = shutil.copytree(built, Path(incoming) / "new")
        with suppress(FileNotFoundError):
            if not _is_built(place, key):
                # What is wrong there makes room; a service that runs from it has it in memory.
                place.rename(Path(incoming) / "old")
        try:
            copied.rename(place)
        except OSError:
            # Another process that built the same content was first.
            if not _is_built(place, key):
                raise


def remove_caches(folder: Path) -> None:
    """Removes what Python keeps of modules that it has run: it is believed unread, and no part of a bento."""
    for kept in list(folder.rglob("__pycache__")):
        shutil.rmtree(kept, ignore_errors=True)


def digest_bento(folder: Path) -> str:
    """What `PackagedBento.digest` is of a bento that lies in a folder: its sources, model, manifest, requirements.

    Raises:
        PackagingError: when a part of it is missing.
    """
    source = folder / "src"
    try:
        files = [file for file in source.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        contents = {file.relative_to(source): file.read_bytes() for file in files}
        requirements = (folder / REQUIREMENTS).read_text(encoding="utf-8")
    except OSError as error:
        raise PackagingError(f"the bento {folder} is not whole: {error}") from error
    return _digest_contents(
        {path: content for path, content in contents.items() if path.name != "bentofile.yaml"}, requirements
    )


def serve_command(path: Path, port: int, *, host: str = "127.0.0.1") -> list[str]:
    """The command that serves a bento's folder with this Python, for this machine only by default."""
    return [sys.executable, "-m", "bentoml", "serve", str(path), "--host", host, "--port", str(port)]


def _sources(project_root: Path) -> dict[Path, bytes]:
    """The service and what it imports from the project, by path below the project's root.

    Only that: a change of the drift tests shall not make a new package of an old model.
    """
    waiting = [project_root / "bentos/fraud_scorer/service.py"]
    found: dict[Path, bytes] = {}
    while waiting:
        file = waiting.pop()
        if file.relative_to(project_root) in found:
            continue
        if not file.is_file():
            raise PackagingError(f"the service needs {file}, which is missing; give the project's root")
        found[file.relative_to(project_root)] = content = file.read_bytes()
        for module, certain in _project_imports(content).items():
            parts = module.split(".")
            path = project_root.joinpath(*parts)
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if certain or path.is_file():
                waiting.append(path)
                waiting += [project_root.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts))]
    return dict(sorted(found.items()))


@cache
def _project_imports(source: bytes) -> dict[str, bool]:
    """The project's modules that a source imports, and whether each is one for certain.

    In `from fraud_assets.core import x`, x may be a module or something in one.
    """
    modules: dict[str, bool] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules |= {f"{node.module}.{alias.name}": False for alias in node.names}
            modules[node.module] = True
        elif isinstance(node, ast.Import):
            modules |= {alias.name: True for alias in node.names}
    return {name: sure for name, sure in modules.items() if name.split(".")[0] in ("fraud_assets", "bentos")}


def _digest_contents(contents: Mapping[Path, bytes], requirements: str) -> str:
    digest = hashlib.sha256()
    for name, content in [
        *((relative.as_posix(), content) for relative, content in sorted(contents.items())),
        ("requirements", requirements.encode()),
    ]:
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _run_build(context: Path, home: Path, version: str) -> None:
    # Not the caller's PYTHONPATH: the service shall be imported from the context, as it will be when it
    # serves.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # BentoML imports the service to see what it answers, and calls nothing: compiling its loops would take seconds.
    environment |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "bentoml", "build", ".", "--version", version, "--output", "tag"]
    home.mkdir(parents=True)
    build = subprocess.run(  # noqa: S603 - no part of the command comes from outside
        command, env=environment, cwd=context, capture_output=True, text=True, check=False
    )
    if build.returncode != 0:
        raise PackagingError(f"bentoml build failed for {BENTO_NAME}:{version}:\n{build.stdout}{build.stderr}")
