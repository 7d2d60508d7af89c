"""The command line as its users run it, against a real farm: batches, the account, webhooks, completion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from client import Client
from client.exit_codes import ExitCode
from shared import egress
from shared.accounts import Accounts
from shared.deliveries import Deliveries
from shared.outbox import Outbox
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.views import Views
from tests.background import working_on
from tests.integration.api.conftest import Farm, serving
from tests.servers import PATIENCE_S, wait_until
from worker.batching import batch_worker
from worker.lanes import Lanes
from worker.webhooks import WebhookSender

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def farm(valkey_url: str, s3: Settings) -> Iterator[Farm]:
    """A farm that works on batches and sends webhooks to this machine."""
    settings = replace(s3, redis_url=valkey_url, egress_allow="127.0.0.0/8")
    with serving(settings) as live, egress.transport(egress.allowed_networks(settings), 5) as transport:
        scheduler = Scheduler(live.redis, lease_s=60, max_attempts=1, retry_delay_s=1)
        batches = batch_worker(live.settings, live.redis, scheduler, live.storage)
        sender = WebhookSender(
            outbox=Outbox(live.redis),
            deliveries=Deliveries(live.redis),
            accounts=Accounts(live.redis),
            views=Views(live.redis, scheduler, live.url),
            transport=transport,
            lanes=Lanes(2),
            timeout_s=5,
            retries_s=(1,),
        )
        with working_on(batches.work_due, sender.send_due):
            yield live


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    with Client(farm.url, farm.key) as client:
        yield client


def environment(farm: Farm, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "RENDERMILL_URL": farm.url, "RENDERMILL_API_KEY": farm.key, **(more or {})}


def run(farm: Farm, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `rendermill` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "farm", *arguments],
        env=environment(farm, more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=ROOT,
    )


def body(prompt: str) -> dict[str, Any]:
    return {"model": "flux-schnell", "prompt": prompt, "width": 256, "height": 256, "num_steps": 1}


def test_a_batch_is_watched_listed_shown_and_downloaded(farm: Farm, client: Client, tmp_path: Path) -> None:
    batch = client.batch([body("a fox"), body("an owl"), {"model": "no such model", "prompt": "x"}])
    watched = run(farm, "watch", batch.id)
    assert watched.returncode == ExitCode.OK, watched.stderr
    assert watched.stdout == f"{batch.id}  completed  2 completed, 1 failed of 3\n"
    assert run(farm, "batches").stdout.startswith(f"{batch.id}\tcompleted\t100%\t2\t1\t3\t")
    assert "completed" in run(farm, "show", batch.id).stdout
    assert len(run(farm, "jobs", "--batch", batch.id, "--json").stdout.splitlines()) == 2
    parts = [argument for part in ("archive", "manifest", "output", "errors") for argument in ("--part", part)]
    saved = run(farm, "batches", "download", batch.id, "--out", str(tmp_path), *parts)
    assert saved.returncode == ExitCode.OK, saved.stderr
    assert saved.stderr == "", "no progress bar where nobody sees it"
    archive, manifest, output, errors = map(Path, saved.stdout.splitlines())
    with zipfile.ZipFile(archive) as bundle:
        assert bundle.testzip() is None
        assert len(bundle.namelist()) == 3, "two pictures and the manifest"
    assert len(manifest.read_text().splitlines()) == 4
    assert [json.loads(line)["custom_id"] for line in output.read_text().splitlines()] == ["line-00001", "line-00002"]
    assert json.loads(errors.read_text())["custom_id"] == "line-00003"
    files = [json.loads(line)["id"] for line in run(farm, "files", "--json").stdout.splitlines()]
    assert batch.input_file_id in files
    assert run(farm, "files", "delete", batch.input_file_id).returncode == ExitCode.OK
    assert run(farm, "show", batch.input_file_id).returncode == ExitCode.NOT_FOUND


def test_jobs_and_batches_are_cancelled_with_one_command(farm: Farm, client: Client) -> None:
    batch = client.batch([body("hold"), body("hold")])
    job = client.submit(body("hold"))
    result = run(farm, "cancel", job.id, batch.id, "--json")
    assert result.returncode == ExitCode.OK, result.stderr
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [job.id, batch.id]


def test_the_account_tells_what_was_used(farm: Farm, client: Client) -> None:
    client.wait(client.submit(body("a fox")), timeout_s=PATIENCE_S)
    found = json.loads(run(farm, "account", "--days", "1", "--json").stdout)
    assert found["id"] == "alice"
    assert sum(day["images"] for day in found["usage"]) >= 1
    assert "black-forest-labs/FLUX.1-schnell" in run(farm, "account").stdout


def test_models_are_shown_by_any_of_their_names(farm: Farm) -> None:
    assert "num_steps" in run(farm, "models", "show", "flux-schnell").stdout
    unknown = run(farm, "models", "show", "flux-slow")
    assert unknown.returncode == ExitCode.NOT_FOUND
    assert "flux-schnell" in unknown.stderr


# Webhooks


@contextmanager
def listening(farm: Farm, *options: str, end: signal.Signals = signal.SIGINT) -> Iterator[subprocess.Popen[str]]:
    """`rendermill webhooks listen`, which must end well at `end`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "farm", "webhooks", "listen", *options],
        env=environment(farm),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
        process.send_signal(end)
        assert process.wait(30) == ExitCode.OK
    finally:
        process.kill()
        process.communicate()


@contextmanager
def program(received: list[tuple[dict[str, str], bytes]]) -> Iterator[str]:
    """A user's own receiver, which keeps what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_listen_prints_what_is_verified_and_leaves_no_endpoint_behind(
    farm: Farm, client: Client, end: signal.Signals
) -> None:
    with listening(farm, "--json", end=end) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "signed with whsec_" in process.stderr.readline()
        (endpoint,) = client.request("GET", "/v1/webhooks").json()["data"]
        job = client.submit(body("a fox"))
        event = json.loads(process.stdout.readline())
        assert (event["type"], event["data"]["id"]) == ("job.succeeded", job.id)
        forged = httpx.post(endpoint["url"], json={"type": "job.failed"})
        assert forged.status_code == 401
        assert "its signature is wrong" in process.stderr.readline()
    assert client.request("GET", "/v1/webhooks").json()["data"] == []


def test_listen_takes_the_webhook_url_of_jobs_as_well_and_sends_it_on_unchanged(farm: Farm, client: Client) -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    with program(received) as url, listening(farm, "--event", "batch.completed", "--forward-to", url) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        words = process.stderr.readline().split()
        own = words[words.index("at") + 1].rstrip(",")
        job = client.submit({**body("a fox"), "webhook_url": own})
        line = process.stdout.readline()
        assert "job.succeeded" in line
        assert job.id in line
        assert "202 from" in process.stderr.readline()
    ((headers, content),) = received
    secret = client.request("GET", "/v1/webhooks/secret").json()["secret"]
    assert Webhook(secret).verify(content, headers)["data"]["id"] == job.id


def test_listen_with_a_secret_asks_no_farm(farm: Farm) -> None:
    secret = "whsec_" + "A" * 44
    with listening(farm, "--secret", secret, "--url", "http://127.0.0.1:9") as process:
        assert process.stderr is not None
        assert "send webhooks there" in process.stderr.readline()
    wrong = run(farm, "webhooks", "listen", "--secret", "whsec_")
    assert wrong.returncode == ExitCode.USAGE


def test_where_the_farm_does_not_send_listen_says_what_to_set(farm: Farm) -> None:
    refused = run(farm, "webhooks", "listen", "--public-url", "http://10.1.2.3/hook")
    assert refused.returncode == ExitCode.FAILED
    (line,) = refused.stderr.splitlines()
    assert "RENDERMILL_EGRESS_ALLOW" in line
    assert "--public-url" in line
    elsewhere = run(farm, "webhooks", "listen", "--url", "http://farm.invalid")
    assert "cannot reach http://127.0.0.1" in elsewhere.stderr


def test_a_port_that_is_taken_is_one_clear_line(farm: Farm) -> None:
    port = farm.url.rpartition(":")[2]
    taken = run(farm, "webhooks", "listen", "--port", port)
    assert taken.returncode == ExitCode.FAILED
    assert "Give another --port" in taken.stderr


def test_deliveries_are_listed_and_sent_again(farm: Farm, client: Client) -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    with program(received) as url:
        job = client.submit({**body("a fox"), "webhook_url": url})
        wait_until(lambda: received, "the webhook is there")
        id_ = received[0][0]["webhook-id"]
        wait_until(lambda: f"{id_}\tdelivered" in run(farm, "webhooks", "deliveries").stdout, "it is in the log")
        assert run(farm, "webhooks", "redeliver", id_).returncode == ExitCode.OK
        wait_until(lambda: len(received) == 2, "it is there again")
    assert received[1][0]["webhook-id"] == id_
    assert json.loads(received[1][1])["data"]["id"] == job.id


# Completion, by the protocol of each shell


def completed(farm: Farm, shell: str, line: str) -> list[str]:
    """What a shell is offered for the last word of a line."""
    words = line.split(" ")
    spoken = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    result = run(farm, **spoken, _RENDERMILL_COMPLETE=f"complete_{shell}")
    assert result.stderr == ""
    return [line for line in result.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_and_ids_are_completed(farm: Farm, client: Client, shell: str) -> None:
    job = client.wait(client.submit(body("a fox")), timeout_s=PATIENCE_S)
    assert any("sdxl-lightning" in line for line in completed(farm, shell, "rendermill models show sdxl"))
    assert any(job.id in line for line in completed(farm, shell, f"rendermill show {job.id[:10]}"))
    assert not any(job.id in line for line in completed(farm, shell, "rendermill cancel job_")), "it has ended"
    assert any("succeeded" in line for line in completed(farm, shell, "rendermill jobs --status queued,su"))
    assert any("batches" in line for line in completed(farm, shell, "rendermill ba"))


def test_without_a_farm_nothing_is_completed_and_nothing_said(farm: Farm) -> None:
    nowhere = replace(farm, url="http://127.0.0.1:9")
    assert completed(nowhere, "bash", "rendermill show job_") == []


def test_what_is_installed_completes_in_a_real_bash(farm: Farm, tmp_path: Path) -> None:
    found = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=environment(farm, found),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "rendermill" in bash("rendermill --install-completion; true")
    (script,) = (tmp_path / ".bash_completions").iterdir()
    # The `true` after it keeps bash from becoming the command, which asks its parent which shell it is.
    assert script.read_text() in bash("rendermill --show-completion; true") + "\n"
    tab = "COMP_WORDS=(rendermill batches ca); COMP_CWORD=2; _rendermill_completion rendermill; echo ${COMPREPLY[@]}"
    assert bash(f"source {script}; {tab}") == "cancel\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(farm: Farm, shell: str) -> None:
    result = run(farm, _RENDERMILL_COMPLETE=f"source_{shell}")
    assert result.returncode == 0, result.stderr
    assert f"complete_{shell}" in result.stdout
