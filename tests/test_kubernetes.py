"""The Kubernetes manifests: right by Kubernetes' schemas, and true of the code and the image."""

import configparser
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values

from app.main import create_app
from app.ops.metrics import Requests, render_metrics
from app.runtime import Runtime
from app.settings import PROJECT, SECRETS_FROM_FILES, Settings
from tests.conftest import SECRET

FOLDER = PROJECT / "deploy" / "kubernetes"
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
OLDEST, NEWEST = "1.29", "1.37"

Manifest = dict[str, Any]


def read(file: str) -> Manifest:
    manifest: Manifest = yaml.safe_load((FOLDER / file).read_text())
    return manifest


KUSTOMIZATION = read("kustomization.yaml")
RESOURCES: list[str] = KUSTOMIZATION["resources"]
DEPLOYMENT, JOB = read("deployment.yaml")["spec"], read("migrate.yaml")["spec"]
PODS: list[Manifest] = [DEPLOYMENT["template"]["spec"], JOB["template"]["spec"]]
SETTINGS = dotenv_values(FOLDER / "settings.env")


def only_container(pod: Manifest) -> Manifest:
    (container,) = pod["containers"]
    return dict(container)


def settings_of(pod: Manifest) -> dict[str, str | None]:
    own = {entry["name"]: entry["value"] for entry in only_container(pod).get("env", [])}
    return SETTINGS | own


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("file", RESOURCES)
def test_every_manifest_is_right_by_the_schema(file: str, version: str) -> None:
    assert kubernetes_validate.validate(read(file), version, strict=True) == version


def test_the_kustomization_names_every_file() -> None:
    (settings,) = KUSTOMIZATION["configMapGenerator"]
    named = {*RESOURCES, *settings["envs"], "kustomization.yaml", "README.md"}
    assert named == {path.name for path in FOLDER.iterdir() if path.is_file()}
    (image,) = KUSTOMIZATION["images"]
    for pod in PODS:
        assert only_container(pod)["image"] == image["name"]
        assert only_container(pod)["envFrom"] == [{"configMapRef": {"name": settings["name"]}}]


@pytest.mark.parametrize("pod", PODS, ids=["api", "migrate"])
def test_every_setting_exists_and_is_accepted(pod: Manifest) -> None:
    given: dict[str, Any] = {
        name.removeprefix("SCOPEGATE_").lower(): value for name, value in settings_of(pod).items()
    }
    assert given.keys() <= Settings.model_fields.keys()
    given = {name: value for name, value in given.items() if not name.endswith("_file")}
    Settings(_env_file=None, environment="production", secret_keys=SECRET, **given)


@pytest.mark.parametrize("pod", PODS, ids=["api", "migrate"])
def test_every_secret_comes_from_a_mounted_file_that_the_readme_makes(pod: Manifest) -> None:
    settings = settings_of(pod)
    assert not [name for name in SECRETS_FROM_FILES if f"SCOPEGATE_{name.upper()}" in settings]
    made = {
        secret: set(re.findall(r"--from-literal=([\w-]+)=", literals))
        for secret, literals in re.findall(
            r"create secret generic ([\w-]+)((?:\\\n|[^\n])*)", (FOLDER / "README.md").read_text()
        )
    }
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in pod["volumes"]
        if "secret" in volume
    }
    mounted = {
        Path(mount["mountPath"]): made[secrets[mount["name"]]]
        for mount in only_container(pod)["volumeMounts"]
        if mount["name"] in secrets
    }
    files = [Path(str(path)) for name, path in settings.items() if name.endswith("_FILE")]
    assert len(files) >= 3
    for file in files:
        assert file.name in mounted[file.parent]


def test_probes_ask_paths_of_the_app_on_the_port_that_the_image_serves() -> None:
    container = only_container(PODS[0])
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE
    assert f"SCOPEGATE_PORT={port['containerPort']}\n" in DOCKERFILE
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    asked = [
        container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")
    ]
    assert [probe["path"] for probe in asked] == ["/health/ready", "/health/ready", "/health/live"]
    assert all("get" in paths[probe["path"]] for probe in asked)
    (service_port,) = read("service.yaml")["spec"]["ports"]
    assert {port["name"]} == {service_port["targetPort"], *(probe["port"] for probe in asked)}


@pytest.mark.parametrize("pod", PODS, ids=["api", "migrate"])
def test_pods_run_as_the_images_user_with_no_rights_on_a_read_only_root(pod: Manifest) -> None:
    found = re.search(r"useradd --uid (\d+) .* (\w+) \\\n(?:.*\n)*USER \2\n", DOCKERFILE)
    assert found
    security = pod["securityContext"]
    assert security["runAsUser"] == security["runAsGroup"] == int(found[1])
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only_container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_selector_finds_the_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    assert DEPLOYMENT["selector"]["matchLabels"] == labels
    assert read("service.yaml")["spec"]["selector"] == labels
    assert read("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    policed = read("network.yaml")["spec"]["podSelector"]["matchLabels"]
    assert policed.items() <= labels.items()
    assert policed.items() <= JOB["template"]["metadata"]["labels"].items()


def test_a_pod_is_given_the_time_that_it_takes_to_end() -> None:
    takes = int(SETTINGS["SCOPEGATE_SHUTDOWN_DELAY"] or 0)
    takes += int(SETTINGS["SCOPEGATE_SHUTDOWN_TIMEOUT"] or 0)
    assert PODS[0]["terminationGracePeriodSeconds"] > takes


async def test_the_autoscaler_goes_by_a_metric_that_there_is(runtime: Runtime) -> None:
    wanted = [
        metric["pods"]["metric"]["name"]
        for metric in read("autoscaling.yaml")["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert len(wanted) == 1
    assert f"\n{wanted[0]} " in render_metrics(runtime, Requests()).decode()


POSTGRES = FOLDER / "postgres"
CLUSTER, POOLER = read("postgres/cluster.yaml"), read("postgres/pooler.yaml")


def test_postgres_is_in_the_namespace_that_scopegate_may_reach() -> None:
    kustomization = read("postgres/kustomization.yaml")
    files = {path.name for path in POSTGRES.glob("*.yaml")}
    assert {*kustomization["resources"], "kustomization.yaml"} == files
    assert kustomization["namespace"] == read("postgres/namespace.yaml")["metadata"]["name"]
    reached = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in read("network.yaml")["spec"]["egress"]
        for peer in rule["to"]
    ]
    assert kustomization["namespace"] in reached


def test_a_failover_of_the_clusters_loses_nothing_that_was_acknowledged() -> None:
    """What CloudNativePG's documentation asks for; `tests/system/cluster` tries Patroni's."""
    synchronous = CLUSTER["spec"]["postgresql"]["synchronous"]
    assert CLUSTER["spec"]["instances"] >= 3
    assert synchronous["number"] >= 1
    assert synchronous["dataDurability"] == "required"
    assert synchronous["failoverQuorum"] is True
    patroni = yaml.safe_load((PROJECT / "deploy" / "patroni" / "patroni.yml").read_text())
    assert patroni["bootstrap"]["dcs"]["synchronous_mode"] is True


def test_the_pooler_is_set_as_the_pgbouncer_that_was_tested() -> None:
    """And it is the pooler of that cluster, by the names that the README gives to settings.env."""
    tested = configparser.ConfigParser(strict=True)
    tested.read(PROJECT / "deploy" / "patroni" / "pgbouncer.ini")
    pgbouncer = POOLER["spec"]["pgbouncer"]
    assert pgbouncer["poolMode"] == tested["pgbouncer"]["pool_mode"]
    assert pgbouncer["parameters"].items() <= dict(tested["pgbouncer"]).items()
    assert POOLER["spec"]["cluster"] == {"name": CLUSTER["metadata"]["name"]}
    database = CLUSTER["spec"]["bootstrap"]["initdb"]
    user, name, namespace = database["owner"], database["database"], POSTGRES.name
    readme = (FOLDER / "README.md").read_text()
    for setting, service in (
        ("SCOPEGATE_DATABASE_URL", POOLER["metadata"]["name"]),
        ("SCOPEGATE_LISTEN_DATABASE_URL", f"{CLUSTER['metadata']['name']}-rw"),
    ):
        assert f"\n{setting}=postgresql://{user}@{service}.{namespace}/{name}\n" in readme
    assert f" {database['secret']['name']} " in readme
