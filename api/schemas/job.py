"""The body of a job, and how a job is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from marshmallow import Schema, ValidationError, fields, validates_schema

from api.field_errors import field_errors
from api.schemas.fields import MAX_PROMPT, Int, Metadata, Number, QueryInt, Text, choice
from api.schemas.image import ImageSchema
from api.services import services
from shared import egress
from shared.errors import FAILURES, RequestInvalid
from shared.jobs import WEBHOOK_EVENTS, JobStatus, Priority, Stage
from shared.requests import MAX_IMAGES, MAX_SEED, OUTPUT_FORMATS, resolve

#: Whatever a model allows, it is below this.
MAX_SIDE = 16_384
MAX_STEPS = 1_000
MAX_GUIDANCE = 1_000
#: A job that may wait longer needs no deadline.
_MAX_DEADLINE_S = 30 * 86400
MAX_MODEL_NAME = 200
_MAX_NAME = 100
#: What a receiver may ask to be told of.
EVENTS = (*WEBHOOK_EVENTS.values(), "batch.completed")
#: Base64 of the largest body that the server can be set up to read; what is really allowed is checked when decoding.
_MAX_IMAGE_TEXT = 2**30


def image_text(**options: Any) -> Text:
    """A picture as base64, a data URL, an https URL, or the id of an image."""
    return Text(max=_MAX_IMAGE_TEXT, **options)


class RenderFields(Schema):
    """What every way of asking for a picture has; the limits of the model asked for are checked by `resolve`."""

    model = Text(max=MAX_MODEL_NAME, required=True, metadata={"description": "An id or alias of `/v1/models`."})
    prompt = Text(max=MAX_PROMPT, required=True)
    negative_prompt = Text(min=0, max=MAX_PROMPT, allow_none=True)
    width = Int(min=1, max=MAX_SIDE, allow_none=True, metadata={"description": "Pixels; the model's limits apply."})
    height = Int(min=1, max=MAX_SIDE, allow_none=True, metadata={"description": "Pixels; the model's limits apply."})
    num_steps = Int(min=1, max=MAX_STEPS, allow_none=True)
    guidance_scale = Number(min=0, max=MAX_GUIDANCE, allow_none=True)
    seed = Int(
        min=0, max=MAX_SEED, allow_none=True, metadata={"description": "Image i uses seed + i; random if absent."}
    )
    n = Int(min=1, max=MAX_IMAGES, allow_none=True)
    input_image = image_text(
        allow_none=True, metadata={"description": "Base64, a data URL, an https URL, or the id of an image."}
    )
    mask_image = image_text(allow_none=True, metadata={"description": "As `input_image`; white pixels are repainted."})
    strength = Number(
        min=0.01, max=1, allow_none=True, metadata={"description": "Share of the input image that is redrawn."}
    )
    output_format = choice(*OUTPUT_FORMATS, allow_none=True)
    output_quality = Int(min=1, max=100, allow_none=True)

    @validates_schema(skip_on_field_errors=False)
    def check_last_seed(self, data: Mapping[str, Any], **_: Any) -> None:
        seed, n = data.get("seed"), data.get("n")
        if seed is not None and n is not None and seed + n - 1 > MAX_SEED:
            raise ValidationError(f"seed + n - 1 must not exceed {MAX_SEED}", "seed")

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> NoReturn:  # noqa: ARG002
        """Name what the model would refuse as well, so that a client learns of every wrong field at once."""
        errors = field_errors(error.messages)
        valid = error.valid_data if isinstance(error.valid_data, dict) else {}
        extra: dict[str, Any] = {}
        if "model" in valid:
            try:
                resolve(services().catalog, {"prompt": "", **valid})
            except RequestInvalid as refused:
                errors = {**refused.errors, **errors}
                extra = {name: value for name, value in refused.extra.items() if name != "errors"}
        raise RequestInvalid(errors, **extra) from error


class JobBody(RenderFields):
    """A job to be rendered."""

    name = Text(max=_MAX_NAME, allow_none=True, metadata={"description": "Becomes the name of the pictures."})
    priority = choice(*Priority, allow_none=True, metadata={"description": "`normal` if absent."})
    webhook_url = Text(max=2048, allow_none=True, metadata={"format": "uri"})
    webhook_events = fields.List(choice(*EVENTS), allow_none=True)
    metadata = Metadata(allow_none=True)
    deadline_s = Number(
        min=1, max=_MAX_DEADLINE_S, allow_none=True, metadata={"description": "Seconds after which it must not start."}
    )

    @validates_schema(skip_on_field_errors=False)
    def check_webhook_url(self, data: Mapping[str, Any], **_: Any) -> None:
        if (url := data.get("webhook_url")) is not None:
            check_webhook_url(url, "webhook_url")


def check_webhook_url(url: str, field: str) -> None:
    """Raise ValidationError for an address that no webhook can be sent to, without asking a name server."""
    try:
        egress.check_url(url, services().egress_allow)
    except egress.EgressBlocked as error:
        raise ValidationError(str(error), field) from error


class _Statuses(fields.List[Any]):
    """Statuses, repeated or separated by commas."""

    def __init__(self) -> None:
        super().__init__(fields.String(), metadata={"description": "Repeated, or separated by commas."})

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Any]:
        names = [name.strip() for text in value for name in str(text).split(",") if name.strip()]
        unknown = [name for name in names if name not in set(JobStatus)]
        if unknown:
            raise ValidationError(f"must be of {', '.join(JobStatus)}; not {', '.join(unknown)}")
        return [JobStatus(name) for name in names]


class _Cursor(Text):
    def _deserialize(self, value: Any, *args: Any, **options: Any) -> str:
        text = super()._deserialize(value, *args, **options)
        if not (text.isascii() and text.isdigit()):
            raise ValidationError("must be the cursor that the page before gave")
        return text


class JobsQuery(Schema):
    status = _Statuses()
    batch = Text(max=100)
    limit = QueryInt(min=1, max=100, load_default=20)
    after = _Cursor(max=19, metadata={"description": "The `after` of the page before."})


class ErrorSchema(Schema):
    code = fields.String(required=True, metadata={"enum": list(FAILURES)})
    message = fields.String(required=True)


class TimingsSchema(Schema):
    """Seconds; null for what has not happened."""

    queued_s = fields.Float(required=True, allow_none=True)
    load_s = fields.Float(required=True, allow_none=True)
    render_s = fields.Float(required=True, allow_none=True)
    store_s = fields.Float(required=True, allow_none=True)


class JobUrlsSchema(Schema):
    self = fields.String(required=True, metadata={"format": "uri"})
    cancel = fields.String(required=True, metadata={"format": "uri"})
    events = fields.String(required=True, metadata={"format": "uri"})


class JobSchema(Schema):
    """A job, the same by poll, wait, event and webhook."""

    id = fields.String(required=True, metadata={"pattern": "^job_[a-zA-Z0-9]{24}$"})
    object = fields.String(required=True, metadata={"enum": ["job"]})
    status = fields.String(required=True, metadata={"enum": list(JobStatus)})
    stage = fields.String(required=True, metadata={"enum": list(Stage)})
    progress = fields.Float(required=True, metadata={"minimum": 0, "maximum": 1})
    queue_position = fields.Integer(required=True, allow_none=True, metadata={"description": "Jobs before it."})
    eta_s = fields.Float(required=True, allow_none=True, metadata={"description": "Seconds until it is done."})
    model = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    priority = fields.String(required=True, metadata={"enum": list(Priority)})
    input = fields.Dict(required=True, metadata={"description": "The request as it was understood."})
    images = fields.List(fields.Nested(ImageSchema), required=True)
    error = fields.Nested(ErrorSchema, required=True, allow_none=True)
    warnings = fields.List(fields.String(), required=True)
    attempts = fields.Integer(required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    started_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    finished_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    timings = fields.Nested(TimingsSchema, required=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    urls = fields.Nested(JobUrlsSchema, required=True)


class NextLinkSchema(Schema):
    next = fields.String(required=True, allow_none=True, metadata={"format": "uri"})


class JobPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(JobSchema), required=True)
    has_more = fields.Boolean(required=True)
    after = fields.String(required=True, allow_none=True, metadata={"description": "The cursor of the next page."})
    links = fields.Nested(NextLinkSchema, required=True)
