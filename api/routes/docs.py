"""The specification, and its page, which needs no other server."""

from __future__ import annotations

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, redirect, render_template_string, send_from_directory, url_for
from werkzeug.wrappers import Response as BaseResponse

from api.auth import public
from api.http import json_response
from api.spec import current_specification

docs = Blueprint("docs", __name__)

#: Swagger UI, as its Python package brings it.
_ASSETS = Path(flask_swagger_ui.__file__).with_name("dist")
#: Swagger UI writes styles and data images into its page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rendermill API</title>
<link rel="stylesheet" href="{{ url_for('docs.asset', name='swagger-ui.css') }}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{{ url_for('docs.asset', name='swagger-ui-bundle.js') }}"></script>
<script src="{{ url_for('docs.start') }}"></script>
</body>
</html>
"""
_START = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true});\n"


@docs.get("/openapi.json")
@public
def specification() -> Response:
    return json_response(current_specification())


@docs.get("/")
@public
def start_page() -> BaseResponse:
    return redirect(url_for("docs.page"))


@docs.get("/docs")
@public
def page() -> Response:
    headers = {"Content-Security-Policy": _POLICY}
    return Response(render_template_string(_PAGE), content_type="text/html; charset=utf-8", headers=headers)


@docs.get("/docs/start.js")
@public
def start() -> Response:
    return Response(_START, content_type="text/javascript")


@docs.get("/docs/assets/<name>")
@public
def asset(name: str) -> Response:
    response = send_from_directory(_ASSETS, name)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response
