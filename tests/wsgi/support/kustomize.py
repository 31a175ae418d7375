"""Builds the overlays in scripts/kubernetes as `kubectl kustomize` does, with the few features that they use, and
refuses all others. A test compares both where there is a kubectl."""

import copy

import yaml
from support.deployment_files import KUBERNETES, Strict

BASE = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
COMPONENT = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
FEATURES = {"apiVersion", "kind", "resources", "components", "patches", "namespace", "images", "replicas"}
# Kinds of objects that belong to no namespace.
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}


def kustomization(directory):
    """Returns the contents of a `kustomization.yaml`."""
    found = yaml.load((directory / "kustomization.yaml").read_text(), Loader=Strict)
    assert found.keys() <= FEATURES, found.keys() - FEATURES
    kind = {key: found[key] for key in ("apiVersion", "kind")}
    assert kind in (BASE, COMPONENT), kind
    return found


def built(directory, objects=()):
    """Returns the objects of a directory, or `objects` as a component changes them and adds to them."""
    found = kustomization(directory)
    assert (found["kind"] == "Component") == bool(objects), directory
    objects = list(objects)
    for name in found.get("resources", []):
        path = directory / name
        objects += built(path) if path.is_dir() else yaml.load_all(path.read_text(), Loader=Strict)
    for name in found.get("components", []):
        objects = built(directory / name, objects)
    for patch in found.get("patches", []):
        assert patch.keys() == {"path"}, patch
        objects = patched(objects, yaml.load((directory / patch["path"]).read_text(), Loader=Strict))
    for one in objects:
        if "namespace" in found and one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = found["namespace"]
        for replica in found.get("replicas", []):
            if one["kind"] == "Deployment" and one["metadata"]["name"] == replica["name"]:
                one["spec"]["replicas"] = replica["count"]
        for container in containers(one):
            for image in found.get("images", []):
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image['name']}:{image['newTag']}"
    return objects


def containers(found):
    """Returns the containers of a Deployment; other objects have none."""
    return found["spec"]["template"]["spec"]["containers"] if found["kind"] == "Deployment" else []


def patched(objects, patch):
    """Returns the objects after a strategic merge patch, which names the only one that it changes."""
    [index] = [
        number
        for number, one in enumerate(objects)
        if (one["kind"], one["metadata"]["name"]) == (patch["kind"], patch["metadata"]["name"])
    ]
    return [*objects[:index], merged(objects[index], patch), *objects[index + 1 :]]


def merged(value, patch):
    """Merges mappings, and lists of objects with names; replaces everything else."""
    if isinstance(patch, dict):
        assert isinstance(value, dict), (value, patch)
        return value | {key: merged(value[key], new) if key in value else new for key, new in patch.items()}
    if isinstance(patch, list) and isinstance(value, list):
        assert all("name" in one for one in [*value, *patch]), "only lists of objects with names are merged here"
        changes = {one["name"]: one for one in patch}
        kept = [merged(one, changes.pop(one["name"])) if one["name"] in changes else one for one in value]
        return kept + list(changes.values())
    return copy.deepcopy(patch)


def comparable(found):
    """Returns a value in which lists of objects with names, and lists of all objects, have one order."""
    if isinstance(found, dict):
        return {key: comparable(value) for key, value in found.items()}
    if isinstance(found, list):
        values = [comparable(value) for value in found]
        if all(isinstance(value, dict) and "kind" in value for value in values):
            return sorted(values, key=lambda one: (one["kind"], one["metadata"]["name"]))
        if all(isinstance(value, dict) and "name" in value for value in values):
            return sorted(values, key=lambda one: one["name"])
        return values
    return found


def all_kustomizations():
    """Returns the directories in scripts/kubernetes that have a `kustomization.yaml`."""
    return sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
