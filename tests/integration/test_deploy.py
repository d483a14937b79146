"""What `deploy/` holds: valid by the schemas of those who read it, and true of the endpoint that runs."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import promql_parser
import pytest
import yaml
from jsonschema import Draft202012Validator, validators
from prometheus_client.parser import text_string_to_metric_families
from tests.support.command_line import parse
from tests.support.server import RunningServer, running_server
from tests.support.toy_bundle import write_toy_bundle

from totalanvi.serving.endpoint.access.keys import Key
from totalanvi.serving.endpoint.access.settings import ACCESS_VARIABLES, AccessSettings
from totalanvi.serving.endpoint.files.service import ARRIVING_PER_FILE
from totalanvi.serving.endpoint.settings import Settings, setting_names
from totalanvi.serving.wire.limits import variable

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = {
    f"{file.stem}:{manifest['kind']}": manifest
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
}
CPU, GPU = MANIFESTS["cpu:Deployment"], MANIFESTS["gpu:Deployment"]
DEPLOYMENTS = pytest.mark.parametrize("deployment", [CPU, GPU], ids=["cpu", "gpu"])
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
OF_PROMETHEUS = {"job", "instance", "namespace", "pod", "le"}
"""Labels that Prometheus adds, or that its histograms have."""


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(deployment)["containers"]
    return dict(container)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_follows_kubernetes_schema(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], "1.34", strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    altered = copy.deepcopy(CPU)
    altered["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readyProbe"):
        kubernetes_validate.validate(altered, "1.34", strict=True)


def test_the_compose_file_follows_the_specification() -> None:
    text = (resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text()
    schema = json.loads(text)
    validator = validators.validator_for(schema, default=Draft202012Validator)(schema)
    assert list(validator.iter_errors(COMPOSE)) == []
    endpoint = COMPOSE["services"]["endpoint"] | {"read-only": True}
    assert list(validator.iter_errors({"services": {"endpoint": endpoint}}))


def test_variants_differ_in_device_image_and_nodes_alone() -> None:
    cpu, gpu = copy.deepcopy(CPU), copy.deepcopy(GPU)
    gpu["spec"]["template"]["spec"].pop("tolerations")
    of_cpu, of_gpu = (each["spec"]["template"]["spec"]["containers"][0] for each in (cpu, gpu))
    assert of_gpu["resources"]["limits"].pop("nvidia.com/gpu") == "1"
    assert of_gpu.pop("image") == f"{of_cpu.pop('image')}-gpu"
    assert gpu == cpu


@DEPLOYMENTS
def test_a_pod_may_do_nothing_that_it_need_not(deployment: dict[str, Any]) -> None:
    pod, container = pod_of(deployment), container_of(deployment)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    assert MANIFESTS["common:NetworkPolicy"]["spec"]["egress"] == []


@DEPLOYMENTS
def test_names_that_manifests_refer_to_are_there(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    pod, container = pod_of(deployment), container_of(deployment)
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["common:Service"]["spec"]["selector"] == labels
    assert MANIFESTS["common:NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert MANIFESTS["common:PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    names = {kind: MANIFESTS[f"common:{kind}"]["metadata"]["name"] for kind in ("ServiceAccount", "ConfigMap")}
    assert pod["serviceAccountName"] == names["ServiceAccount"]
    assert container["envFrom"] == [{"configMapRef": {"name": names["ConfigMap"]}}]
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "reference"
    ]
    assert claims == [MANIFESTS["common:PersistentVolumeClaim"]["metadata"]["name"]]
    target = MANIFESTS["common:HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert MANIFESTS["common:Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_settings_are_those_that_the_endpoint_reads() -> None:
    known = {variable(name) for name in setting_names()} | ACCESS_VARIABLES
    for settings in (MANIFESTS["common:ConfigMap"]["data"], COMPOSE["services"]["endpoint"]["environment"]):
        assert settings.keys() <= known
        Settings.read(settings)


@DEPLOYMENTS
def test_a_pod_finds_its_keys(deployment: dict[str, Any], tmp_path: Path) -> None:
    settings = MANIFESTS["common:ConfigMap"]["data"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container_of(deployment)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    assert settings["TOTALANVI_KEYS_FILE"] == f"{mounted['keys']}/keys"
    assert f"secret generic {volumes['keys']['secret']['secretName']} --from-file=keys\n" in runbook
    file = tmp_path / "keys"
    file.write_text(Key("lab", bytes(32)).line())
    AccessSettings.from_environment(settings | {"TOTALANVI_KEYS_FILE": str(file)}).require_for("0.0.0.0")
    AccessSettings.from_environment(COMPOSE["services"]["endpoint"]["environment"]).require_for("0.0.0.0")
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"]["endpoint"]["ports"])


def test_uploaded_files_have_room() -> None:
    (scratch,) = (volume["emptyDir"] for volume in pod_of(CPU)["volumes"] if volume["name"] == "scratch")
    (tmpfs,) = COMPOSE["services"]["endpoint"]["tmpfs"]
    rooms = (
        (MANIFESTS["common:ConfigMap"]["data"], int(scratch["sizeLimit"].removesuffix("Gi")) << 30),
        (COMPOSE["services"]["endpoint"]["environment"], int(re.search(r"size=(\d+)m", tmpfs)[1]) << 20),  # type: ignore[index]
    )
    for settings, room in rooms:
        limits = Settings.read(settings).limits
        # Each with a copy that is half as large again.
        assert limits.max_files * ARRIVING_PER_FILE * 2.5 * limits.max_file_bytes < room
        assert limits.max_files * limits.file_memory_bytes < 2 << 30


@DEPLOYMENTS
def test_a_pod_goes_once_its_requests_are_answered(deployment: dict[str, Any]) -> None:
    limits = Settings.read(MANIFESTS["common:ConfigMap"]["data"]).limits
    longest = max(limits.request_seconds, limits.file_seconds)
    first = container_of(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_of(deployment)["terminationGracePeriodSeconds"] > first + longest
    assert int(COMPOSE["services"]["endpoint"]["stop_grace_period"].removesuffix("s")) > longest


@DEPLOYMENTS
def test_the_command_line_understands_what_a_pod_starts(deployment: dict[str, Any]) -> None:
    recipe = (DEPLOY / "Containerfile").read_text()
    entry, command = (json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", recipe, re.MULTILINE))
    assert entry == ["totalanvi", "serve"]
    assert container_of(deployment)["args"] == command
    assert parse(shlex.join([*entry, *command])) == "serve"


def test_the_image_is_made_of_what_there_is() -> None:
    recipe = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in recipe.splitlines() if re.match(r"COPY (?!--from)", line)]
    assert copied
    assert [source for sources in copied for source in sources if not (ROOT / source).exists()] == []
    build = COMPOSE["services"]["endpoint"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"


# Against an endpoint that runs.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("home")
    with running_server(write_toy_bundle(home / "toy"), home) as running:
        yield running


@pytest.fixture(scope="module")
def metrics(server: RunningServer) -> dict[str, set[str]]:
    """The labels of each sample of /metrics, by its name, once the endpoint has mapped a cell and refused one."""
    genes = httpx.get(f"{server.url}/v1/features", trust_env=False).json()["features"]["genes"]
    for cells in ([{"genes": {genes[0]: 3}}], []):
        httpx.post(f"{server.url}/v1/predict", json={"cells": cells}, timeout=60, trust_env=False)
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), look)
    return found


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_looks_at_metrics_that_there_are(alert: str, metrics: dict[str, set[str]]) -> None:
    expression = ALERTS[alert]["expr"]
    looked_at = selectors(expression)
    assert looked_at
    for selector in looked_at:
        assert selector.name == "up" or selector.name in metrics, selector.name
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= OF_PROMETHEUS | metrics.get(selector.name, set())
    grouped = {label.strip() for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(",")}
    assert grouped <= OF_PROMETHEUS.union(*(metrics.get(selector.name, set()) for selector in looked_at))


def test_the_autoscaler_looks_at_a_metric_that_there_is(metrics: dict[str, set[str]]) -> None:
    (metric,) = MANIFESTS["common:HorizontalPodAutoscaler"]["spec"]["metrics"]
    (rule,) = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yaml").read_text())["rules"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["matches"]
    assert rule["name"]["matches"] in metrics
    assert rule["seriesQuery"].startswith(rule["name"]["matches"] + "{")


@DEPLOYMENTS
def test_probes_ask_what_the_endpoint_answers(deployment: dict[str, Any], server: RunningServer) -> None:
    container = container_of(deployment)
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container[kind]["httpGet"]["path"]
        assert httpx.get(f"{server.url}{path}", trust_env=False).status_code == 200


def test_the_runbook_explains_every_alert() -> None:
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    assert re.findall(r"^### (Totalanvi\w+)$", runbook, re.MULTILINE) == list(ALERTS)


def test_alerts_go_by_the_limits_of_the_manifests() -> None:
    limits = Settings.read(MANIFESTS["common:ConfigMap"]["data"]).limits
    (above,) = re.findall(r"> ([\d.e]+)", ALERTS["TotalanviMemory"]["expr"])
    limit = container_of(CPU)["resources"]["limits"]["memory"]
    # The process that reads an uploaded file is another one.
    room = (int(limit.removesuffix("Gi")) << 30) - limits.max_files * limits.file_memory_bytes
    assert 0.7 < float(above) / room < 1
    (queued,) = re.findall(r"> (\d+)", ALERTS["TotalanviQueueLong"]["expr"])
    assert int(queued) < limits.max_concurrency + limits.max_queue


def test_commands_of_the_runbook_are_understood() -> None:
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    commands = re.findall(r"^ {4}(totalanvi .*)$", runbook, re.MULTILINE)
    assert commands
    for command in commands:
        parse(command)
