"""Uploading a file."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

LINES = b'{"custom_id": "a"}\n' * 3


def upload(client: FlaskClient, data: bytes = LINES, name: str = "lines.jsonl", **fields: str) -> Any:
    texts = {"purpose": "batch", **fields}.items()
    parts = [f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{text}\r\n' for field, text in texts]
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + data + b"\r\n--x--\r\n"
    return client.post("/v1/files", data=body, content_type="multipart/form-data; boundary=x")
