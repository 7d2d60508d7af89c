"""The body of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length

from intake.field_errors import field_errors
from intake.fields import MAX_PROMPT, Int, Metadata, Number, Text, choice
from intake.means import Judging
from intake.strict import Strict
from shared import egress
from shared.errors import RequestInvalid
from shared.jobs import WEBHOOK_EVENTS, Priority
from shared.loras import MAX_LORA_SCALE, MAX_LORAS
from shared.noise import NoiseSchedulerName
from shared.requests import MAX_IMAGES, MAX_SEED, OUTPUT_FORMATS, resolve

#: Whatever a model allows, it is below this.
MAX_SIDE = 16_384
MAX_STEPS = 1_000
MAX_GUIDANCE = 1_000
#: A job that may wait longer needs no deadline.
_MAX_DEADLINE_S = 30 * 86400
MAX_MODEL_NAME = 200
_MAX_NAME = 100
#: As in the OpenAI API.
BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
#: What a receiver may ask to be told of.
EVENTS = (*WEBHOOK_EVENTS.values(), *BATCH_EVENTS)
#: Base64 of the largest body that the server can be set up to read; what is really allowed is checked when decoding.
_MAX_IMAGE_TEXT = 2**30


def image_text(**options: Any) -> Text:
    """A picture as base64, a data URL, an https URL, or the id of an image."""
    return Text(max=_MAX_IMAGE_TEXT, **options)


class LoraField(Strict):
    """An adapter, and how strongly it is laid over the model."""

    id = Text(max=MAX_MODEL_NAME, required=True, metadata={"description": "One of those of `/v1/models/{id}`."})
    scale = Number(min=-MAX_LORA_SCALE, max=MAX_LORA_SCALE, allow_none=True, metadata={"description": "1 if absent."})


class RenderFields(Strict):
    """What every way of asking for a picture has; the limits of the model asked for are checked by `resolve`."""

    model = Text(max=MAX_MODEL_NAME, required=True, metadata={"description": "An id or alias of `/v1/models`."})
    prompt = Text(max=MAX_PROMPT, required=True)
    negative_prompt = Text(min=0, max=MAX_PROMPT, allow_none=True)
    width = Int(min=1, max=MAX_SIDE, allow_none=True, metadata={"description": "Pixels; the model's limits apply."})
    height = Int(min=1, max=MAX_SIDE, allow_none=True, metadata={"description": "Pixels; the model's limits apply."})
    num_steps = Int(min=1, max=MAX_STEPS, allow_none=True)
    guidance_scale = Number(min=0, max=MAX_GUIDANCE, allow_none=True)
    scheduler = choice(
        *NoiseSchedulerName,
        allow_none=True,
        metadata={"description": "How noise is taken away; the model tells which it allows, and its own."},
    )
    loras = fields.List(
        fields.Nested(LoraField),
        allow_none=True,
        validate=Length(max=MAX_LORAS, error=f"must be at most {MAX_LORAS} adapters"),
        metadata={"description": "LoRA adapters; the model tells which there are for it.", "maxItems": MAX_LORAS},
    )
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

    def handle_error(self, error: ValidationError, data: Any, **options: Any) -> NoReturn:
        """Name what the model would refuse as well, so that a client learns of every wrong field at once."""
        super().handle_error(error, data, **options)
        errors = field_errors(error.messages)
        valid = dict(error.valid_data) if isinstance(error.valid_data, dict) else {}
        if "input_image" in errors:
            # It is wrong, not missing: nothing else is to be blamed for that.
            valid["input_image"] = ""
        if any(name.startswith("loras") for name in errors):
            # What is left of a list with a wrong entry is not what was asked for.
            valid.pop("loras", None)
        extra: dict[str, Any] = {}
        if "model" in valid:
            try:
                resolve(Judging.get().catalog, {"prompt": "", **valid})
            except RequestInvalid as refused:
                errors = {**refused.errors, **errors}
                extra = {name: value for name, value in refused.extra.items() if name != "errors"}
        raise RequestInvalid(errors, **extra) from error


class JobBody(RenderFields):
    """A job to be rendered."""

    EXAMPLE = {  # noqa: RUF012 - read only
        "model": "sdxl-lightning",
        "prompt": "a lighthouse at dusk",
        "width": 512,
        "height": 512,
        "seed": 7,
    }

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

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def check_webhook_events(self, data: Mapping[str, Any], original: Any, **_: Any) -> None:
        # A webhook_url that is wrong is not among the data, but is not missing.
        if data.get("webhook_events") is not None and original.get("webhook_url") is None:
            raise ValidationError(
                "says what webhook_url is told of; send that as well, or leave it out", "webhook_events"
            )


def check_webhook_url(url: str, field: str) -> None:
    """Raise ValidationError for an address that no webhook can be sent to, without asking a name server."""
    try:
        egress.check_url(url, Judging.get().egress_allow)
    except egress.EgressBlocked as error:
        raise ValidationError(str(error), field) from error
