"""client.lines: what is a request, and what is said of a line that is none."""

from __future__ import annotations

import json

import pytest

from client.lines import LineError, json_lines


def test_a_plain_object_is_a_job_body() -> None:
    (line,) = json_lines(['{"model": "flux", "prompt": "a cat"}'])
    assert line.native
    assert line.body == {"model": "flux", "prompt": "a cat"}


def test_an_envelope_says_where_its_body_goes() -> None:
    envelope = {"custom_id": "one", "method": "POST", "url": "/v1/images/imagine", "body": {"name": "cat"}}
    (line,) = json_lines([json.dumps({**envelope, "headers": {"Prefer": "respond-async"}})])
    assert (line.custom_id, line.url, line.body) == ("one", "/v1/images/imagine", {"name": "cat"})
    assert line.headers == {"Prefer": "respond-async"}
    assert not line.native


def test_blank_lines_are_skipped_but_counted() -> None:
    lines = list(json_lines(["\n", '{"prompt": "a"}\n', "   \n", '{"prompt": "b"}\n']))
    assert [line.number for line in lines] == [2, 4]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{not json", "line 1 is not JSON"),
        ("[1, 2]", "line 1 is not a JSON object"),
        ('{"body": {"prompt": "a"}}', "'url' must be a path"),
        ('{"url": "example.com/v1/jobs", "body": {}}', "'url' must be a path"),
        ('{"url": "/v1/jobs", "body": "a cat"}', "must be objects"),
        ('{"url": "/v1/jobs"}', "must be objects"),
        ('{"url": "/v1/jobs", "body": {}, "method": "GET"}', "'method' must be POST"),
        ('{"url": "/v1/jobs", "body": {}, "prompt": "a", "seed": 1}', "does not take prompt, seed"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(row: str, words: str) -> None:
    with pytest.raises(LineError, match="line 1") as caught:
        list(json_lines([row]))
    assert words in str(caught.value)
