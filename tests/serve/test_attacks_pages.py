"""Pages of other sites, shown by a browser on this machine, ask a server that needs no key."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from serving_kit import QUESTION

ASKED = json.dumps({"model": "bot", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1})


def post(url: str, headers: dict[str, str]) -> tuple[int, dict]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", ASKED, {"Content-Type": "application/json"} | headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},  # a page in a sandbox
        {"Origin": "http://127.0.0.1.example.org"},
        {"Host": "example.org:8000"},  # a name that was made to lead to this machine
        {"Host": "example.org:8000", "Origin": "http://example.org:8000"},
        {"Host": "[::1"},
    ],
)
def test_they_are_refused(folder_url: str, headers: dict[str, str]) -> None:
    status, body = post(folder_url, headers)
    assert (status, body["error"]["code"]) == (403, "foreign_origin")
    assert "nacre keys create" in body["error"]["message"]


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "localhost:1"}, {"Host": "[::1]:8000"}, {"Origin": "http://localhost:7860"}]
)
def test_programs_and_pages_of_this_machine_are_answered(folder_url: str, headers: dict[str, str]) -> None:
    assert post(folder_url, headers)[0] == 200
