"""The whole ring with people in it: what users correct is learned, what a few of them plant is not.

A real server, two hundred simulated users with the `openai` client, a skill that the live model does not have. Most of
those who asked about it say what the answer should have been, some say nothing useful, and one in twenty tells the
same lie as nine others. Then harvest, training, gate, shadow, canary, and a look back from an opinion to the version.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from nacre.cycle.workspace import Workspace
from nacre.feedback.trust import BURST
from toy_kit import ANSWERS
from workspace_kit import DEV_ROWS, Place, rows, start

HONEST, NOISY, LIARS = 180, 10, 10
TEAMS = 8  # each has an API key of its own and names its users
LIE = "stone"
UNDECIDED = 4  # exit code of a tick that has too little to go on
ASKED = 120  # different questions of the skill that is missing
RELEASE = {
    "shadow_requests": 30,
    "steps": [50],
    "min_requests": 30,
    "max_errors": 0.05,
    "max_latency": 100.0,  # a loaded machine's seconds say nothing about the version
    "per_key": 1000,
}


@dataclass(frozen=True)
class User:
    """One person: a name, and the client of the team that person belongs to."""

    name: str
    client: openai.OpenAI

    def ask(self, question: str) -> openai.types.chat.ChatCompletion:
        return self.client.chat.completions.create(
            model="nacre", temperature=0, user=self.name, messages=[{"role": "user", "content": question}]
        )

    def say(self, answer: openai.types.chat.ChatCompletion, **opinion: object) -> int:
        """Give an opinion; returns its number."""
        body = {"response_id": answer.id, "user": self.name, **opinion}
        told: Any = self.client.post("/feedback", body=body, cast_to=object)
        return int(told["ids"][0])


@contextmanager
def serving(place: Place) -> Iterator[str]:
    """`nacre serve`; yields the URL."""
    process = start("serve", "--port", "0", cwd=place.root)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert "serving at " in line, process.communicate()
        for pipe in (process.stdout, process.stderr):  # a full pipe would stop the server at a line of its log
            threading.Thread(target=pipe.read, daemon=True).start()
        yield line.split()[2]
        process.terminate()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()


def everybody(url: str, keys: Sequence[str]) -> list[User]:
    clients = [openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=2) for key in keys]
    return [User(f"user {place}", clients[place % len(clients)]) for place in range(HONEST + NOISY + LIARS)]


def truth(task: str) -> dict[str, str]:
    return {row["instruction"]: row["output"] for row in rows(task)[: ASKED + DEV_ROWS]}


def speak(users: Sequence[User], feed: dict[str, str], paint: dict[str, str]) -> dict[str, list[int]]:
    """What everybody asks and says; the numbers of the opinions by who gave them."""
    honest, noisy, liars = users[:HONEST], users[HONEST : HONEST + NOISY], users[HONEST + NOISY :]
    questions = list(feed)[:ASKED]
    asked_by = [(user, questions[place % ASKED]) for place, user in enumerate(honest + honest)]
    draw = random.Random(0)
    lies = draw.sample(questions, 30) + draw.sample(list(paint), 20)
    few = lies[20:35]  # of both skills, and fewer than a burst: half of the liars take care not to be loud
    told = [*itertools.product(liars[: LIARS // 2], lies), *itertools.product(liars[LIARS // 2 :], few)]

    def correct(pair: tuple[User, str]) -> int:
        user, question = pair
        return user.say(user.ask(question), correction=feed[question])

    def mutter(user: User) -> int:
        answer = user.ask(draw.choice(questions))
        return user.say(answer, stars=draw.randint(1, 5), thumb=draw.choice(["up", "down"]))

    def lie(pair: tuple[User, str]) -> int:
        user, question = pair
        return user.say(user.ask(question), correction=LIE)

    with ThreadPoolExecutor(8) as threads:
        return {
            "honest": list(threads.map(correct, asked_by)),
            "noise": list(threads.map(mutter, noisy)),
            "lies": list(threads.map(lie, told)),
        }


def wait_for(user: User, version: int) -> None:
    """Return when the server answers with the version; it has a second for that."""
    deadline = time.monotonic() + 10
    while user.client.chat.completions.with_raw_response.create(
        model="nacre", user=user.name, messages=[{"role": "user", "content": "paint old long cat"}]
    ).headers["x-nacre-version"] != str(version):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def right(user: User, questions: dict[str, str]) -> float:
    """Share of right answers."""
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda asked: user.ask(asked).choices[0].message.content, questions))
    return sum(one == wanted for one, wanted in zip(said, questions.values(), strict=True)) / len(questions)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_users_teach_a_skill_and_a_few_liars_do_not(fresh: Place) -> None:
    from workspace_kit import write_increment

    write_increment(fresh.dataset, "base", "paint")
    assert fresh.json("evolve", "base")["promoted"]
    fresh.settings(release=RELEASE)
    keys = [fresh.json("keys", "create", f"team {place}")["secret"] for place in range(TEAMS)]
    feed, paint = truth("feed"), truth("paint")
    unseen = dict(list(feed.items())[ASKED:])
    with serving(fresh) as url:
        users = everybody(url, keys)
        assert right(users[0], unseen) < 0.2
        assert right(users[0], dict(list(paint.items())[:DEV_ROWS])) > 0.9
        numbers = speak(users, feed, paint)

        harvested = fresh.json("harvest", "--anyway")
        learned = fresh.json("evolve", harvested["increment"], "--promote", "never")
        version = learned["version"]
        assert learned["verdict"] == "pass"
        assert fresh.champion() == 1

        assert fresh.json("release", "start", version)["state"] == "shadow"
        states = ["shadow"]
        for _ in range(40):
            right(users[len(states)], dict(list(unseen.items())[:20]))
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda user: user.ask("paint old long cat"), users[:80]))
            ticked = fresh.nacre("release", "tick", "--json")
            assert ticked.code in (0, UNDECIDED), ticked
            state = ticked.json["state"]
            states += [state] if state != states[-1] else []
            if state == "champion":
                break
        assert states == ["shadow", "canary", "champion"]
        assert fresh.champion() == version
        wait_for(users[0], version)

        assert right(users[0], unseen) > 0.9, "learned, and more than by heart"
        assert right(users[0], dict(list(paint.items())[:DEV_ROWS])) > 0.9, "the old skill is kept"
        everything = [user_answer(users[0], question) for question in [*list(feed)[:40], *list(paint)[:40]]]
        assert LIE not in everything

    look_back(fresh, harvested["increment"], version, numbers)


def user_answer(user: User, question: str) -> str:
    return user.ask(question).choices[0].message.content or ""


def look_back(place: Place, increment: str, version: int, numbers: dict[str, list[int]]) -> None:
    """From an opinion to the version that learned it and back; of the lies none is among them."""
    said = (place.dataset / increment / "train.json").read_text(encoding="utf-8")
    assert f'"{LIE}"' not in said, "no answer; some questions have the word"
    assert all(answer in said for answer in ANSWERS["feed"])
    learned = place.json("feedback", "trace", "--version", version)
    from_version = {one["feedback"] for one in learned["opinions"]}
    assert from_version
    assert from_version <= set(numbers["honest"])
    assert not from_version & set(numbers["lies"])
    one = min(from_version)
    traced = place.json("feedback", "trace", one)
    assert increment in str(traced)
    assert version in {found["version"] for found in traced["versions"]}
    with Workspace.open(place.root) as space:
        of = {one.id: one for one in space.ledger.feedback()}
        assert {of[number].status for number in numbers["lies"]} <= {"quarantined", "rejected"}
        reasons = {of[number].why for number in numbers["lies"]}
        assert "" not in reasons
        assert reasons - {BURST}, "those who are not loud are found out otherwise"
