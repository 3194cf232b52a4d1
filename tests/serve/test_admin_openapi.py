"""The admin API's document describes it: every route, and what it says holds under generated requests."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Hall, send, serving, until

from nacre.serve.admin import ACTIONS
from nacre.serve.admin_openapi import document
from nacre.serve.app import ALL_ADMIN_ROUTES

MOST = 2**31 - 1


def test_the_document_has_every_route_and_opens_to_an_admin_alone(hall: Hall, url: str, admin: str) -> None:
    _, low = hall.ledger.keys.create("low", ["infer", "feedback"])
    until(lambda: send(url, "/v1/models", key=low).status == 200)
    assert send(url, "/admin/openapi.json").status == 401
    assert send(url, "/admin/openapi.json", key=low).code == "missing_scope"
    served = send(url, "/admin/openapi.json", key=admin).body
    assert served == json.loads(json.dumps(document()))
    routes = set[tuple[str, str]]()
    for route in ALL_ADMIN_ROUTES:
        paths = [route.path.replace("{action}", action) for action in (ACTIONS if "{action}" in route.path else [""])]
        routes |= {(path, method.lower()) for path in paths for method in (route.methods or set()) - {"HEAD"}}
    described = {(path, method) for path, methods in served["paths"].items() for method in methods}
    assert routes - described == {("/admin/openapi.json", "get")}
    assert described <= routes


@pytest.mark.parametrize("number", ["0", "x", "-1", "9" * 5000, str(MOST + 1), str(10**30)], ids=range(6))
def test_a_number_that_nothing_can_have_is_no_fault_of_the_server(url: str, admin: str, number: str) -> None:
    for path in ("", "/flips", "/curves", "/report"):
        assert send(url, f"/admin/versions/{number}{path}", key=admin).status == 404, path
    edit = {"question": "q", "answer": "a"}
    assert send(url, f"/admin/drafts/{number}", edit, key=admin).status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/release/start", {"version": 10**30}),
        ("/admin/promote", {"version": MOST + 1}),
        ("/admin/rollback", {"to": 10**30}),
        ("/admin/feedback", {"ids": [10**30], "status": "accepted"}),
        ("/admin/drafts", {"ids": [10**30], "status": "accepted"}),
    ],
    ids=["start", "promote", "rollback", "feedback", "drafts"],
)
def test_numbers_beyond_the_database_are_refused(url: str, admin: str, path: str, body: dict[str, Any]) -> None:
    assert send(url, path, body, key=admin).status == 400


@pytest.mark.slow
def test_generated_requests_hold_what_the_admin_document_says(hall: Hall, tmp_path: Path, admin: str) -> None:
    with serving(hall) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/admin/openapi.json"]
        command += ["--header", f"Authorization: Bearer {admin}", "--checks", "all"]
        # not every request that fits can be done: no release is under way; and no schema knows which keys there are
        command += ["--exclude-checks", "positive_data_acceptance", "--exclude-path", "/admin/keys/{key}/revoke"]
        command += ["--exclude-path", "/admin/keys/{key}/rotate"]
        command += ["--max-examples", "20", "--seed", "1", "--generation-deterministic"]
        command += ["--continue-on-failure", "--no-color", "--warnings", "off"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    made = re.search(r"(\d+) generated, \1 passed", ran.stdout)
    assert made is not None, ran.stdout
    assert int(made[1]) > 200
