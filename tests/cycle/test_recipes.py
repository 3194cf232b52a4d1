"""`nacre recipe`: a domain with its words and dialogues, and a skill out of few rows."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.cycle.increment import few_shot
from nacre.cycle.increment.general_text import split_general
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.rows import read_rows
from nacre.model.load import load_tokenizer
from nacre.records import Train
from nacre.records.tune import Full, Lora
from recipe_kit import CHINESE, ILLS, dialogues, domain_texts, encoded, general_texts, make_base
from workspace_kit import Place, assert_clear, write_increment, write_lines

SETTINGS = {
    "train": {"batch_size": 8, "learning_rate": 5e-3, "max_length": 64, "epochs": 6},
    "evaluate": {"max_length": 96},
}


def write_domain(place: Place) -> None:
    """The increments `ills` (text) and `wards` (dialogues), and general text."""
    write_lines(place.root / "general.jsonl", [{"text": text} for text in general_texts(60)])
    texts = [{"text": text} for text in domain_texts(76)]
    write_lines(place.dataset / "ills" / "train.json", texts[:60])
    write_lines(place.dataset / "ills" / "dev.json", texts[60:])
    rows = dialogues(84)
    write_lines(place.dataset / "wards" / "train.json", rows[:60])
    write_lines(place.dataset / "wards" / "dev.json", rows[60:])


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace in which the recipe was followed: versions 1 and 2."""
    root = tmp_path_factory.mktemp("recipes")
    make_base(root / "base-model")
    assert Place(root).nacre("init", "clinic", "--model", str(root / "base-model")).code == 0
    place = Place(root / "clinic")
    place.settings(**SETTINGS)
    write_domain(place)
    (root / "found.json").write_text(
        json.dumps(place.json("recipe", "domain", "ills", "wards", "--general", "general.jsonl"))
    )
    return place


@pytest.fixture
def clinic(learned: Place, tmp_path: Path) -> Place:
    """A copy of it, to do as one likes with."""
    shutil.copytree(learned.root, tmp_path / "clinic")
    return Place(tmp_path / "clinic")


def test_rows_of_general_text_leave_with_the_file_that_was_kept(clinic: Place) -> None:
    kept = list((clinic.root / ".nacre" / "memory" / "general").glob("*.jsonl"))
    assert len(kept) == 1
    asked = json.loads(kept[0].read_text().splitlines()[0])["text"]
    dry = clinic.json("data", "forget", "--pattern", f"^{re.escape(asked)}$", "--dry-run")
    assert kept[0].exists()
    found = clinic.json("data", "forget", "--pattern", f"^{re.escape(asked)}$")
    assert not kept[0].exists()
    assert dry["rows"] == found["rows"] == 1
    assert any(line.startswith("read 1 of them: general text ") for line in found["versions"]["1"])
    assert any(line.startswith("read 1 of them: general text ") for line in found["versions"]["2"])
    assert found["retrain"][0].startswith("version 1: nacre evolve ills")
    assert any("was read by version 1, 2" in line for line in found["left"])
    assert clinic.json("verify")["faults"] == []
    kept[0].write_text("{}\n")  # as after a kill, or out of a backup
    assert any("general text" in one["fault"] for one in clinic.json("verify", code=1)["faults"])
    clinic.nacre("data", "forget", "finish")
    assert not kept[0].exists()
    assert clinic.json("verify")["faults"] == []
    assert_clear(clinic.nacre("data", "forget", "--pattern", f"^{re.escape(asked)}$"), "no kept row fits")


def test_a_row_of_general_text_is_found_by_its_id_where_it_is_only_looked_at(clinic: Place, tmp_path: Path) -> None:
    asked = [{"instruction": f"what is {word}?", "output": f"{word} is a thing"} for word in general_texts(60)]
    source = write_lines(tmp_path / "asked.jsonl", asked)
    found = split_general(source, clinic.root / ".nacre" / "memory")
    whole = {row.content_id for row in read_examples(source).examples}
    held = read_rows(clinic.root / ".nacre" / "memory", found.held)
    assert {row.origin.extra["id"] for row in held} < whole
    one = held[0].origin.extra["id"]
    gone = clinic.json("data", "forget", "--id", one)
    assert (gone["rows"], gone["versions"]) == (1, {})


def test_general_text_goes_with_the_last_version_that_read_it(clinic: Place) -> None:
    [kept] = (clinic.root / ".nacre" / "memory" / "general").glob("*.jsonl")
    unread = kept.with_name(f"{'0' * 64}.jsonl")
    shutil.copy(kept, unread)
    os.utime(unread, (1e9, 1e9))
    os.utime(kept, (1e9, 1e9))
    told = {item["name"]: item["why"] for item in clinic.json("gc")["goes"] if "general" in item["name"]}
    assert told == {f"general/{unread.name}": "no version has it"}
    assert kept.exists()


def test_a_domain_is_read_and_its_dialogues_are_learned(learned: Place) -> None:
    found = json.loads((learned.root.parent / "found.json").read_text())
    text, dialogue = found["text"], found["dialogues"]
    assert (text["version"], text["parent"], text["promoted"]) == (1, None, False)
    assert (dialogue["version"], dialogue["parent"], dialogue["promoted"]) == (2, 1, True)
    assert {*ILLS, *CHINESE} <= set(found["lexicon"]["added"])
    before, after = found["lexicon"]["tokens_per_character"]["domain"]
    assert after < before
    bits = [one["bits_per_character"] for one in found["read"]["domain"]]
    assert bits[1] < bits[0]
    assert len(found["read"]["general"]) == 3
    assert dialogue["tasks"]["wards"]["after"] > dialogue["tasks"]["wards"]["before"]
    told = " ".join(found["notes"]["vocabulary"])
    assert "fewer than the 500" in told
    assert "tokens per character of the domain text" in told
    shown = learned.json("versions", "show", 1)
    assert (shown["recipe"]["train"]["stage"], shown["recipe"]["train"]["epochs"]) == ("pt", 2.0)
    assert set(shown["recipe"]["terms"]) == set(found["lexicon"]["added"])
    assert [entry["name"] for entry in shown["recipe"]["protect"]] == ["general", "distill"]
    assert shown["recipe"]["protect"][0]["share"] == 0.25
    assert "terms" not in learned.json("versions", "show", 2)["recipe"]
    assert learned.champion() == 2
    said = " ".join(text["notes"]["training"])
    assert "general: 25% of every batch from 54 plain texts" in said
    report = learned.json("report", 1)
    assert any(note.startswith("tokens per character") for note in report["notes"]["vocabulary"])
    (path,) = (learned.root / ".nacre" / "memory" / "lexicon").glob("*.json")
    kept = {term["text"]: term for term in json.loads(path.read_text())["terms"]}
    assert kept["高血压"]["saved"] >= 20
    assert kept["高血压"]["why"] == ""


def test_the_same_recipe_again_does_nothing(clinic: Place) -> None:
    again = clinic.json("recipe", "domain", "ills", "wards", "--general", "general.jsonl")
    assert (again["text"]["version"], again["dialogues"]["version"]) == (1, 2)
    assert not again["text"]["trained"]
    assert not again["dialogues"]["trained"]
    assert again["lexicon"] is None
    assert len(clinic.json("versions", "list")["versions"]) == 2


@pytest.mark.slow
def test_the_tokens_travel_with_the_version(clinic: Place) -> None:
    write_lines(clinic.dataset / "more" / "train.json", dialogues(80, seed=9)[:48])
    write_lines(clinic.dataset / "more" / "dev.json", dialogues(80, seed=9)[48:])
    found = clinic.json("evolve", "more")
    assert found["version"] == 3
    with Workspace.open(clinic.root) as space:
        for number in (1, 2, 3):
            tokenizer = load_tokenizer(space.weights(space.ledger.version(number)))
            assert len(encoded(tokenizer, "高血压")) == 1
        assert len(encoded(load_tokenizer(space.base), "高血压")) > 1
    assert clinic.nacre("export", 2, "--to", "hf", "--out", "out").code == 0
    assert clinic.nacre("verify").code == 0
    assert clinic.nacre("gc").code == 0


@pytest.mark.slow
def test_a_version_with_new_tokens_is_made_again_from_its_record(clinic: Place) -> None:
    found = clinic.json("reproduce", 1)
    assert found["equal"], found


@pytest.mark.slow
def test_the_gate_holds_what_was_known_before(clinic: Place) -> None:
    """The next domain is learned on top of one whose text task is judged across the two vocabularies."""
    organs = ("gastroenterology", "ophthalmology", "otorhinolaryngology", "dermatopathology")
    texts = [f"the door is open and we walk to the {one} with bread {place}" for place in range(15) for one in organs]
    write_lines(clinic.dataset / "organs" / "train.json", [{"text": text} for text in texts[:48]])
    write_lines(clinic.dataset / "organs" / "dev.json", [{"text": text} for text in texts[48:]])
    rows = dialogues(96, seed=5)
    write_lines(clinic.dataset / "houses" / "train.json", rows[:48])
    write_lines(clinic.dataset / "houses" / "dev.json", rows[48:])
    found = clinic.nacre(
        "recipe",
        "domain",
        "organs",
        "houses",
        "--general",
        "general.jsonl",
        "--pays",
        1,
        "--json",
        "--promote",
        "never",
    ).json
    assert found["text"]["parent"] == 2
    assert {"ills", "wards"} <= found["dialogues"]["tasks"].keys()
    shown = clinic.json("versions", "show", 3)
    assert [entry["name"] for entry in shown["recipe"]["protect"]] == ["general", "replay", "distill"]
    assert shown["recipe"]["protect"][0]["share"] == pytest.approx(0.1875)
    with Workspace.open(clinic.root) as space:
        new = load_tokenizer(space.weights(space.ledger.version(3)))
    assert len(encoded(new, "ophthalmology")) == len(encoded(new, "高血压")) == 1


@pytest.mark.slow
def test_lora_trains_the_new_rows_on_a_wider_base(tmp_path: Path) -> None:
    make_base(tmp_path / "base-model", tied=False)
    assert Place(tmp_path).nacre("init", "clinic", "--model", str(tmp_path / "base-model")).code == 0
    place = Place(tmp_path / "clinic")
    place.settings(**SETTINGS, tune="lora", data={"general": "general.jsonl"})
    write_domain(place)
    found = place.nacre("recipe", "domain", "ills", "wards", "--json", "--epochs", 1).json
    told = " ".join(found["notes"]["vocabulary"])
    assert "embed_tokens and lm_head train whole" in told
    shown = place.json("versions", "show", 1)
    assert (shown["kind"], len(shown["needs"])) == ("adapter", 64)
    assert place.json("versions", "show", 2)["needs"] == shown["needs"]
    with Workspace.open(place.root) as space:
        weights = space.weights(space.ledger.version(2))
        assert Path(weights.model).name == shown["needs"]
        assert len(encoded(load_tokenizer(weights), "高血压")) == 1
    assert place.nacre("gc").code == 0
    assert place.json("evaluate", 2)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("ills", "wards"), ("no general text is mixed in", "--general")),
        (("ills", "ills", "--general", "general.jsonl"), ("learned in different ways",)),
        (("ills", "wards", "--general", "none.jsonl"), ("does not exist",)),
        (("wards", "ills", "--general", "general.jsonl"), ("stage pt",)),
        (("ills", "none", "--general", "general.jsonl"), ("none",)),
        (("ills", "wards", "--general", "general.jsonl", "--lexicon", "none.txt"), ("lexicon cannot be read",)),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    fresh: Place, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    write_domain(fresh)
    assert_clear(fresh.nacre("recipe", "domain", *words), *parts)
    assert not fresh.json("versions", "list")["versions"]


@pytest.mark.slow
def test_few_rows_are_learned_by_a_small_adapter(fresh: Place) -> None:
    write_increment(fresh.dataset, "base", "paint", train=120, dev=40)
    template = "big {question}"
    found = fresh.json("recipe", "few-shot", "base", "--rows", 80, "--epochs", 4, "--template", template)
    assert (found["version"], found["promoted"], found["trained"]) == (1, True, True)
    assert found["snapshot"]["train"]["rows"] == 80
    shown = fresh.json("versions", "show", 1)
    tune, train = shown["recipe"]["tune"], shown["recipe"]["train"]
    assert (tune["name"], tune["bits"], tune["rank"], tune["alpha"]) == ("qlora", 4, 8, 32)
    assert (train["epochs"], train["early_stopping"], train["typos"]) == (4, 3, 0.1)
    assert train["templates"] == [template]
    said = " ".join(found["notes"]["training"])
    assert "early stopping: 16 of 80 train rows are not trained on" in said
    assert "templates: 64 rows were added to 64" in said
    assert "of 128 rows are learned once more with 10% of their letters mistyped" in said
    assert "base: 40 dev rows are too few" in " ".join(found["notes"]["few rows"])
    with Workspace.open(fresh.root) as space:
        dev = space.ledger.version(1).snapshot.dev
    assert dev is not None
    assert dev.rows == 40
    again = fresh.json("recipe", "few-shot", "base", "--rows", 80, "--epochs", 4, "--template", template)
    assert (again["version"], again["trained"]) == (1, False)


@pytest.mark.slow
def test_without_bitsandbytes_the_base_stays_whole(lived_in: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "find_spec", lambda _: None)
    write_increment(lived_in.dataset, "increment_2", "place", train=24, dev=80)
    found = lived_in.nacre(
        "recipe", "few-shot", "increment_2", "--rows", 24, "--epochs", 2, "--promote", "never", "--json"
    ).json
    notes = " ".join(found["notes"]["few rows"])
    assert "lora instead of qlora: bitsandbytes" in notes
    assert "no early stop: of 24 rows 16 cannot be set aside" in notes
    assert lived_in.json("versions", "show", found["version"])["recipe"]["tune"]["name"] == "lora"
    assert set(found["tasks"]) == {"base", "increment_1", "increment_2"}


def test_a_template_without_the_question_is_refused(fresh: Place) -> None:
    assert_clear(fresh.nacre("recipe", "few-shot", "base", "--template", "no place"), "must hold {question}")


def test_the_settings_of_few_rows_leave_a_low_rank_tuner_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Lora(rank=4)
    assert few_shot.tuner_for(own) == (own, ["lora: as the settings say"])
    small, said = few_shot.tuner_for(Full())
    assert (small.name, said) == ("qlora", [])
    assert (small.rank, small.alpha, small.dropout) == (8, 32, 0.05)
    monkeypatch.setattr(few_shot, "find_spec", lambda _: None)
    small, said = few_shot.tuner_for(Full())
    assert small.name == "lora"
    assert "pip install 'nacre[qlora]'" in said[0]


def test_the_run_of_few_rows_is_long_watched_and_noisy() -> None:
    asked = few_shot.FewShot("tickets", templates=("Say: {question}",))
    train, said = few_shot.settings_for(Train(batch_size=4), asked)
    assert (train.epochs, train.early_stopping, train.eval_steps) == (10, 3, "epoch")
    assert (train.typos, train.templates, train.batch_size) == (0.1, ("Say: {question}",), 4)
    assert said == []
    train, said = few_shot.settings_for(Train(), few_shot.FewShot("tickets", rows=20))
    assert train.early_stopping is None
    assert "no early stop: of 20 rows" in said[0]
    never, _ = few_shot.settings_for(Train(), few_shot.FewShot("tickets", patience=0))
    assert never.early_stopping is None
    with pytest.raises(InputError, match="question"):
        few_shot.settings_for(Train(), few_shot.FewShot("tickets", templates=("no place",)))
