"""`fraud_bento`: the package that `bentoml serve` serves."""

import math
from datetime import date
from functools import partial

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.features.declarations import history_days
from fraud_assets.defs.partitions import MONTH_BY_MONTH, MONTHS, describe, picture, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.models.promote import package_version
from fraud_assets.workflows.models.truth import name_for_serving
from fraud_assets.workflows.rollout.naming import name_challengers

DAYS_OF_A_MONTH = 28  # at least


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    **describe("fraud_bento", "serving", {"bentoml", "postgres"}),
)
@retried
def fraud_bento(context: dg.AssetExecutionContext, platform: Platform, champion: pa.Table) -> dg.Output[pa.Table]:
    """One row is one month: the bento with the model that was live after its decision.

    For those who deploy. The bento holds the model, its manifest and the service, and needs no registry.
    """
    month = single_month(context)
    schema = platform.store.table("fraud_bento").schema
    version = champion["champion_version"][0].as_py()
    inputs = platform.made_of(champion)
    base = {"month": date.fromisoformat(f"{month}-01"), "model_version": version}
    if version is None:
        return dg.Output(
            pa.Table.from_pylist([base], schema=schema),
            metadata={"outcome": "no model has been promoted yet", "inputs": inputs},
        )
    # Serving looks up what an entity did, as far back as features look, and all earlier statements about that.
    reach = math.ceil(history_days(platform.contract) / DAYS_OF_A_MONTH) + 1
    platform.store.index_months("raw_transactions", list(platform.store.months("raw_transactions"))[-reach:])
    platform.store.index_months("fraud_labels", list(platform.store.months("fraud_labels")))
    package = partial(
        package_version, registry=platform.registry, settings=platform.settings, ledger=platform.ledger
    )  # fmt: skip
    bento = package(version)
    name_for_serving(platform.ledger.events(), bento, version, platform.settings)
    for left_out, why in name_challengers(platform.ledger.events(), platform.settings, package).items():
        context.log.warning(f"version {left_out} is no challenger: {why}")
    _, manifest = platform.registry.fetch(version)
    row = base | {"bento_tag": bento.tag, "model_digest": manifest.model_digest}
    return dg.Output(
        pa.Table.from_pylist([row], schema=schema),
        metadata={
            "inputs": inputs,
            "outcome": f"{bento.tag} holds version {version}",
            "plot": picture(plots.bars(manifest.metrics, "The packaged model in validation")),
            "bento": bento.tag,
            "path": dg.MetadataValue.path(str(bento.path)),
            "digest_of_bento": bento.digest,
        },
    )
