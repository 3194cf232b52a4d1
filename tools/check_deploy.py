"""Ask the linters about `deploy/`: ``python tools/check_deploy.py [FOLDER] [--all]``.

yamllint, hadolint, Kubernetes' own schemas (kubernetes-validate, over what kustomize builds), compose_spec and
systemd-analyze; and the rules below for what runs in pods. Prints what is wrong, exit code 1 if anything is. What is
not installed is said and left out; with ``--all`` it is wrong, too.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

OVERLAY = "kubernetes/overlays/production"
EVERYTHING = "kubernetes/overlays/training"  # that, and a training beside it
PODS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}
MOST_EXPOSED = 2.5  # of 10, as `systemd-analyze security` counts


class Missing(Exception):
    """A linter is not installed."""


def yaml_style(deploy: Path) -> Iterator[str]:
    """What yamllint says."""
    yield from _lines([_program("yamllint"), "--format", "parsable", "-c", str(deploy / ".yamllint"), str(deploy)])


def dockerfile(deploy: Path) -> Iterator[str]:
    """What hadolint says."""
    yield from _lines([_program("hadolint"), "--no-color", str(deploy / "Dockerfile")])


def manifests(deploy: Path) -> Iterator[str]:
    """What does not fit Kubernetes' schemas."""
    validate = _program("kubernetes-validate")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "built.yaml")
        path.write_text(yaml.safe_dump_all(built(deploy)))
        said = _lines([validate, "--strict", "--no-warn", str(path)])
    yield from (line for line in said if " passed for resource " not in line)


def pods(deploy: Path) -> Iterator[str]:
    """What breaks the rules: no root, no rights, limits, probes, images by version, a budget for several replicas."""
    found = built(deploy)
    budgets = [one["spec"]["selector"]["matchLabels"] for one in found if one["kind"] == "PodDisruptionBudget"]
    covered = [one["spec"]["podSelector"] for one in found if one["kind"] == "NetworkPolicy"]
    if {} not in covered:
        yield "no NetworkPolicy is for every pod"
    for one in found:
        if one["kind"] not in PODS:
            continue
        name, template = _name(one), one["spec"]["template"]
        for problem in _pod(template["spec"], asked=one["kind"] != "Job"):
            yield f"{name}: {problem}"
        labels = template["metadata"]["labels"]
        if one["spec"].get("replicas", 1) > 1 and not any(wanted.items() <= labels.items() for wanted in budgets):
            yield f"{name}: several replicas and no PodDisruptionBudget"


def compose(deploy: Path) -> Iterator[str]:
    """What is no Compose file."""
    if find_spec("compose_spec") is None:
        raise Missing("compose-spec")
    text = (deploy / "compose.yaml").read_text()
    filled = re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda found: found[3] if found[2] == "-" else "/some", text)
    script = "import sys, compose_spec; compose_spec.PyCompose.from_yaml(sys.stdin.read())"
    done = subprocess.run([sys.executable, "-c", script], input=filled, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"compose.yaml: {done.stderr.strip().splitlines()[-1]}"
    for name, service in yaml.safe_load(filled)["services"].items():
        if "build" not in service and not _is_version(service["image"]):
            yield f"compose.yaml: {name} takes an image without a version"


def unit(deploy: Path) -> Iterator[str]:
    """What systemd says of the unit, with a program that is there in place of ours."""
    analyze = _program("systemd-analyze")
    text = (deploy / "nacre.service").read_text()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nacre.service")
        path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M))
        yield from _lines([analyze, "verify", str(path)])
        command = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED * 10:g}", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            yield (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]


CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "yamllint": yaml_style,
    "hadolint": dockerfile,
    "Kubernetes' schemas": manifests,
    "rules for pods": pods,
    "Compose": compose,
    "systemd": unit,
}


def built(deploy: Path) -> list[dict[str, Any]]:
    """The resources of the overlay that has them all.

    Raises:
        Missing: neither kubectl nor kustomize is there.
    """
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(deploy / EVERYTHING)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"kustomize: {done.stderr.strip()}")
            return [one for one in yaml.safe_load_all(done.stdout) if one]
    raise Missing("kubectl or kustomize")


def _pod(spec: dict[str, Any], *, asked: bool) -> Iterator[str]:
    """What is wrong with a pod; `asked`: whether others ask it for something, so that it must say when it can."""
    security = spec.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token for the cluster's API"
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        yield from (f"{one['name']} {problem}" for problem in _container(one))
    for one in spec["containers"] if asked else ():
        yield from (
            f"{one['name']} has no {probe}" for probe in ("readinessProbe", "livenessProbe") if probe not in one
        )


def _container(one: dict[str, Any]) -> Iterator[str]:
    own = one.get("securityContext", {})
    if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "may gain rights"
    if not own.get("readOnlyRootFilesystem"):
        yield "may write into its image"
    if not {"cpu", "memory"} <= one.get("resources", {}).get("limits", {}).keys():
        yield "has no limits"
    if not _is_version(one["image"]):
        yield "takes an image without a version"


def _is_version(image: str) -> bool:
    tag = image.rpartition("/")[2].partition(":")[2]
    return bool(re.search(r"\d", tag)) and tag != "latest"


def _name(resource: dict[str, Any]) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def _program(name: str) -> str:
    """Where a program lies, first beside this Python.

    Raises:
        Missing: nowhere.
    """
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise Missing(name)
    return found


def _lines(command: list[str]) -> list[str]:
    """What a linter prints where it is not content."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return said or ([f"{command[0]} failed"] if done.returncode else [])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent.parent / "deploy")
    parser.add_argument("--all", action="store_true", help="a linter that is not there is a finding")
    options = parser.parse_args()
    wrong = 0
    for name, check in CHECKS.items():
        try:
            found = list(check(options.folder))
        except Missing as missing:
            print(f"{name}: not checked, {missing} is not installed")
            wrong += options.all
            continue
        print("\n".join(f"{name}: {one}" for one in found) or f"{name}: ok")
        wrong += len(found)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
