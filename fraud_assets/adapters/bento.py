"""Packaging: a trained scikit-learn model as ONNX, and as a bento that serves it without anything else.

What a model says about itself, and scoring, belong to `core/models/scoring.py`; the service that the bento runs to
`bentos/fraud_scorer`; which version is packaged, and when, to the assets.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.core.errors import PlatformError
from fraud_assets.core.explanations.attributions import METADATA, Explained, Trees
from fraud_assets.core.models.calibration import SMALLEST, CalibratedClassifier
from fraud_assets.core.models.scoring import INPUT_NAME, OUTPUT_NAME, ModelManifest, ScoringError, digest_model

Array = npt.NDArray[Any]

# Fixed, so that the same model gives the same bytes whatever ONNX is installed. Version 5 of the tree
# operators is the first whose thresholds, leaves and sums are all double.
OPSETS = {"": 18, "ai.onnx.ml": 5}
IR_VERSION = 10

BENTO_NAME = "fraud_scorer"
SERVICE = "bentos.fraud_scorer.service:FraudScorer"
MODEL_FOLDER = Path("bentos/fraud_scorer/model")

# What serving imports; BentoML adds itself.
SERVING_PACKAGES = (
    "adbc-driver-postgresql",
    "dataframely",
    "duckdb",
    "numba",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "prometheus-client",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "starlette",
)


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


# --- ONNX ---------------------------------------------------------------------------------------------------


class _Graph:
    """Collects the nodes and constants of an ONNX graph, naming them in order."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.trees: Trees | None = None

    def add(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name


def to_onnx(estimator: Any, n_features: int) -> bytes:
    """A fitted binary classifier as ONNX.

    The graph takes `features`, float32 [n, n_features] with NaN for missing, and gives `probability`, float64
    [n] of class 1. Inside it computes in double, as scikit-learn does: float32 thresholds would send rows
    that lie next to a split to the other side, and float32 sums of leaves would cost three digits. The same
    estimator gives the same bytes.

    skl2onnx is not used: release 1.20 fails on HistGradientBoostingClassifier of scikit-learn 1.9 and on
    SimpleImputer(add_indicator=True), computes in float32, and its bytes differ from call to call.

    Args:
        estimator: a fitted HistGradientBoostingClassifier, RandomForestClassifier or LogisticRegression, or a
            Pipeline of SimpleImputer and StandardScaler steps that ends with one of them, or a
            CalibratedClassifier around any of these.
        n_features: width of the input.

    Raises:
        ScoringError: for any other estimator, for categorical splits, or for other classes than 0 and 1.
    """
    calibrated = estimator if isinstance(estimator, CalibratedClassifier) else None
    estimator = calibrated.estimator if calibrated else estimator
    *transformers, model = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    if (known := getattr(estimator, "n_features_in_", n_features)) != n_features:
        raise ScoringError(f"the model was fitted on {known} features, not on {n_features}; give it those it knows")
    if [int(label) for label in getattr(model, "classes_", ())] != [0, 1]:
        raise ScoringError("only classifiers fitted on the two classes 0 and 1 can be converted")

    graph = _Graph()
    current = graph.add("Cast", INPUT_NAME, to=TensorProto.DOUBLE)
    for step in transformers:
        if isinstance(step, SimpleImputer):
            current = _imputer(graph, current, step)
        elif isinstance(step, StandardScaler):
            current = _scaler(graph, current, step)
        elif step is not None and step != "passthrough":
            raise ScoringError(
                f"{type(step).__name__} has no conversion to ONNX here; use SimpleImputer and "
                "StandardScaler, or add it to packaging.to_onnx"
            )
    if isinstance(model, RandomForestClassifier):
        probability = _forest(graph, current, model)
        if calibrated:
            probability = graph.add("Sigmoid", _calibrated(graph, _log_odds(graph, probability), calibrated))
    else:
        if isinstance(model, LogisticRegression):
            weighted = graph.add("MatMul", current, graph.constant(model.coef_.reshape(-1, 1)))
            logit = graph.add("Add", weighted, graph.constant(model.intercept_))
        elif isinstance(model, HistGradientBoostingClassifier):
            logit = _boosted_trees(graph, current, model)
        else:
            raise ScoringError(
                f"{type(model).__name__} has no conversion to ONNX here; use LogisticRegression, "
                "RandomForestClassifier or HistGradientBoostingClassifier, or add it to packaging.to_onnx"
            )
        probability = graph.add("Sigmoid", _calibrated(graph, logit, calibrated) if calibrated else logit)
    graph.add("Reshape", probability, graph.constant([-1], np.int64), output=OUTPUT_NAME)

    proto: ModelProto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "fraud_model",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n", n_features])],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.DOUBLE, ["n"])],
            initializer=graph.constants,
        ),
        producer_name="fraud_assets",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
    )
    if (explained := _explained(transformers, model, calibrated, graph.trees)) is not None:
        helper.set_model_props(proto, {METADATA: explained.to_json()})
    checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _explained(
    transformers: list[Any], model: Any, calibrated: CalibratedClassifier | None, trees: Trees | None
) -> Explained | None:
    """What attributions of a model are made of; None with columns that are not the row's own."""
    imputer = next((step for step in transformers if isinstance(step, SimpleImputer)), None)
    scaler = next((step for step in transformers if isinstance(step, StandardScaler)), None)
    if imputer is not None and (imputer.indicator_ is not None or np.isnan(imputer.statistics_).any()):
        return None
    if trees is not None and scaler is not None:
        return None
    fill = () if imputer is None else tuple(imputer.statistics_.tolist())
    offset, calibration = 0.0, (1.0, 1.0, 0.0)
    if calibrated is not None:
        offset, calibrator = float(calibrated.offset), calibrated.calibrator
        calibration = (float(calibrator.a), float(calibrator.b), float(calibrator.c))
    if isinstance(model, RandomForestClassifier):
        n = len(model.estimators_)
        return Explained(
            "share", 0.0, 1 / n, offset, calibration, SMALLEST if calibrated else 0.0, fill=fill, trees=trees
        )
    if trees is not None:
        base = float(model._baseline_prediction.ravel()[0]) + offset
        return Explained("log_odds", base, calibration=calibration, fill=fill, trees=trees)
    weights, zero = model.coef_.ravel(), np.zeros(model.coef_.size)
    centres = zero if scaler is None or scaler.mean_ is None or not scaler.with_mean else scaler.mean_
    scales = zero + 1 if scaler is None or scaler.scale_ is None else scaler.scale_
    base = float(model.intercept_[0]) + offset
    return Explained(
        "log_odds", base, calibration=calibration, fill=fill,
        weights=tuple((weights / scales).tolist()), centres=tuple(centres.tolist()),
    )  # fmt: skip


def _log_odds(graph: _Graph, probability: str) -> str:
    """As `calibration.log_odds` makes them of a forest's shares."""
    clipped = graph.add("Clip", probability, graph.constant(SMALLEST), graph.constant(1 - SMALLEST))
    return graph.add(
        "Sub", graph.add("Log", clipped), graph.add("Log", graph.add("Sub", graph.constant([[1.0]]), clipped))
    )


def _calibrated(graph: _Graph, logit: str, model: CalibratedClassifier) -> str:
    """The offset and the map of `Calibrator`."""
    calibrator = model.calibrator
    shifted = graph.add("Add", logit, graph.constant([[model.offset]]))
    if calibrator.a == calibrator.b:
        mapped = graph.add("Mul", shifted, graph.constant([[calibrator.a]]))
    else:
        high = graph.add("Mul", _log_one_plus_exp(graph, shifted), graph.constant([[calibrator.b]]))
        low = graph.add("Mul", _log_one_plus_exp(graph, graph.add("Neg", shifted)), graph.constant([[calibrator.a]]))
        mapped = graph.add("Sub", high, low)
    return graph.add("Add", mapped, graph.constant([[calibrator.c]]))


def _log_one_plus_exp(graph: _Graph, value: str) -> str:
    # ONNX Runtime has Softplus for float32 only; this form cannot overflow.
    positive = graph.add("Max", value, graph.constant([[0.0]]))
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", value)))
    return graph.add("Add", positive, graph.add("Log", graph.add("Add", small, graph.constant([[1.0]]))))


def _imputer(graph: _Graph, current: str, imputer: SimpleImputer) -> str:
    if not (isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)):
        raise ScoringError("only SimpleImputer(missing_values=nan) can be converted")
    # A column without a single value when it was fitted has no statistic, and the imputer drops it.
    kept = np.flatnonzero(~np.isnan(imputer.statistics_))
    columns = graph.add("Gather", current, graph.constant(kept, np.int64), axis=1)
    filled = graph.add(
        "Where",
        graph.add("IsNaN", columns),
        graph.constant(imputer.statistics_[kept].reshape(1, -1)),
        columns,
    )
    if imputer.indicator_ is None:
        return filled
    watched = graph.add("Gather", current, graph.constant(imputer.indicator_.features_, np.int64), axis=1)
    indicator = graph.add("Cast", graph.add("IsNaN", watched), to=TensorProto.DOUBLE)
    return graph.add("Concat", filled, indicator, axis=1)


def _scaler(graph: _Graph, current: str, scaler: StandardScaler) -> str:
    if scaler.mean_ is not None and scaler.with_mean:
        current = graph.add("Sub", current, graph.constant(scaler.mean_.reshape(1, -1)))
    if scaler.scale_ is not None:
        current = graph.add("Div", current, graph.constant(scaler.scale_.reshape(1, -1)))
    return current


def _boosted_trees(graph: _Graph, current: str, model: HistGradientBoostingClassifier) -> str:
    """The sum of leaves and baseline, before the logistic function."""
    ensemble = _Ensemble()
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        if nodes["is_categorical"].any():
            raise ScoringError("categorical splits have no conversion to ONNX here; give the category as numbers")
        ensemble.add(
            leaf=nodes["is_leaf"].astype(bool),
            feature=nodes["feature_idx"],
            threshold=nodes["num_threshold"],
            missing_left=nodes["missing_go_to_left"],
            left=nodes["left"],
            right=nodes["right"],
            value=nodes["value"],
            cover=nodes["count"],
        )
    return graph.add("Add", ensemble.node(graph, current), graph.constant(model._baseline_prediction.reshape(1, 1)))


def _forest(graph: _Graph, current: str, model: RandomForestClassifier) -> str:
    """The mean over trees of the share of class 1 in the leaf.

    scikit-learn compares the float32 feature with a double threshold, as the double operator does.
    """
    ensemble = _Ensemble()
    for fitted in model.estimators_:
        tree = fitted.tree_
        ensemble.add(
            leaf=tree.children_left == -1,
            feature=tree.feature,
            threshold=tree.threshold,
            missing_left=tree.missing_go_to_left,
            left=tree.children_left,
            right=tree.children_right,
            value=tree.value[:, 0, 1] / tree.value[:, 0, :].sum(axis=1),
            cover=tree.weighted_n_node_samples,
        )
    return graph.add("Div", ensemble.node(graph, current), graph.constant([[float(len(model.estimators_))]]))


class _Ensemble:
    """Trees as the operator TreeEnsemble of ai.onnx.ml 5 takes them.

    `x <= split` goes to the true branch, NaN where the tree sends missing values; leaves are numbered apart from
    inner nodes.
    """

    def __init__(self) -> None:
        self.roots: list[int] = []
        self.feature: list[int] = []
        self.split: list[float] = []
        self.missing_true: list[int] = []
        self.children: dict[str, list[int]] = {"true": [], "false": []}
        self.leaf_children: dict[str, list[int]] = {"true": [], "false": []}
        self.weights: list[float] = []
        self.covers: list[float] = []
        self.leaf_covers: list[float] = []

    def add(
        self, leaf: Array, feature: Array, threshold: Array, missing_left: Array, left: Array, right: Array,
        value: Array, cover: Array,
    ) -> None:  # fmt: skip
        """One tree: of each of its nodes, the root first, what the name says."""
        self.roots.append(len(self.feature))
        if leaf[0]:
            # The operator knows no tree without a split: both branches of this one lead to the only leaf.
            self.feature.append(0)
            self.split.append(0.0)
            self.missing_true.append(1)
            for side in self.children:
                self.children[side].append(len(self.weights))
                self.leaf_children[side].append(1)
            self.weights.append(float(value[0]))
            self.covers.append(float(cover[0]))
            self.leaf_covers.append(float(cover[0]))
            return
        inner = ~leaf
        number = np.where(inner, len(self.feature) + np.cumsum(inner) - 1, len(self.weights) + np.cumsum(leaf) - 1)
        self.weights += value[leaf].tolist()
        self.leaf_covers += cover[leaf].astype(float).tolist()
        self.covers += cover[inner].astype(float).tolist()
        self.feature += feature[inner].tolist()
        self.split += threshold[inner].tolist()
        self.missing_true += missing_left[inner].tolist()
        for side, child in (("true", left[inner]), ("false", right[inner])):
            self.children[side] += number[child].tolist()
            self.leaf_children[side] += leaf[child].astype(int).tolist()

    def trees(self) -> Trees:
        """The same as arrays, for attributions."""
        return Trees(
            roots=np.array(self.roots, np.int64),
            feature=np.array(self.feature, np.int64),
            split=np.array(self.split, np.float64),
            missing_true=np.array(self.missing_true, np.bool_),
            true=np.array(self.children["true"], np.int64),
            false=np.array(self.children["false"], np.int64),
            true_leaf=np.array(self.leaf_children["true"], np.bool_),
            false_leaf=np.array(self.leaf_children["false"], np.bool_),
            value=np.array(self.weights, np.float64),
            cover=np.array(self.covers, np.float64),
            leaf_cover=np.array(self.leaf_covers, np.float64),
        )

    def node(self, graph: _Graph, current: str) -> str:
        """The sum of the trees' leaves."""
        graph.trees = self.trees()
        return graph.add(
            "TreeEnsemble",
            current,
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function=1,  # sum
            post_transform=0,  # none
            tree_roots=self.roots,
            nodes_featureids=[int(index) for index in self.feature],
            nodes_splits=numpy_helper.from_array(np.array(self.split, dtype=np.float64), "nodes_splits"),
            # Mode 0 sends values up to the split to the true branch.
            nodes_modes=numpy_helper.from_array(np.zeros(len(self.feature), dtype=np.uint8), "nodes_modes"),
            nodes_missing_value_tracks_true=[int(flag) for flag in self.missing_true],
            nodes_truenodeids=self.children["true"],
            nodes_trueleafs=self.leaf_children["true"],
            nodes_falsenodeids=self.children["false"],
            nodes_falseleafs=self.leaf_children["false"],
            leaf_targetids=[0] * len(self.weights),
            leaf_weights=numpy_helper.from_array(np.array(self.weights, dtype=np.float64), "leaf_weights"),
        )


# --- Bento --------------------------------------------------------------------------------------------------


def build_bento(
    onnx: bytes,
    manifest: ModelManifest,
    *,
    bentoml_home: Path,
    project_root: Path,
    labels: Mapping[str, str] | None = None,
) -> PackagedBento:
    """Builds the service around a model, or finds the bento built before.

    The model lies inside the bento, next to the service that reads it: the bento is the pin, needs neither a
    model store nor a registry, and can be exported, copied or put in a container as it is. Its tag follows
    from its content, so that changed sources or requirements never hide under a known tag.

    The build runs in a process of its own, because BentoML reads BENTOML_HOME once, at import, and imports
    the service into the process that builds; and in a home of its own, from which the finished bento is moved
    into the store in one step. Nothing is fetched: requirements are the versions installed here.

    Args:
        onnx: the model, as `to_onnx` makes it.
        manifest: what it says about itself.
        bentoml_home: the BentoML home in whose store the bento shall lie.
        project_root: the folder that holds `fraud_assets/` and `bentos/`.
        labels: further labels of a bento that is built now; its content, digest and tag are the same with others.

    Raises:
        ScoringError: when the bytes are not the manifest's model.
        PackagingError: when sources are missing or BentoML refuses the build.
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
    requirements = serving_requirements()
    digest = _digest_contents(contents, requirements)
    version = f"v{manifest.model_version}-{digest[:8]}"
    packaged = PackagedBento(
        f"{BENTO_NAME}:{version}",
        bentoml_home / "bentos" / BENTO_NAME / version,
        digest,
        {"bento": digest, **manifest.digests},
    )
    if (packaged.path / "bento.yaml").is_file():
        return packaged

    # Not below the home: its default name begins with a dot, and BentoML builds nothing from hidden folders.
    with tempfile.TemporaryDirectory(prefix="packaging-") as folder:
        context, home = Path(folder) / "context", Path(folder) / "home"
        for relative, content in contents.items():
            target = context / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        bentofile = {
            "service": SERVICE,
            "name": BENTO_NAME,
            "description": (
                f"Scores transactions with {manifest.model_name} version {manifest.model_version}, trained "
                "for "
                f"{manifest.trained_month}."
            ),
            "labels": {
                "model_name": manifest.model_name,
                "model_version": str(manifest.model_version),
                "model_digest": manifest.model_digest,
                "content_digest": digest,
                **(labels or {}),
            },
            "include": [relative.as_posix() for relative in contents],
            # Locking would ask a package index; the versions are pinned already.
            "python": {"packages": requirements, "lock_packages": False},
        }
        (context / "bentofile.yaml").write_text(yaml.safe_dump(bentofile, sort_keys=False), encoding="utf-8")
        _run_build(context, home, version)
        # Copied beside its place first, as the two may be on different disks, then moved in one step.
        packaged.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=packaged.path.parent) as incoming:
            copied = shutil.copytree(home / "bentos" / BENTO_NAME / version, Path(incoming) / version)
            try:
                copied.rename(packaged.path)
            except OSError:
                # Another process that built the same content was first.
                if not (packaged.path / "bento.yaml").is_file():
                    raise
    return packaged


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


def serve_command(path: Path, port: int, *, host: str = "127.0.0.1") -> list[str]:
    """The command that serves a bento's folder with this Python, for this machine only by default."""
    return [sys.executable, "-m", "bentoml", "serve", str(path), "--host", host, "--port", str(port)]


def serving_requirements() -> list[str]:
    """What serving imports, pinned to the versions installed here; no index, no training or orchestration.

    Raises:
        PackagingError: when one of them is not installed.
    """
    try:
        return [f"{name}=={importlib.metadata.version(name)}" for name in SERVING_PACKAGES]
    except importlib.metadata.PackageNotFoundError as error:
        raise PackagingError(f"{error.name} is not installed, and serving needs it; install the project") from error


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


def _digest_contents(contents: dict[Path, bytes], requirements: list[str]) -> str:
    digest = hashlib.sha256()
    bentoml = f"bentoml=={importlib.metadata.version('bentoml')}"
    for name, content in [
        *((relative.as_posix(), content) for relative, content in sorted(contents.items())),
        ("requirements", "\n".join([*requirements, bentoml]).encode()),
    ]:
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _run_build(context: Path, home: Path, version: str) -> None:
    # Not the caller's PYTHONPATH: the service shall be imported from the context, as it will be when it
    # serves.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "build", ".", "--version", version, "--output", "tag"]
    home.mkdir(parents=True)
    build = subprocess.run(  # noqa: S603 - no part of the command comes from outside
        command, env=environment, cwd=context, capture_output=True, text=True, check=False
    )
    if build.returncode != 0:
        raise PackagingError(f"bentoml build failed for {BENTO_NAME}:{version}:\n{build.stdout}{build.stderr}")
