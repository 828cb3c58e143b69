"""Every setting, once: an environment variable `FRAUD_...`, its default, and the paths that follow from it.

Nothing is read at import. `read_settings()` reads the environment and a `.env` file in the project, once, at an
entrance: a command of `fraud`, or where Dagster loads something by its name and gives it nothing (`defs/partitions.py`,
`adapters/dagster_storage.py`, `adapters/dagster_launcher.py`). Everything else is given the object. Which stored tables
depend on a setting belongs to the assets, and how that is told to `core/lineage/configuration.py`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.models.pass_through import LARGEST_SHARE, SEED_BYTES
from fraud_assets.core.rollout.challengers import MOST_CHALLENGERS
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.units import SECONDS_PER_DAY

if TYPE_CHECKING:
    from fraud_assets.core.decisions.approval import PromotionMode
    from fraud_assets.core.decisions.retraining import RetrainingPolicy
    from fraud_assets.core.models.training_config import TrainingConfig

PROJECT_ROOT = Path(__file__).resolve().parent.parent
COSTS, LIMITS = Costs(), DriftConfig()  # the defaults, each with its reason where it is declared

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A p, or a share of rows: 0 would find drift everywhere, and above 1 none is.
Limit = Annotated[float, Field(gt=0, le=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """The platform's settings; the field `home` is the variable `FRAUD_HOME`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_",
        env_file=PROJECT_ROOT / ".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    home: Path = Field(
        PROJECT_ROOT / ".fraud",
        description="The folder that holds everything local; a relative one counts from the project.",
    )
    contract: Path = Field(
        PROJECT_ROOT / "contracts" / "simulator.yaml", description="The contract of the data source."
    )
    source: Literal["simulator", "files", "parquet", "csv", "postgres"] = Field(
        "simulator",
        description="Where transactions come from: simulator, postgres, or files of any kind (or csv, parquet).",
    )
    source_path: Path | None = Field(None, description="Folder of a source of files.")
    source_url: str | None = Field(None, description="Database of a postgres source.")
    source_query: str | None = Field(None, description="Table name, or SELECT statement, of a postgres source.")
    database_url: str | None = Field(None, description="A PostgreSQL server to use instead of the embedded one.")
    dagster_url: str | None = Field(
        None, description="With FRAUD_DATABASE_URL: the same database with a user of Dagster's own, for its tables."
    )
    mlflow_uri: str | None = Field(None, description="An MLflow server to use instead of the database itself.")
    signing_key: Path | None = Field(
        None,
        description="Key that packaged models are signed with, in PEM, made at first use; the public one is enough to "
        "serve.",
    )
    api_keys: Path | None = Field(
        None, description="File of the scoring service's API keys, as hashes; in the home when absent."
    )
    preview: Literal["none", "masked", "all"] = Field(
        "masked",
        description="First rows of each month that Dagster's event log keeps: none, masked (without columns that "
        "identify somebody), all.",
    )
    ledger_head: Path | None = Field(
        None,
        description="File that holds the ledger's last number and hash; outside of the home, a database that was cut "
        "shows.",
    )
    simulator_customers: int = Field(2000, ge=1, description="Customers of the simulated world.")
    simulator_terminals: int = Field(4000, ge=1, description="Terminals of the simulated world.")
    simulator_seed: int = Field(7, description="Seed of the simulated world.")
    simulator_drift: str = Field(
        "", description="Drifts of the simulated world: kind@YYYY-MM[:strength], comma-separated."
    )
    engine: Literal["kernel", "duckdb", "spark", "postgres"] = Field(
        "kernel",
        description="What computes features: a kernel in this process, DuckDB in it, Spark, or the platform's own "
        "Postgres.",
    )
    families: str = Field(
        "logistic_regression,hist_gradient_boosting",
        description="Model families that compete, comma-separated; random_forest is the third.",
    )
    imbalance: Literal["undersample", "none", "class_weight", "smote", "borderline_smote"] = Field(
        "undersample",
        description="What is done about frauds being rare in training: undersample, none, class_weight, smote, "
        "borderline_smote.",
    )
    window_months: int = Field(12, ge=0, description="Months of rows that a model is trained on; 0: all there are.")
    half_life_days: float | None = Field(
        None, gt=0, description="Training rows count half as much for every so many days of age."
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Processes that training keeps busy at once; without it, one for each core that it may use.",
    )
    review_capacity: int = Field(
        100,
        ge=1,
        description="Cards a day that the analysts can review; the decision threshold flags no more, on average.",
    )
    review_cost: Cost = Field(
        COSTS.review,
        description="Cost of reviewing a card on a day, in the currency of the amounts; with the losses it sets the "
        "decision threshold.",
    )
    loss_share: Cost = Field(COSTS.loss_share, description="Share of a missed fraud's amount that is lost.")
    fixed_loss: Cost = Field(COSTS.fixed_loss, description="Loss of a missed fraud whose amount is not known.")
    drift_p: Limit = Field(
        LIMITS.drift_p, description="A drift report says DRIFT of a column only if its adjusted p is below this."
    )
    drift_delivered_p: Limit = Field(
        LIMITS.delivered_drift_p,
        description="The same of the columns that the source delivers, which chance moves less than computed features.",
    )
    drift_watch_p: Limit = Field(
        LIMITS.watch_p, description="It says WATCH of a column only if its adjusted p is below this."
    )
    drift_total_variation: Limit = Field(
        LIMITS.drift_total_variation,
        description="DRIFT needs at least this share of rows in another bin than in the reference.",
    )
    drift_min_total_variation: Limit = Field(
        LIMITS.min_total_variation, description="WATCH needs at least this share of rows in another bin."
    )
    drift_psi_limit: Limit = Field(
        LIMITS.psi_limit, description="Population stability index (PSI) from which a move is large."
    )
    drift_missing_limit: Limit = Field(
        LIMITS.missing_limit,
        description="Rise of the share of missing or new values of a column from which it is large; 0.05 is 5 % of "
        "rows.",
    )
    drift_volume_note: Limit = Field(
        LIMITS.volume_note, description="Change of transactions a day that is worth a WATCH; 0.05 is 5 %."
    )
    retrain_on: str = Field(
        "drift,performance,age",
        description="What may ask for a new model, comma-separated: drift, performance, age, calendar.",
    )
    retrain_every_months: int = Field(
        1, ge=1, description="With calendar in FRAUD_RETRAIN_ON: months from the newest model to the next."
    )
    retrain_max_age_months: int = Field(
        12, ge=1, description="With age in FRAUD_RETRAIN_ON: months after which the champion is too old."
    )
    retrain_cooldown_months: int = Field(
        1, ge=1, description="Months that retrainings for drift, performance or age are apart; 1: none is held back."
    )
    promotion: Literal["automatic", "approval", "shadow", "never"] = Field(
        "automatic",
        description="Who lets a model that passed go live: automatic, approval (a person), "
        "shadow (time beside the champion) or never.",
    )
    approval_days: int = Field(14, ge=1, description="With approval: days that a model waits for a person.")
    shadow_days: int = Field(
        30, ge=1, description="With shadow: days of matured transactions that the comparison needs."
    )
    shadow_models: int = Field(
        3, ge=1, le=MOST_CHALLENGERS, description="Challengers at once; each is a process with a model in memory."
    )
    shadow_seconds: int = Field(
        10, ge=1, le=600, description="Seconds that a challenger may take for 200 transactions; then it is ended."
    )
    shadow_behind: int = Field(
        50_000,
        ge=1_000,
        le=10_000_000,
        description="Transactions that a challenger may be behind; the oldest beyond that it leaves out.",
    )
    scores_folder: Path | None = Field(
        None, description="Folder of the scores on their way to the database; without it, in the home."
    )
    scores_spool_mb: int = Field(
        1024, ge=1, description="Megabytes that scores may have on disk while the database cannot take them."
    )
    pass_through: float = Field(
        0.0,
        ge=0,
        le=LARGEST_SHARE,
        description="Share of the transactions to review that the service lets through at random, to learn how they "
        "end; at most 0.1.",
    )
    pass_through_amount: Cost | None = Field(
        None, description="With FRAUD_PASS_THROUGH: the largest amount that is let through."
    )
    pass_through_seed: Annotated[SecretStr, Field(min_length=SEED_BYTES)] | None = Field(
        None, description="With FRAUD_PASS_THROUGH: the secret by which it is chosen; made at first use in the home."
    )
    backup_folder: Path | None = Field(
        None, description="Folder of the backups that the schedule makes, and whose age is monitored."
    )
    backup_keep: int = Field(12, ge=1, description="How many backups the schedule keeps in it.")
    retention_months: int | None = Field(
        None,
        ge=1,
        description="How many months, besides the one that goes on, rows of people are kept; for ever when absent.",
    )
    breaker_share: Limit | None = Field(
        None,
        description="Share of transactions that are held or declined at which the service's breaker opens; never when "
        "absent.",
    )
    breaker_seconds: float = Field(
        300, ge=1, le=SECONDS_PER_DAY, description="With FRAUD_BREAKER_SHARE: the last seconds that are counted."
    )
    breaker_scores: int = Field(
        200, ge=1, description="With FRAUD_BREAKER_SHARE: scores in them without which it does not open."
    )
    breaker_mode: Literal["previous", "review"] = Field(
        "previous",
        description="While the breaker is open: previous, the champion before answers; review, what rules decline is "
        "reviewed.",
    )
    alert_urls: SecretStr | None = Field(
        None,
        description="Where alerts go: addresses as apprise writes them, separated by spaces; they may hold secrets.",
    )
    ui_url: str | None = Field(None, description="Address of the Dagster UI as people reach it, for links in alerts.")
    mlflow_ui_url: str | None = Field(
        None, description="Address of the MLflow UI as people reach it, for links to reports and model cards."
    )
    dagster_port: Port = Field(3000, description="Port of the Dagster UI.")
    mlflow_port: Port = Field(5001, description="Port of the MLflow UI.")
    serve_port: Port = Field(5000, description="Port of the scoring service.")
    serve_history_mb: int = Field(
        512,
        ge=1,
        description="Memory in MiB that each worker of the service keeps history of customers and terminals in.",
    )

    @model_validator(mode="after")
    def _parts_can_be(self) -> Self:
        """What only shows when settings are put together is refused here, before anything is written."""
        parts: dict[str, tuple[str, ...]] = {
            "drift": tuple(name for name in type(self).model_fields if name.startswith("drift_")),
            "training": ("families", "imbalance", "window_months", "half_life_days"),
            "retraining": ("retrain_on",),
        }
        for part, names in parts.items():
            # Defaults go together; putting training together loads what takes a while.
            given = [name for name in names if name in self.model_fields_set]
            try:
                if given:
                    getattr(self, part)
            except ValueError as error:
                said = ", ".join(f"{_variable(name)} is {getattr(self, name)!r}" for name in given)
                raise ValueError(f"{said}: {error}") from error
        return self

    @model_validator(mode="after")
    def _keeps_what_it_needs(self) -> Self:
        """A retention that is too short for the contract is refused; a contract that cannot be read says so itself."""
        if self.retention_months is not None:
            # Where it is used: most have none, and features take a while to load.
            from fraud_assets.core.lineage.expiry import check_retention

            try:
                contract = self.loaded_contract
            except (ValueError, OSError):
                return self
            check_retention(contract, self.retention_months)
        return self

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        """Who looks for runs that lost their process, and who backs up, reads Dagster's tables beside the months'."""
        if self.dagster_url is not None and _place(self.dagster_url) != _place(self.database_url or ""):
            raise ValueError(
                "FRAUD_DAGSTER_URL and FRAUD_DATABASE_URL have to name the same database, with another user; "
                "leave FRAUD_DAGSTER_URL out where Dagster has no user of its own"
            )
        return self

    @cached_property
    def loaded_contract(self) -> Contract:
        """The contract that `FRAUD_CONTRACT` names."""
        return load_contract(self.contract_path)

    @property
    def training(self) -> TrainingConfig:
        """How models are trained.

        Raises:
            ValueError: for settings that do not go together.
        """
        # Where it is used: what it imports takes a while, and most commands train nothing.
        from fraud_assets.core.models.training_config import TrainingConfig

        families: Any = tuple(name.strip() for name in self.families.split(",") if name.strip())
        return TrainingConfig(
            families=families,
            imbalance=self.imbalance,
            window_months=self.window_months or None,
            half_life_days=self.half_life_days,
            review_capacity=self.review_capacity,
            costs=self.costs,
        )

    @property
    def training_workers(self) -> int:
        """How many processes training may keep busy: as it is set, or the cores that affinity and container leave."""
        # Where it is used, as above. `os.process_cpu_count` needs Python 3.13, and knows nothing of containers.
        from joblib import cpu_count

        return self.workers or int(cpu_count())

    @property
    def costs(self) -> Costs:
        """What reviews and missed frauds cost."""
        return Costs(self.review_cost, self.loss_share, self.fixed_loss)

    @property
    def drift(self) -> DriftConfig:
        """The limits of the drift report.

        Raises:
            ValueError: for limits that do not go together.
        """
        if max(self.drift_p, self.drift_delivered_p) > self.drift_watch_p:
            raise ValueError(
                f"DRIFT needs a p no larger than WATCH does, so FRAUD_DRIFT_P ({self.drift_p}) and "
                f"FRAUD_DRIFT_DELIVERED_P ({self.drift_delivered_p}) are at most FRAUD_DRIFT_WATCH_P "
                f"({self.drift_watch_p})"
            )
        if self.drift_min_total_variation > self.drift_total_variation:
            raise ValueError(
                "DRIFT needs at least the share of rows that WATCH needs, so FRAUD_DRIFT_MIN_TOTAL_VARIATION "
                f"({self.drift_min_total_variation}) is at most FRAUD_DRIFT_TOTAL_VARIATION "
                f"({self.drift_total_variation})"
            )
        return DriftConfig(
            drift_p=self.drift_p,
            delivered_drift_p=self.drift_delivered_p,
            watch_p=self.drift_watch_p,
            # Where little is known of how months differ, never laxer than where much is.
            unsure_drift_p=min(LIMITS.unsure_drift_p, self.drift_p),
            unsure_watch_p=min(LIMITS.unsure_watch_p, self.drift_watch_p),
            drift_total_variation=self.drift_total_variation,
            min_total_variation=self.drift_min_total_variation,
            psi_limit=self.drift_psi_limit,
            missing_limit=self.drift_missing_limit,
            volume_note=self.drift_volume_note,
        )

    @property
    def promotion_mode(self) -> PromotionMode:
        """What becomes of a model that passed."""
        from fraud_assets.core.decisions.approval import PromotionMode

        return PromotionMode(self.promotion, self.approval_days, self.shadow_days, self.shadow_models)

    @property
    def retraining(self) -> RetrainingPolicy:
        """When a new model is trained.

        Raises:
            ValueError: for something that can ask for none.
        """
        from fraud_assets.core.decisions.retraining import RetrainingPolicy

        triggers: Any = tuple(name.strip() for name in self.retrain_on.split(",") if name.strip())
        return RetrainingPolicy(
            triggers=triggers,
            every_months=self.retrain_every_months,
            max_age_months=self.retrain_max_age_months,
            cooldown_months=self.retrain_cooldown_months,
        )

    @property
    def contract_path(self) -> Path:
        """The contract's absolute path; a relative one counts from here, then from the project."""
        return _existing(self.contract)

    @property
    def source_folder(self) -> Path | None:
        """The source's folder, absolute; a relative one counts from here, then from the project."""
        return _existing(self.source_path) if self.source_path else None

    @property
    def _home(self) -> Path:
        # One home for one setting, from whichever folder a command is called.
        return (PROJECT_ROOT / self.home.expanduser()).resolve()

    @property
    def workspace(self) -> Path:
        """The folder, inside the home, of the contract's own artifacts, bentos and logs."""
        return self._home / self.loaded_contract.name

    @property
    def postgres_folder(self) -> Path:
        """Data folder of the embedded PostgreSQL, shared by all contracts of a home."""
        return self._home / "postgres"

    @property
    def ledger_head_file(self) -> Path:
        """Where the ledger's head is kept; a relative path counts from the project."""
        if self.ledger_head is None:
            return self.workspace / "ledger-head.json"
        return (PROJECT_ROOT / self.ledger_head.expanduser()).resolve()

    @property
    def artifacts(self) -> Path:
        """Where MLflow keeps artifacts when no server is set."""
        return self.workspace / "artifacts"

    @property
    def reports(self) -> Path:
        """Where the pages of monthly reports lie."""
        return self.workspace / "reports"

    @property
    def bentoml_home(self) -> Path:
        """BentoML's store of models and bentos."""
        return self.workspace / "bentoml"

    @property
    def signing_key_file(self) -> Path:
        """Where the key lies that packaged models are signed with; a relative path counts from the project."""
        if self.signing_key is None:
            return self._home / "keys" / "signing.pem"
        return (PROJECT_ROOT / self.signing_key.expanduser()).resolve()

    @property
    def api_keys_file(self) -> Path:
        """Where the hashes of API keys lie; a relative path counts from the project."""
        if self.api_keys is None:
            return self._home / "keys" / "api-keys.json"
        return (PROJECT_ROOT / self.api_keys.expanduser()).resolve()

    @property
    def scores_path(self) -> Path:
        """Where scores wait for the database; a relative path counts from the project."""
        if self.scores_folder is None:
            return self.workspace / "scores"
        return (PROJECT_ROOT / self.scores_folder.expanduser()).resolve()

    @property
    def backup_path(self) -> Path | None:
        """Where backups lie; None where nothing is set. A relative path counts from the project."""
        return (PROJECT_ROOT / self.backup_folder.expanduser()).resolve() if self.backup_folder else None

    @property
    def pass_through_seed_file(self) -> Path:
        """Where the secret of the pass-through lies that is made at first use."""
        return self._home / "keys" / "pass-through.seed"

    @property
    def erasure_key_file(self) -> Path:
        """Where the key lies by which erased persons are recognised; made at the first erasure."""
        return self._home / "keys" / "erasure.key"

    @property
    def dagster_home(self) -> Path:
        """Dagster's local folder: logs of steps; its runs and events are in Postgres."""
        return self.workspace / "dagster"


def read_settings() -> Settings:
    """The settings of this process, from its environment and the project's `.env`.

    Raises:
        ValueError: for a setting that cannot be, by its name.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{_variable(str(problem['loc'][0]))} is {problem['input']!r}: {problem['msg']}"
            if problem["loc"]
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        )
        raise ValueError(f"a setting cannot be used: {wrong}") from error


def _variable(name: str) -> str:
    return f"FRAUD_{name.upper()}"


def _place(url: str) -> tuple[Any, ...]:
    """Which database a URL leads to, whoever the user is."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return parts.hostname, parts.port or 5432, parts.path, query.get("host"), query.get("port")


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if path.is_absolute() or path.exists():
        return path.resolve()
    return (PROJECT_ROOT / path).resolve()
