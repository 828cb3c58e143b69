"""What assets are given: the platform's store, ledger, registry and source, opened when first used."""

from functools import cached_property

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.engines import Compute, open_engine
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, PostgresMonthIOManager, open_store
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.lineage.staleness import Inputs, inputs_of
from fraud_assets.settings import Settings


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform behind the assets; its configuration is `settings.py`'s, read when a run begins."""

    @cached_property
    def settings(self) -> Settings:
        """The settings of this process."""
        return Settings()

    @property
    def contract(self) -> Contract:
        """The source's contract."""
        return self.settings.loaded_contract

    @cached_property
    def store(self) -> MonthStore:
        """The tables."""
        return open_store(self.settings, writing=True)

    @cached_property
    def ledger(self) -> LedgerStore:
        """The ledger."""
        return LedgerStore(self.store.database)

    @cached_property
    def registry(self) -> Registry:
        """MLflow."""
        return Registry(self.settings)

    @cached_property
    def source(self) -> Source:
        """Where transactions come from."""
        return open_source(self.settings)

    @property
    def compute_features(self) -> Compute:
        """What computes features, on the engine of the settings."""
        engine = self.settings.engine
        return open_engine(engine, self.store.database.url if engine == "postgres" else None)

    def champion_before(self, month: str) -> int | None:
        """The version that was live before the decision of a month."""
        return champion_version(self.ledger.events(), before_month=month)

    def made_of(self, *sources: pa.Table | Inputs) -> Inputs:
        """What an asset records of what it was made of: the tables it read, other inputs, and the contract."""
        return inputs_of({"contract": {"": self.contract.digest}}, *sources)


@dg.definitions
def resources() -> dg.Definitions:
    """Bound by name in every asset."""
    return dg.Definitions(
        resources={"platform": Platform(), "io_manager": PostgresMonthIOManager()},
        executor=dg.in_process_executor,
    )
