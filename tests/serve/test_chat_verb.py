"""`nacre chat`: by URL and with the workspace's champion, one question and a conversation, and what goes wrong."""

import asyncio
import io
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from scripted_engine import BREAK, MADE, TOLD_ESCAPES, ScriptedEngine
from serving_kit import ANSWERS, QUESTION, Place, Shelf

from nacre.cli import app, run
from nacre.cycle.versions.description import describe
from nacre.cycle.workspace import Workspace
from nacre.records import RowsFile, Snapshot
from nacre.records.recipe import Recipe
from nacre.records.version import Environment
from nacre.serve.api.defaults import _read as defaults_file
from nacre.serve.engines import ENGINES, ChatPrompt, EngineError, Target
from nacre.serve.run import background
from nacre.serve.settings import Serve

KEY = "chat-key"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Terminal:
    """Runs the verb with lines for its standard input."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._url, self._capsys, self._patch = url, capsys, patch

    def chat(self, *words: str, lines: str = "", url: str | None = None, key: str = KEY) -> Ran:
        self._patch.setattr(sys, "stdin", io.StringIO(lines))
        with pytest.raises(SystemExit) as left:
            run(app, ["chat", *words, "--url", url or self._url, "--api-key", key])
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err
        return Ran(int(left.value.code or 0), told.out, told.err)


@pytest.fixture
def url(champion: Place) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        with background(champion.source, Serve(port=0, name="bot", engine="scripted", api_keys=(KEY,))) as url:
            yield url


@pytest.fixture
def terminal(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(url, capsys, monkeypatch)


def test_one_question_is_answered_and_told_as_json(terminal: Terminal) -> None:
    assert terminal.chat("你好，珍珠") == Ran(0, "你好，珍珠\n", "")
    told = json.loads(terminal.chat("你好", "--json").out)
    assert (told["answer"], told["finish_reason"], told["version"]) == ("你好", "stop", "1")
    assert told["id"].startswith("chatcmpl-")
    assert told["usage"]["total_tokens"] == 4
    refused = terminal.chat("--json")
    assert refused.code == 2
    assert "needs a question" in json.loads(refused.out)["error"]["what"]


def test_a_conversation_remembers_and_begins_anew(terminal: Terminal) -> None:
    ran = terminal.chat(
        "--system", "be brief", "--temperature", "0", lines="first\n\nsecond\n//third\n/history\n/reset\nfourth\n"
    )
    assert ran.code == 0
    told = "system: be brief\nuser: first\nassistant: first\nuser: second\nassistant: second\nuser: /third\n"
    assert told in ran.out
    asked = [prompt for prompt, _ in MADE[-1].seen]
    assert [prompt.system for prompt in asked if isinstance(prompt, ChatPrompt)] == ["be brief"] * 4
    assert [len(prompt.messages) for prompt in asked if isinstance(prompt, ChatPrompt)] == [1, 3, 5, 1]
    assert {drawn.temperature for _, drawn in MADE[-1].seen} == {0}


def test_a_system_text_can_be_given_and_taken(terminal: Terminal) -> None:
    terminal.chat(lines="/system 简短\none\n/system\ntwo\n")
    assert [prompt.system for prompt, _ in MADE[-1].seen] == ["简短", ""]


def test_feedback_reaches_the_ledger(terminal: Terminal, champion: Place) -> None:
    ran = terminal.chat(lines="one\n/good 很好\ntwo\n/bad\n/fix 第二\n/history\n")
    assert ran.code == 0
    assert "assistant: 第二" in ran.out
    said = [(one.kind, one.value, one.text) for one in champion.ledger.feedback()]
    assert said == [("stars", 5, ""), ("comment", None, "很好"), ("stars", 1, ""), ("correction", None, "第二")]


def test_names_can_be_listed_and_chosen(terminal: Terminal) -> None:
    ran = terminal.chat(lines="/model\n/model bot@1\none\n/model bot@9\ntwo\n")
    assert "bot bot:champion bot@1" in ran.out
    assert "bot@9" in ran.err
    assert ran.out.endswith("one\ntwo\n"), "a name that does not exist is not taken"
    assert ran.code == 1


def test_mistakes_are_told_and_the_conversation_goes_on(terminal: Terminal) -> None:
    ran = terminal.chat(lines=f"/godo\n/good\n/fix\n{BREAK}\n/help\nstill here\n")
    assert ran.code == 1
    assert "did you mean /good" in ran.err
    assert "nothing has been answered yet" in ran.err
    assert "the engine broke" in ran.err
    assert "/system" in ran.out
    assert ran.out.endswith("still here\n")


def test_what_a_model_writes_cannot_steer_the_terminal(terminal: Terminal) -> None:
    assert terminal.chat(TOLD_ESCAPES).out == "a\ufffd[2Jb\n"


def test_servers_that_are_none_are_told(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "no server answers" in terminal.chat("x", url=closed).err
    wrong = terminal.chat("x", key="other")
    assert wrong.code == 2
    assert "--api-key" in wrong.err
    assert terminal.chat("x", "--model", "other").code == 2
    assert "no web address" in terminal.chat("x", url="ftp://here").err
    assert "ASCII" in terminal.chat("x", key="schlüssel").err


@pytest.mark.parametrize(
    "wrong",
    [
        "http://[::1",
        "http://a..b",
        "http://h:99999",
        "http://h:port",
        f"http://{'a' * 70}.b",
        "http://ä..b",
        "http://h/模",
    ],
)
def test_a_mistyped_address_is_told(terminal: Terminal, wrong: str) -> None:
    ran = terminal.chat("x", url=wrong)
    assert ran.code == 2
    assert "this is no web address" in ran.err
    assert f"where: {wrong}" in ran.err
    assert "fix: write it like" in ran.err


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>",
            "does not speak OpenAI's API",
        ),
        (b"HTTP/1.1 502 X\r\nconnection: close\r\n\r\n<html>", "does not speak OpenAI's API"),
        (
            b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "does not speak OpenAI's API",
        ),
        (b"not http at all\r\n\r\n", "no server answers"),
    ],
)
def test_what_is_no_such_api_is_told(terminal: Terminal, reply: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        ran = terminal.chat("x", url=f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert told in ran.err
    assert ran.code in (1, 2)


def test_a_stream_that_just_ends_is_no_whole_answer(terminal: Terminal) -> None:
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head + event)

        thread = threading.Thread(target=answer)
        thread.start()
        ran = terminal.chat("x", "--model", "bot", url=f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert (ran.code, ran.out) == (1, "half")
    assert "broken off" in ran.err


@pytest.fixture
def workspace(shelf: Shelf, tmp_path: Path) -> Path:
    root = tmp_path / "assistant"
    root.mkdir()
    (root / "nacre.yaml").write_text(json.dumps({"model": str(shelf.folders[0]), "serve": {"name": "bot"}}))
    add_version(root, shelf.folders[0])
    return root


def add_version(root: Path, folder: Path) -> None:
    """Store a model as the workspace's next version."""
    with Workspace.open(root) as space:
        space.ledger.add_version(
            base="base",
            base_sha256="0" * 64,
            kind="full",
            artifact=space.store.publish_folder(folder),
            recipe=Recipe(),
            environment=Environment(python="3", packages={}, machine="here", device="cpu"),
            snapshot=Snapshot(task="t", train=RowsFile(sha256="a" * 64, rows=1), dev=None, sources={}),
            tasks=("t",),
        )


def test_without_a_url_the_champion_is_started(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["chat", QUESTION, "--workspace", str(workspace), "--temperature", "0", "--json"]
    with pytest.raises(SystemExit) as left:
        run(app, words)
    assert left.value.code == 2
    assert "no champion" in json.loads(capsys.readouterr().out)["error"]["what"]
    with Workspace.open(workspace) as space:
        space.ledger.promote(1, actor="test", why="start")
    with pytest.raises(SystemExit) as left:
        run(app, words)
    told = json.loads(capsys.readouterr().out)
    assert left.value.code == 0
    assert (told["answer"], told["version"], told["model"]) == (ANSWERS[0], "1", "bot@1")
    with Workspace.open(workspace) as space:
        assert space.ledger.interaction(told["id"]) is not None


class LateEngine(ScriptedEngine):
    """Loads version 1 late, or not at all where `fault` is set."""

    late_s = 0.0
    fault = ""
    asked: ClassVar[list[int]] = []

    async def load(self, target: Target) -> None:
        self.asked.append(target.version)
        if target.version == 1:
            await asyncio.sleep(self.late_s)
            if self.fault:
                raise EngineError(self.fault)
        await super().load(target)


Local = Callable[..., Ran]


@pytest.fixture
def local(workspace: Path, shelf: Shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Local:
    """Runs the verb without a server; version 2 is champion, and version 1, the one before, is loaded late."""
    add_version(workspace, shelf.folders[1])
    (workspace / "nacre.yaml").write_text(json.dumps({"model": "m", "serve": {"name": "bot", "engine": "late"}}))
    with Workspace.open(workspace) as space:
        space.ledger.promote(1, actor="test", why="start")
        space.ledger.promote(2, actor="test", why="the next one")
    monkeypatch.setitem(ENGINES._entries, "late", f"{__name__}:LateEngine")
    monkeypatch.setattr(LateEngine, "asked", [])

    def chat(*words: str, lines: str = "", late_s: float = 600.0) -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        monkeypatch.setattr(LateEngine, "late_s", late_s)
        with pytest.raises(SystemExit) as left:
            run(app, ["chat", *words, "--workspace", str(workspace)])
        told = capsys.readouterr()
        return Ran(int(left.value.code or 0), told.out, told.err)

    return chat


@pytest.mark.parametrize("name", ["bot:previous-1", "bot@1"])
def test_a_version_that_is_still_being_loaded_is_waited_for(local: Local, name: str) -> None:
    ran = local("hello", "--model", name, "--json", late_s=1.0)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["version"] == "1"


def test_a_version_is_waited_for_in_a_conversation_too(local: Local) -> None:
    ran = local(lines="/model bot:previous-1\nhello\n", late_s=1.0)
    assert (ran.code, ran.out) == (0, "hello\n"), ran.err


def test_a_version_that_cannot_be_loaded_is_not_waited_for(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LateEngine, "fault", "its weights are cut off")
    ran = local("hello", "--model", "bot:previous-1", late_s=0.0)
    assert ran.code == 1
    assert "its weights are cut off" in ran.err
    assert "where: version 1" in ran.err


def test_a_name_that_does_not_exist_is_refused_at_once_with_those_that_do(local: Local) -> None:
    ran = local("hello", "--model", "bot:previus-1")  # version 1 is never loaded
    assert ran.code == 2
    assert "unknown model 'bot:previus-1'" in ran.err
    assert "did you mean 'bot:previous-1'?" in ran.err
    assert "Known: bot, bot:champion, bot:previous-1, bot@1, bot@2" in ran.err
    assert local(lines="hello\n").out == "hello\n", "the champion is asked while the others are loaded"


def test_one_question_waits_for_no_other_version_than_the_champion(local: Local) -> None:
    assert local("hello").out == "hello\n"
    assert LateEngine.asked == [2]


def test_what_a_version_answers_with_is_shown(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Workspace.open(workspace) as space:
        artifact = space.store.path(space.ledger.version(1).artifact)
        assert describe(space, 1)["defaults"] == {}
    told = json.loads((artifact / "generation_config.json").read_text()) | {"temperature": 0.6, "max_new_tokens": 50}
    (artifact / "generation_config.json").chmod(0o644)
    (artifact / "generation_config.json").write_text(json.dumps(told))
    (workspace / "nacre.yaml").write_text(json.dumps({"model": "m", "serve": {"defaults": {"top_p": 0.5}}}))
    defaults_file.cache_clear()
    with pytest.raises(SystemExit) as left:
        run(app, ["versions", "show", "1", "--workspace", str(workspace)])
    assert left.value.code == 0
    assert "temperature 0.6, top_p 0.5, max_tokens 50" in " ".join(capsys.readouterr().out.split())


def _heeds_ctrl_c() -> None:
    """What a shell runs in the background is told to ignore Ctrl-C, and hands that on to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_at_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(url: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nacre", "chat", "--url", url, "--api-key", KEY]
    environment = os.environ | {"TERM": "dumb", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=_heeds_ctrl_c,  # it does nothing that another thread could hold a lock of
    )
    os.close(theirs)
    seen = b""

    def until(text: str) -> None:
        """Read past this text and the prompt behind it: keys pressed before the prompt may be lost."""
        nonlocal seen
        while "> " not in seen.decode("utf-8", "replace").partition(text)[2]:
            assert select.select([ours], [], [], 60)[0], f"nothing came after {seen!r}"
            seen += os.read(ours, 4096)
        assert b"Traceback" not in seen
        seen = b""

    try:
        until("version 1. /help")
        os.write(ours, "你好\n".encode())
        until("\r\n你好\r\n")
        before = len(MADE[-1].seen)
        os.write(ours, b"never say anything\n")
        deadline = time.monotonic() + 30
        while len(MADE[-1].seen) == before or not MADE[-1].running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        until("(stopped)")
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(ours)
