"""The embedded Valkey and S3: what was acknowledged is there after a kill -9."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from minio.error import MinioException
from redis import Redis
from redis.exceptions import AuthenticationError

from farm import parts
from shared.settings import Settings
from tests.servers import minio_client, running, s3_answers, valkey_answers, wait_until


def test_valkey_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    port = parts.free_port()
    program = parts.valkey(tmp_path / "data dir", port, "secret")
    url = parts.valkey_url(port, "secret")
    with running(program, tmp_path / "log") as process, Redis.from_url(url, decode_responses=True) as redis:
        wait_until(lambda: valkey_answers(url), "Valkey answers")
        for number in range(1000):
            redis.set(f"key:{number}", number)
        process.kill()
    with running(program, tmp_path / "log"), Redis.from_url(url, decode_responses=True) as redis:
        wait_until(lambda: valkey_answers(url), "Valkey answers again")
        assert redis.dbsize() == 1000
        assert redis.get("key:999") == "999"


def test_valkey_never_evicts_and_writes_every_change_to_disk(valkey_url: str) -> None:
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis.config_get("appendonly") == {"appendonly": "yes"}


def test_valkey_refuses_a_client_without_the_password(valkey_url: str) -> None:
    without = "redis://" + valkey_url.rpartition("@")[2]
    with Redis.from_url(without) as redis, pytest.raises(AuthenticationError):
        redis.ping()


def test_s3_keeps_its_objects_when_it_is_killed(tmp_path: Path) -> None:
    port = parts.free_port()
    program = parts.s3(tmp_path / "objects", port, "secret-key")
    settings = Settings(
        s3_endpoint=f"http://{parts.LOOPBACK}:{port}", s3_access_key=parts.S3_ACCESS_KEY, s3_secret_key="secret-key"
    )
    client = minio_client(settings)
    with running(program, tmp_path / "log") as process:
        wait_until(lambda: s3_answers(settings), "S3 answers")
        client.make_bucket("pictures")
        client.put_object("pictures", "a/b.png", io.BytesIO(b"bytes"), 5, content_type="image/png")
        process.kill()
    with running(program, tmp_path / "log"):
        wait_until(lambda: s3_answers(settings), "S3 answers again")
        assert client.get_object("pictures", "a/b.png").read() == b"bytes"


def test_s3_refuses_a_wrong_key(s3: Settings) -> None:
    with pytest.raises(MinioException, match="SignatureDoesNotMatch"):
        minio_client(replace(s3, s3_secret_key="wrong")).list_buckets()


def test_secrets_are_in_no_command_line(tmp_path: Path) -> None:
    programs = [parts.valkey(tmp_path, 1, "hush-hush"), parts.s3(tmp_path, 2, "hush-hush")]
    assert not any("hush-hush" in argument for program in programs for argument in program.bound_command)


def test_a_program_that_cannot_run_says_so(tmp_path: Path) -> None:
    program = parts.Program(name="nothing", command=(str(tmp_path / "missing"),))
    assert subprocess.run(program.bound_command, capture_output=True, check=False).returncode != 0
