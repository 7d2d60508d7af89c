"""Every setting of Rendermill, read once from the environment.

A setting is a field of `Settings`; its environment variable is the field's name in capitals with the
prefix `RENDERMILL_`. `docs/settings.md` is written from the descriptions below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

PREFIX = "RENDERMILL_"


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one process. All times are in seconds, all sizes in bytes."""

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "Redis or Valkey: job records, queues and Celery's broker. Needs `noeviction` and an append-only file.",
    )
    s3_endpoint: str = _setting("http://127.0.0.1:9000", "S3 endpoint of MinIO or any other S3, with its scheme.")
    s3_access_key: str = _setting("", "S3 access key.")
    s3_secret_key: str = _setting("", "S3 secret key.")
    s3_bucket: str = _setting("rendermill", "The bucket; it is made at start when it does not exist.")
    s3_region: str = _setting("us-east-1", "S3 region, named always, so that no look-up is needed.")
    s3_public_endpoint: str = _setting(
        "",
        "Where clients reach S3. When set, one-hour links are presigned S3 URLs at this address; when empty, they are "
        "signed links to the API itself.",
    )
    public_url: str = _setting(
        "http://127.0.0.1:8080", "The address at which clients reach the API; used in every link."
    )
    secret_key: str = _setting(
        "",
        "Signs one-hour image links. Long and random, the same for every API process; no link works without it.",
    )
    catalog: str = _setting("", "Path of the catalog file; empty for the one that ships with Rendermill.")
    models_dir: str = _setting(
        "models", "Folder searched for checkpoints (`<models_dir>/<source>`) before the model hub is asked."
    )
    models_offline: bool = _setting(
        False, "Never ask the model hub: a checkpoint that is not in `models_dir` is an error."
    )
    models: str = _setting("", "Comma-separated catalog ids or aliases this worker serves; empty for all.")
    affinity_s: float = _setting(
        60.0,
        "Where the models of a worker do not all fit on its device: how long those that are loaded go before the "
        "others, at most; mostly ten times as long as loading took. 0 takes the models in turn, a batch each.",
    )
    preload: str = _setting("", "Comma-separated catalog ids or aliases a worker loads before it takes work.")
    device_weights: float = _setting(
        0.8,
        "Memory of a worker's device for the weights of its models: up to 1 a share of all there is, above 1 bytes. "
        "The rest is left to the pictures in the making. A model that takes more by itself is loaded all the same.",
    )
    host_weights: float = _setting(
        0.25,
        "Host memory, pinned, for the weights of models that gave way on a worker's device: up to 1 a share of the "
        "machine's or the container's, above 1 bytes. Each worker takes its own. 0 keeps none: they are read from disk "
        "again.",
    )
    text_cache_bytes: int = _setting(
        256 * 2**20,
        "Memory of a worker's device for what the text encoders made of earlier prompts: 0.3 MB a prompt of SDXL, 2 MB "
        "of FLUX.1 schnell. 0 keeps none.",
    )
    compile_cache: str = _setting(
        "",
        "Folder in which compiled kernels are kept, so that a worker that starts again does not compile anew; empty "
        "for a temporary one. Only for models whose catalog entry says `compile`.",
    )
    lease_s: float = _setting(
        30.0,
        "How long a worker's claim on a job or batch lasts without renewal; what a lost worker had is back after this "
        "long.",
    )
    max_attempts: int = _setting(3, "How often a job is tried when a retry can mend the failure.")
    retry_delay_s: float = _setting(2.0, "Wait before a mendable failure is tried again; doubled with each attempt.")
    drain_s: float = _setting(
        600.0,
        "How long a render worker that is told to stop goes on with what it renders; then it stops at the next step "
        "and gives its jobs back, without charging them an attempt. Keep it below the time after which it is killed.",
    )
    max_queued: int = _setting(
        0, "Most jobs that wait in the whole farm; beyond it every account is answered 503. 0 for no bound."
    )
    watchdog_s: float = _setting(
        60.0,
        "An idle worker that sees claimable work age past this exits, to be started again with fresh connections.",
    )
    worker_metrics_port: int = _setting(0, "Port on which a Celery worker serves Prometheus metrics; 0 for none.")
    worker_metrics_host: str = _setting("127.0.0.1", "Address on which a Celery worker serves Prometheus metrics.")
    ready_workers: int = _setting(
        0,
        "`/readyz` asks for this many live render workers; 0 where the front door should accept work without any.",
    )
    max_body_bytes: int = _setting(64 * 2**20, "Largest request body; a larger one is answered 413 before it is read.")
    max_input_bytes: int = _setting(32 * 2**20, "Largest input image, decoded from base64 or fetched.")
    max_input_pixels: int = _setting(
        40_000_000, "Most pixels of an input image, judged from its header before decoding."
    )
    api_threads: int = _setting(64, "Threads of one API process; a waiting client holds one.")
    wait_s: float = _setting(
        300.0, "How long the three dialects wait for a picture before they answer 504 with the job's id."
    )
    egress_allow: str = _setting(
        "",
        "Comma-separated networks (CIDR) that webhooks and input-image URLs may reach although they are not public, "
        "such as `10.1.0.0/16`. Plain http is allowed to these alone.",
    )
    webhook_timeout_s: float = _setting(15.0, "How long a webhook receiver may take to answer.")
    webhook_retry_s: str = _setting(
        "5,300,1800,7200,18000,36000,50400,72000,86400",
        "Waits before each retry of a webhook, comma-separated; the Standard Webhooks schedule, over about 75 hours.",
    )
    retention_s: float = _setting(
        30 * 86400.0, "How long finished jobs and their pictures are kept; 0 keeps them for ever."
    )
    file_retention_s: float = _setting(
        30 * 86400.0,
        "How long files and finished batches are kept, unless an upload says otherwise; 0 keeps them for ever.",
    )
    idempotency_s: float = _setting(86400.0, "How long an `Idempotency-Key` is remembered.")
    retry_window_s: float = _setting(
        10.0,
        "The OpenAI SDKs send a request again by themselves, without an `Idempotency-Key`. One that they mark as a "
        "retry gets the job of the same request accepted at most this long ago; 0 to make another each time.",
    )
    log_level: str = _setting("INFO", "Level of the log, which goes to standard error.")

    def __post_init__(self) -> None:
        if self.device_weights < 0 or self.host_weights < 0:
            raise ValueError("RENDERMILL_DEVICE_WEIGHTS and RENDERMILL_HOST_WEIGHTS must not be negative")
        if self.lease_s <= 0 or self.max_attempts < 1:
            raise ValueError("RENDERMILL_LEASE_S must be positive and RENDERMILL_MAX_ATTEMPTS at least 1")
        if self.watchdog_s < self.lease_s:
            raise ValueError("RENDERMILL_WATCHDOG_S must not be shorter than RENDERMILL_LEASE_S")

    @property
    def webhook_retries(self) -> tuple[float, ...]:
        return tuple(float(wait) for wait in split_list(self.webhook_retry_s))

    @property
    def catalog_path(self) -> Path:
        return Path(self.catalog) if self.catalog else Path(__file__).with_name("catalog.toml")


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated setting, without blanks and empty parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`.

    Raises ValueError, naming the variable, for a value that cannot be read and for an unknown variable that
    bears the prefix: a misspelt setting is never ignored.
    """
    known = {PREFIX + f.name.upper(): f for f in fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            raise ValueError(f"{variable} is not a setting of Rendermill; see docs/settings.md")
        setting = known[variable]
        try:
            values[setting.name] = _parse(text, type(setting.default))
        except ValueError as error:
            raise ValueError(f"{variable}={text!r}: {error}") from error
    return Settings(**values)


def _parse(text: str, kind: type) -> Any:
    if kind is bool:
        lowered = text.strip().lower()
        if lowered not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
            raise ValueError("expected 1 or 0")
        return lowered in {"1", "true", "yes", "on"}
    try:
        return kind(text)
    except ValueError:
        raise ValueError("expected a whole number" if kind is int else "expected a number") from None


@cache
def settings() -> Settings:
    """The settings of this process."""
    return read_settings(os.environ)
