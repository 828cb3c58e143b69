"""What reason codes cost: attributions of one transaction and of ten thousand, beside SHAP's own TreeExplainer.

Models of the sizes that are trained by default, on random columns: the trees' shapes decide the cost, and not what they
know.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.explanations.attributions import METADATA, Explained, Explainer
from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator

ROWS, COLUMNS = 60_000, 30
FOREST_ROWS = 10_000  # as few frauds leave it


def main() -> int:
    """Measures, prints and writes."""
    arguments = argument_parser(__doc__ or "").parse_args()
    generator = np.random.default_rng(20261130)
    X = generator.lognormal(3, 1.5, (ROWS, COLUMNS)).astype(np.float32)
    X[generator.random(X.shape) < 0.1] = np.nan
    y = generator.random(ROWS) < 1 / (1 + np.exp(6 - np.nan_to_num(X[:, :5]).sum(axis=1) / 80))
    boosting = HistGradientBoostingClassifier(
        max_iter=150, max_leaf_nodes=15, learning_rate=0.035, min_samples_leaf=40, early_stopping=False, random_state=0
    ).fit(X, y)
    forest = RandomForestClassifier(
        100, max_leaf_nodes=1000, min_samples_leaf=3, max_features="sqrt", random_state=0
    ).fit(X[:FOREST_ROWS], y[:FOREST_ROWS])
    rows = [*_measured("boosting", boosting, X, 10_000, 1000), *_measured("forest", forest, X, 500, 50)]
    return report("explanations", rows, arguments.json)


def _measured(name: str, model: Any, X: npt.NDArray[np.float32], many: int, by_shap: int) -> list[Row]:
    """The cost of one row and of many, and how far SHAP's values are; SHAP is given fewer rows, as it is slower."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap

    onnx = to_onnx(CalibratedClassifier(model, -1.0, Calibrator()), COLUMNS)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    explainer = Explainer(Explained.from_json(session.get_modelmeta().custom_metadata_map[METADATA]))
    reference = shap.TreeExplainer(model)
    scores = session.run(["probability"], {"features": X[:many]})[0]
    expected = reference.shap_values(X[:by_shap])
    found = explainer.checked(X[:many], scores)
    apart = np.abs(found.values[:by_shap] - (expected[..., 1] if expected.ndim == 3 else expected)).max()
    added = np.abs(explainer.explained.probability(found.raw) - scores).max()
    one = _best(lambda: explainer.attributions(X[:1]), 200)
    ours = _best(lambda: explainer.attributions(X[:many]), 3) / many
    theirs = _best(lambda: reference.shap_values(X[:by_shap]), 3) / by_shap
    return [
        Row(f"{name}_one_row_us", one * 1e6, "us"),
        Row(f"{name}_{many}_rows_s", ours * many, "s"),
        Row(f"{name}_shap_over_ours", theirs / ours, ""),
        at_most(f"{name}_apart_from_shap", float(apart), "", 1e-6),
        at_most(f"{name}_apart_from_score", float(added), "", 1e-6),
        Row(f"{name}_onnx_kib", len(onnx) / 1024, "KiB"),
    ]


def _best(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
