"""Prometheus' text format: samples as text, in a file, or over HTTP. What they say belongs to `core/monitoring`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fraud_assets.core.errors import PlatformError
from fraud_assets.core.monitoring.metrics import METRICS, PREFIX, Sample

logger = logging.getLogger(__name__)

# However many ask, and however often: what was read is as new as this.
KEEP_SECONDS = 15.0
UNREADABLE = (Sample("readable", 0),)
Read = Callable[[], Sequence[Sample]]


class PlatformCollector(Collector):
    """Gives what is read whenever it is asked, one reading at a time.

    Where nothing can be read it says so in `fraud_platform_readable`, so that this is told apart from an endpoint that
    does not answer.
    """

    def __init__(self, read: Read, keep_seconds: float = 0.0) -> None:
        """Reads nothing yet; what was read is given again for `keep_seconds`."""
        self._read, self._keep_seconds = read, keep_seconds
        self._lock = threading.Lock()
        self._samples: Sequence[Sample] = ()
        self._until = -float("inf")

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics, as the client library writes them."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._samples = self._tried()
                self._until = time.monotonic() + self._keep_seconds
            samples = self._samples
        families: dict[str, GaugeMetricFamily] = {}
        for sample in samples:
            name = f"{PREFIX}{sample.metric}"
            if sample.metric not in families:
                families[sample.metric] = GaugeMetricFamily(name, METRICS[sample.metric], labels=list(sample.labels))
            families[sample.metric].add_metric(list(sample.labels.values()), float(sample.value))
        return families.values()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: a registry would read everything to know the names."""
        return ()

    def _tried(self) -> Sequence[Sample]:
        try:
            return self._read()
        except PlatformError as error:
            logger.error("the platform cannot be read: %s", error)
        except Exception:
            # Whoever asks again is answered again.
            logger.exception("the platform cannot be read")
        return UNREADABLE


def as_text(samples: Sequence[Sample]) -> str:
    """Samples as text."""
    return generate_latest(_registry(lambda: samples)).decode("utf-8")


def write_file(samples: Sequence[Sample], file: Path) -> None:
    """Writes them into a file for node_exporter's textfile collector: the old one or the new one is there, whole.

    Raises:
        ValueError: when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(file), _registry(lambda: samples))
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror}; name another file") from error


def serve_metrics(read: Read, port: int, host: str) -> threading.Thread:
    """Answers at /metrics from now on, in a thread.

    Raises:
        ValueError: when the port cannot be had.
    """
    try:
        _, thread = start_http_server(port, host, _registry(read, KEEP_SECONDS))
    except OSError as error:
        raise ValueError(f"port {port} of {host} cannot be had: {error.strerror}; name another one") from error
    return thread


def _registry(read: Read, keep_seconds: float = 0.0) -> CollectorRegistry:
    """Has the platform's metrics, and nothing of this process."""
    registry = CollectorRegistry()
    registry.register(PlatformCollector(read, keep_seconds))
    return registry
