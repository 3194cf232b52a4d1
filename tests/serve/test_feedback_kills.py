"""`nacre serve` is killed while people speak: what was acknowledged is on disk, with the answer it is about."""

import json
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from serving_kit import QUESTION, Shelf

from nacre.cycle.workspace import Workspace
from nacre.records import RowsFile, Snapshot
from nacre.records.recipe import Recipe
from nacre.records.version import Environment
from workspace_kit import start

CLIENTS, KILLS, EACH = 6, 3, 6
AT_LEAST = 40  # opinions a round, before it is killed


def make_workspace(root: Path, shelf: Shelf) -> Path:
    root.mkdir()
    settings = {"model": str(shelf.folders[0]), "serve": {"name": "bot", "log": "off"}}  # nobody reads its pipe
    (root / "nacre.yaml").write_text(json.dumps(settings))
    with Workspace.open(root) as space:
        space.ledger.add_version(
            base="base",
            base_sha256="0" * 64,
            kind="full",
            artifact=space.store.publish_folder(shelf.folders[0]),
            recipe=Recipe(),
            environment=Environment(python="3", packages={}, machine="here", device="cpu"),
            snapshot=Snapshot(task="t", train=RowsFile(sha256="a" * 64, rows=1), dev=None, sources={}),
            tasks=("t",),
        )
        space.ledger.promote(1, actor="test", why="start")
    return root


@dataclass
class People:
    """Clients that ask and say what they think of it, each as fast as it is answered."""

    url: str
    acknowledged: dict[int, tuple[str, str]] = field(default_factory=dict)  # number: answer, comment

    def __post_init__(self) -> None:
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.speak, args=(place,)) for place in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def speak(self, place: int) -> None:
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
            while not self.over.is_set():
                try:
                    self.turn(client, f"person {place}")
                except openai.APIError:
                    if not self.over.is_set():
                        time.sleep(0.01)

    def turn(self, client: openai.OpenAI, user: str) -> None:
        asked = [{"role": "user", "content": QUESTION}]
        answer = client.chat.completions.create(model="bot", messages=asked, max_tokens=2, user=user)
        for number in range(EACH):
            comment = f"{user} says {number} of {answer.id}"
            told = client.post("/feedback", body={"response_id": answer.id, "comment": comment}, cast_to=object)
            assert isinstance(told, dict)
            self.acknowledged[told["ids"][0]] = (answer.id, comment)

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.slow
def test_no_acknowledged_opinion_is_lost_however_often_it_is_killed(shelf: Shelf, tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "assistant", shelf)
    chance, said = random.Random(0), dict[int, tuple[str, str]]()
    for _ in range(KILLS):
        server = start("serve", "--port", "0", cwd=root, stdin=subprocess.DEVNULL)
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        people = People(url)
        wanted, until = AT_LEAST + chance.randrange(60), time.monotonic() + 300
        while len(people.acknowledged) < wanted:
            assert time.monotonic() < until, "nobody is heard"
            time.sleep(0.002)
        server.send_signal(signal.SIGKILL)
        server.communicate()
        people.end()
        assert not said.keys() & people.acknowledged.keys(), "a number is given once"
        said |= people.acknowledged
    with Workspace.open(root) as space:
        stored = {one.id: one for one in space.ledger.feedback()}
        lost = [number for number in said if number not in stored]
        assert lost == []
        for number, (answer, comment) in said.items():
            assert (stored[number].interaction, stored[number].text) == (answer, comment)
        answers = {answer for answer, _ in said.values()}
        assert [one for one in answers if space.ledger.interaction(one) is None] == []
        assert space.ledger.verify_chain() > 0
    assert len(said) >= KILLS * AT_LEAST
