"""A language model as judge: what it is asked, how its replies are read, and what happens when it fails."""

import http.server
import importlib.util
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from judge_kit import Fake
from nacre.base import chat_client
from nacre.base.errors import InputError, NacreError
from nacre.evaluate.judge.prompts import pair_prompt, question_of, read_choice, read_score, score_prompt
from nacre.evaluate.judge.verdicts import Asking, judge_client, judge_language
from nacre.records import Example, Message
from nacre.records.judge import Judge
from nacre.serve.run import background
from nacre.serve.settings import Serve


def ask(question, answer):
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(chat_client, "BACKOFF_S", 0.01)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("It is right.\nScore: 7", 0.7),
        ("**Score: 10**", 1.0),
        ("Score: 8/10", 0.8),
        ("Score: 3. No, I was wrong.\nScore: 4", 0.4),
        ("Score: 4\n\n", 0.4),
        ("`Score: 4.`", 0.4),
        ("Final score: 4", 0.4),
        ("最终评分：4", 0.4),
        ("A perfect score: 10", None),
        ("A perfect answer would get Score: 10, but this one misses the", None),
        ("Score: 10 is what a perfect answer gets", None),
        ("Quality score: 3 facts are wrong.\nScore: eight", None),
        ("Score: 7\nScore: -1", None),
        ("评分：6", 0.6),
        ("得分: 7.5", 0.75),
        ("Score: 0", 0.0),
        ("Score: 11", None),
        ("Score: 4/5", None),
        ("Score: -3", None),
        ("I would give it a seven.", None),
        ("7", None),
        ("Score: 100", None),
        ("", None),
    ],
)
def test_a_score_is_read_or_it_is_none(reply, score):
    assert read_score(reply) == score


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("Better.\nVerdict: A", "first"),
        ("verdict: **B**", "second"),
        ("Verdict: tie", "tie"),
        ("结论：B", "second"),
        ("结论：平局", "tie"),
        ("Verdict: Answer A", "first"),
        ("Verdict: A.", "first"),
        ("Final verdict: tie", "tie"),
        ("Verdict: A or B", None),
        ("Verdict: A and B are equally good", None),
        ("Verdict: A is worse than B", None),
        ("Verdict: B\nBut it did not cite it", None),
        ("Verdict: Apple", None),
        ("A", None),
        ("", None),
    ],
)
def test_a_preference_is_read_or_it_is_none(reply, choice):
    assert read_choice(reply) == choice


def test_prompts_hold_the_whole_conversation_and_answers_keep_their_braces():
    row = ask("What is {answer}?", "a place").changed(system="Be brief.")
    judge = Judge(url="http://x", model="m")
    prompt = score_prompt(judge, "en", row, "{reference} and {question}")
    assert "Be brief.\nWhat is {answer}?" in prompt
    assert "[Reference answer]\na place" in prompt
    assert "[Answer to judge]\n{reference} and {question}" in prompt
    assert "参考答案" not in score_prompt(judge, "zh", row.changed(answers=()), "x").split("【待评回答】")[1]
    pair = pair_prompt(judge, "zh", row, "甲", "乙")
    assert pair.index("甲") < pair.index("乙")
    talk = row.changed(prompt=(*row.prompt, Message(role="assistant", content="so"), Message(role="user", content="?")))
    assert question_of(talk) == "Be brief.\nuser: What is {answer}?\nassistant: so\nuser: ?"
    own = Judge(url="http://x", model="m", prompt="Q {question} A {answer}")
    assert score_prompt(own, "en", row.changed(system=""), "yes") == "Q What is {answer}? A yes"
    with pytest.raises(ValueError, match=r"must hold \{answer\}"):
        Judge(url="http://x", model="m", prompt="{question}")


def test_the_language_follows_the_references():
    judge = Judge(url="http://x", model="m")
    assert judge_language(judge, ["今天天气很好"]) == "zh"
    assert judge_language(judge, ["fine weather"]) == "en"
    assert judge_language(Judge(url="http://x", model="m", language="en"), ["今天天气很好"]) == "en"


def test_scores_by_place_each_question_asked_once_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    rows = {place: ask(f"q{place % 2}", "r") for place in (0, 1, 4)}
    answers = {0: "good", 1: "bad", 4: "good"}  # rows 0 and 4 are the same question and answer
    with Fake(lambda prompt, _: "Score: 9" if "good" in prompt.split("judge]")[1] else "Score: 2") as fake:
        asking = Asking(fake.settings(key_env="JUDGE_KEY"), tmp_path)
        found = asking.scores(rows, answers, "en")
        assert found.scores == {0: 0.9, 1: 0.2, 4: 0.9}
        assert found.notes == (f"judged by wise at {fake.url}, prompt in en",)
        assert len(fake.prompts) == 2
        (path, key, body), *_ = fake.headers
        assert (path, key) == ("/v1/chat/completions", "Bearer secret")
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("wise", 0, 512)
        again = Asking(fake.settings(key_env="JUDGE_KEY", timeout_s=3), tmp_path).scores(rows, answers, "en")
        assert again == found
        assert len(fake.prompts) == 2
        Asking(fake.settings(model="wiser"), tmp_path).scores(rows, answers, "en")
        assert len(fake.prompts) == 4
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "good" not in kept  # verdicts and hashes, no text of any row
    assert "secret" not in kept


def test_what_cannot_be_read_is_counted_asked_once_more_and_not_guessed(tmp_path):
    rows = {place: ask(f"q{place}", "r") for place in range(3)}
    tries = Counter()

    def reply(prompt, _):
        place = prompt.split("[Question]\nq")[1][0]
        tries[place] += 1
        if place == "0":
            return "fairly good, I think"
        return "hm" if place == "1" and tries[place] == 1 else "Score: 5"

    with Fake(reply) as fake:
        found = Asking(fake.settings(), tmp_path).scores(rows, dict.fromkeys(rows, "x"), "en")
    assert found.scores == {1: 0.5, 2: 0.5}
    assert tries == {"0": 2, "1": 2, "2": 1}
    assert any(
        "1 of 3 rows got no verdict that could be read and are left out, e.g. 'fairly good, I think'" in note
        for note in found.notes
    )


def test_both_orders_cancel_a_judge_that_favours_a_place(tmp_path):
    rows = [ask(f"q{place}", "r") for place in range(5)]
    old = ["plain", "plain", "worse", "same", "better"]
    new = ["other", "better", "plain", "same ", "plain"]

    def reply(prompt, _):
        first, second = prompt.split("[Answer A]\n")[1].split("\n\nSay")[0].split("\n\n[Answer B]\n")
        rank = {"worse": 0, "plain": 1, "other": 1, "better": 2}
        best = "A" if rank[first] >= rank[second] else "B"  # takes the first place where they are alike
        return f"Verdict: {best}"

    with Fake(reply) as fake:
        found = Asking(fake.settings(), tmp_path).preferences(
            dict(enumerate(rows)), dict(enumerate(zip(old, new, strict=True))), "en"
        )
        assert len(fake.prompts) == 8
    assert found.scores == {0: 0.5, 1: 1.0, 2: 1.0, 3: 0.5, 4: 0.0}
    assert "1 of 5 pairs are equal answers: not sent, 0.5 each" in found.notes
    assert "in 1 of 4 pairs the judge took the place, not the answer: 0.5 each" in found.notes


def test_a_pair_with_one_unreadable_order_is_left_out(tmp_path):
    with Fake(lambda prompt, _: "Verdict: A" if prompt.index("alpha") < prompt.index("beta") else "?") as fake:
        found = Asking(fake.settings(), tmp_path).preferences({3: ask("q", "r")}, {3: ("alpha", "beta")}, "en")
    assert found.scores == {}
    assert any("1 of 1 rows got no verdict" in note for note in found.notes)


def test_passing_faults_are_tried_again():
    def reply(_, number):
        return {1: 500, 2: 429, 3: b"no json"}.get(number, "Score: 4")

    with Fake(reply) as fake:
        assert judge_client(fake.settings(retries=3)).ask("x") == "Score: 4"
        assert len(fake.prompts) == 4


@pytest.mark.parametrize(
    ("reply", "more", "message", "fix"),
    [
        (lambda *_: 503, {}, "failed 3 times: status 503: told so", "start that server or correct"),
        (lambda *_: b"<html>", {}, "failed 3 times: the reply is no chat completion", "evaluate.judge"),
        (lambda *_: time.sleep(0.4) or "late", {"timeout_s": 0.1}, "no answer within 0.1 s", "timeout_s"),
        (lambda *_: 401, {}, "refuses, status 401", "key_env"),
        (lambda *_: 404, {}, "refuses, status 404", "evaluate.judge.url"),
        (lambda *_: 400, {}, "refuses, status 400: told so", "correct evaluate.judge"),
    ],
)
def test_a_judge_that_fails_is_an_error_that_says_what_to_do(reply, more, message, fix):
    with Fake(reply) as fake:
        with pytest.raises(NacreError, match=message) as caught:
            judge_client(fake.settings(**more)).ask("x")
        assert fix in caught.value.fix
        assert len(fake.prompts) == (1 if "refuses" in message else 3)


def test_nobody_there_is_an_error_too():
    with Fake(lambda *_: "") as fake:
        gone = fake.settings(retries=1)
    with pytest.raises(NacreError, match=r"failed 2 times: .*refused"):
        judge_client(gone).ask("x")


def test_verdicts_that_were_given_before_a_failure_are_kept(tmp_path):
    rows = {place: ask(f"q{place}", "r") for place in range(4)}
    down = True

    def reply(prompt, _):
        return 503 if down and "[Question]\nq3" in prompt else "Score: 6"

    with Fake(reply) as fake:
        asking = Asking(fake.settings(parallel=1, retries=0), tmp_path)
        with pytest.raises(NacreError, match="failed 1 times") as caught:
            asking.scores(rows, dict.fromkeys(rows, "x"), "en")
        assert "the verdicts it gave are kept" in caught.value.fix
        down, before = False, len(fake.prompts)
        (path,) = tmp_path.iterdir()
        path.write_text(path.read_text() + '["torn')  # a kill in the middle of a line
        assert asking.scores(rows, dict.fromkeys(rows, "x"), "en").scores == dict.fromkeys(rows, 0.6)
        assert len(fake.prompts) == before + 1


def test_a_missing_key_and_an_address_that_is_none_are_the_users_mistake(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(InputError, match="NOT_SET is not set"):
        judge_client(Judge(url="http://x/v1", model="m", key_env="NOT_SET"))
    with pytest.raises(InputError, match="no web address"):
        judge_client(Judge(url="localhost:8000", model="m"))


def test_a_key_is_never_shown_and_white_space_around_it_is_no_part_of_it(monkeypatch):
    with Fake(lambda *_: "Score: 1") as fake:
        monkeypatch.setenv("JUDGE_KEY", " sk-secret\n")
        judge_client(fake.settings(key_env="JUDGE_KEY")).ask("x")
        assert fake.headers[0][1] == "Bearer sk-secret"
        for odd in ("sk-secret\nmore", "sk-secret\x7f", "sk-secret\u2013", "sk-s\u00e9cret"):
            monkeypatch.setenv("JUDGE_KEY", odd)
            with pytest.raises(InputError, match="JUDGE_KEY holds characters") as caught:
                judge_client(fake.settings(key_env="JUDGE_KEY"))
            assert "sk-s" not in str(caught.value)
        assert len(fake.prompts) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_nobody_else_gets_the_key(monkeypatch, code):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET

    class Here(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(code)
            self.send_header("Location", f"http://localhost:{other.server_port}/v1?token=t")
            self.end_headers()

    other, here = (http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Elsewhere, Here))
    for server in (other, here):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = Judge(url=f"http://127.0.0.1:{here.server_port}/v1", model="m", key_env="JUDGE_KEY", retries=1)
        with pytest.raises(InputError, match=f"status {code}: it points to localhost:{other.server_port}") as caught:
            judge_client(settings).ask("x")
    finally:
        for server in (other, here):
            server.shutdown()
            server.server_close()
    assert "redirects are not followed" in caught.value.fix
    assert asked == []


def test_nacres_own_server_is_a_judge(tmp_path, monkeypatch):
    """A real OpenAI-compatible server: a model that learned by heart to say `Score: 7` to one prompt."""
    place = Path(__file__).parents[1] / "serve" / "serving_kit.py"
    spec = importlib.util.spec_from_file_location("serving_kit_of_the_judge", place)
    kit = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, kit)
    spec.loader.exec_module(kit)
    folder = kit.make_model(tmp_path / "model", "It is right.\nScore: 7", 0)
    weights = kit.Weights(identity="0" * 64, model=str(folder))
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    with background(weights, Serve(port=0, name="judge", api_keys=("sesame",))) as url:
        settings = Judge(
            url=f"{url}/v1", model="judge", key_env="JUDGE_KEY", prompt="{question}{answer}", max_tokens=40
        )
        found = Asking(settings, tmp_path / "kept").scores({0: ask("nac", "")}, {0: "re?"}, "en")
        assert found.scores == {0: 0.7}
        with pytest.raises(InputError, match="refuses, status 401"):
            judge_client(settings.model_copy(update={"key_env": None})).ask("x")
        with pytest.raises(InputError, match="refuses, status 404"):
            judge_client(settings.model_copy(update={"model": "nobody"})).ask("x")
