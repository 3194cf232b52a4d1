"""People's opinions: blinded, by several raters, as scores in a report."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.review import answer, export_scores, status
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.records import Decoding
from nacre.records.report import paired_scores
from nacre.records.review import Opinion, ReviewItem
from workspace_kit import Place, _lived_in, _wide, assert_clear, lived_in

__all__ = ["_lived_in", "_wide", "lived_in"]

TASK = "increment_1"  # version 1 does not know it, version 2 does: their answers differ


def item(**changes):
    about = {"queue": "q", "kind": "pair", "task": "t", "dev": "d", "place": 0, "question": "?", "reference": "!"}
    texts = {"left": "one", "right": "two", "versions": (1, 2), "weights": ("a", "b"), "created": "now"}
    texts["decoding"] = Decoding(max_new_tokens=4)
    return ReviewItem(**(about | texts | changes))


def said(*choices):
    return tuple(Opinion(rater=f"r{place}", choice=choice, time="now") for place, choice in enumerate(choices))


@pytest.mark.parametrize(
    ("changes", "scores"),
    [
        ({"opinions": said("left")}, (1, 0)),
        ({"opinions": said("left"), "turned": True}, (0, 1)),
        ({"opinions": said("right"), "turned": True}, (1, 0)),
        ({"opinions": said("tie")}, (0.5, 0.5)),
        ({"opinions": said("right", "right", "left", "skip")}, (pytest.approx(1 / 3), pytest.approx(2 / 3))),
        ({"opinions": said("skip")}, None),
        ({"opinions": ()}, None),
        ({"status": "equal"}, (0.5, 0.5)),
        ({"kind": "single", "versions": (1,), "weights": ("a",), "opinions": said("1", "4")}, (0.375,)),
        ({"kind": "single", "versions": (1,), "weights": ("a",), "opinions": said("5")}, (1,)),
    ],
)
def test_opinions_as_scores_of_the_versions(changes, scores):
    assert item(**changes).scores == scores


def truth(place: Place) -> dict[int, str]:
    """By item, the side of the answer that is the reference, or tie."""
    with Workspace.open(place.root) as space:
        items = [one for queue in space.ledger.reviews.queues() for one in space.ledger.reviews.items(queue)]
    return {
        one.id: "left" if one.left == one.reference else "right" if one.right == one.reference else "tie"
        for one in items
        if one.status != "equal"
    }


def test_a_review_from_the_first_item_to_the_report(lived_in: Place) -> None:
    added = lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 12)
    assert added["queue"] == f"v1-v2-{TASK}"
    assert added["asked"] + added["equal"] == 12
    assert added["asked"] > 6
    right = truth(lived_in)
    assert {"left", "right"} <= set(right.values()), "which answer stands on the left must differ"
    asked = set()
    while (item := lived_in.json("review", "next", "--rater", "ann")["next"]) is not None:
        assert set(item) == {"item", "task", "question", "reference", "left", "right", "choices"}
        assert not re.search(r"version|weights|v1|v2", json.dumps(item))
        assert item["item"] not in asked
        asked.add(item["item"])
        choice = right[item["item"]] if len(asked) > 1 else "skip"
        assert lived_in.json("review", "answer", item["item"], choice, "--rater", "ann")["new"]
    assert asked == set(right)
    (found,) = lived_in.json("review", "status")["reviews"]
    assert (found["versions"], found["items"], found["skipped"]) == ([1, 2], 12, 1)
    assert found["answered"] == added["asked"] - 1
    assert found["raters"] == {"ann": added["asked"] - 1}
    wins = sum(one != "tie" for one in right.values())
    assert wins - 1 <= found["rate"]["wins"] <= wins
    assert found["rate"]["losses"] == 0
    assert found["rate"]["low"] < found["rate"]["value"] <= found["rate"]["high"]
    assert found["agreement"] is None
    with Workspace.open(lived_in.root) as space:
        old, new = (space.ledger.get_report(found["reports"][number]) for number in ("1", "2"))
        # of the equal pairs as many count as go with the share of asked rows that were answered
        counted = added["asked"] - 1 + added["equal"] * (added["asked"] - 1) // added["asked"]
        assert (old.metric, new.metric, new.rows) == ("human", "human", counted)
        assert new.notes == ("1 of 12 rows have no opinion yet; equal pairs count in that proportion",)
        assert new.mean == pytest.approx(found["rate"]["value"])
        before, after = paired_scores(old, new)
        assert [one + other for one, other in zip(before, after, strict=True)] == pytest.approx([1.0] * counted)
        dev = dict(devs(tasks_of(ancestry(space, 2))))[TASK]
        for version, report in ((1, old), (2, new)):
            usual = Scorer(space).reports(space.weights(space.ledger.version(version)), [(TASK, dev)])[TASK]
            assert report.answers == tuple(usual.answers[place] for place in report.places)
        assert all(report.metric != "human" for report in space.ledger.reports(task=TASK))
    assert "1 rows are still open" in lived_in.nacre("review", "export", "said", "--scores").out
    files = lived_in.json("review", "export", "said", "--scores")["files"]
    assert files == {"said-v1.jsonl": counted, "said-v2.jsonl": counted}
    lines = [json.loads(line) for line in (lived_in.root / "said-v2.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == list(new.scores["human"])
    assert {line["task"] for line in lines} == {TASK}
    assert len({line["id"] for line in lines}) == counted
    gated = lived_in.nacre("gate", "said-v1.jsonl", "said-v2.jsonl", "--json")
    assert gated.code in (0, 4), gated  # too few rows may not be enough to pass; no loss is shown
    assert 0 < gated.json["tasks"][TASK]["rows_used"] <= counted
    assert gated.json["tasks"][TASK]["drop"] < 0


def test_a_review_that_has_just_begun_is_no_draw(lived_in: Place) -> None:
    """Of 170 pairs 140 are equal answers: they count as ties only as far as the others were answered."""

    def rated(choices: dict[int, str]) -> tuple[int, float, int]:
        with Workspace.open(lived_in.root) as space:
            for number, choice in choices.items():
                answer(space, first + number, choice, "ann")
            found, files = status(space, "q"), export_scores(space, "q", lived_in.root / "said")
        assert len(set(files.values())) == 1
        return found.rate.wins + found.rate.ties + found.rate.losses, found.rate.value, next(iter(files.values()))

    with Workspace.open(lived_in.root) as space:
        made = space.ledger.reviews.add(
            [
                item(place=place, task=TASK, status="equal" if place % 17 < 14 else "open", question="a\u2028b")
                for place in range(170)
            ]
        )
        first = made[0].id
    asked = [place for place in range(170) if place % 17 >= 14]
    assert rated({asked[-1]: "tie"}) == (5, 0.5, 5)  # 1 of 30, and 4 of 140
    gated = lived_in.nacre("gate", "said-v1.jsonl", "said-v2.jsonl", "--json")
    assert gated.code == 4, "five rows show nothing"
    lived_in.json("review", "export", "open.jsonl")
    lines = (lived_in.root / "open.jsonl").read_text().split("\n")[:-1]
    given = [json.loads(line) | {"choice": "left"} for line in lines]  # the old one
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in given[:14])
    assert "\u2028" in text
    (lived_in.root / "open.jsonl").write_text(text)
    assert lived_in.json("review", "import", "open.jsonl", "--rater", "ann")["new"] == 14
    assert rated({}) == (85, pytest.approx((71 * 0.5) / 85), 85)
    assert rated(dict.fromkeys(asked[14:-1], "left"))[0] == 170


def test_several_raters_by_file_and_how_far_they_agree(lived_in: Place) -> None:
    lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 20, "--raters", 2, "--queue", "blind")
    right = truth(lived_in)
    assert lived_in.json("review", "export", "open.jsonl")["files"] == {"open.jsonl": len(right)}
    lines = [json.loads(line) for line in (lived_in.root / "open.jsonl").read_text().splitlines()]
    assert not re.search(r"version|weights|\bv1\b|\bv2\b", json.dumps(lines))
    for place, line in enumerate(lines):
        line["choice"] = right[line["item"]] if place % 4 else "tie"
    lines[-1]["choice"] = ""
    (lived_in.root / "ann.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        line["choice"], line["rater"] = right[line["item"]], "bob"
    (lived_in.root / "bob.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    count = len(lines)
    found = lived_in.json("review", "import", "ann.jsonl", "--rater", "ann")
    assert found == {"new": count - 1, "known": 0, "empty": 1}
    assert lived_in.json("review", "import", "ann.jsonl", "--rater", "ann")["known"] == count - 1
    assert lived_in.json("review", "status")["reviews"][0]["answered"] == 0  # two people are wanted
    assert lived_in.json("review", "import", "bob.jsonl")["new"] == count
    (found,) = lived_in.json("review", "status", "blind")["reviews"]
    assert (found["answered"], found["raters"]) == (count - 1, {"ann": count - 1, "bob": count})
    assert found["agreement"]["name"].startswith("Cohen")
    assert found["agreement"]["items"] == count - 1
    assert -1 <= found["agreement"]["value"] < 1
    shown = lived_in.nacre("review", "status").out
    assert "win rate" in shown
    assert "Cohen's kappa" in shown
    assert "ann: " in shown


def test_rating_single_answers(lived_in: Place) -> None:
    lived_in.json("review", "add", 2, "--task", TASK, "--items", 3)
    for stars in ("5", "4", "1"):
        item = lived_in.json("review", "next", "--rater", "ann")["next"]
        assert {"answer", "choices"} < set(item)
        lived_in.json("review", "answer", item["item"], stars, "--rater", "ann")
    (found,) = lived_in.json("review", "status")["reviews"]
    assert (found["kind"], found["answered"], found["rate"]["value"]) == ("single", 3, pytest.approx(1.75 / 3))
    with Workspace.open(lived_in.root) as space:
        report = space.ledger.get_report(found["reports"]["2"])
        assert sorted(report.scores["human"]) == [0.0, 0.75, 1.0]


def test_the_base_model_alone_can_be_rated(lived_in: Place) -> None:
    added = lived_in.json("review", "add", 0, "--task", TASK, "--items", 2)
    assert (added["queue"], added["asked"]) == (f"v0-{TASK}", 2)


def test_more_items_later_are_other_rows(lived_in: Place) -> None:
    first = lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 5)
    more = lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 9)
    assert (first["known"], more["known"], more["notes"]) == (0, 5, [])
    third = lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 9, "--raters", 3)
    assert "for another number of people, which stays" in third["notes"][0]
    assert more["asked"] + more["equal"] == 4
    with Workspace.open(lived_in.root) as space:
        places = [item.place for item in space.ledger.reviews.items(first["queue"])]
    assert len(set(places)) == 9


def test_what_cannot_be_reviewed_is_refused(lived_in: Place) -> None:
    def refused(*words, contains=()):
        assert_clear(lived_in.nacre("review", *words), *contains)

    refused("next", "--rater", "ann", contains=["there are 0 reviews", "nacre review add"])
    refused("add", 1, 2, "--task", "increment_9", contains=["did you mean 'increment_1'"])
    refused("add", 1, 9, "--task", TASK, contains=["no version 9"])
    refused("add", 1, 1, "--task", TASK, contains=["two different ones"])
    lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 4, "--queue", "one")
    refused("add", 2, "--task", TASK, "--queue", "one", contains=["review of other versions"])
    refused("status", "onne", contains=["did you mean 'one'"])
    refused("answer", "--rater", "ann", contains=["in a terminal only"])
    item = lived_in.json("review", "next", "--rater", "ann")["next"]["item"]
    refused("answer", item, "lefft", "--rater", "ann", contains=["did you mean 'left'"])
    refused("answer", item, contains=["nothing was chosen"])
    for none in (999, 99999999999999999999):
        refused("answer", none, "left", "--rater", "ann", contains=[f"no review item {none}"])
    refused("answer", item, "left", "--rater", " ", contains=["--rater"])
    refused("export", "out", "--scores", contains=["nobody has answered yet"])
    lived_in.json("review", "answer", item, "left", "--rater", "ann")
    assert not lived_in.json("review", "answer", item, "left", "--rater", "ann")["new"]
    refused("answer", item, "right", "--rater", "ann", contains=["chose 'left' for item"])
    bad = lived_in.root / "bad.jsonl"
    other = lived_in.json("review", "next", "--rater", "bob")["next"]["item"]
    good = json.dumps({"item": other, "choice": "tie", "rater": "bob"})
    for line, what in (
        ("{", "not JSON"),
        ('{"choice": "left"}', "names no review item"),
        (json.dumps({"item": item, "choice": "right", "rater": "ann"}), "chose 'left'"),
        (json.dumps({"item": item, "choice": "left"}), "who answered"),
    ):
        bad.write_text(f"{good}\n{line}\n")
        refused("import", "bad.jsonl", contains=[what])
    assert lived_in.json("review", "next", "--rater", "bob")["next"]["item"] == other  # all or none
    refused("import", "nothing.jsonl", contains=["cannot be read"])


def test_answering_by_keys_in_a_terminal(lived_in: Place) -> None:
    lived_in.json("review", "add", 1, 2, "--task", TASK, "--items", 6)
    master, terminal = pty.openpty()
    nacre = str(Path(sys.executable).with_name("nacre"))
    process = subprocess.Popen(
        [nacre, "review", "answer", "--rater", "ann"],
        cwd=lived_in.root,
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    os.close(terminal)
    out = ""
    for key in (b"l", b"q"):
        while "[q]uit" not in (line := process.stdout.readline()):
            assert line, out
            out += line
        while process.poll() is None:
            if not termios.tcgetattr(master)[3] & termios.ICANON:  # raw: it waits for a key
                os.write(master, key)
                if key == b"l":
                    break
            time.sleep(0.05)
    out += process.communicate(timeout=60)[0]
    os.close(master)
    assert process.returncode == 0, out
    assert "1 answered" in out
    assert "question · item 1" in out
    (found,) = lived_in.json("review", "status")["reviews"]
    assert (found["raters"], found["left"]) == ({"ann": 1}, 1.0)
