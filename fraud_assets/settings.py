"""Every setting, once: an environment variable `FRAUD_...`, its default, and the paths that follow from it.

Nothing is read at import; `Settings()` reads the environment and a `.env` file in the project when it is called.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud_assets.core.contract import Contract, load_contract

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
    source: Literal["simulator", "parquet", "csv", "postgres"] = Field(
        "simulator", description="Where transactions come from."
    )
    source_path: Path | None = Field(None, description="Folder of a parquet or csv source.")
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
    smote: bool = Field(False, description="Balance the training rows of the logistic regression with SMOTE.")
    review_capacity: int = Field(
        100, description="Cards a day that the analysts can review; sets the decision threshold."
    )
    dagster_port: int = Field(3000, description="Port of the Dagster UI.")
    mlflow_port: int = Field(5001, description="Port of the MLflow UI.")
    serve_port: int = Field(5000, description="Port of the scoring service.")

    @cached_property
    def loaded_contract(self) -> Contract:
        """The contract that `FRAUD_CONTRACT` names."""
        return load_contract(self.contract_path)

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
