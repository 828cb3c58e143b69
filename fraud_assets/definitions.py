"""The Dagster code location: everything under `defs/`."""

from __future__ import annotations

import dagster as dg

from fraud_assets.settings import PROJECT_ROOT

defs = dg.load_from_defs_folder(path_within_project=PROJECT_ROOT)
