"""What assets are given: the platform's store, ledger, registry and source, opened when first used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.engines import Compute, open_engine
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.leases import take_months
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, PostgresMonthIOManager, open_store
from fraud_assets.adapters.postgres.run_processes import PROCESS_TAG, holding, this_process
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.lineage.expiry import refuse_old
from fraud_assets.core.lineage.staleness import Inputs, contract_inputs, inputs_of
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.months import months_between
from fraud_assets.settings import Settings


def months_of(tags: Mapping[str, str]) -> list[str]:
    """The months that a run is about, by its tags; none of a run without months."""
    if month := tags.get("dagster/partition"):
        return [month]
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    return months_between(first, last) if first and last else []


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform behind the assets, on the settings that it is given.

    They are a dependency and no configuration: the UI shows what is configured, and they may hold passwords.
    """

    settings: dg.ResourceDependency[Settings]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Platform"]:
        """Tells others that the run has a process for as long as it has one; a sensor has no run."""
        if context.run is None or context.instance is None:
            yield self
            return
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: this_process()})
        months, assets = months_of(context.run.tags), context.run.asset_selection
        # Of no asset, it only evaluates checks; of all, where none is named.
        refuse_old(self.store.kept_from, months, TABLES if assets is None else [one.path[-1] for one in assets])
        with holding(self.store.database, context.run.run_id):
            take_months(self.store.database, context.run.run_id, months)
            yield self

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
        return LedgerStore(self.store.database, self.settings.ledger_head_file)

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
        return inputs_of(contract_inputs(self.contract), *sources)


def resources_on(settings: Settings) -> dict[str, object]:
    """The resources that assets and sensors ask for by name."""
    return {"platform": Platform(settings=settings), "io_manager": PostgresMonthIOManager(settings)}
