"""Where the farm is, and with which key, for who does not say."""

from __future__ import annotations

import json
import os
from pathlib import Path

from client.errors import ClientError, MissingKey

DEFAULT_URL = "http://127.0.0.1:8080"
#: Where `rendermill up`, started in this folder, keeps its state.
DEFAULT_DATA_DIR = Path(".rendermill")
URL_VARIABLE, KEY_VARIABLE = "RENDERMILL_URL", "RENDERMILL_API_KEY"


def url_of(data_dir: Path = DEFAULT_DATA_DIR) -> str:
    """The address in the environment, or of the farm of that data directory. Raises ClientError."""
    if url := os.environ.get(URL_VARIABLE):
        return url
    file = data_dir / "farm.json"
    try:
        found: str = json.loads(file.read_text(encoding="utf-8"))["url"] if file.exists() else DEFAULT_URL
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ClientError(f"{file} cannot be read: {error}. Give the farm's address.") from error
    return found


def key_of(data_dir: Path = DEFAULT_DATA_DIR) -> str:
    """The key in the environment, or that of the farm of that data directory. Raises ClientError."""
    if key := os.environ.get(KEY_VARIABLE):
        return key
    file = data_dir / "api-key"
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise MissingKey(
            f"An API key is needed, and there is none at {file}. For a farm on this machine give the --data-dir that "
            f"'rendermill up' was started with; for another farm give --url and --api-key, or set {URL_VARIABLE} and "
            f"{KEY_VARIABLE}."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{file} cannot be read: {error}. Give the API key.") from error
