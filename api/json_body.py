"""Reading a JSON body, strictly."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from shared.errors import RendermillError


def read_json(request: Request) -> Any:
    """The parsed body.

    Raises RendermillError `unsupported_media_type` and `bad_json`. Python's parser is laxer than the standard: the
    numbers NaN and Infinity are refused here.
    """
    if not request.is_json:
        raise RendermillError(
            "unsupported_media_type",
            f"Send JSON, with 'Content-Type: application/json'; this is {request.mimetype or 'of no type'}.",
        )
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) == request.max_content_length:
        # Werkzeug cuts a body that does not tell its length off at the limit, and says so only when one reads on.
        raise RequestEntityTooLarge
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError as error:
        raise RendermillError("bad_json", "The body is nested too deeply.") from error
    except ValueError as error:
        raise RendermillError("bad_json", f"The body is not JSON: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
