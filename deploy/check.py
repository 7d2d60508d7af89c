"""Checks the deployment files against their schemas, against each other and against the code; `make lint` runs it.

Nothing is started or fetched. A check yields one line for each problem it finds, beginning with the file at fault.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from shared.settings import PREFIX, Settings

COMPOSE = "docker-compose.yml"
ENV_EXAMPLE = ".env.example"
RULES = "deploy/prometheus/rendermill.rules.yml"
# Where the metrics are named.
METRICS = "*/*metrics.py"
BASE = "k8s/base"
KUSTOMIZATIONS = (BASE, "k8s/overlays/dev")

# The oldest release that k8s/base/kustomization.yaml promises to run on.
KUBERNETES_VERSION = "1.30"

# Our own images, and what each is built from. The same processes run from them in every deployment.
DOCKERFILES = {"rendermill-api": "deploy/api.Dockerfile", "rendermill-worker": "deploy/worker.Dockerfile"}
PROCESSES = ("api", "render", "upkeep")

# Files that name settings.
NAMING_SETTINGS = (COMPOSE, ENV_EXAMPLE, "deploy/*.Dockerfile", "deploy/*/*.yml", "k8s/**/*.*", "docs/deploy.md")

# Read by docker compose itself, so no file asks for it.
READ_BY_COMPOSE = {"COMPOSE_PROFILES"}

# What the Prometheus client adds to the name that the code gives to a counter or a histogram.
SUFFIX = "_(total|bucket|count|sum)$"

Manifests = dict[str, list[dict[str, Any]]]


class UnreadableFile(Exception):
    """A deployment file is missing or cannot be parsed; the message names it."""


def find_problems(root: Path) -> Iterator[str]:
    """Every problem of the deployment files under `root`, one line each."""
    try:
        manifests = render_manifests(root)
        yield from check_compose_schema(root)
        yield from check_compose_variables(root)
        yield from check_manifests(manifests)
        yield from check_processes(root, manifests)
        yield from check_images(root, manifests)
        yield from check_settings(root)
        yield from check_rules(root)
    except UnreadableFile as error:
        yield str(error)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text()
    except FileNotFoundError:
        raise UnreadableFile(f"{name}: missing") from None


def parse_yaml(text: str, name: str) -> list[Any]:
    """The documents of a YAML file."""
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise UnreadableFile(f"{name}: {' '.join(str(error).split())}") from None


def kustomize_command() -> list[str] | None:
    """The command that renders a kustomization, or None where no tool for it is installed."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return None


def render_manifests(root: Path) -> Manifests:
    """The manifests of each kustomization, or, where kustomize is not installed, the base's files as they stand.

    An overlay's patches are no manifests, so without kustomize nothing of the overlays can be checked.
    """
    command = kustomize_command()
    if command is None:
        return plain_base(root)
    manifests: Manifests = {}
    for name in KUSTOMIZATIONS:
        outcome = subprocess.run([*command, str(root / name)], capture_output=True, text=True, check=False)
        if outcome.returncode:
            raise UnreadableFile(f"{name}: {' '.join(outcome.stderr.split())}")
        manifests[name] = parse_yaml(outcome.stdout, name)
    return manifests


def plain_base(root: Path) -> Manifests:
    kustomization = parse_yaml(read(root, f"{BASE}/kustomization.yaml"), f"{BASE}/kustomization.yaml")[0]
    names = [f"{BASE}/{resource}" for resource in kustomization["resources"] if resource.endswith(".yaml")]
    return {BASE: [document for name in names for document in parse_yaml(read(root, name), name)]}


# ── Compose ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check_compose_schema(root: Path) -> Iterator[str]:
    """docker-compose.yml follows the schema of the Compose specification, of which check-jsonschema carries a copy."""
    parse_yaml(read(root, COMPOSE), COMPOSE)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "-o", "json"]
    outcome = subprocess.run([*command, str(root / COMPOSE)], capture_output=True, text=True, check=False)
    for error in json.loads(outcome.stdout)["errors"]:
        cause = error.get("best_match", error)
        yield f"{COMPOSE}: {cause['path']}: {cause['message']}"


def check_compose_variables(root: Path) -> Iterator[str]:
    """.env.example and docker-compose.yml name the same variables, and no secret has a default."""
    example = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", read(root, ENV_EXAMPLE), re.MULTILINE))
    asked = dict(re.findall(r"\$\{([A-Z0-9_]+)(:[-?])?", read(root, COMPOSE)))
    for variable, form in asked.items():
        if variable not in example:
            yield f"{ENV_EXAMPLE}: {variable} is missing, though {COMPOSE} asks for it"
        elif form == ":?" and example[variable]:
            yield f"{ENV_EXAMPLE}: {variable} must be left empty, so that nobody runs with a secret that all can read"
        elif not form:
            yield f"{COMPOSE}: ${{{variable}}} needs a default (:-) or a reason to stop (:?)"
    for variable in example.keys() - asked.keys() - READ_BY_COMPOSE:
        yield f"{ENV_EXAMPLE}: {variable} is of no use; {COMPOSE} does not ask for it"


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────


def check_manifests(manifests: Manifests) -> Iterator[str]:
    """Every manifest follows the schema of its kind, with no field that the kind does not have."""
    for where, documents in manifests.items():
        for document in documents:
            name = f"{where}: {document.get('kind')} {document.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{name}: {error.message}"


def containers(documents: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of the workloads, with the specification of its pod."""
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            yield container, pod


# ── The same farm everywhere ─────────────────────────────────────────────────────────────────────────────────────


def check_processes(root: Path, manifests: Manifests) -> Iterator[str]:
    """Compose and Kubernetes run the same processes by the same commands."""
    defaults = {image: dockerfile_command(root, name) for image, name in DOCKERFILES.items()}
    services = parse_yaml(read(root, COMPOSE), COMPOSE)[0]["services"]
    for where, documents in manifests.items():
        found = {container["name"]: (container, pod) for container, pod in containers(documents)}
        for process in PROCESSES:
            if process not in services:
                yield f"{COMPOSE}: no service {process!r}"
                continue
            if process not in found:
                yield f"{where}: no container {process!r}"
                continue
            service, (container, pod) = services[process], found[process]
            ours = service.get("command") or defaults[image_name(service["image"])]
            theirs = container.get("args") or defaults[image_name(container["image"])]
            if ours != theirs:
                yield f"{where}: {process} runs {theirs}, but in {COMPOSE} it runs {ours}"
            if pod.get("enableServiceLinks") is not False:
                # Kubernetes would add variables with our prefix, named after Services; an unknown setting is refused.
                yield f"{where}: the pod of {process} needs `enableServiceLinks: false`"


def dockerfile_command(root: Path, name: str) -> list[str]:
    """The CMD of a Dockerfile."""
    found = re.findall(r"^CMD (\[.*\])$", read(root, name), re.MULTILINE)
    if len(found) != 1:
        raise UnreadableFile(f"{name}: needs one CMD, on one line and in JSON form")
    command: list[str] = json.loads(found[0])
    return command


def image_name(image: str) -> str:
    return image.partition(":")[0]


def check_images(root: Path, manifests: Manifests) -> Iterator[str]:
    """What is not ours runs in the same version in both."""
    services = parse_yaml(read(root, COMPOSE), COMPOSE)[0]["services"]
    known = {service["image"] for service in services.values()}
    for where, documents in manifests.items():
        for container, _ in containers(documents):
            image = container["image"]
            if image_name(image) not in DOCKERFILES and image not in known:
                yield f"{where}: {container['name']} runs {image}, which {COMPOSE} does not"


def check_settings(root: Path) -> Iterator[str]:
    """Every RENDERMILL_ variable that is named anywhere is a setting."""
    known = {PREFIX + setting.name.upper() for setting in fields(Settings)}
    for path in sorted({path for pattern in NAMING_SETTINGS for path in root.glob(pattern)}):
        for variable in sorted(set(re.findall(PREFIX + r"[A-Z0-9_]*[A-Z0-9]", path.read_text())) - known):
            yield f"{path.relative_to(root)}: {variable} is not a setting of shared/settings.py"


def check_rules(root: Path) -> Iterator[str]:
    """Every alert says what to do and asks only for metrics that exist."""
    metrics = {metric for path in root.glob(METRICS) for metric in metric_names(path.read_text())}
    for group in parse_yaml(read(root, RULES), RULES)[0]["groups"]:
        for rule in group["rules"]:
            name = f"{RULES}: {rule['alert']}"
            if rule.get("labels", {}).get("severity") not in {"page", "ticket"}:
                yield f"{name}: labels.severity must be page or ticket"
            yield from (
                f"{name}: no {key}" for key in ("summary", "action") if not rule.get("annotations", {}).get(key)
            )
            for metric in sorted(metric_names(rule["expr"])):
                if metrics.isdisjoint({metric, re.sub(SUFFIX, "", metric)}):
                    yield f"{name}: no {METRICS} names {metric}"


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"rendermill_[a-z_]*[a-z]", text))


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    problems = list(find_problems(root))
    for problem in problems:
        print(problem, file=sys.stderr)
    if kustomize_command() is None:
        print(f"Neither kustomize nor kubectl is installed: {BASE} was read file by file, overlays were not checked.")
    print(f"Deployment files: {len(problems) or 'no'} problem{'s' * (len(problems) != 1)}.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
