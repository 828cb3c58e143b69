"""Dagster's own storage, in the `dagster` schema of the platform's database, with a user of its own where one is set.

`dagster.yaml` names this class instead of dagster-postgres' own because a YAML file cannot say "the embedded
server, started if it is not up": `dagster dev` then works from a fresh checkout with no variable set. Dagster makes the
class in each of its own processes and hands nothing in, so the settings are read here as at an entrance.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import dagster as dg
import yaml
from dagster._serdes import ConfigurableClassData
from dagster_postgres.storage import DagsterPostgresStorage

from fraud_assets.adapters.dagster_webserver import guard_webserver
from fraud_assets.adapters.postgres.database import Database, open_database
from fraud_assets.settings import PROJECT_ROOT, Settings, read_settings

DAGSTER_YAML = PROJECT_ROOT / "dagster.yaml"


class FraudStorage(DagsterPostgresStorage):
    """dagster-postgres' storage at the database that the settings name."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the settings have it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:  # noqa: ARG003
        """Opens the settings' database; in a webserver, which opens it first of all, lets no foreign page ask."""
        settings = read_settings()
        if "dagster_webserver.app" in sys.modules:
            guard_webserver(settings.ui_url)
        if settings.dagster_url is not None:
            # Its user sees nothing else of the database, nor does a webserver that has no other.
            database = Database(settings.dagster_url)
        else:
            database = open_database(settings, writing=True)
        return cls(database.schema_url("dagster"), inst_data=inst_data)

    @property
    def event_storage_data(self) -> ConfigurableClassData:
        """How another process finds the event log."""
        return self._part("PostgresEventLogStorage")

    @property
    def run_storage_data(self) -> ConfigurableClassData:
        """How another process finds the runs."""
        return self._part("PostgresRunStorage")

    @property
    def schedule_storage_data(self) -> ConfigurableClassData:
        """How another process finds sensors' ticks."""
        return self._part("PostgresScheduleStorage")

    def _part(self, name: str) -> ConfigurableClassData:
        return ConfigurableClassData("dagster_postgres", name, yaml.safe_dump({"postgres_url": self.postgres_url}))


# Milliseconds; a statement that takes as long hangs.
STATEMENT_TIMEOUT = 600_000


@contextmanager
def busy_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The same for a command that runs much: it keeps its connections.

    dagster-postgres opens one for each event that it writes or reads, 400 for a month, and each of them is a new
    process of the server. What it offers to its webserver instead serves a command that is one process as well.
    """
    with open_instance(settings) as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT, pool_recycle=-1, max_overflow=20)
        parts = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
        try:
            yield instance
        finally:
            # It has no way of its own to let go of them.
            for engine in (getattr(part, "_engine", None) for part in parts):
                if engine is not None:
                    engine.dispose()


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance in the home, with the project's dagster.yaml."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    configuration = DAGSTER_YAML.read_text(encoding="utf-8")
    target = home / "dagster.yaml"
    if not target.exists() or target.read_text(encoding="utf-8") != configuration:
        target.write_text(configuration, encoding="utf-8")
    return dg.DagsterInstance.from_config(str(home))
