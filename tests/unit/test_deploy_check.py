"""deploy.check: the deployment files are in order, and each kind of mistake in them is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import check
from farm import parts

REPOSITORY = Path(check.__file__).parents[1]
COPIED = (check.COMPOSE, check.ENV_EXAMPLE, "deploy", "k8s")

needs_kustomize = pytest.mark.skipif(check.kustomize_command() is None, reason="neither kustomize nor kubectl is here")

Break = Callable[[str, str, str], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the deployment files that a test may spoil."""
    for name in COPIED:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for source in REPOSITORY.glob(check.METRICS):
        (tmp_path / source.parent.name).mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / source.parent.name)
    return tmp_path


@pytest.fixture
def spoil(root: Path) -> Break:
    """Replaces the first occurrence of a text in a file of the copy."""

    def replace(name: str, old: str, new: str) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return replace


def the_problem(root: Path) -> str:
    problems = list(check.find_problems(root))
    assert len(problems) == 1, problems
    return problems[0]


def test_the_files_of_the_repository_are_in_order() -> None:
    assert list(check.find_problems(REPOSITORY)) == []


def test_a_misspelt_key_in_the_compose_file_is_found(root: Path, spoil: Break) -> None:
    spoil(check.COMPOSE, "    restart: unless-stopped\n    command", "    restrat: unless-stopped\n    command")
    assert "restrat" in the_problem(root)


def test_a_compose_file_that_is_not_yaml_is_named(root: Path) -> None:
    (root / check.COMPOSE).write_text("services: [")
    assert the_problem(root).startswith(f"{check.COMPOSE}: ")


def test_a_missing_file_is_named(root: Path) -> None:
    (root / check.ENV_EXAMPLE).unlink()
    assert the_problem(root) == f"{check.ENV_EXAMPLE}: missing"


def test_a_secret_with_a_value_in_the_example_is_found(root: Path, spoil: Break) -> None:
    spoil(check.ENV_EXAMPLE, "REDIS_PASSWORD=", "REDIS_PASSWORD=redis")
    assert "REDIS_PASSWORD must be left empty" in the_problem(root)


def test_a_variable_that_compose_does_not_ask_for_is_found(root: Path, spoil: Break) -> None:
    spoil(check.ENV_EXAMPLE, "IMAGE_TAG=", "IMAGE_TAGS=")
    missing, unused = check.check_compose_variables(root)
    assert "IMAGE_TAG is missing" in missing
    assert "IMAGE_TAGS is of no use" in unused


def test_a_variable_of_compose_without_default_or_reason_is_found(root: Path, spoil: Break) -> None:
    spoil(check.COMPOSE, "${RENDER_GPU:-0}", "${RENDER_GPU}")
    assert "${RENDER_GPU} needs a default" in the_problem(root)


def test_an_unknown_setting_is_found(root: Path, spoil: Break) -> None:
    spoil("k8s/base/settings.env", "RENDERMILL_S3_ENDPOINT", "RENDERMILL_S3_URL")
    assert "RENDERMILL_S3_URL is not a setting" in the_problem(root)


@pytest.mark.parametrize(
    ("old", "new"),
    [("replicas: 1", "replicas: one"), ("  replicas: 1", "  replica: 1"), ("kind: Deployment", "kind: Deploiment")],
)
def test_a_manifest_that_breaks_its_schema_is_found(
    root: Path, spoil: Break, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setattr(check, "kustomize_command", lambda: None)  # kustomize itself refuses some of these
    spoil("k8s/base/render.yaml", old, new)
    (problem,) = check.check_manifests(check.render_manifests(root))
    assert problem.startswith("k8s/base: Deplo")
    assert "rendermill-render" in problem


@needs_kustomize
def test_a_patch_that_fits_nothing_is_found(root: Path, spoil: Break) -> None:
    spoil("k8s/overlays/dev/small.yaml", "rendermill-redis", "rendermill-valkey")
    problem = the_problem(root)
    assert problem.startswith("k8s/overlays/dev: ")
    assert "rendermill-valkey" in problem


@needs_kustomize
def test_the_overlay_for_trying_out_asks_for_no_gpu(root: Path) -> None:
    def gpus(documents: list[dict[str, Any]]) -> int:
        limits = [container["resources"]["limits"] for container, _ in check.containers(documents)]
        return sum(limit.get("nvidia.com/gpu", 0) for limit in limits)

    base, dev = check.render_manifests(root).values()
    assert (gpus(base), gpus(dev)) == (1, 0)


def test_without_kustomize_the_base_is_checked_file_by_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "kustomize_command", lambda: None)
    manifests = check.render_manifests(root)
    assert list(manifests) == [check.BASE]
    assert {"api", "render", "upkeep", "redis", "minio"} <= {
        c["name"] for c, _ in check.containers(manifests[check.BASE])
    }
    assert list(check.find_problems(root)) == []


def test_a_process_with_another_command_in_compose_is_found(root: Path, spoil: Break) -> None:
    spoil(check.COMPOSE, "[python, -m, worker, upkeep]", "[python, -m, worker, sweep]")
    problems = list(check.check_processes(root, check.render_manifests(root)))
    assert problems
    assert all("upkeep runs" in problem for problem in problems)


def test_the_embedded_farm_runs_the_same_commands(tmp_path: Path) -> None:
    front_door = parts.api("0.0.0.0", 8080, tmp_path).command
    in_image = check.dockerfile_command(REPOSITORY, "deploy/api.Dockerfile")
    assert list(front_door[front_door.index("gunicorn") :]) == in_image
    worker = parts.worker("render", 1).command
    in_image = check.dockerfile_command(REPOSITORY, "deploy/worker.Dockerfile")
    assert list(worker[worker.index("-m") :]) == in_image[1:]


def test_a_pod_that_would_get_the_variables_of_services_is_found(root: Path, spoil: Break) -> None:
    spoil("k8s/base/api.yaml", "enableServiceLinks: false", "enableServiceLinks: true")
    problems = list(check.check_processes(root, check.render_manifests(root)))
    assert problems
    assert all("the pod of api needs `enableServiceLinks: false`" in problem for problem in problems)


def test_two_versions_of_one_server_are_found(root: Path, spoil: Break) -> None:
    spoil(check.COMPOSE, "valkey/valkey:9.1-alpine", "valkey/valkey:8.1-alpine")
    problems = list(check.check_images(root, check.render_manifests(root)))
    assert problems
    assert all("valkey/valkey:9.1-alpine" in problem for problem in problems)


def test_an_alert_on_a_metric_that_nobody_reports_is_found(root: Path, spoil: Break) -> None:
    spoil("api/farm_metrics.py", "rendermill_leases_expired", "rendermill_leases_ended")
    assert the_problem(root).endswith("RendermillLeasesExpire: no */*metrics.py names rendermill_leases_expired_total")


def test_an_alert_that_does_not_say_what_to_do_is_found(root: Path, spoil: Break) -> None:
    spoil(check.RULES, "          action:", "          hint:")
    assert the_problem(root) == f"{check.RULES}: RendermillNoRenderWorkers: no action"


def test_the_command_exits_with_1_and_prints_each_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "find_problems", lambda _root: iter(["a: wrong", "b: wrong"]))
    assert check.main() == 1
    captured = capsys.readouterr()
    assert captured.err == "a: wrong\nb: wrong\n"
    assert captured.out.endswith("Deployment files: 2 problems.\n")
