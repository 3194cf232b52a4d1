"""A real Label Studio server of the test run's own, people who answer in it, and a server that plays replies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "NACRE_LABEL_STUDIO"
START_S = 400.0  # the first start makes the database


class Faulty:
    """A server that answers each request with the next of its replies: status, or body, or None to cut the line."""

    def __init__(self, *replies: Any) -> None:
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        rest = list(replies)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
                reply = rest.pop(0) if len(rest) > 1 else rest[0]
                if reply is None:
                    self.close_connection = True
                    return
                status, said = reply if isinstance(reply, tuple) else (200, reply)
                raw = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "https://elsewhere.example/secret")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_PATCH = do_GET

            def log_message(self, *_):
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Person:
    """Somebody with an account, in a browser's session."""

    def __init__(self, url: str, email: str) -> None:
        self.url, self.email = url, email
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        self._opener.open(f"{url}/user/signup/").close()
        form = {"email": email, "password": "sesame-open-7", "csrfmiddlewaretoken": self._csrf()}
        self._opener.open(f"{url}/user/signup/", urllib.parse.urlencode(form).encode()).close()
        self.number = str(self.call("GET", "/api/current-user/whoami")["id"])
        self.token = self.call("POST", "/api/token/", {})["token"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "X-CSRFToken": self._csrf()}
        data = None if body is None else json.dumps(body).encode()
        with self._opener.open(urllib.request.Request(self.url + path, data, headers, method=method)) as found:
            return json.loads(found.read() or b"null")

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """The tasks of a project, in their order."""
        return self.call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")

    def answer(self, task: int, *results: dict[str, Any], **more: Any) -> int:
        """As the labelling page sends it; returns the number of the annotation."""
        return self.call("POST", f"/api/tasks/{task}/annotations/", {"result": list(results), "lead_time": 1, **more})[
            "id"
        ]

    def mark_truth(self, annotation: int) -> None:
        self.call("PATCH", f"/api/annotations/{annotation}/", {"ground_truth": True})

    def _csrf(self) -> str:
        return next((one.value or "" for one in self._cookies if one.name == "csrftoken"), "")


def chosen(name: str, to: str, value: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": "choices", "value": {"choices": [value]}}


def written(name: str, to: str, text: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": "textarea", "value": {"text": [text]}}


@dataclass
class LabelStudio:
    """The server and its people: anna and ben."""

    url: str
    anna: Person
    ben: Person


@pytest.fixture(scope="module")
def label_studio() -> Iterator[LabelStudio]:
    """A fresh server on SQLite."""
    program = os.environ[VARIABLE]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="nacre-label-studio-"))
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "HOME": str(home)}
    words = [program, "start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1", "--data-dir", home]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            words, env=os.environ | quiet, stdout=log, stderr=log, cwd=home, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, server, home / "log")
        yield LabelStudio(url, Person(url, "anna@example.org"), Person(url, "ben@example.org"))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert server.poll() is None, f"Label Studio ended:\n{log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(f"Label Studio did not answer within {START_S:g} s:\n{log.read_text()[-2000:]}")
