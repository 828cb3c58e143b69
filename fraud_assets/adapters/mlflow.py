"""MLflow: runs, the model registry and its aliases, through dagster-mlflow's resource.

Without FRAUD_MLFLOW_URI the tracking store is the platform's own database and artifacts lie in the home. Which
version shall be champion is decided in `core/decisions/promotion.py`; the ledger, not the alias, is the record of it.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.adapters.postgres.database import Database, open_database
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.models.scoring import ModelManifest, digest_model
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from fraud_assets.core.models.training import Candidate, TrainingConfig, TrainingResult

MODEL_NAME = "fraud"
PREDICTIONS = "validation/predictions.parquet"
RECIPE = "training_config.json"
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
# MLflow's own stores call an alias that nobody set an invalid value; a bare HTTP error 400 has neither code.
ALIAS_NOT_THERE = (NOT_THERE, "INVALID_PARAMETER_VALUE")
# The packages whose types an estimator is made of.
TRUSTED = ("fraud_assets", "numpy", "scipy", "sklearn")
ALIASES = ("champion", "challenger", "previous_champion")
HEAD_TAG = "ledger_head"


# What a version's files were when it was registered: the first word of the ledger, and from before it kept them, of the
# table of models.
RECORDED = """
SELECT digests FROM ledger
WHERE model_version = %s AND kind IN ('registered', 'promoted') AND digests ? 'model.onnx'
ORDER BY number LIMIT 1
"""
TRAINED = "SELECT jsonb_build_object('model.onnx', model_digest) FROM trained_model WHERE model_version = %s LIMIT 1"

# A version that was deleted stays, in this stage.
VERSIONS = """
SELECT version, run_id FROM mlflow.model_versions WHERE name = %s AND current_stage <> 'Deleted_Internal'
"""


@dataclass(frozen=True)
class SeenRegistry:
    """What the registry has.

    Attributes:
        versions: of each version the MLflow run that trained it.
        aliases: version by alias.
    """

    versions: Mapping[int, str | None]
    aliases: Mapping[str, int]


class RegistryError(PlatformError):
    """The registry lacks what was asked of it, or cannot be asked."""


class Registry:
    """The runs and registered versions of one contract's model."""

    def __init__(self, settings: Settings) -> None:
        """Binds to the settings' MLflow; connects when first used."""
        self.settings = settings
        self.experiment = settings.loaded_contract.name
        self._client: Any = None
        self._fetched: dict[tuple[int, str], tuple[bytes, ModelManifest]] = {}

    @property
    def tracking_uri(self) -> str:
        """The MLflow server, or the `mlflow` schema of the platform's database."""
        return self.settings.mlflow_uri or self._database().schema_url("mlflow")

    def _database(self) -> Database:
        # MLflow writes when it opens its store, at least the first time.
        return open_database(self.settings, writing=True)

    def client(self) -> Any:
        """An MLflow client, with the experiment and the registered model there."""
        mlflow = _mlflow()
        mlflow.set_tracking_uri(self.tracking_uri)
        if self._client is None:
            if self.settings.mlflow_uri is None and not self._is_complete():
                with self._database().session() as connection:
                    # MLflow creates its tables without a lock: of two first runs at once, one would fail.
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.mlflow'))")
                    with _asking(mlflow):
                        self._client = self._opened(mlflow)
            else:
                with _asking(mlflow):
                    self._client = self._opened(mlflow)
        return self._client

    def _is_complete(self) -> bool:
        """Whether the registry in the platform's database has been opened before: this is what opening writes last."""
        with self._database().session() as connection:
            there = connection.execute("SELECT to_regclass('mlflow.registered_models') IS NOT NULL").fetchone()
            named = "SELECT FROM mlflow.registered_models WHERE name = %s"
            return bool(there and there[0] and connection.execute(named, [MODEL_NAME]).fetchone() is not None)

    def _opened(self, mlflow: Any) -> Any:
        client = mlflow.MlflowClient()
        if client.get_experiment_by_name(self.experiment) is None:
            # A server keeps artifacts where it was told to; without one they lie in the home.
            location = None if self.settings.mlflow_uri else self.settings.artifacts.as_uri()
            try:
                client.create_experiment(self.experiment, artifact_location=location)
            except mlflow.exceptions.MlflowException:
                # Lost the race against another run; anything else shows in the next line.
                if client.get_experiment_by_name(self.experiment) is None:
                    raise
        if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
            try:
                client.create_registered_model(MODEL_NAME)
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return client

    @contextmanager
    def run(self, dagster_run: dg.DagsterRun, *, name: str, log: dg.DagsterLogManager | None = None) -> Iterator[Any]:
        """An MLflow run that carries the Dagster run's id, ended with this block.

        dagster-mlflow's resource leaves ending the run to a hook, which ends it after the first op of a Dagster
        run (dagster issue 21872); so the resource is built for the lifetime of a block.

        Args:
            dagster_run: the run that asks.
            name: of the MLflow run.
            log: of the Dagster run; without it, messages go to the console.

        Yields:
            dagster-mlflow's `MlFlow`, with MLflow's fluent API as its methods.
        """
        self.client()
        import dagster as dg

        config = {
            "experiment_name": self.experiment,
            "mlflow_tracking_uri": self.tracking_uri,
            "extra_tags": {"contract": self.experiment, "mlflow.runName": name},
        }
        with ExitStack() as block:
            with warnings.catch_warnings():
                # dagster-mlflow calls its functions beta when it is imported and used; goes when it does not.
                warnings.simplefilter("ignore", dg.BetaWarning)
                # It reads `dagster_run` and `run_id`, which are Dagster's `run` now; goes when it reads that.
                warnings.filterwarnings("ignore", r"InitResourceContext\.(dagster_run|run_id) is", DeprecationWarning)
                from dagster_mlflow import mlflow_tracking

                resources = block.enter_context(
                    dg.build_resources(
                        {"mlflow": mlflow_tracking},
                        resource_config={"mlflow": {"config": config}},
                        dagster_run=dagster_run,
                        log_manager=log,
                    )
                )
            # Where the block fails, the resource ends the run, as failed.
            tracking: Any = resources.mlflow
            yield tracking
            tracking.end_run()

    def register(
        self,
        tracking: Any,
        result: TrainingResult,
        *,
        month: str,
        contract_yaml: str,
        config: TrainingConfig,
    ) -> ModelManifest:
        """Logs a training to the active run and registers its model. Aliases follow the ledger (`follow`).

        The run gets the parameters, the metrics of every candidate, all settings that were tried with what they
        showed (`trials.json`), the estimator in skops format (no pickle), and for serving the ONNX models of the
        chosen candidate and of the reference, each with its manifest and the configuration (`recipe`); and what the
        model is held against later, the scores and labels of its validation blocks (`validation/predictions.parquet`).

        Returns:
            The manifest of the new version.
        """
        # Here, because scikit-learn and ONNX take a second that commands which train nothing should not wait.
        from fraud_assets.adapters.onnx_models import to_onnx
        from fraud_assets.core.models.encoding import EncodedClassifier
        from fraud_assets.core.models.train_month import manifest_of

        client = self.client()
        run_id = tracking.active_run().info.run_id
        as_of = self.settings.loaded_contract.month_end(month).isoformat()
        _log_choice(tracking, result, month, {**config.as_parameters(), "as_of": as_of})
        logged = self._log_skops(EncodedClassifier(result.encoder.to_json(), result.chosen.estimator))
        registered = client.create_model_version(
            MODEL_NAME, logged.model_uri, run_id, tags={"month": month}, model_id=logged.model_id
        )
        version = int(registered.version)

        def package(candidate: Candidate, folder: str) -> ModelManifest:
            onnx = to_onnx(candidate.estimator, len(result.encoder.columns))
            manifest = manifest_of(
                candidate, result, onnx,
                name=MODEL_NAME, version=version, month=month, contract=self.settings.loaded_contract,
                contract_yaml=contract_yaml,
            )  # fmt: skip
            _log_model(tracking, folder, onnx, manifest, config)
            return manifest

        with tempfile.TemporaryDirectory() as scratch:
            pq.write_table(result.validation, path := Path(scratch) / Path(PREDICTIONS).name, compression="zstd")
            tracking.log_artifact(str(path), str(Path(PREDICTIONS).parent))
        package(result.reference, "reference")
        return package(result.chosen, "serving")

    @staticmethod
    def _log_skops(estimator: Any) -> Any:
        import mlflow.sklearn
        import skops.io

        # The types of our own estimators, listed as trusted so that the file can be loaded again; it holds no code.
        trusted = skops.io.get_untrusted_types(data=skops.io.dumps(_with_one_tree(estimator)))
        with warnings.catch_warnings():
            # Asks for a signature; the manifest names the features. Goes when mlflow stops asking at log time.
            warnings.simplefilter("ignore")
            return mlflow.sklearn.log_model(
                estimator, name="skops", serialization_format="skops", skops_trusted_types=trusted,
                pip_requirements=["scikit-learn", "skops"], pyfunc_predict_fn="predict_proba",
            )  # fmt: skip

    def fetch(self, version: int, part: str = "serving") -> tuple[bytes, ModelManifest]:
        """A registered version's ONNX bytes and manifest.

        Args:
            version: the version.
            part: `serving` for the model itself, `reference` for the logistic regression trained beside it.

        Raises:
            RegistryError: when there is no such version, or not all of its files, or when they are others than the
                database says that were registered.
        """
        if (known := self._fetched.get((version, part))) is not None:
            return known
        client = self.client()
        run_id = self._run_of(client, version)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = Path(client.download_artifacts(run_id, part, scratch))
                onnx = (folder / "model.onnx").read_bytes()
                text = (folder / "manifest.json").read_bytes()
            except OSError as error:
                raise RegistryError(f"the registry has not all files of version {version}: {error}") from error
            manifest = ModelManifest.from_json(text)
        self._check_recorded(version, part, onnx, manifest)
        # A registered version never changes.
        self._fetched[version, part] = onnx, manifest
        return onnx, manifest

    def trained(self, version: int) -> Any:
        """The estimator of a version as it was trained, read from its skops file, which holds no code.

        Raises:
            RegistryError: when there is no such version, or its file is not there, or names types that are not ours.
        """
        import skops.io

        mlflow = _mlflow()
        self.client()
        with tempfile.TemporaryDirectory() as scratch, _asking(mlflow):
            folder = mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=scratch)
            files = sorted(Path(folder).rglob("*.skops"))
            if not files:
                raise RegistryError(f"the registry has no estimator of version {version}; train its month again")
            types = skops.io.get_untrusted_types(file=files[0])
            if strange := [name for name in types if name.split(".")[0] not in TRUSTED]:
                raise RegistryError(f"the estimator of version {version} names types that are not ours: {strange}")
            return skops.io.load(files[0], trusted=types)

    def recipe(self, version: int) -> str | None:
        """How a version was trained, see `TrainingConfig.to_json`; None of one from before that was kept.

        Raises:
            RegistryError: when there is no such version.
        """
        return self.text(version, f"serving/{RECIPE}")

    def _check_recorded(self, version: int, part: str, onnx: bytes, manifest: ModelManifest) -> None:
        """Passes when files are those that the ledger, or the table of models, recorded when they were registered.

        Raises:
            RegistryError: when they are others. That they fit each other says nothing: both may have been rewritten.
        """
        if part != "serving":
            return
        database = open_database(self.settings)
        found = database.rows("ledger", RECORDED, [version]) or database.rows("trained_model", TRAINED, [version])
        recorded: dict[str, str] = found[0][0] if found else {}
        there = manifest.digests | {"model.onnx": digest_model(onnx)}
        if wrong := [name for name, digest in recorded.items() if name in there and there[name] != digest]:
            raise RegistryError(
                f"{' and '.join(sorted(wrong))} of version {version} are not what was registered: the SHA-256 that the "
                "database recorded is another. Put the files of its MLflow run back from a backup, or promote another "
                "version (`fraud rollback`, `fraud promote`)"
            )

    def validation(self, version: int) -> pa.Table | None:
        """What a version said of transactions that it was validated on, see `TrainingResult.validation`.

        None of a version from before that was kept.

        Raises:
            RegistryError: when there is no such version.
        """
        client = self.client()
        run_id = self._run_of(client, version)
        if PREDICTIONS not in [file.path for file in client.list_artifacts(run_id, str(Path(PREDICTIONS).parent))]:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return pq.read_table(client.download_artifacts(run_id, PREDICTIONS, scratch), memory_map=False)

    @staticmethod
    def _run_of(client: Any, version: int) -> str:
        """The id of the run that trained a version."""
        mlflow = _mlflow()
        with _asking(mlflow):
            try:
                return str(client.get_model_version(MODEL_NAME, str(version)).run_id or "")
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != NOT_THERE:
                    raise
                raise RegistryError(
                    f"the registry has no version {version} of {MODEL_NAME!r}; `make dev` shows what there is"
                ) from error

    def dagster_run_of(self, version: int) -> str | None:
        """The Dagster run that trained a version; None of one that no run trained.

        Raises:
            RegistryError: when there is no such version.
        """
        mlflow = _mlflow()
        client = self.client()
        run_id = self._run_of(client, version)
        with _asking(mlflow):
            return client.get_run(run_id).data.tags.get("dagster_run_id") if run_id else None

    def size_of(self, version: int) -> int:
        """Bytes of a version's files on this machine; 0 where a server keeps them.

        Raises:
            RegistryError: when there is no such version.
        """
        return sum(
            file.stat().st_size for folder in self._folders_of(version) for file in folder.rglob("*") if file.is_file()
        )

    def remove(self, version: int) -> None:
        """Deletes a version, the run that trained it, and their files where they lie on this machine.

        What a server of its own keeps, `mlflow gc` frees there.

        Raises:
            RegistryError: when there is no such version, or MLflow does not answer.
        """
        mlflow = _mlflow()
        client = self.client()
        run_id = self._run_of(client, version)
        folders = self._folders_of(version)
        with _asking(mlflow):
            client.delete_model_version(MODEL_NAME, str(version))
            if run_id:
                client.delete_run(run_id)
        for part in ("serving", "reference"):
            self._fetched.pop((version, part), None)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _folders_of(self, version: int) -> list[Path]:
        """The folders of this machine that hold a version's files: its run's, and its estimator's."""
        if self.settings.mlflow_uri is not None:
            return []
        mlflow = _mlflow()
        client = self.client()
        run_id = self._run_of(client, version)
        if not run_id:
            return []
        with _asking(mlflow):
            run = client.get_run(run_id)
            places = [run.info.artifact_uri]
            outputs = getattr(run, "outputs", None)
            places += [
                client.get_logged_model(one.model_id).artifact_location
                for one in (outputs.model_outputs if outputs else [])
            ]
        home = self.settings.artifacts.resolve()
        # Each is `.../<run or model>/artifacts`; only what lies in the home is this platform's to remove.
        folders = [Path(url2pathname(urlparse(place).path)).resolve().parent for place in places]
        return [folder for folder in folders if folder.is_relative_to(home) and folder != home]

    def attach(self, version: int, path: str, text: str) -> str:
        """Keeps a text beside the run that trained a version; one of that path is replaced.

        Returns:
            Its address in MLflow's UI: the server's, or that of `fraud dev`.

        Raises:
            RegistryError: when there is no such version.
        """
        client = self.client()
        client.log_text(self._run_of(client, version), text, path)
        return self.address(version, path)

    def text(self, version: int, path: str) -> str | None:
        """A text that is kept beside the run that trained a version; None where there is none of that path.

        Raises:
            RegistryError: when there is no such version.
        """
        client = self.client()
        run_id = self._run_of(client, version)
        if path not in [file.path for file in client.list_artifacts(run_id, str(Path(path).parent))]:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(client.download_artifacts(run_id, path, scratch)).read_text(encoding="utf-8")

    def address(self, version: int, path: str) -> str:
        """Where a text that is kept beside the run that trained a version is seen, whether it is there yet or not.

        Raises:
            RegistryError: when there is no such version.
        """
        client = self.client()
        run = client.get_run(self._run_of(client, version))
        # Programs may know the server by a name that no browser does.
        server = self.settings.mlflow_ui_url or self.settings.mlflow_uri or ""
        ui = server if server.startswith("http") else f"http://127.0.0.1:{self.settings.mlflow_port}"
        return f"{ui.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{path}"

    def has(self, version: int) -> bool:
        """Whether the registry holds a version.

        Raises:
            RegistryError: when the registry does not say. A version that is taken for missing is trained again.
        """
        mlflow = _mlflow()
        client = self.client()
        with _asking(mlflow):
            try:
                client.get_model_version(MODEL_NAME, str(version))
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != NOT_THERE:
                    raise
                return False
        return True

    def alias(self, name: str) -> int | None:
        """The version an alias points to; None where nobody set it.

        Raises:
            RegistryError: when the registry does not say.
        """
        mlflow = _mlflow()
        client = self.client()
        with _asking(mlflow):
            try:
                return int(client.get_model_version_by_alias(MODEL_NAME, name).version)
            except mlflow.exceptions.MlflowException as error:
                if error.error_code not in ALIAS_NOT_THERE:
                    raise
                return None

    def keep_head(self, version: int, head: str) -> None:
        """Keeps the ledger's head (`Head.text`) with the version that its last event is about.

        Raises:
            RegistryError: when the registry does not take it, as when there is no such version.
        """
        mlflow = _mlflow()
        client = self.client()
        with _asking(mlflow):
            client.set_model_version_tag(MODEL_NAME, str(version), HEAD_TAG, head)

    def kept_heads(self) -> dict[int, str]:
        """The heads that are kept, by version.

        Raises:
            RegistryError: when the registry does not say.
        """
        mlflow = _mlflow()
        found: dict[int, str] = {}
        page: str | None = None
        with _briefly(), _asking(mlflow):
            client = self.client()
            while True:
                versions = client.search_model_versions(f"name = '{MODEL_NAME}'", max_results=200, page_token=page)
                found |= {int(one.version): one.tags[HEAD_TAG] for one in versions if HEAD_TAG in one.tags}
                page = versions.token
                if not page:
                    return found

    def follow(self, aliases: Mapping[str, int | None]) -> dict[str, int | None]:
        """Points aliases to versions, in the given order, and takes away those that shall point nowhere.

        Returns:
            Those that were moved.

        Raises:
            RegistryError: when the registry has no such version, or does not answer.
        """
        mlflow = _mlflow()
        client = self.client()
        moved: dict[str, int | None] = {}
        for alias, version in aliases.items():
            if self.alias(alias) == version:
                continue
            if version is not None and not self.has(version):
                raise RegistryError(
                    f"the registry has no version {version} of {MODEL_NAME!r} any more, {alias} by the ledger: "
                    "put it back from a backup of MLflow, or make another one champion (`fraud promote`, "
                    "`fraud rollback`)"
                )
            with _asking(mlflow):
                if version is None:
                    client.delete_registered_model_alias(MODEL_NAME, alias)
                else:
                    client.set_registered_model_alias(MODEL_NAME, alias, str(version))
            moved[alias] = version
        return moved

    def seen(self) -> SeenRegistry:
        """The versions and aliases that there are; nothing is changed.

        Raises:
            RegistryError: when the registry does not say.
        """
        if self.settings.mlflow_uri is None:
            return self._seen_in_database()
        mlflow = _mlflow()
        with _asking(mlflow), _briefly():
            mlflow.set_tracking_uri(self.tracking_uri)
            client = mlflow.MlflowClient()
            versions: dict[int, str | None] = {}
            page: str | None = None
            while True:
                found = client.search_model_versions(f"name = '{MODEL_NAME}'", max_results=200, page_token=page)
                versions |= {int(one.version): one.run_id for one in found}
                page = found.token
                if not page:
                    break
            model = client.search_registered_models(f"name = '{MODEL_NAME}'")
            aliases = {name: int(version) for one in model for name, version in one.aliases.items()}
            return SeenRegistry(versions, aliases)

    def _seen_in_database(self) -> SeenRegistry:
        # MLflow itself takes seconds to load, which is long for `fraud status`.
        database = open_database(self.settings)
        with database.session() as connection:
            there = connection.execute("SELECT to_regclass('mlflow.registered_model_aliases') IS NOT NULL").fetchone()
            if not (there and there[0]):
                return SeenRegistry({}, {})
            versions = connection.execute(VERSIONS, [MODEL_NAME]).fetchall()
            aliases = connection.execute(
                "SELECT alias, version FROM mlflow.registered_model_aliases WHERE name = %s", [MODEL_NAME]
            ).fetchall()
        return SeenRegistry({int(version): run for version, run in versions}, {name: int(one) for name, one in aliases})


def _log_choice(tracking: Any, result: TrainingResult, month: str, parameters: Mapping[str, Any]) -> None:
    """Logs what was chosen, and what every candidate and setting showed."""
    tracking.set_tag("mlflow.runName", f"{month} {result.chosen.family}")
    tracking.set_tag("month", month)
    decided: dict[str, Any] = {
        "family": result.chosen.family,
        "setting": result.chosen.trial.setting.name,
        "trees": result.chosen.trial.trees,
        "calibration": result.chosen.calibration.calibrator.method,
    }
    tracking.log_params({**parameters, **decided})
    # Of two of one family, which few frauds make of the reference and a more regularised one, the better counts.
    for candidate in reversed(result.candidates):
        tracking.log_metrics(
            {f"{name}_{candidate.family}": value for name, value in candidate.validation_metrics().items()}
        )
    tracking.log_text(json.dumps([asdict(trial) for trial in result.trials], indent=2), "trials.json")
    tracking.log_metrics({"n": result.n, "n_fraud": result.n_fraud, "threshold": result.chosen.threshold})


def _log_model(tracking: Any, folder: str, onnx: bytes, manifest: ModelManifest, config: TrainingConfig) -> None:
    """Logs a model as serving takes it, and the configuration it was trained with."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "model.onnx").write_bytes(onnx)
        (Path(scratch) / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        (Path(scratch) / RECIPE).write_text(config.to_json(), encoding="utf-8")
        tracking.log_artifacts(scratch, folder)


def _with_one_tree(estimator: Any) -> Any:
    """The same with the first tree of a forest alone: all are of one type, and a hundred take seconds to write."""
    if not hasattr(getattr(estimator, "estimator", None), "estimators_"):
        return estimator
    estimator, forest = copy.copy(estimator), copy.copy(estimator.estimator)
    forest.estimators_ = forest.estimators_[:1]
    estimator.estimator = forest
    return estimator


@contextmanager
def _asking(mlflow: Any) -> Iterator[None]:
    """Says what to do where MLflow fails: it is down, or refuses, or its database does."""
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        raise RegistryError(
            f"MLflow did not answer ({error.error_code}): {error}. Nothing is concluded from that: see whether the "
            "server of FRAUD_MLFLOW_URI, or without one the database, is up, and try again"
        ) from error


@contextmanager
def _briefly() -> Iterator[None]:
    """Lets MLflow give up after seconds: it would try again for minutes, and whoever asks for the status waits."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    given = {name: os.environ.get(name) for name in limits}
    os.environ.update({name: limit for name, limit in limits.items() if given[name] is None})
    try:
        yield
    finally:
        for name, value in given.items():
            if value is None:
                os.environ.pop(name, None)


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    # Its migrations and hints go to people's terminals otherwise; errors are raised.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return mlflow
