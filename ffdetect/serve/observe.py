"""What operators see: metrics, and one line of JSON for each event. Never what users sent."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)

_logger = logging.getLogger("ffdetect.serve")


class Metrics:
    """Of one service, in a registry of its own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "ffdetect_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "ffdetect_request_seconds",
            "Time from the first byte to the answer",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.pictures = Counter(
            "ffdetect_pictures", "Pictures by outcome", ["outcome"], registry=own
        )
        self.batch = Histogram(
            "ffdetect_batch_size", "Pictures in a batch", buckets=_SIZES, registry=own
        )
        self.waiting = Gauge(
            "ffdetect_pictures_waiting", "Pictures accepted and not answered", registry=own
        )
        self.jobs = Counter("ffdetect_jobs", "Jobs by end", ["kind", "state"], registry=own)
        self.jobs_open = Gauge("ffdetect_jobs_open", "Jobs waiting or running", registry=own)
        self.workers = Gauge("ffdetect_workers_ready", "Workers that loaded", registry=own)
        self.losses = Counter(
            "ffdetect_worker_losses", "Worker processes that ended or hung", registry=own
        )


def log(event: str, **fields: object) -> None:
    """Write one line; fields are numbers and short words of ours, never names or contents."""
    _logger.info(event, extra={"fields": fields})


def log_to_stderr() -> None:
    """From now on, in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    _logger.handlers = [handler]
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
