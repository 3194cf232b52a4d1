"""Rows as Label Studio tasks, and a server that is not as it should be."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as Xml

import pytest

from label_studio_kit import Faulty
from nacre.base.errors import InputError, NacreError
from nacre.data.annotate import QUESTIONS, Client, client, config, open_project, projects, pull, push, read_token
from nacre.data.annotate.questions import tasks_of, with_opinions
from nacre.data.compose.pieces import Piece
from nacre.records import Example, Message, Origin

LEGACY, JWT = "0123456789abcdef", "head.body.sign"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(client, "BACKOFF_S", 0.0)


def row(question="q", answer="a", **more):
    prompt = (Message(role="user", content=question),)
    return Piece(Example(prompt=prompt, answers=(Message(role="assistant", content=answer),), **more))


def pair(chosen="one", rejected="two", question="q"):
    answers = tuple(Message(role="assistant", content=text) for text in (chosen, rejected))
    return Piece(Example(kind="preference", prompt=(Message(role="user", content=question),), answers=answers))


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_page_shows_what_its_tasks_have(question):
    page = Xml.fromstring(config(question, ("Good & <new>", "Bad") if question == "classify" else ()))
    names = {one.get("name") for one in page.iter() if one.get("name")}
    assert {to for one in page.iter() if one.get("toName") for to in one.get("toName").split(",")} <= names
    shown = {one.get("value")[1:] for one in page.iter("Text")}
    tasks, _ = tasks_of([pair() if question == "compare" else row()], question)
    assert shown == {name for name, text in tasks[0]["data"].items() if isinstance(text, str)}
    again = Xml.fromstring(with_opinions(config(question, "ab" if question == "classify" else ())))
    assert again[-1].get("value") == "$said"


@pytest.mark.parametrize(
    ("question", "classes", "part"),
    [("classify", (), "two or more"), ("classify", ("a", "a"), "different"), ("rate", ("a", "b"), "leave them out"),
     ("clasify", (), "did you mean 'classify'")],
)  # fmt: skip
def test_a_question_that_cannot_be_asked(question, classes, part):
    with pytest.raises(InputError, match=part):
        config(question, classes)


def test_rows_that_cannot_be_asked_about_are_counted():
    tasks, left = tasks_of([row(), row(), pair(), row("p", images=("a.png",))], "correct")
    assert len(tasks) == 1
    assert sorted(left.values()) == [1, 1, 1]


def test_a_task_has_the_whole_row_and_its_origin():
    turns = tuple(Message(role=role, content=role) for role in ("user", "assistant", "user"))
    example = row().example.changed(prompt=turns, system="be kind", origin=Origin(extra={"origin_line": 7}))
    ((task,), _) = tasks_of([Piece(example)], "correct")
    assert task["data"]["question"] == "system: be kind\n\nuser: user\n\nassistant: assistant\n\nuser: user"
    own = task["data"]["nacre"]
    assert Example.model_validate(own["row"]).content_id == example.content_id
    assert own["origin"] == {"origin_line": 7}
    assert tasks_of([Piece(example)], "correct")[0] == [task]
    assert tasks_of([Piece(example)], "rate")[0][0]["data"]["nacre"]["id"] != own["id"]


def test_the_chosen_answer_stands_on_either_side():
    tasks, _ = tasks_of([pair(question=str(number)) for number in range(60)], "compare")
    left = sum(task["data"]["left"] == "one" for task in tasks)
    assert 15 <= left <= 45


def test_a_key_is_read_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("A_TOKEN", f" {LEGACY}\n")
    assert read_token("A_TOKEN") == LEGACY
    (tmp_path / "token").write_text(f"{JWT}\n")
    assert read_token("A_TOKEN", tmp_path / "token") == JWT
    with pytest.raises(InputError, match="cannot be read"):
        read_token("A_TOKEN", tmp_path / "nothing")
    with pytest.raises(InputError, match="no token"):
        read_token("NO_TOKEN")
    monkeypatch.setenv("A_TOKEN", "two words-secret")
    with pytest.raises(InputError) as found:
        read_token("A_TOKEN")
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://[::1", ""])
def test_an_address_that_is_none(url):
    with pytest.raises(InputError, match="no web address"):
        Client(url, LEGACY)


def test_an_address_with_a_password_is_refused_and_not_shown():
    with pytest.raises(InputError, match="name or a password") as found:
        Client("http://anna:sesame@localhost:8080", LEGACY)
    assert "sesame" not in str(found.value)


@pytest.mark.parametrize(
    ("reply", "kind", "parts"),
    [
        (b"<!doctype html><html>", InputError, ("a web page answers", "the address of Label Studio alone")),
        (b"nonsense", InputError, ("no JSON",)),
        ((401, {"detail": f"Invalid token {LEGACY}"}), InputError, ("does not take the token", "a personal access")),
        ((403, {"detail": "not allowed"}), InputError, ("not allowed", "the right to it")),
        ((404, b"<html>"), InputError, ("status 404", "--project")),
        ((400, {"validation_errors": {"title": ["too short"]}}), InputError, ("too short",)),
        ((302, b""), InputError, ("https://elsewhere.example\n", "not followed")),
        ((503, {"detail": "later"}), NacreError, ("3 times", "later")),
        (None, NacreError, ("does not answer 3 times", "run the command again")),
    ],
)  # fmt: skip
def test_a_server_that_is_not_as_it_should_be(reply, kind, parts):
    with Faulty(reply) as server, pytest.raises(kind) as found:
        Client(server.url, LEGACY).get("/api/projects/")
    for part in (*parts, "where: http://127.0.0.1", "fix: "):
        assert part in str(found.value)
    assert LEGACY not in str(found.value)
    assert "secret" not in str(found.value)
    assert server.asked[0][2] == f"Token {LEGACY}"


def test_a_server_that_is_gone():
    with Faulty({}) as server:
        pass
    with pytest.raises(NacreError, match="does not answer") as found:
        Client(server.url, LEGACY).post("/api/projects/", {})
    assert found.value.exit_code == 1


def test_what_reads_is_tried_again_and_what_writes_is_not():
    with Faulty((502, b"bad"), None, {"well": 1}) as server:
        assert Client(server.url, LEGACY).get("/x") == {"well": 1}
    with Faulty((502, b"bad"), {"well": 1}) as server, pytest.raises(NacreError, match="not sent twice"):
        Client(server.url, LEGACY).post("/x", {})
    assert len(server.asked) == 1


def test_an_access_token_is_fetched_and_renewed_when_it_has_expired():
    expired = (401, {"detail": "token_not_valid"})
    with Faulty({"access": "first"}, {"n": 1}, expired, {"access": "second"}, {"n": 2}) as server:
        asked = Client(server.url, JWT)
        assert (asked.get("/a"), asked.get("/b")) == ({"n": 1}, {"n": 2})
    seen = [(path, given) for _, path, given, _ in server.asked]
    refresh = ("/api/token/refresh/", None)
    assert seen == [refresh, ("/a", "Bearer first"), ("/b", "Bearer first"), refresh, ("/b", "Bearer second")]
    with Faulty(expired) as server, pytest.raises(InputError, match="personal access token: token_not_valid"):
        Client(server.url, JWT).get("/a")
    with Faulty({"access": "first"}, {"n": 1}, expired, {"access": "second"}, expired) as server:
        asked = Client(server.url, JWT)
        asked.get("/a")
        with pytest.raises(InputError, match="does not take the token"):
            asked.get("/b")
    with Faulty({"other": 1}) as server, pytest.raises(InputError, match="no access token"):
        Client(server.url, JWT).get("/a")


def page(key, total, items, count):
    return {key: items, total: count}


def project(number=3, title="tickets", question="correct"):
    return {"id": number, "title": title, "label_config": config(question)}


def test_only_tasks_that_are_not_there_are_sent(monkeypatch):
    monkeypatch.setattr(projects, "BATCH", 2)
    tasks, _ = tasks_of([row(str(number)) for number in range(5)], "correct")
    listed = [{"id": n, **task} for n, task in enumerate(tasks[:2])]
    replies = [
        page("results", "count", [project(9, "tickets too"), project()], 2),
        page("tasks", "total", [{"id": 0, "data": {"text": "foreign"}}, listed[0]], 3),
        page("tasks", "total", [listed[1]], 3),
        (201, {"task_count": 2}),
        None,
    ]
    with Faulty(*replies) as server:
        asked = Client(server.url, LEGACY)
        with pytest.raises(NacreError, match="what has arrived is not sent twice"):
            push(asked, open_project(asked, "tickets", config("correct")), tasks)
    pages = [parse_qs(urlsplit(path).query).get("page") for _, path, _, _ in server.asked[1:3]]
    assert pages == [["1"], ["2"]]
    sent = [json.loads(body) for _, path, _, body in server.asked if path.endswith("/import")]
    assert sent == [tasks[2:4], tasks[4:5]]


def test_tasks_that_do_not_arrive_are_said():
    tasks, _ = tasks_of([row(str(number)) for number in range(5)], "correct")
    made = projects.Project(3, "tickets", "", "http://x/projects/3/data")
    replies = page("tasks", "total", [], 0), (201, {"task_count": 4})
    with Faulty(*replies) as server, pytest.raises(NacreError, match="took 4 of 5 tasks"):
        push(Client(server.url, LEGACY), made, tasks)


def test_a_project_is_made_once_and_must_ask_the_same():
    none = page("results", "count", [], 0)
    with Faulty(none, (201, project())) as server:
        assert open_project(Client(server.url, LEGACY), "tickets", config("correct"), people=2).made
    body = json.loads(server.asked[1][3])
    assert (body["title"], body["maximum_annotations"]) == ("tickets", 2)
    one = page("results", "count", [project()], 1)
    with Faulty(one) as server:
        asked = Client(server.url, LEGACY)
        there = open_project(asked, "tickets", config("correct").replace("><", ">\n  <"))
        assert (there.made, there.notes) == (False, ())
        two = open_project(asked, "tickets", config("correct"), people=2)
        assert two.notes == ("the project was there, and asks 1 people about each row, which stays",)
        with pytest.raises(InputError, match="asks another question"):
            open_project(asked, "tickets", config("rate"))
    two = page("results", "count", [project(), project(4)], 2)
    with Faulty(two) as server, pytest.raises(InputError, match="2 projects are called 'tickets'"):
        open_project(Client(server.url, LEGACY), "tickets", config("correct"))
    with Faulty(none) as server, pytest.raises(InputError, match="cannot be a project's title"):
        open_project(Client(server.url, LEGACY), "no", config("correct"))
    with Faulty({"detail": "?"}) as server, pytest.raises(InputError, match="no list 'results'"):
        open_project(Client(server.url, LEGACY), "tickets", config("correct"))


def test_an_export_that_breaks_off_leaves_the_old_file(tmp_path: Path):
    file = tmp_path / "export.json"
    file.write_text("old")
    found = projects.Project(3, "tickets", "", "")
    with Faulty(b'[{"id": 1, "annota') as server, pytest.raises(InputError, match="no JSON"):
        pull(Client(server.url, LEGACY), found, file)
    assert file.read_text() == "old"
    with Faulty([{"id": 1, "annotations": [1]}, {"id": 2, "annotations": []}]) as server:
        assert pull(Client(server.url, LEGACY), found, file) == (2, 1)
