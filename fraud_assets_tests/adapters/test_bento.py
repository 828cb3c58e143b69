"""ONNX against scikit-learn itself, and bentos as BentoML builds them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fraud_assets.adapters.bento import (
    PackagingError,
    build_bento,
    digest_bento,
    serve_command,
)
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.serving_requirements import RequirementsError, hashed_requirements
from fraud_assets.adapters.signing import SignatureError, digest_files, open_key, verify_folder
from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator
from fraud_assets.core.models.scoring import ModelManifest, Scorer, ScoringError, digest_model
from fraud_assets.core.statistics.metrics import average_precision

ROOT = Path(__file__).parents[2]
N, P = 20_000, 12


def manifest_of(onnx, n_features, **changes):
    base = {
        "model_name": "example",
        "model_version": 3,
        "trained_month": "2024-06",
        "as_of": "2024-07-01T00:00:00+00:00",
        "features": tuple(f"f{number}" for number in range(n_features)),
        "threshold": 0.5,
        "family": "hist_gradient_boosting",
        "contract_yaml": (ROOT / "contracts/handbook.yaml").read_text(encoding="utf-8"),
        "model_digest": digest_model(onnx),
    }
    return ModelManifest(**(base | changes))


def probabilities(estimator, X):
    onnx = to_onnx(estimator, X.shape[1])
    return Scorer(onnx, manifest_of(onnx, X.shape[1])).probabilities(X)


@pytest.fixture(scope="module")
def data():
    """Amounts and counts as float32, a tenth of them missing, and a label that depends on them."""
    generator = np.random.default_rng(20240601)
    X = generator.lognormal(3, 1.5, size=(N, P)).round(2).astype(np.float32)
    X[:, 0] = generator.integers(0, 50, N)
    X[generator.random((N, P)) < 0.1] = np.nan
    logit = np.nan_to_num(X[:, 1]) / 50 + np.nan_to_num(X[:, 0]) / 20 - 3
    return X, generator.random(N) < 1 / (1 + np.exp(-logit))


def neighbours():
    """Values of which many are neighbours in float32: the middle between two of them is no float32."""
    generator = np.random.default_rng(20240602)
    X = generator.permuted(16_000_000 + np.cumsum(generator.integers(0, 3, (N, 4)), 0), axis=0).astype(np.float32)
    return X, generator.random(N) < np.where(X[:, 0] > np.median(X[:, 0]), 0.3, 0.05)


@pytest.mark.parametrize("indicator", [False, True])
def test_a_logistic_regression_gives_the_probabilities_of_scikit_learn(data, indicator):
    X, y = data
    steps = SimpleImputer(strategy="median", add_indicator=indicator), StandardScaler(), LogisticRegression()
    pipeline = make_pipeline(*steps).fit(X, y)
    np.testing.assert_allclose(probabilities(pipeline, X), pipeline.predict_proba(X)[:, 1], rtol=0, atol=1e-6)


def test_boosted_trees_with_missing_values_give_the_probabilities_of_scikit_learn(data):
    X, y = data
    trees = HistGradientBoostingClassifier(max_iter=200, random_state=0).fit(X, y)
    np.testing.assert_allclose(probabilities(trees, X), trees.predict_proba(X)[:, 1], rtol=0, atol=1e-12)


def test_rows_next_to_a_split_stay_on_their_side_of_it():
    X, y = neighbours()
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(X, y)
    # The trap is there: some thresholds, rounded to float32, would send rows the other way.
    splits = [
        (X[:, node["feature_idx"]], node["num_threshold"])
        for (tree,) in trees._predictors
        for node in tree.nodes
        if not node["is_leaf"]
    ]
    assert any(((x.astype(float) <= split) != (x <= np.float32(split))).any() for x, split in splits)
    np.testing.assert_allclose(probabilities(trees, X), trees.predict_proba(X)[:, 1], rtol=0, atol=1e-12)


def test_missing_values_that_training_never_saw_go_where_scikit_learn_sends_them():
    X, y = neighbours()
    trees = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X, y)
    holes = X[:500].copy()
    holes[np.random.default_rng(1).random(holes.shape) < 0.5] = np.nan
    np.testing.assert_allclose(probabilities(trees, holes), trees.predict_proba(holes)[:, 1], rtol=0, atol=1e-12)


def test_a_forest_gives_the_probabilities_of_scikit_learn_next_to_splits_and_for_missing_values(data):
    for X, y in (data, neighbours()):
        forest = RandomForestClassifier(n_estimators=20, max_leaf_nodes=200, random_state=0).fit(X, y)
        np.testing.assert_allclose(probabilities(forest, X), forest.predict_proba(X)[:, 1], rtol=0, atol=1e-12)
        holes = X[:500].copy()
        holes[np.random.default_rng(1).random(holes.shape) < 0.5] = np.nan
        np.testing.assert_allclose(probabilities(forest, holes), forest.predict_proba(holes)[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "calibrator",
    [Calibrator(), Calibrator("sigmoid", 0.8, 0.8, -0.3), Calibrator("beta", 0.7, 1.4, -0.5)],
    ids=lambda calibrator: calibrator.method,
)
def test_offset_and_calibration_are_part_of_the_served_model(data, calibrator):
    X, y = data
    for model in (
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=20, random_state=0),
        # Unbounded: some of its shares are 0 and 1.
        RandomForestClassifier(n_estimators=5, random_state=0),
    ):
        calibrated = CalibratedClassifier(model.fit(X, y), -1.7, calibrator)
        scores, raw = calibrated.predict_proba(X)[:, 1], model.predict_proba(X)[:, 1]
        np.testing.assert_allclose(probabilities(calibrated, X), scores, rtol=0, atol=1e-6)
        assert (scores < raw - 0.05).any()
        # What was apart stays apart.
        assert average_precision(y, scores) == pytest.approx(average_precision(y, raw), abs=1e-6)


@pytest.mark.parametrize("calibrator", [Calibrator("beta", 0.7, 1.4, 0.0), Calibrator("sigmoid", 3.0, 3.0, 0.0)])
def test_certain_scores_stay_between_nought_and_one(calibrator):
    X = np.array([[-1e30], [1e30]] * 50, dtype=np.float32)
    model = LogisticRegression().fit(np.sign(X), X[:, 0] > 0)
    assert probabilities(CalibratedClassifier(model, 0.0, calibrator), X)[:2].tolist() == [0.0, 1.0]


def test_trees_that_found_no_split_give_the_share_of_fraud():
    X, y = np.zeros((1000, 2), dtype=np.float32), np.arange(1000) < 250
    trees = HistGradientBoostingClassifier(max_iter=3).fit(X, y)
    forest = RandomForestClassifier(n_estimators=3, bootstrap=False).fit(X, y)
    np.testing.assert_allclose(probabilities(forest, X), np.full(1000, 0.25), rtol=0, atol=1e-9)
    X[0, 0] = np.nan
    np.testing.assert_allclose(probabilities(trees, X), np.full(1000, 0.25), rtol=0, atol=1e-9)


def test_a_column_that_was_never_filled_is_dropped_as_the_imputer_drops_it(data):
    X, y = data[0].copy(), data[1]
    X[:, 3] = np.nan
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    with pytest.warns(UserWarning, match="Skipping features without any observed values"):
        expected = pipeline.fit(X, y).predict_proba(X)[:, 1]
    np.testing.assert_allclose(probabilities(pipeline, X), expected, rtol=0, atol=1e-6)


def test_the_same_model_gives_the_same_bytes(data):
    X, y = data
    trees = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)
    again = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)
    assert to_onnx(trees, P) == to_onnx(again, P)


def test_estimators_without_a_conversion_are_named(data):
    X, y = data[0][:200], data[1][:200]
    forest = ExtraTreesClassifier(n_estimators=2, random_state=0).fit(X, y)
    with pytest.raises(ScoringError, match="ExtraTreesClassifier has no conversion"):
        to_onnx(forest, P)
    scaled = make_pipeline(MinMaxScaler(), SimpleImputer(), LogisticRegression()).fit(X, y)
    with pytest.raises(ScoringError, match="MinMaxScaler has no conversion"):
        to_onnx(scaled, P)


def test_categorical_splits_are_refused():
    generator = np.random.default_rng(0)
    X = generator.integers(0, 5, (2000, 1)).astype(np.float32)
    y = generator.random(2000) < np.where(np.isin(X[:, 0], [1, 3]), 0.6, 0.1)
    trees = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]).fit(X, y)
    with pytest.raises(ScoringError, match="categorical splits"):
        to_onnx(trees, 1)


def test_a_model_of_three_classes_is_refused(data):
    X = np.nan_to_num(data[0][:300])
    with pytest.raises(ScoringError, match="two classes"):
        to_onnx(HistGradientBoostingClassifier(max_iter=1).fit(X, np.arange(300) % 3), P)


def test_a_model_fitted_on_another_number_of_features_is_refused(data):
    X, y = data
    with pytest.raises(ScoringError, match="fitted on 12 features, not on 11"):
        to_onnx(HistGradientBoostingClassifier(max_iter=1).fit(X, y), 11)


# --- Bento --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    X = np.array([[0.0], [1.0]] * 50, dtype=np.float32)
    onnx = to_onnx(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0), 1)
    return onnx, manifest_of(onnx, 1, family="logistic_regression")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return open_key(tmp_path_factory.mktemp("keys") / "signing.pem")


@pytest.fixture(scope="module")
def bento(model, home, key):
    return build_bento(*model, bentoml_home=home, project_root=ROOT, key=key)


def test_the_tag_names_the_version_and_the_content(bento, home):
    assert bento.tag == f"fraud_scorer:v3-{bento.digest[:8]}"
    assert bento.path == home / "bentos" / "fraud_scorer" / f"v3-{bento.digest[:8]}"
    assert yaml.safe_load((bento.path / "bento.yaml").read_text())["version"] == f"v3-{bento.digest[:8]}"


def test_the_bento_carries_the_model_and_its_manifest(bento, model):
    folder = bento.path / "src/bentos/fraud_scorer/model"
    assert (folder / "model.onnx").read_bytes() == model[0]
    assert ModelManifest.from_json((folder / "manifest.json").read_bytes()) == model[1]


def test_the_same_model_is_built_once(bento, model, home, key):
    built = (bento.path / "bento.yaml").stat().st_mtime_ns
    assert build_bento(*model, bentoml_home=home, project_root=ROOT, key=key) == bento
    assert (bento.path / "bento.yaml").stat().st_mtime_ns == built


def test_nothing_but_the_bento_is_left_in_the_home(bento, home):
    assert [path.name for path in (home / "bentos" / "fraud_scorer").iterdir()] == [bento.path.name]
    assert [path.name for path in home.iterdir()] == ["bentos"]


def test_the_bento_holds_the_sources_it_needs_and_no_others(bento):
    sources = {path.relative_to(bento.path / "src").as_posix() for path in (bento.path / "src").rglob("*.py")}
    assert {"fraud_assets/core/features/declarations.py", "fraud_assets/core/models/scoring.py"} <= sources
    rooms = {name.split("/")[1] for name in sources if name.count("/") > 1 and name.startswith("fraud_assets/")}
    assert rooms == {"core", "adapters"}
    assert {name for name in sources if name.startswith("fraud_assets/adapters")} == {
        "fraud_assets/adapters/__init__.py",
        "fraud_assets/adapters/asked/__init__.py",
        "fraud_assets/adapters/asked/answers.py",
        "fraud_assets/adapters/asked/labels.py",
        "fraud_assets/adapters/asked/session.py",
        "fraud_assets/adapters/guards/__init__.py",
        "fraud_assets/adapters/guards/breaker_events.py",
        "fraud_assets/adapters/guards/stored_lists.py",
        "fraud_assets/adapters/people/__init__.py",
        "fraud_assets/adapters/people/key.py",
        "fraud_assets/adapters/scores/shadow.py",
        "fraud_assets/adapters/online/__init__.py",
        "fraud_assets/adapters/online/connecting.py",
        "fraud_assets/adapters/online/erased.py",
        "fraud_assets/adapters/online/history.py",
        "fraud_assets/adapters/online/recent.py",
        *(f"fraud_assets/adapters/scores/{name}.py" for name in ("__init__", "keeper", "sink", "spool", "state")),
    }
    assert "fraud_assets/core/drift/covariate.py" not in sources
    assert "fraud_assets/core/models/training.py" not in sources


def test_requirements_are_pinned_with_hashes_and_bring_no_training_or_orchestration(bento):
    text = (bento.path / "env/python/requirements.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9-]+==[\w.]+( ; [^\\]+)? \\\n +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    names = {entry.split("==")[0] for entry in entries}
    # What is imported, and what these need.
    assert {"bentoml", "onnxruntime", "numba", "llvmlite", "adbc-driver-manager", "uvicorn"} <= names
    assert not names & {"mlflow", "dagster", "scikit-learn", "skl2onnx", "sqlalchemy", "ibis-framework", "cryptography"}


def test_requirements_need_a_lock_that_has_what_is_installed(tmp_path):
    with pytest.raises(RequirementsError, match="cannot be read"):
        hashed_requirements(tmp_path / "requirements.lock")
    text = (ROOT / "requirements.lock").read_text()
    (tmp_path / "requirements.lock").write_text(text.replace("onnxruntime==", "onnxruntime==0."))
    with pytest.raises(RequirementsError, match=r"onnxruntime [\d.]+ is installed, and the lock .* has 0\."):
        hashed_requirements(tmp_path / "requirements.lock")


def test_the_same_model_built_twice_is_the_same_bytes_and_its_digest_can_be_found_again(bento, model, key, tmp_path):
    again = build_bento(*model, bentoml_home=tmp_path / "other", project_root=ROOT, key=key)
    assert again.digest == digest_bento(again.path) == digest_bento(bento.path)
    signature = again.path / "model.sig"
    assert digest_files(again.path) == digest_files(bento.path)
    assert signature.read_bytes() == (bento.path / "model.sig").read_bytes()


def test_a_bento_is_signed_with_all_that_is_in_it(bento, key):
    digests = verify_folder(bento.path, key.public_pem)
    assert {"bento.yaml", "src/bentos/fraud_scorer/service.py", "env/python/requirements.txt"} <= digests.keys()


def test_a_bento_whose_code_was_changed_is_not_what_it_was_and_is_built_again(bento, model, home, key):
    service = bento.path / "src/bentos/fraud_scorer/service.py"
    before = service.read_text()
    service.write_text(before.replace("score", "evil", 1))
    assert digest_bento(bento.path) != bento.digest
    with pytest.raises(SignatureError, match=r"fraud_scorer/service\.py was changed"):
        verify_folder(bento.path, key.public_pem)
    assert build_bento(*model, bentoml_home=home, project_root=ROOT, key=key) == bento
    assert service.read_text() == before
    verify_folder(bento.path, key.public_pem)


def test_no_file_of_the_bento_names_a_package_index_or_the_machine_it_was_built_on(bento, home):
    for path in bento.path.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            assert "index-url" not in text, path
            assert not re.search(r"find-links|trusted-host", text), path
            assert str(ROOT) not in text, path
            assert str(home) not in text, path


def test_changed_sources_give_another_tag(bento, model, home, tmp_path):
    shutil.copytree(ROOT / "fraud_assets", tmp_path / "fraud_assets")
    shutil.copytree(ROOT / "bentos", tmp_path / "bentos")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    with (tmp_path / "fraud_assets/core/months.py").open("a") as months:
        months.write("\n# changed\n")
    changed = build_bento(*model, bentoml_home=tmp_path / "home", project_root=tmp_path)
    assert changed.tag != bento.tag
    assert changed.tag.startswith("fraud_scorer:v3-")


def test_bytes_that_are_not_those_of_the_manifest_are_not_packaged(model, home):
    with pytest.raises(ScoringError, match="are not those of example version 3"):
        build_bento(b"other", model[1], bentoml_home=home, project_root=ROOT)


def test_missing_sources_are_named(model, tmp_path):
    with pytest.raises(PackagingError, match=r"needs .*service\.py, which is missing"):
        build_bento(*model, bentoml_home=tmp_path, project_root=tmp_path)


def test_what_a_failed_build_said_is_in_the_error_and_nothing_is_left(model, tmp_path):
    shutil.copytree(ROOT / "fraud_assets", tmp_path / "fraud_assets")
    shutil.copytree(ROOT / "bentos", tmp_path / "bentos")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    with (tmp_path / "bentos/fraud_scorer/service.py").open("a") as service:
        service.write("\nraise RuntimeError('broken on purpose')\n")
    with pytest.raises(PackagingError, match="broken on purpose"):
        build_bento(*model, bentoml_home=tmp_path / "home", project_root=tmp_path)
    assert not (tmp_path / "home/bentos").exists()


def test_whoever_imports_the_service_without_answering_loads_nothing_that_computes():
    """The build does, and at each start the process that only starts the one that answers."""
    heavy = ("numba", "pandas", "polars", "scipy", "adbc_driver_postgresql")
    code = f"import sys, bentos.fraud_scorer.service; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_serving_is_for_this_machine_unless_asked_for():
    command = serve_command(Path("/bentos/x"), 3001)
    assert command[1:] == ["-m", "bentoml", "serve", "/bentos/x", "--host", "127.0.0.1", "--port", "3001"]
    assert "0.0.0.0" in serve_command(Path("/bentos/x"), 3001, host="0.0.0.0")


def test_requirements_are_those_of_this_environment():
    assert f"numpy=={np.__version__} " in hashed_requirements(ROOT / "requirements.lock")
