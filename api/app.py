"""The front door: a Flask application.

gunicorn --config python:api.gunicorn 'api.app:create_app()'
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from flask import Flask
from redis import Redis

from api import metrics
from api.auth import require_keys
from api.dialects import hyperbolic, img_processing, openai, openai_errors
from api.errors import ErrorShapes, answer_errors
from api.http import CompactJSON, number_requests
from api.limits import tell_limits
from api.routes import files
from api.routes.account import account
from api.routes.batches import batches
from api.routes.docs import docs
from api.routes.health import health
from api.routes.images import images, public_images
from api.routes.jobs import jobs
from api.routes.models import models
from api.routes.webhooks import webhooks
from api.services import Services
from api.spec import make_api
from api.ticket_producer import ticket_producer
from shared.redis_client import connect
from shared.settings import Settings
from shared.settings import settings as read_settings
from shared.storage import Storage


def create_app(
    settings: Settings | None = None,
    redis: Redis | None = None,
    storage: Storage | None = None,
    send_ticket: Callable[[str, str], None] | None = None,
) -> Flask:
    """The application; what is not given is made from `settings`, and these from the environment."""
    settings = settings or read_settings()
    app = Flask("rendermill", static_folder=None)
    app.json = CompactJSON(app)
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Fields of forms may be base64 pictures; the limit on the whole body bounds them.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    with app.app_context():
        Services.build(
            settings,
            redis if redis is not None else connect(settings.redis_url),
            storage if storage is not None else Storage(settings),
            send_ticket or ticket_producer(settings.redis_url),
        ).install()
    number_requests(app)
    metrics.measure_requests(app)
    tell_limits(app)
    require_keys(app)
    shapes = ErrorShapes()
    shapes.add(img_processing.is_ours, img_processing.error_shape)
    shapes.add(hyperbolic.is_ours, hyperbolic.error_shape)
    shapes.add(openai.is_ours, openai_errors.error_shape)
    shapes.add(files.is_ours, openai_errors.error_shape)
    shapes.add(openai_errors.is_read_by_sdks, openai_errors.problem_with_error)
    answer_errors(app, shapes)
    api = make_api(app, version("rendermill"))
    dialects = (img_processing.img_processing, openai.openai, hyperbolic.hyperbolic)
    for blueprint in (jobs, images, public_images, models, files.files, batches, account, webhooks, *dialects, health):
        api.register_blueprint(blueprint)
    app.register_blueprint(docs)
    return app
