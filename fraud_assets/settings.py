"""Every setting, once: an environment variable `FRAUD_...`, its default, and the paths that follow from it.

Nothing is read at import; `Settings()` reads the environment and a `.env` file in the project when it is called.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud_assets.core.contracts.contract import Contract, load_contract

if TYPE_CHECKING:
    from fraud_assets.core.costs import Costs
    from fraud_assets.core.decisions.retraining import RetrainingPolicy
    from fraud_assets.core.models.training_config import TrainingConfig

PROJECT_ROOT = Path(__file__).resolve().parent.parent


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
    mlflow_uri: str | None = Field(None, description="An MLflow server to use instead of the database itself.")
    simulator_customers: int = Field(2000, description="Customers of the simulated world.")
    simulator_terminals: int = Field(4000, description="Terminals of the simulated world.")
    simulator_seed: int = Field(7, description="Seed of the simulated world.")
    simulator_drift: str = Field(
        "", description="Drifts of the simulated world: kind@YYYY-MM[:strength], comma-separated."
    )
    engine: Literal["duckdb", "spark", "postgres"] = Field(
        "duckdb", description="What computes features: DuckDB in process, Spark, or the platform's own Postgres."
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
    review_capacity: int = Field(
        100,
        ge=1,
        description="Cards a day that the analysts can review; the decision threshold flags no more, on average.",
    )
    review_cost: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="Cost of reviewing a card on a day, in the currency of the amounts; with the losses it sets the "
        "decision threshold.",
    )
    loss_share: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Share of a missed fraud's amount that is lost."
    )
    fixed_loss: float = Field(
        100.0, ge=0, allow_inf_nan=False, description="Loss of a missed fraud whose amount is not known."
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
    alert_urls: SecretStr | None = Field(
        None,
        description="Where alerts go: addresses as apprise writes them, separated by spaces; they may hold secrets.",
    )
    ui_url: str | None = Field(None, description="Address of the Dagster UI as people reach it, for links in alerts.")
    dagster_port: int = Field(3000, description="Port of the Dagster UI.")
    mlflow_port: int = Field(5001, description="Port of the MLflow UI.")
    serve_port: int = Field(5000, description="Port of the scoring service.")

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
    def costs(self) -> Costs:
        """What reviews and missed frauds cost."""
        from fraud_assets.core.costs import Costs

        return Costs(self.review_cost, self.loss_share, self.fixed_loss)

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
    def dagster_home(self) -> Path:
        """Dagster's local folder: logs of steps; its runs and events are in Postgres."""
        return self.workspace / "dagster"


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if path.is_absolute() or path.exists():
        return path.resolve()
    return (PROJECT_ROOT / path).resolve()
