"""MLflow as the platform uses it: what is registered, fetched and aliased."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.adapters.mlflow import MODEL_NAME, Registry, RegistryError
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.features.declarations import model_columns
from fraud_assets.core.models.scoring import Scorer, digest_model
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.model_card import PAGE, TEXT

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture
def registry(in_world: World) -> Registry:
    """The registry of the shared world: read only."""
    return Registry(in_world.settings)


@pytest.fixture
def spare(in_spare_world: World) -> Iterator[Registry]:
    """The registry of the spare world; its aliases are put back."""
    registry = Registry(in_spare_world.settings)
    before = registry.alias("champion"), registry.alias("previous_champion")
    yield registry
    client = registry.client()
    for name, version in zip(("champion", "previous_champion"), before, strict=True):
        if version is None:
            client.delete_registered_model_alias(MODEL_NAME, name)
        else:
            client.set_registered_model_alias(MODEL_NAME, name, str(version))


def versions(world: World) -> list[int]:
    rows = world.query("SELECT model_version FROM trained_model WHERE model_version IS NOT NULL ORDER BY 1")
    return [version for (version,) in rows]


def test_a_version_s_manifest_is_that_of_its_row_in_trained_model(registry: Registry, world: World) -> None:
    rows = world.query(
        "SELECT model_version, to_char(month, 'YYYY-MM'), family, threshold, model_digest FROM trained_model "
        "WHERE model_version IS NOT NULL"
    )
    assert rows
    for version, month, family, threshold, digest in rows:
        onnx, manifest = registry.fetch(version)
        found = (manifest.model_version, manifest.trained_month, manifest.family, manifest.threshold)
        assert found == (version, month, family, threshold)
        assert digest_model(onnx) == manifest.model_digest == digest
        assert manifest.features == model_columns(world.settings.loaded_contract)


def test_the_reference_beside_a_version_is_a_logistic_regression(registry: Registry, world: World) -> None:
    onnx, manifest = registry.fetch(versions(world)[0], "reference")
    assert manifest.family == "logistic_regression"
    row = np.zeros((1, len(manifest.encoding.columns)), np.float32)
    assert Scorer(onnx, manifest).probabilities(row).shape == (1,)


def test_the_skops_model_in_the_registry_scores_as_the_onnx_model_does(registry: Registry, world: World) -> None:
    import mlflow.sklearn

    version = versions(world)[-1]
    onnx, manifest = registry.fetch(version)
    rows = open_store(world.settings).read("transaction_features", first_month=world.months[-1]).slice(0, 500)
    registry.client()
    estimator = mlflow.sklearn.load_model(f"models:/{MODEL_NAME}/{version}")
    expected = Scorer(onnx, manifest).score(rows)
    # It carries the encoder: a table, a data frame and an array of the features will do.
    assert estimator.encoder == manifest.encoder
    frame = rows.select(list(manifest.features)).to_pandas()
    for X in (rows, frame, frame.to_numpy(dtype=object)):
        np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, atol=1e-5)


def test_a_version_s_promise_is_that_by_which_it_was_chosen(registry: Registry, world: World) -> None:
    version = versions(world)[0]
    promise, (_, manifest) = registry.validation(version), registry.fetch(version)
    assert promise is not None
    assert {"transaction_id", "event_timestamp", *world.settings.loaded_contract.entities} <= set(promise.column_names)
    assert sum(promise["is_fraud"].to_pylist()) > 0
    assert max(promise["event_timestamp"].to_pylist()) <= manifest.training_to


def test_a_version_from_before_promises_were_kept_has_none(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder that no version has.
    monkeypatch.setattr("fraud_assets.adapters.mlflow.PREDICTIONS", "elsewhere/predictions.parquet")
    assert registry.validation(versions(world)[0]) is None


def test_every_version_s_run_has_its_card_and_how_it_was_trained(registry: Registry, world: World) -> None:
    assert versions(world)
    for version in versions(world):
        page, text = registry.text(version, PAGE), registry.text(version, TEXT)
        assert page is not None
        assert f"<title>Model card: fraud version {version}</title>" in page
        assert text is not None
        assert text.startswith(f"# Model card: fraud version {version}\n")
        recipe = registry.recipe(version)
        assert recipe is not None
        assert TrainingConfig.from_json(recipe) == world.settings.training
    assert registry.text(versions(world)[0], "card/nothing.html") is None


def test_no_file_of_a_registered_version_is_a_pickle(world: World) -> None:
    files = [path for path in world.settings.artifacts.rglob("*") if path.is_file()]
    assert {"model.onnx", "manifest.json", "model.skops"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".joblib")]
    # A pickle begins with its protocol: 0x80, then 2 to 5.
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")]


def test_the_newest_version_is_the_challenger_and_the_ledger_s_champion_the_champion(
    registry: Registry, world: World
) -> None:
    assert registry.alias("challenger") == versions(world)[-1]
    promoted = world.query("SELECT model_version FROM ledger WHERE kind = 'promoted' ORDER BY month DESC LIMIT 1")
    assert [(registry.alias("champion"),)] == promoted


def test_an_alias_that_nobody_set_points_nowhere(registry: Registry) -> None:
    assert registry.alias("nobody") is None


def test_a_version_that_does_not_exist_is_no_version(registry: Registry, world: World) -> None:
    assert not registry.has(99)
    assert registry.has(versions(world)[0])
    for fetched in (registry.fetch, registry.validation):
        with pytest.raises(RegistryError, match="no version 99 of 'fraud'"):
            fetched(99)


def test_aliases_follow_what_they_are_told_and_what_was_moved_is_said(spare: Registry, spare_world: World) -> None:
    first, second = versions(spare_world)[:2]
    spare.follow({"previous_champion": None, "champion": first})
    assert spare.follow({"previous_champion": first, "champion": second}) == {
        "previous_champion": first, "champion": second,
    }  # fmt: skip
    assert (spare.alias("champion"), spare.alias("previous_champion")) == (second, first)
    assert spare.follow({"previous_champion": first, "champion": second}) == {}
    seen = spare.seen()
    assert (seen.aliases["champion"], seen.aliases["previous_champion"]) == (second, first)
    assert sorted(seen.versions) == versions(spare_world)


def test_an_alias_does_not_follow_to_a_version_that_is_not_there(spare: Registry) -> None:
    before = spare.alias("champion")
    with pytest.raises(RegistryError, match="no version 99 of 'fraud' any more, champion by the ledger"):
        spare.follow({"champion": 99})
    assert spare.alias("champion") == before


def test_a_run_ends_as_failed_when_its_block_fails(spare: Registry, spare_world: World) -> None:
    run_ids = []

    def training_that_fails() -> None:
        with spare.run(dg.DagsterRun("a_job", run_id="fails"), name="a test") as tracking:
            run_ids.append(tracking.active_run().info.run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training_that_fails()
    [run_id] = run_ids
    assert spare_world.query(f"SELECT status, name FROM mlflow.runs WHERE run_uuid = '{run_id}'") == [
        ("FAILED", "a test")
    ]
    import mlflow

    assert mlflow.active_run() is None


def test_two_runs_one_after_the_other_are_two_runs(spare: Registry) -> None:
    found = []
    for name in ("one", "two"):
        with spare.run(dg.DagsterRun("a_job", run_id=name), name=name) as tracking:
            found.append(tracking.active_run().info.run_id)
    assert len(set(found)) == 2


def test_without_a_server_artifacts_lie_in_the_home(registry: Registry, world: World) -> None:
    experiment = registry.client().get_experiment_by_name("simulator")
    # The copy of a world keeps the address of the original.
    assert experiment.artifact_location == world.settings.artifacts.as_uri()


def test_an_mlflow_server_is_used_where_one_is_set(tmp_path: Path) -> None:
    settings = Settings(mlflow_uri="http://127.0.0.1:9/", home=tmp_path)
    assert Registry(settings).tracking_uri == "http://127.0.0.1:9/"


class _Server(ThreadingHTTPServer):
    """An MLflow server that has the experiment and the model, and says the same of each version and alias."""

    status, answer = 200, b"{}"

    class Handler(BaseHTTPRequestHandler):
        server: _Server

        def do_GET(self) -> None:
            known = {
                "experiments/get-by-name": {"experiment": {"experiment_id": "1", "name": "simulator"}},
                "registered-models/search": {"registered_models": [{"name": MODEL_NAME}]},
            }
            status, answer = self.server.status, self.server.answer
            for path, found in known.items():
                if path in self.path:
                    status, answer = 200, json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' screen."""

    def says(self, status: int, code: str | None = None) -> None:
        """What is answered from now on; without a code, by something that is not MLflow."""
        self.status = status
        self.answer = json.dumps({"error_code": code, "message": "m"}).encode() if code else b"<html>no</html>"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    # Otherwise MLflow tries again for four minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with _Server(("127.0.0.1", 0), _Server.Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def remote(server: _Server, tmp_path: Path) -> Iterator[Registry]:
    """A registry on that server."""
    import mlflow

    before = mlflow.get_tracking_uri()
    yield Registry(Settings(mlflow_uri=f"http://127.0.0.1:{server.server_port}", home=tmp_path))
    mlflow.set_tracking_uri(before)


def test_what_the_server_calls_missing_is_missing(server: _Server, remote: Registry) -> None:
    server.says(404, "RESOURCE_DOES_NOT_EXIST")
    assert not remote.has(1)
    assert remote.alias("champion") is None
    with pytest.raises(RegistryError, match="no version 1 of 'fraud'"):
        remote.fetch(1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "INTERNAL_ERROR"),
        (500, None),
        (404, None),
        (400, None),
        (403, "PERMISSION_DENIED"),
        (503, "TEMPORARILY_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("ask", [lambda it: it.has(1), lambda it: it.alias("champion"), lambda it: it.fetch(1)])
def test_a_server_that_fails_does_not_say_that_anything_is_missing(
    server: _Server, remote: Registry, ask: Callable[[Registry], object], status: int, code: str | None
) -> None:
    server.says(status, code)
    with pytest.raises(RegistryError, match=r"MLflow did not answer .*FRAUD_MLFLOW_URI"):
        ask(remote)


def test_promoting_while_the_server_fails_forgets_no_champion(server: _Server, remote: Registry) -> None:
    server.says(500, "INTERNAL_ERROR")
    with pytest.raises(RegistryError, match="MLflow did not answer"):
        remote.follow({"champion": 2})


def test_an_unreachable_server_does_not_say_that_a_version_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    from fraud_assets_tests.worlds import free_port

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    registry = Registry(Settings(mlflow_uri=f"http://127.0.0.1:{free_port()}", home=tmp_path))
    try:
        with pytest.raises(RegistryError, match="MLflow did not answer"):
            registry.has(1)
    finally:
        mlflow.set_tracking_uri(before)


def test_scores_do_not_depend_on_the_rows_beside_them(registry: Registry, world: World) -> None:
    scorer = Scorer(*registry.fetch(versions(world)[-1]))
    rows = open_store(world.settings).read("transaction_features", first_month=world.months[-1]).slice(0, 50)
    together = scorer.score_table(rows)["score"].to_pylist()
    alone = pa.concat_tables([scorer.score_table(rows.slice(row, 1)) for row in range(50)])["score"].to_pylist()
    assert alone == pytest.approx(together, abs=1e-7)


def test_a_text_is_kept_beside_the_run_of_its_version_and_replaced(spare: Registry, spare_world: World) -> None:
    version = versions(spare_world)[-1]
    for text in ("first", "second"):
        address = spare.attach(version, "drift_reports/2025-04.html", text)
    run = spare.client().get_model_version(MODEL_NAME, str(version)).run_id
    assert address.endswith(f"/runs/{run}/artifacts/drift_reports/2025-04.html")
    assert address.startswith("http://127.0.0.1:5001/#/experiments/")
    # Containers know the server by a name that no browser does.
    named = Registry(spare.settings.model_copy(update={"mlflow_ui_url": "https://mlflow.example.com/"}))
    assert named.address(version, "a.html").startswith("https://mlflow.example.com/#/experiments/")
    import mlflow.artifacts

    assert mlflow.artifacts.load_text(f"runs:/{run}/drift_reports/2025-04.html") == "second"


def test_a_text_for_a_version_that_is_not_there_is_refused(spare: Registry) -> None:
    with pytest.raises(RegistryError, match="the registry has no version 99"):
        spare.attach(99, "page.html", "text")


def test_one_tree_of_a_forest_has_the_types_of_all_and_the_forest_keeps_them() -> None:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    from fraud_assets.adapters.mlflow import _with_one_tree
    from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator

    X = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    forest = RandomForestClassifier(n_estimators=7, random_state=1).fit(X, X[:, 0] > 0)
    model = CalibratedClassifier(forest, 0.5, Calibrator())
    types = skops.io.get_untrusted_types(data=skops.io.dumps(_with_one_tree(model)))
    assert types == skops.io.get_untrusted_types(data=skops.io.dumps(model))
    assert len(forest.estimators_) == 7
    loaded = skops.io.loads(skops.io.dumps(model), trusted=types)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
