"""The files of `deploy/` pass their linters, and the linters find what is planted."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from nacre.base.config import parse
from nacre.cycle.settings import WorkspaceSettings
from nacre.serve.gateway.ids import SECRET

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_deploy", ROOT / "tools" / "check_deploy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_deploy"] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()


def found(name: str, deploy: Path) -> list[str]:
    try:
        return list(tool.CHECKS[name](deploy))
    except tool.Missing as missing:
        pytest.skip(f"{missing} is not installed")


@pytest.mark.parametrize("name", tool.CHECKS)
def test_what_is_shipped_passes(name: str) -> None:
    assert found(name, ROOT / "deploy") == []


GATEWAY, POLICY = "kubernetes/base/gateway.yaml", "kubernetes/base/networkpolicy.yaml"


@pytest.mark.parametrize(
    ("name", "path", "old", "new", "told"),
    [
        ("yamllint", GATEWAY, "  replicas: 3", "   replicas: 3", "syntax error"),
        ("hadolint", "Dockerfile", "WORKDIR /source", "RUN cd /source", "DL3003"),
        ("hadolint", "Dockerfile", "FROM python:${PYTHON} AS", "FROM python:latest AS", "DL3007"),
        ("Kubernetes' schemas", GATEWAY, "replicas: 3", "replicas: three", "replicas"),
        ("Kubernetes' schemas", GATEWAY, "readinessProbe:", "readynessProbe:", "readynessProbe"),
        ("rules for pods", GATEWAY, "readinessProbe:", "startupProbe:", "no readinessProbe"),
        ("rules for pods", GATEWAY, "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        ("rules for pods", GATEWAY, "drop: [ALL]", "drop: [NET_RAW]", "ledger may gain rights"),
        (
            "rules for pods",
            GATEWAY,
            "minAvailable: 2\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: nacre",
            "minAvailable: 2\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: other",
            "no PodDisruptionBudget",
        ),
        ("rules for pods", POLICY, "podSelector: {}", "podSelector: {matchLabels: {a: b}}", "for every pod"),
        (
            "rules for pods",
            f"{tool.OVERLAY}/kustomization.yaml",
            "newTag: 0.1.0-cpu",
            "newTag: latest",
            "without a version",
        ),
        ("Compose", "compose.yaml", "depends_on:", "depends_upon:", "depends_upon"),
        ("Compose", "compose.yaml", "postgres:17.6-bookworm", "postgres", "without a version"),
        ("systemd", "nacre.service", "RestartSec=2", "RestartSec=soon", "Failed to parse sec value"),
        ("systemd", "nacre.service", "NoNewPrivileges=yes\nCapabilityBoundingSet=\n", "", "exposure"),
    ],
)
def test_what_is_planted_is_found(tmp_path: Path, name: str, path: str, old: str, new: str, told: str) -> None:
    deploy = tmp_path / "deploy"
    shutil.copytree(ROOT / "deploy", deploy)
    text = (deploy / path).read_text()
    assert old in text
    (deploy / path).write_text(text.replace(old, new))
    assert told in "\n".join(found(name, deploy))


def test_what_is_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing(deploy: Path) -> list[str]:
        raise tool.Missing("such-a-linter")

    check: Callable[[Path], list[str]] = missing
    monkeypatch.setattr(tool, "CHECKS", {"one": check})
    for arguments, code in ([], 0), (["--all"], 1):
        monkeypatch.setattr(sys, "argv", ["check_deploy.py", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as ended:
            tool.main()
        assert ended.value.code == code
    assert capsys.readouterr().out.count("one: not checked, such-a-linter is not installed") == 2


def test_the_settings_of_the_manifests_are_ours_and_name_their_ports() -> None:
    settings = parse(
        WorkspaceSettings, yaml.safe_load((ROOT / "deploy/kubernetes/base/nacre.yaml").read_text()), where="nacre.yaml"
    )
    gateway, *_ = yaml.safe_load_all((ROOT / "deploy" / GATEWAY).read_text())
    container = gateway["spec"]["template"]["spec"]["containers"][0]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    serve = settings.serve
    assert ports == {"http": serve.port, "grpc": serve.grpc_port, "admin": serve.admin_port}
    assert serve.drain_s + 5 < gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    variables = {one["name"] for one in container["env"]}
    assert variables == {"PGPASSWORD", "NACRE_API_KEY", SECRET, serve.upstream.api_key_env}


def test_a_gateway_begins_by_opening_the_ledger_as_it_will_be_opened() -> None:
    gateway, *_ = yaml.safe_load_all((ROOT / "deploy" / GATEWAY).read_text())
    spec = gateway["spec"]["template"]["spec"]
    (first,), (then,) = spec["initContainers"], spec["containers"]
    assert (first["image"], first["args"]) == (then["image"], ["versions", "list"])
    assert first["volumeMounts"] == then["volumeMounts"]
    assert [one for one in then["env"] if one["name"] == "PGPASSWORD"] == first["env"]
