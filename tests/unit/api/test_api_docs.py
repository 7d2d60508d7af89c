"""docs/api.md says what the code does."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask
from standardwebhooks import Webhook

from shared.accounts import new_webhook_secret
from shared.errors import ERRORS, FAILURES

TEXT = Path(__file__).parents[3].joinpath("docs/api.md").read_text()


def rows(header: str) -> set[str]:
    """The rows of the table under this header."""
    table = TEXT.partition(f"\n{header}\n")[2].splitlines()[1:]
    return set(table[: next(at for at, line in enumerate(table) if not line.startswith("|"))])


def test_the_receiver_of_webhooks_takes_what_is_signed_and_refuses_the_rest() -> None:
    secret = new_webhook_secret()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "webhook.verify" in block]
    receiver: dict[str, Any] = {"__name__": "receiver"}
    exec(code.replace("whsec_…", secret), receiver)
    body = json.dumps({"type": "job.succeeded", "data": {"id": "job_1", "urls": {"images": []}}})
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    client = receiver["app"].test_client()
    assert client.post("/hook", data=body, headers=headers).status_code == 204
    assert client.post("/hook", data=body + " ", headers=headers).status_code == 401


def test_every_error_code_is_told() -> None:
    told = {f"| `{code}` | {kind.status} | {kind.title} |" for code, kind in ERRORS.items()}
    assert rows("| code | status | title |") == told


def test_every_reason_of_a_failed_job_is_told() -> None:
    told = {f"| `{code}` | {'yes' if kind.retriable else 'no'} | {kind.meaning} |" for code, kind in FAILURES.items()}
    assert rows("| code | tried again | meaning |") == told


def test_every_route_of_the_native_api_is_told(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/v1/"):
            continue
        resource, *steps = [step for step in rule.rule.removeprefix("/v1/").split("/") if not step.startswith("<")]
        assert resource in TEXT, rule.rule
        assert all(step in TEXT for step in steps), rule.rule
