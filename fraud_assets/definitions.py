"""The Dagster code location: everything under `defs/`, working on given settings."""

from __future__ import annotations

import dagster as dg

from fraud_assets.defs.partitions import SETTINGS
from fraud_assets.defs.resources import resources_on
from fraud_assets.settings import PROJECT_ROOT, Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """The code location on these settings, of the contract with which it was first imported (`defs/partitions.py`)."""
    given = dg.Definitions(resources=resources_on(settings), executor=dg.in_process_executor)
    return dg.Definitions.merge(dg.load_from_defs_folder(path_within_project=PROJECT_ROOT), given)


defs = build_definitions(SETTINGS)
