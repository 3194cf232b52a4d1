"""The evolution report and the model card, of versions that were really trained, scored and judged."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from nacre.base.hashing import sha256_text
from nacre.cycle.reports.report import evolution_report, facts_of, keep_report, kept_report, render
from nacre.cycle.workspace import Workspace
from nacre.records import Weights
from nacre.registry.fingerprint import fingerprint
from workspace_kit import Place, assert_clear


class _Outside(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag in ("script", "iframe", "img", "object"):
            self.found.append(tag)
        for name in ("src", "href"):
            if (given.get(name) or "#")[:5] not in ("#", "data:") and not (given.get(name) or "").startswith("#"):
                self.found.append(str(given[name]))


def seen(page: str) -> _Outside:
    parser = _Outside()
    parser.feed(page)
    return parser


def test_each_increment_left_a_report_with_what_came_of_it(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        found = kept_report(space, 2)
        assert found is not None
        assert (found.task, found.parent, found.against, found.slots) == ("increment_1", 1, 1, ("champion",))
        assert (found.came_in.train, found.came_in.dev, found.came_in.dropped) == (96, 80, {})
        assert found.training.steps > 0
        assert found.training.curves[0].name == "loss"
        assert found.training.curves[0].points[-1][1] < found.training.curves[0].points[0][1]
        assert found.training.settings["train.epochs"] == "6.0"
        assert found.cost.cpu_s > 0
        assert found.cost.evaluate_s > 0
        assert found.verdict == space.ledger.verdict(2)
        (learned,) = found.learned
        assert (learned.task, learned.rows, learned.lost) == ("increment_1", 80, 0)
        assert learned.gained == round((learned.after - learned.before) * 80)
        assert learned.interval[0] < learned.after - learned.before <= learned.interval[1]
        assert {flip.answer_after for flip in learned.flips} <= {"hay", "fish", "corn", "meat"}
        assert all(flip.prompt.startswith("feed ") for flip in learned.flips)
        assert [move.kind for move in found.moves] == ["judged: pass", "promoted 1 → 2"]
        assert found.advice[0].command == "nacre harvest"
        assert any("rows" in sentence for part in found.notes.values() for sentence in part)


def test_the_page_is_one_file_that_fetches_nothing_and_says_all(lived_in: Place) -> None:
    found = lived_in.nacre("report", 2)
    path = lived_in.root / ".nacre" / "reports" / "2" / "report.html"
    assert (found.code, found.out.strip()) == (0, f"written: {path}")
    page = path.read_text(encoding="utf-8")
    parsed = seen(page)
    assert parsed.found == []
    assert len(parsed.ids) == len(set(parsed.ids))
    for part in ("next", "came-in", "trained", "matrix", "verdict", "flips", "cost", "history", "notes"):
        assert f'<h2 id="{part}">' in page
    assert "<polyline" in page
    assert 'class="learned"' in page
    assert 'lang="zh">学会' in page
    with Workspace.open(lived_in.root) as space:
        assert evolution_report(space, 2) == page
        chinese = evolution_report(space, 2, lang="zh")
    assert "What came in" not in chinese
    assert 'name="lang"' not in chinese


def test_what_rows_say_cannot_become_part_of_the_page(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        found = facts_of(space, 2)
        flip = found.learned[0].flips[0].changed(prompt="<script>x</script> | a\n# b", answer_after="<img src=x>")
        evil = found.changed(learned=[found.learned[0].changed(flips=[flip])], notes={"data": ("<b>|</b>",)})
    page = render(evil, "html")
    assert seen(page).found == []
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    text = render(evil, "md")
    assert "<script>" not in text
    assert "| &lt;script>x&lt;/script> \\| a # b |" in text


def test_a_report_is_written_anew_when_something_changed_and_the_old_one_stays(lived_in: Place) -> None:
    folder = lived_in.root / ".nacre" / "reports" / "2"
    before = {path.name for path in folder.glob("*.json")}
    with Workspace.open(lived_in.root) as space:
        keep_report(space, 2)
        first = {path.name for path in folder.glob("*.json")}
        keep_report(space, 2)
        assert {path.name for path in folder.glob("*.json")} == first
        space.ledger.rollback(actor="tester", why="a look back")
        keep_report(space, 2)
        found = kept_report(space, 2)
    assert found is not None
    assert found.slots == ()
    assert found.moves[-1].why == "a look back"
    assert "why it was taken back" in found.advice[0].en
    assert before <= first < {path.name for path in folder.glob("*.json")}
    assert all(sha256_text(path.read_text(encoding="utf-8")) == path.stem for path in folder.glob("*.json"))


def test_a_kept_report_that_was_changed_is_not_read(lived_in: Place) -> None:
    folder = lived_in.root / ".nacre" / "reports" / "2"
    with Workspace.open(lived_in.root) as space:
        keep_report(space, 2)
        kept = folder / f"{(folder / 'latest').read_text(encoding='utf-8')}.json"
        kept.write_text(kept.read_text(encoding="utf-8").replace('"number":2', '"number":3'), encoding="utf-8")
        assert kept_report(space, 2) is None
        assert facts_of(space, 2).number == 2


def test_curves_and_notes_outlive_the_weights(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        before = facts_of(space, 1)
        artifact = space.store.path(space.ledger.version(1).artifact)
        (artifact / "trainer_log.jsonl").chmod(0o644)
        for path in artifact.iterdir():
            path.unlink()
        artifact.rmdir()
        after = facts_of(space, 1)
    assert before.training.curves
    assert after.training == before.training
    assert after.notes == before.notes


def test_a_report_is_html_markdown_or_json_in_either_language(lived_in: Place, tmp_path: Path) -> None:
    for name, part in (("r.html", "<!doctype html>"), ("r.md", "# Version 2 · increment_1"), ("r.json", '"number": 2')):
        assert lived_in.nacre("report", 2, "--out", tmp_path / name).code == 0
        assert part in (tmp_path / name).read_text(encoding="utf-8")
    chinese = lived_in.nacre("report", 2, "--format", "md", "--lang", "zh").out
    assert chinese.startswith("# 版本 2 · increment_1")
    assert "## 逐任务裁决" in chinese
    whole = lived_in.json("report")
    assert (whole["number"], Path(whole["page"]).is_file()) == (2, True)
    assert_clear(lived_in.nacre("report", 9), "there is no version 9")
    assert_clear(lived_in.nacre("report", 2, "--out", tmp_path / "r.doc"), "a report cannot be .doc")


def test_a_version_that_was_never_judged_has_a_report_that_says_so(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        one = space.ledger.version(2)
        fields = one.model_dump(exclude={"number", "created", "schema_version"})
        made = space.ledger.add_version(**fields, actor="tester")
        found = facts_of(space, made.number)
    assert (found.verdict, found.learned) == (None, ())
    assert found.advice[0].command == f"nacre versions judge {made.number}"
    assert "never judged" in render(found, "html", "en")


def front_matter(text: str) -> dict[str, object]:
    _, head, body = text.split("---\n", 2)
    assert body.strip().startswith("# ")
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def test_the_card_of_a_version_has_its_scores_where_the_hub_looks_for_them(lived_in: Place, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert lived_in.nacre("report", 2, "--format", "card", "--out", out).code == 0
    text = out.read_text(encoding="utf-8")
    head = front_matter(text)
    with Workspace.open(lived_in.root) as space:
        reports = {one.task: one for one in space.ledger.reports(weights=space.ledger.version(2).artifact)}
        assert space.base.model not in text  # where the base lies on this machine is nobody's business
    assert head["base_model"] == "base"
    assert (head["base_model_relation"], head["library_name"], head["language"]) == ("finetune", "transformers", ["en"])
    (index,) = head["model-index"]  # type: ignore[misc]  # YAML has any type
    told = {one["dataset"]["name"]: one["metrics"][0] for one in index["results"]}
    assert set(told) == {"base", "increment_1"}
    assert told["increment_1"]["value"] == pytest.approx(reports["increment_1"].mean, abs=1e-4)
    assert told["increment_1"]["type"] == reports["increment_1"].metric
    assert "The gate: **pass**" in text


def test_a_folder_from_training_has_a_card_that_changes_nothing_of_it(lived_in: Place, toy: object) -> None:
    found = lived_in.nacre(
        *("train", "--model_name_or_path", toy.base.model, "--dataset", "increment_1", "--output_dir", "out/one"),  # type: ignore[attr-defined]  # the toy of conftest
        *("--finetuning_type", "lora", "--max_steps", "3", "--do_train", "--stage", "sft"),
    )
    assert found.code == 0, found
    folder = lived_in.root / "out" / "one"
    text = (folder / "README.md").read_text(encoding="utf-8")
    head = front_matter(text)
    assert (head["base_model_relation"], head["library_name"]) == ("adapter", "peft")
    assert "lora" in head["tags"]  # type: ignore[operator]  # YAML has any type
    assert "model-index" not in head
    assert "More Information Needed" not in text
    before = fingerprint(folder, lived_in.root / "a.json")
    (folder / "README.md").unlink()
    assert fingerprint(folder, lived_in.root / "b.json") == before
    assert isinstance(Weights(identity=before, model=str(folder)), Weights)


def test_an_archive_carries_the_card(lived_in: Place, tmp_path: Path) -> None:
    import tarfile

    assert lived_in.nacre("versions", "export", 2, tmp_path / "two.tar").code == 0
    with tarfile.open(tmp_path / "two.tar") as archive:
        card = archive.extractfile("README.md")
        assert card is not None
        assert front_matter(card.read().decode())["base_model"] == "base"


def test_reports_leave_with_the_rows_they_may_quote(lived_in: Place) -> None:
    path = lived_in.root / ".nacre" / "reports" / "2"
    assert path.is_dir()
    row = json.loads((lived_in.dataset / "increment_1" / "dev.json").read_text(encoding="utf-8").splitlines()[0])
    found = lived_in.nacre("data", "forget", "--pattern", row["instruction"])
    assert found.code == 0, found
    assert not path.exists()
    page = json.dumps(lived_in.json("report", 2), ensure_ascii=False)
    assert row["instruction"] not in page
