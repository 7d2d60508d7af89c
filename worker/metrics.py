"""What a worker measures. One process a device, so plain metrics on a port of its own."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from shared.settings import Settings

_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

RENDER_SECONDS = Histogram(
    "rendermill_render_seconds", "Device seconds of one batch.", ["model"], buckets=_STAGE_BUCKETS
)
BATCH_IMAGES = Histogram("rendermill_batch_images", "Images in one batch.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64))
MODEL_LOAD_SECONDS = Histogram(
    "rendermill_model_load_seconds",
    "Bringing a model to the device, by where its weights came from.",
    ["model", "source"],
    buckets=_STAGE_BUCKETS,
)
MODEL_EVICTIONS = Counter(
    "rendermill_model_evictions_total",
    "Models that gave way on the device, by where their weights went.",
    ["model", "to"],
)
WEIGHTS_BYTES = Gauge("rendermill_weights_bytes", "Memory that models' weights take, by where they are.", ["place"])
TEXTS = Counter(
    "rendermill_texts_total", "Prompts that batches needed encoded, and whether they were known.", ["model", "result"]
)
STORE_SECONDS = Histogram(
    "rendermill_store_seconds", "Encoding and storing the pictures of one job.", ["model"], buckets=_STAGE_BUCKETS
)
DEVICE_IDLE_SECONDS = Histogram(
    "rendermill_device_idle_seconds",
    "How long the device waited between two batches, although jobs did.",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
ETA_ERROR_SECONDS = Histogram(
    "rendermill_eta_error_seconds",
    "How much later than first told a job succeeded; below 0 for sooner.",
    ["model"],
    buckets=(-600, -120, -30, -10, -3, -1, 0, 1, 3, 10, 30, 120, 600),
)
WEBHOOK_ATTEMPTS = Counter(
    "rendermill_webhook_attempts_total", "Attempts to deliver a webhook, by what came of them.", ["result"]
)
WEBHOOKS_POSTPONED = Counter(
    "rendermill_webhooks_postponed_total", "Times a webhook was put off because its account was slow to answer lately."
)
WEBHOOK_SECONDS = Histogram(
    "rendermill_webhook_seconds",
    "How long receivers took to answer.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
LAST_TICK = Gauge("rendermill_worker_last_tick_timestamp_seconds", "When the worker's heartbeat last ran.")


def serve(settings: Settings) -> None:
    """Serve the metrics on the worker's port, where one is set."""
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, addr=settings.worker_metrics_host)
