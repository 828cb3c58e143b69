"""What assets are given: the platform's store, ledger, registry and source, opened when first used."""

from functools import cached_property

import dagster as dg

from fraud_assets.adapters.ledger_store import LedgerStore
from fraud_assets.adapters.registry import Registry
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.adapters.table_io import MonthStore, PostgresMonthIOManager, open_store
from fraud_assets.core.contract import Contract
from fraud_assets.core.ledger import champion_version
from fraud_assets.core.windows import TrainedMonth
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
        return open_store(self.settings)

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

    def champion_before(self, month: str) -> int | None:
        """The version that was live before the decision of a month."""
        return champion_version(self.ledger.events(), before_month=month)

    def trained_months(self, last_month: str) -> list[TrainedMonth]:
        """The registered models of the months up to `last_month`."""
        rows = self.store.read("trained_model", ["month", "model_version"], last_month=last_month)
        return [
            TrainedMonth(f"{row['month']:%Y-%m}", row["model_version"])
            for row in rows.to_pylist()
            if row["model_version"] is not None
        ]


@dg.definitions
def resources() -> dg.Definitions:
    """Bound by name in every asset."""
    return dg.Definitions(
        resources={"platform": Platform(), "io_manager": PostgresMonthIOManager()},
        executor=dg.in_process_executor,
    )
