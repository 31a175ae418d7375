"""The overlays in scripts/kubernetes are what Kubernetes and KEDA accept, and their objects agree with each other and
with the configuration that the installed wheel makes of them."""

import json
import os
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.deployment_files import KUBERNETES, document, documents, environment, probes, seconds, size_bytes
from support.kustomize import all_kustomizations, built, comparable, kustomization
from support.server import PATIENCE_S, ROOT, printed_configuration
from support.wire import Wire

# The oldest and the newest Kubernetes that the files are for.
VERSIONS = ["1.33", "1.37"]
# Kinds of the Prometheus operator, for which there is no schema here, and one of KEDA, which is checked apart.
FOREIGN_KINDS = {"PodMonitor", "ScaledObject"}
RECIPES = sorted(path.name for path in KUBERNETES.glob("*.yaml"))
# Files that belong to no overlay.
APART = {"components/hpa/prometheus-adapter.yaml"}
OVERLAYS = ["staging", "production", "keda"]
# The fields of a ScaledObject, of its triggers, and of a trigger that queries Prometheus.
COUNTS = {
    "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount", "minReplicaCount", "maxReplicaCount",
}  # fmt: skip
SCALED_FIELDS = {"scaleTargetRef", "fallback", "advanced", "triggers", *COUNTS}
TRIGGER_FIELDS = {"type", "name", "metadata", "authenticationRef", "metricType", "useCachedMetrics"}
PROMETHEUS_FIELDS = {
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "cortexOrgID", "customHeaders",
    "ignoreNullValues", "queryParameters", "unsafeSsl", "timeout", "authModes",
}  # fmt: skip


@pytest.fixture(scope="module")
def keda(tmp_path_factory):
    """The production overlay with KEDA, as its comment describes it."""
    made = tmp_path_factory.mktemp("kubernetes") / "overlays" / "keda"
    shutil.copytree(KUBERNETES / "overlays" / "production", made)
    for name in ("base", "components"):
        shutil.copytree(KUBERNETES / name, made.parent.parent / name)
    text = (made / "kustomization.yaml").read_text()
    (made / "kustomization.yaml").write_text(text.replace("components/hpa", "components/keda"))
    return made


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request, keda):
    """The directory of each overlay."""
    return keda if request.param == "keda" else KUBERNETES / "overlays" / request.param


@pytest.fixture(scope="module")
def objects(overlay):
    """Its objects by kind, of which there is one each."""
    found = built(overlay)
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.fixture(scope="module")
def pod(objects):
    """The pod of its Deployment."""
    return objects["Deployment"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod):
    """The only container of the pod."""
    [found] = pod["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def config(container):
    """The configuration that its command results in, unchanged."""
    assert container["command"] == ["arctos"]
    return printed_configuration(container["args"], **environment(container))


# --- Well-formed ---


def assert_accepted(found):
    checked = [one for one in found if one["kind"] not in FOREIGN_KINDS]
    assert checked
    for one in checked:
        for version in VERSIONS:
            assert kubernetes_validate.validate(one, version, strict=True) == version


@pytest.mark.parametrize("name", [*RECIPES, *APART])
def test_kubernetes_takes_every_object_of_a_file(name):
    assert_accepted(documents(name))


def test_kubernetes_takes_every_object_of_an_overlay(objects):
    assert_accepted(objects.values())


def test_keda_takes_the_scaled_object():
    """There is no schema of KEDA here: these are the fields that its documentation has."""
    found = document("components/keda/scaledobject.yaml")
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = found["spec"]
    assert {"scaleTargetRef", "triggers"} <= spec.keys() <= SCALED_FIELDS
    assert all(isinstance(spec[key], int) for key in spec.keys() & COUNTS)
    for trigger in spec["triggers"]:
        assert {"type", "metadata"} <= trigger.keys() <= TRIGGER_FIELDS
        assert {"serverAddress", "query", "threshold"} <= trigger["metadata"].keys() <= PROMETHEUS_FIELDS
    assert spec["advanced"].keys() == {"horizontalPodAutoscalerConfig"}
    # KEDA copies the behavior to the HorizontalPodAutoscaler that it makes.
    scaler = document("components/hpa/hpa.yaml")
    scaler["spec"]["behavior"] = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert_accepted([scaler])


def test_kubectl_builds_the_same_objects(overlay):
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    said = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (said.returncode, said.stderr) == (0, "")
    assert comparable(list(yaml.safe_load_all(said.stdout))) == comparable(built(overlay))


def test_every_file_is_a_part_of_an_overlay():
    used = set(APART)
    for directory in all_kustomizations():
        found = kustomization(directory)
        paths = found.get("resources", []) + [patch["path"] for patch in found.get("patches", [])]
        used |= {str((directory / path).relative_to(KUBERNETES)) for path in paths if path.endswith(".yaml")}
    files = {str(path.relative_to(KUBERNETES)) for path in KUBERNETES.rglob("*.yaml")}
    assert used | set(RECIPES) == {name for name in files if not name.endswith("kustomization.yaml")}


# --- The objects agree ---


def test_objects_are_about_the_same_pods(objects, pod):
    deployment, labels = objects["Deployment"], pod["metadata"]["labels"]
    selectors = [objects["Service"]["spec"]["selector"]]
    monitored = [objects["PodMonitor"]] if "PodMonitor" in objects else []
    for one in [deployment, objects["PodDisruptionBudget"], *monitored]:
        selectors.append(one["spec"]["selector"]["matchLabels"])
    [spread] = pod["spec"]["topologySpreadConstraints"]
    for selector in [*selectors, spread["labelSelector"]["matchLabels"]]:
        assert selector and selector.items() <= labels.items()
    for kind in {"HorizontalPodAutoscaler", "ScaledObject"} & objects.keys():
        target = {"apiVersion": "apps/v1", "kind": "Deployment"} | objects[kind]["spec"]["scaleTargetRef"]
        assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": "shop"}
    assert {one["metadata"]["name"] for one in objects.values()} == {"shop"}
    assert len({one["metadata"]["namespace"] for one in objects.values()}) == 1


def test_a_rollout_and_a_drained_node_leave_pods_in_service(objects):
    deployment = objects["Deployment"]["spec"]
    rolling = deployment["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0 and rolling["maxSurge"] >= 1
    least = [objects["HorizontalPodAutoscaler"]["spec"]["minReplicas"]] if "HorizontalPodAutoscaler" in objects else []
    least += [objects["ScaledObject"]["spec"]["minReplicaCount"]] if "ScaledObject" in objects else []
    # Either an autoscaler or the Deployment has the number of pods.
    assert len(least) == ("replicas" not in deployment)
    assert all(number > objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] for number in least)


def test_ports_agree(objects, container, config):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config["--bind"] == f":{ports['http']}"
    assert config["--admin-bind"].split(",")[-1].strip() == f":{ports['admin']}"
    assert {probe["httpGet"]["port"] for probe in probes(container).values()} == {"admin"}
    assert [port["targetPort"] for port in objects["Service"]["spec"]["ports"]] == ["http"]
    if "PodMonitor" in objects:
        assert [endpoint["port"] for endpoint in objects["PodMonitor"]["spec"]["podMetricsEndpoints"]] == ["admin"]


def test_times_agree(pod, container, config):
    grace, graceful = pod["spec"]["terminationGracePeriodSeconds"], seconds(config["--graceful-timeout"])
    delay = seconds(re.fullmatch(r"(?:auto \()?([0-9.]+m?s)\)?", config["--drain-delay"])[1])
    # --graceful-timeout includes the drain delay. Kubernetes counts from the moment before TERM, and kills a server
    # that exits in time, but late, unless there is some room.
    assert delay < graceful <= grace - 5
    # Requests that are running when the delay ends have as long in every overlay.
    assert graceful - delay >= 20
    assert "lifecycle" not in container
    # Hooks or a zygote start first, then two workers, then the others.
    boot = 3 * seconds(config["--boot-timeout"])
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > boot
    # By then, balancers have stopped sending, and the probe that tells them has run.
    readiness = container["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= delay


def test_workers_have_the_cpus_and_the_memory_of_the_container(container, config):
    resources = container["resources"]
    workers = int(config["--workers"])
    assert workers == int(resources["requests"]["cpu"])
    replaced = size_bytes(config["--max-rss"]) * (workers + 1)
    assert replaced <= size_bytes(resources["limits"]["memory"])


def test_every_written_path_is_mounted(pod, container, config):
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in pod["spec"]["volumes"]}
    path = config["--admin-bind"].split(",")[0].strip().removeprefix("unix:")
    assert {os.path.dirname(path), config["--body-temp-dir"]} == set(mounts)


def test_the_container_runs_as_nobody_without_privileges(pod, container):
    of_pod, of_container = pod["spec"]["securityContext"], container["securityContext"]
    assert of_pod["runAsNonRoot"] is True and of_pod["runAsUser"] > 0
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["capabilities"] == {"drop": ["ALL"]}


def test_the_images_of_the_dockerfile_suit_the_pods(pod, container, config):
    text = (ROOT / "Dockerfile").read_text()

    def said(instruction):
        found = set(re.findall(rf"^{instruction} (.*)$", text, re.M))
        assert len(found) == 1, found
        return found.pop()

    security = pod["spec"]["securityContext"]
    assert said("USER") == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert said("EXPOSE").split() == [str(port["containerPort"]) for port in container["ports"]]
    # The command of the pod replaces both, and the first process is the same.
    assert json.loads(said("ENTRYPOINT")) == container["command"]
    [admin] = set(re.findall(r"ARCTOS_ADMIN_BIND=(\S+)", text))
    assert admin == environment(container)["ARCTOS_ADMIN_BIND"]
    [bound] = set(re.findall(r"ARCTOS_BIND=(\S+)", text))
    assert bound == config["--bind"]


# --- Metrics ---


def rules():
    """The rules of prometheus-adapter, by their series."""
    found = yaml.safe_load(document("components/hpa/prometheus-adapter.yaml")["data"]["config.yaml"])["rules"]
    return {re.match(r"([a-z_]+)\{", rule["seriesQuery"])[1]: rule for rule in found}


def triggers():
    """The triggers of the ScaledObject, by the series that they query."""
    found = document("components/keda/scaledobject.yaml")["spec"]["triggers"]
    queried = {re.search(r"\((\w+)\{", trigger["metadata"]["query"])[1]: trigger for trigger in found}
    assert len(queried) == len({trigger["name"] for trigger in found}) == len(found)
    return queried


def test_the_adapter_has_a_rule_for_each_metric_of_the_autoscaler():
    asked = {metric["pods"]["metric"]["name"] for metric in document("components/hpa/hpa.yaml")["spec"]["metrics"]}
    assert asked == set(rules())
    for series, rule in rules().items():
        labels = set(re.findall(r'([a-z]+)!=""', rule["seriesQuery"]))
        assert labels == set(rule["resources"]["overrides"]) == {"namespace", "pod"}
        assert re.findall(r"<<\.(\w+)>>", rule["metricsQuery"]) == ["GroupBy", "Series", "LabelMatchers"], series
        assert rule["metricsQuery"].count("(") == rule["metricsQuery"].count(")")


def test_both_autoscalers_scale_alike():
    scaler = document("components/hpa/hpa.yaml")["spec"]
    scaled = document("components/keda/scaledobject.yaml")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == scaler["behavior"]
    [target] = [
        metric["pods"]["target"]["averageValue"]
        for metric in scaler["metrics"]
        if metric["pods"]["metric"]["name"] == "arctos_workers_utilization"
    ]
    trigger = triggers()["arctos_workers_utilization"]["metadata"]
    assert target == f"{float(trigger['threshold']) * 1000:.0f}m"


def test_triggers_query_the_pods_of_the_overlay_and_need_a_value():
    for trigger in triggers().values():
        metadata = trigger["metadata"]
        assert trigger["type"] == "prometheus"
        assert '{namespace="shop"}' in metadata["query"] and metadata["query"].startswith("sum(")
        assert metadata["query"].count("(") == metadata["query"].count(")")
        # KEDA reads only strings.
        assert all(isinstance(value, str) for value in metadata.values()) and metadata["ignoreNullValues"] == "false"
    assert kustomization(KUBERNETES / "overlays" / "production")["namespace"] == "shop"


def test_the_server_has_the_metrics_that_autoscalers_use(serve, tmp_path):
    admin = str(tmp_path / "admin.sock")
    serve("plain:app", "--admin-bind", f"unix:{admin}", "--zone", "central-europe")
    with Wire(admin) as wire:
        page = wire.get("/metrics").response().body.decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    for series in {*rules(), "arctos_workers_utilization"}:
        assert families[series].type == "gauge"
        # One value per pod: a rule adds nothing up.
        assert [sample.labels for sample in families[series].samples] == [{"zone": "central-europe"}]
    samples = {sample.name for family in families.values() for sample in family.samples}
    assert triggers().keys() <= samples
