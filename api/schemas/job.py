"""How a job is shown, and how jobs are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from api.schemas.fields import QueryInt
from api.schemas.image import ImageSchema
from intake.fields import Bool, Text, choice
from intake.job_body import JobBody
from intake.strict import Strict
from shared.errors import FAILURES
from shared.jobs import JobStatus, Priority, Stage


class NewJobBody(JobBody):
    """A job to be rendered, or only to be estimated."""

    dry_run = Bool(
        allow_none=True, metadata={"description": "Tell price, time and position, and accept and store nothing."}
    )


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


class JobsQuery(Strict):
    status = _Statuses()
    batch = Text(max=100)
    order = choice(
        "finished",
        metadata={
            "description": "With `batch`: the jobs that have ended, in that order. `after` is then never null: come "
            "back with it for those that end later."
        },
    )
    limit = QueryInt(min=1, max=100, load_default=20)
    after = _Cursor(max=19, metadata={"description": "The `after` of the page before."})

    @validates_schema
    def check_order(self, data: Mapping[str, Any], **_: Any) -> None:
        if "order" in data and ("batch" not in data or "status" in data):
            raise ValidationError("goes with a batch, and without a status", "order")


class ErrorSchema(Schema):
    code = fields.String(required=True, metadata={"enum": list(FAILURES)})
    message = fields.String(required=True)


class TimingsSchema(Schema):
    """Seconds; null for what has not happened."""

    queued_s = fields.Float(required=True, allow_none=True)
    load_s = fields.Float(required=True, allow_none=True)
    render_s = fields.Float(required=True, allow_none=True)
    store_s = fields.Float(required=True, allow_none=True)


class StepCacheSchema(Schema):
    """How denoising steps were spared."""

    technique = fields.String(required=True)
    interval = fields.Integer(metadata={"description": "Of `taylorseer`: of so many steps one was evaluated in full."})
    threshold = fields.Float(metadata={"description": "Of `first-block`: up to which relative change one was spared."})
    mixes_batch = fields.Boolean(
        required=True, metadata={"description": "Whether the pictures may depend on those that shared their batch."}
    )


class ProvenanceSchema(Schema):
    """What made the pictures besides the `input`: with both, they can be made again."""

    revisions = fields.Dict(
        keys=fields.String(),
        values=fields.String(allow_none=True),
        required=True,
        metadata={"description": "Commits of the weights, by source; null for a folder that does not tell."},
    )
    device = fields.String(required=True)
    dtype = fields.String(required=True)
    quantize = fields.String(metadata={"description": "In which numbers the denoiser multiplied; `off`: in its dtype."})
    step_cache = fields.Nested(StepCacheSchema, allow_none=True)
    compile = fields.String(metadata={"description": "What was compiled, and how; `off`: nothing."})
    versions = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class JobUrlsSchema(Schema):
    self = fields.String(required=True, metadata={"format": "uri"})
    cancel = fields.String(required=True, metadata={"format": "uri"})
    events = fields.String(required=True, metadata={"format": "uri"})
    images = fields.List(
        fields.String(metadata={"format": "uri"}),
        required=True,
        metadata={"description": "The pictures as files, in the order of `images`; they ask for the key."},
    )


class JobSchema(Schema):
    """A job, the same by poll, wait, event and webhook."""

    id = fields.String(required=True, metadata={"pattern": "^job_[a-zA-Z0-9]{24}$"})
    object = fields.String(required=True, metadata={"enum": ["job"]})
    status = fields.String(required=True, metadata={"enum": list(JobStatus)})
    stage = fields.String(required=True, metadata={"enum": list(Stage)})
    progress = fields.Float(required=True, metadata={"minimum": 0, "maximum": 1})
    queue_position = fields.Integer(required=True, allow_none=True, metadata={"description": "Jobs before it."})
    eta_s = fields.Float(
        required=True, allow_none=True, metadata={"description": "Seconds until it is done, if known."}
    )
    model = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    priority = fields.String(required=True, metadata={"enum": list(Priority)})
    price = fields.Float(
        required=True, metadata={"description": "Credits that are reserved for it, or charged; 0 once given back."}
    )
    input = fields.Dict(required=True, metadata={"description": "The request as it was understood."})
    images = fields.List(fields.Nested(ImageSchema), required=True)
    error = fields.Nested(ErrorSchema, required=True, allow_none=True)
    warnings = fields.List(fields.String(), required=True)
    attempts = fields.Integer(required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    started_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    finished_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    timings = fields.Nested(TimingsSchema, required=True)
    provenance = fields.Nested(
        ProvenanceSchema, required=True, allow_none=True, metadata={"description": "Of a job that succeeded."}
    )
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    deadline_s = fields.Float(required=True, allow_none=True)
    webhook_url = fields.String(metadata={"format": "uri", "description": "Where it was given."})
    webhook_events = fields.List(fields.String(), metadata={"description": "What `webhook_url` is told of."})
    batch_id = fields.String(metadata={"description": "Where it belongs to a batch."})
    custom_id = fields.String(allow_none=True, metadata={"description": "Of its line, where it belongs to a batch."})
    urls = fields.Nested(JobUrlsSchema, required=True)


class EstimateSchema(Schema):
    """What a job would cost, and when it would be done."""

    object = fields.String(required=True, metadata={"enum": ["estimate"]})
    price = fields.Float(required=True, metadata={"description": "Credits."})
    estimated_s = fields.Float(
        required=True, allow_none=True, metadata={"description": "Seconds until it would be done, if known."}
    )
    queue_position = fields.Integer(required=True, metadata={"description": "Jobs that would be served before it."})
    model = fields.String(required=True)
    input = fields.Dict(required=True, metadata={"description": "The request as it was understood."})
    warnings = fields.List(fields.String(), required=True)


class NextLinkSchema(Schema):
    next = fields.String(required=True, allow_none=True, metadata={"format": "uri"})


class JobPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(JobSchema), required=True)
    has_more = fields.Boolean(required=True)
    after = fields.String(required=True, allow_none=True, metadata={"description": "The cursor of the next page."})
    links = fields.Nested(NextLinkSchema, required=True)
