"""Forms that nobody should send: each is refused with a reason, and nothing of them is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.memory_storage import MemoryStorage

FORM = "multipart/form-data; boundary=x"
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n'
PURPOSE = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
END = b"--x--\r\n"


@pytest.fixture(autouse=True)
def _nothing_is_left(storage: MemoryStorage) -> Iterator[None]:
    yield
    assert not storage.objects


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "file: is missing"),
        (END, 400, "file: is missing"),
        (PURPOSE + END, 400, "file: is missing"),
        (FILE + END, 400, "purpose: is missing"),
        (FILE + PURPOSE, 400, "broken"),
        (FILE[:40], 400, "broken"),
        (FILE[:-2], 400, "broken"),
        (FILE + FILE + PURPOSE + END, 400, "one file"),
        (FILE.replace(b'"file"', b'"image"') + PURPOSE + END, 400, "one file"),
        (FILE.replace(b'name="file"; ', b"") + PURPOSE + END, 400, "no name"),
        (FILE + PURPOSE.replace(b'; name="purpose"', b"") + END, 400, "no name"),
        (FILE + PURPOSE.replace(b"purpose", b"propose") + END, 400, "did you mean purpose?"),
        (FILE + PURPOSE.replace(b"batch", b"\xff") + END, 400, "UTF-8"),
        (FILE + PURPOSE.replace(b"batch", b"x" * 10_001) + END, 400, "10000 bytes"),
        (FILE.replace(b'"a"', b'"' + b"x" * 256 + b'"') + PURPOSE + END, 400, "255 characters"),
        (FILE.replace(b'"a"', b'"\0"') + PURPOSE + END, 400, "255 characters"),
        (FILE.replace(b"Content-Disposition", b"X-Other") + PURPOSE + END, 400, "broken"),
        (PURPOSE * 21 + FILE + END, 400, "20 parts"),
        (FILE.replace(b"\r\n\r\n", b"\r\nX-A: " + b"a" * 2**21 + b"\r\n\r\n") + PURPOSE + END, 400, "short heads"),
    ],
)
def test_a_broken_form_is_refused_with_its_reason(client: FlaskClient, body: bytes, status: int, words: str) -> None:
    answer = client.post("/v1/files", data=body, content_type=FORM)
    assert answer.status_code == status, answer.text
    assert words in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x", "text/plain", ""],
)
def test_what_is_no_form_is_refused(client: FlaskClient, content_type: str) -> None:
    answer = client.post("/v1/files", data=FILE + PURPOSE + END, content_type=content_type)
    assert (answer.status_code, answer.json["error"]["code"]) == (415, "unsupported_media_type")


def test_a_file_of_no_told_length_is_refused_where_it_passes_the_limit(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.files.MAX_FILE_BYTES", 1000)
    monkeypatch.setattr("api.uploads._FORM_OVERHEAD", 1000)
    for size in (1001, 100_000):
        body = FILE.replace(b"{}", b"x" * size) + PURPOSE + END
        answer = client.post(
            "/v1/files",
            data=body,
            content_type=FORM,
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
        )
        assert (answer.status_code, answer.json["error"]["code"]) == (413, "body_too_large"), size


PIECES = st.sampled_from(
    [FILE, PURPOSE, END, b"--x", b"\r\n", b"\r\n\r\n", b'name="', b"; filename*=utf-8''%ff", b"\0"]
)


@given(pieces=st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=8))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_form_is_a_fault_of_the_server(client: FlaskClient, storage: MemoryStorage, pieces: list[bytes]) -> None:
    storage.objects.clear()
    answer = client.post("/v1/files", data=b"".join(pieces), content_type=FORM)
    assert answer.status_code in (200, 400), answer.text
    assert len(storage.objects) == (answer.status_code == 200)
    storage.objects.clear()
