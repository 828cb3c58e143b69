"""A trained scikit-learn model as ONNX, which serving computes without scikit-learn.

What a model says about itself, and scoring, belong to `core/models/scoring.py`; packaging to `bento.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.core.explanations.attributions import METADATA, Explained, Trees
from fraud_assets.core.models.calibration import SMALLEST, CalibratedClassifier
from fraud_assets.core.models.scoring import INPUT_NAME, OUTPUT_NAME, ScoringError

Array = npt.NDArray[Any]

# Fixed, so that the same model gives the same bytes whatever ONNX is installed. Version 5 of the tree
# operators is the first whose thresholds, leaves and sums are all double.
OPSETS = {"": 18, "ai.onnx.ml": 5}
IR_VERSION = 10


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
    current = _transformed(graph, graph.add("Cast", INPUT_NAME, to=TensorProto.DOUBLE), transformers)
    probability = _probability(graph, current, model, calibrated)
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


def _transformed(graph: _Graph, current: str, transformers: list[Any]) -> str:
    for step in transformers:
        if isinstance(step, SimpleImputer):
            current = _imputer(graph, current, step)
        elif isinstance(step, StandardScaler):
            current = _scaler(graph, current, step)
        elif step is not None and step != "passthrough":
            raise ScoringError(
                f"{type(step).__name__} has no conversion to ONNX here; use SimpleImputer and "
                "StandardScaler, or add it to onnx_models.to_onnx"
            )
    return current


def _probability(graph: _Graph, current: str, model: Any, calibrated: CalibratedClassifier | None) -> str:
    if isinstance(model, RandomForestClassifier):
        probability = _forest(graph, current, model)
        if calibrated:
            probability = graph.add("Sigmoid", _calibrated(graph, _log_odds(graph, probability), calibrated))
        return probability
    if isinstance(model, LogisticRegression):
        weighted = graph.add("MatMul", current, graph.constant(model.coef_.reshape(-1, 1)))
        logit = graph.add("Add", weighted, graph.constant(model.intercept_))
    elif isinstance(model, HistGradientBoostingClassifier):
        logit = _boosted_trees(graph, current, model)
    else:
        raise ScoringError(
            f"{type(model).__name__} has no conversion to ONNX here; use LogisticRegression, "
            "RandomForestClassifier or HistGradientBoostingClassifier, or add it to onnx_models.to_onnx"
        )
    return graph.add("Sigmoid", _calibrated(graph, logit, calibrated) if calibrated else logit)


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
