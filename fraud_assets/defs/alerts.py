"""The alert sensor: sends alerts about drift, broken data, refused promotions and failed runs.

What is worth an alert and when it is sent again belongs to `core/decisions/alerts.py`; finding, keeping and sending to
`workflows/alerts.py`.
"""

import dagster as dg

from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.defs.partitions import SETTINGS
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.alerts import AlertStore, deliver, find_facts, open_channels


def send_alerts(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
    """Sends each fact once to each channel of FRAUD_ALERT_URLS; retries a channel that does not answer.

    Facts from before it was first turned on are not sent, except the drift of the newest month. It requests no runs. A
    channel that fails makes neither a run nor this sensor fail.
    """
    settings = platform.settings
    channels = open_channels(settings.alert_urls.get_secret_value()) if settings.alert_urls else []
    if not channels:
        return dg.SkipReason("FRAUD_ALERT_URLS names no channel")
    database = open_database(settings, writing=True)
    store = AlertStore(database)
    found = find_facts(context.instance, database, platform.contract, settings.ui_url, context.cursor)
    new = store.record(found.facts, [channel.name for channel in channels])
    sent = deliver(store, channels)
    for one in sent:
        if one.error:
            context.log.warning(one.sentence)
    context.update_cursor(found.cursor)
    return dg.SkipReason("; ".join(one.sentence for one in sent) or f"{new} new facts, nothing due")


@dg.definitions
def alerts() -> dg.Definitions:
    """The sensor; it runs by default where there are channels, and can be turned on and off in the UI."""
    running = SETTINGS.alert_urls is not None
    sensor = dg.sensor(
        name="alert_sensor",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
    )
    return dg.Definitions(sensors=[sensor(send_alerts)])
