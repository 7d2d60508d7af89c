"""The body of a line as a job: the same schemas and the same `resolve` as over HTTP, only faster.

Lines of a batch are mostly alike but for their prompt and seed. A body is judged in full once for each combination of
its other fields; from then on a line that has the same combination is the same but for its free fields, and only these
are judged, by the very fields of the schema. Whatever is not plainly right is judged in full.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from marshmallow import Schema, ValidationError

from intake import openai
from intake.batch_lines import LineRefused
from intake.field_errors import field_errors
from intake.input_images import InputImages, MaskMeaning
from intake.job_body import JobBody
from intake.means import Means
from intake.new_jobs import new_job
from intake.openai_bodies import EditBody, GenerationBody, in_snake_case
from shared.errors import RequestInvalid
from shared.jobs import NewJob, Priority
from shared.openai_answers import wants_links
from shared.requests import MAX_IMAGES, MAX_SEED, RANDOM_SEED_BITS, RenderRequest, resolve

#: Combinations remembered; one is a few kilobytes.
_TEMPLATES = 1024
#: A longer combination holds pictures or notes, and will not come again.
_MAX_KEY = 2000
#: However many images there are, the last one's seed is in range.
_SAFE_SEED = MAX_SEED - MAX_IMAGES


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a line's body is to one of the routes. `job_of` may raise ValidationError, RequestInvalid, LineRefused."""

    schema: type[Schema]
    #: Fields that decide nothing about each other or the rest, but by being absent, null or empty.
    free: tuple[str, ...]
    #: Fields that name pictures.
    pictures: frozenset[str]
    job_of: Callable[[dict[str, Any]], dict[str, Any]]
    names: Mapping[str, str]
    mask_meaning: MaskMeaning


def _native(body: dict[str, Any]) -> dict[str, Any]:
    return dict(JobBody().load(body))


def _generation(body: dict[str, Any]) -> dict[str, Any]:
    return _openai_job(dict(GenerationBody().load(body)))


def _edit(body: dict[str, Any]) -> dict[str, Any]:
    return _openai_job(openai.edit_of_json(body))


def _openai_job(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("stream"):
        raise LineRefused("invalid_value", "stream: a batch has nobody to stream to; leave it out.", "stream")
    return openai.job_of(body)


_OPENAI_FREE = ("prompt", "negative_prompt", "seed", "user")
NATIVE = "/v1/jobs"
ENDPOINTS = {
    "/v1/images/generations": Endpoint(
        schema=GenerationBody,
        free=_OPENAI_FREE,
        pictures=frozenset({"image"}),
        job_of=_generation,
        names=openai.NAMES,
        mask_meaning=MaskMeaning.TRANSPARENT,
    ),
    "/v1/images/edits": Endpoint(
        schema=EditBody,
        free=_OPENAI_FREE,
        pictures=frozenset({"images", "mask"}),
        job_of=_edit,
        names=openai.NAMES,
        mask_meaning=MaskMeaning.TRANSPARENT,
    ),
    NATIVE: Endpoint(
        schema=JobBody,
        free=("prompt", "negative_prompt", "seed", "name", "metadata"),
        pictures=frozenset({"input_image", "mask_image"}),
        job_of=_native,
        names={},
        mask_meaning=MaskMeaning.WHITE,
    ),
}


@dataclass(frozen=True, slots=True)
class _Template:
    """The parts of a job that follow from everything but the free fields."""

    request: dict[str, Any]
    job: dict[str, Any]


class BatchRequests:
    """Turns bodies into jobs of one account for one endpoint. Call it within `Judging`."""

    def __init__(self, means: Means, *, account: str, endpoint: str, priority: Priority, can_link: bool) -> None:
        self._means = means
        self._account = account
        self._endpoint = ENDPOINTS[endpoint]
        self._links_missing = endpoint != NATIVE and not can_link
        self._priority = priority
        schema = self._endpoint.schema()
        self._fields = {name: schema.fields[name] for name in self._endpoint.free}
        self._templates: OrderedDict[str, _Template] = OrderedDict()

    def brings_pictures(self, body: Mapping[str, Any]) -> bool:
        """Whether the body names pictures, which may have to be fetched."""
        pictures = self._endpoint.pictures
        return not pictures.isdisjoint(body) and any(body.get(name) is not None for name in pictures)

    def job(self, body: dict[str, Any], job_id: str, left_s: float, custom_id: str | None = None) -> NewJob:
        """The job of a body, to be begun within `left_s` seconds; its images are stored. Raises LineRefused.

        Besides, whatever S3 raises.
        """
        key = self._combination(body)
        template = self._templates.get(key)
        if template is not None:
            self._templates.move_to_end(key)
            job = self._from_template(template, body, job_id, left_s, custom_id)
            if job is not None:
                return job
        job = self.judged_in_full(body, job_id, left_s, custom_id)
        if job.request.input_image is None and len(key) <= _MAX_KEY:
            self._templates[key] = _template_of(job)
            if len(self._templates) > _TEMPLATES:
                self._templates.popitem(last=False)
        return job

    def _combination(self, body: Mapping[str, Any]) -> str:
        """The body with `...`, which JSON does not know, for what free fields hold; 1, 1.0 and true stay apart."""
        free = self._fields
        return repr({name: ... if name in free and value not in (None, "") else value for name, value in body.items()})

    def _from_template(
        self, template: _Template, body: dict[str, Any], job_id: str, left_s: float, custom_id: str | None
    ) -> NewJob | None:
        """The job, or None where a free field is not plainly right."""
        given: dict[str, Any] = {}
        try:
            for name, field in self._fields.items():
                if name in body:
                    given[name] = field.deserialize(body[name])
        except ValidationError:
            return None
        seed = given.get("seed")
        if seed is not None and seed > _SAFE_SEED:
            return None
        request = template.request.copy()
        request["prompt"] = given["prompt"]
        request["negative_prompt"] = given.get("negative_prompt") or None
        request["seed"] = secrets.randbits(RANDOM_SEED_BITS) if seed is None else seed
        job = template.job.copy()
        job["id"], job["custom_id"], job["request"] = job_id, custom_id, RenderRequest(**request)
        if "name" in self._fields:
            job["name"], job["metadata"] = given.get("name"), given.get("metadata") or {}
        job["deadline_s"] = left_s if job["deadline_s"] is None else min(job["deadline_s"], left_s)
        return NewJob(**job)

    def judged_in_full(self, body: dict[str, Any], job_id: str, left_s: float, custom_id: str | None = None) -> NewJob:
        """As `job`, without remembering or being reminded; on any thread within `Judging`."""
        try:
            asked = self._endpoint.job_of(body)
            render, warnings = resolve(self._means.catalog, asked)
            images = InputImages.read(self._means, self._account, asked, self._endpoint.mask_meaning)
        except ValidationError as error:
            raise self._refused("invalid_value", field_errors(error.messages)) from error
        except RequestInvalid as error:
            raise self._refused(error.code, error.errors) from error
        if self._links_missing and wants_links(in_snake_case(body)):
            raise LineRefused(
                "invalid_value",
                "response_format: links need RENDERMILL_SECRET_KEY to be set on this farm; ask for b64_json.",
                "response_format",
            )
        images.store(self._means, job_id)
        placed = images.placed(render, job_id)
        warnings = [*warnings, *images.warnings]
        job = new_job(self._means.catalog, job_id, self._account, asked, placed, warnings, self._priority)
        deadline_s = left_s if job.deadline_s is None else min(job.deadline_s, left_s)
        return replace(job, deadline_s=deadline_s, custom_id=custom_id)

    def _refused(self, code: str, errors: Mapping[str, list[str]]) -> LineRefused:
        named = {self._endpoint.names.get(name, name): words for name, words in errors.items()}
        words = "; ".join(f"{name}: {', '.join(words)}" for name, words in named.items())
        return LineRefused("invalid_value" if code == "invalid" else code, words, next(iter(named)))


def _template_of(job: NewJob) -> _Template:
    request = {field.name: getattr(job.request, field.name) for field in fields(RenderRequest)}
    parts = {field.name: getattr(job, field.name) for field in fields(NewJob)}
    return _Template(request, parts)
