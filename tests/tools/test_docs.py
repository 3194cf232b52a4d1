"""The made documents: they say what the code says, whatever the terminal, and `--check` sees a difference."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from nacre.cli import VERBS
from nacre.cli.llamafactory import ALIASES, Arguments
from nacre.cycle.settings import WorkspaceSettings
from nacre.records import Train
from nacre.train.protect import PROTECTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nacre_tools_docs", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the documents that may be damaged."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return tmp_path


@pytest.mark.slow
def test_check_sees_a_difference_and_writing_mends_it(
    docs: ModuleType, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(copy)]
    docs.main(root)
    assert docs.main(["--check", *root]) == 0
    (copy / "docs" / "cli.md").unlink()
    page = copy / "docs" / "llamafactory.md"
    page.write_text(page.read_text(encoding="utf-8").replace("`--prev_model`", "`--previous`"), encoding="utf-8")
    capsys.readouterr()
    assert docs.main(["--check", *root]) == 1
    said = capsys.readouterr().out
    assert "docs/cli.md" in said
    assert "docs/llamafactory.md" in said
    assert "docs/configuration.md" not in said
    assert not (copy / "docs" / "cli.md").exists(), "--check writes nothing"
    assert docs.main(root) == 0
    assert docs.main(["--check", *root]) == 0


@pytest.mark.slow
def test_what_stands_around_a_made_part_is_kept(docs: ModuleType, copy: Path) -> None:
    page = copy / "docs" / "evaluation.md"
    page.write_text(f"First words.\n{page.read_text(encoding='utf-8')}Last words.\n", encoding="utf-8")
    docs.main(["--root", str(copy)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("First words.\n")
    assert text.endswith("Last words.\n")


def test_lost_marks_are_named(docs: ModuleType, copy: Path) -> None:
    (copy / "docs" / "evaluation.md").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"evaluation.md: the marks of the part 'metrics' are missing"):
        docs.main(["--root", str(copy)])


def test_the_terminal_does_not_matter(docs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for width in ("40", "200"):
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setenv("TERMINAL_WIDTH", width)
        pages.append(docs.cli_page())
    assert pages[0] == pages[1]


def test_every_verb_and_its_options_are_there(docs: ModuleType) -> None:
    page = docs.cli_page()
    assert [verb for verb in VERBS if f" nacre {verb}\n" not in page] == []
    assert "## nacre evolve" in page
    assert "| `--promote` | `pass` or `never` |" in page
    assert "3 refused by the gate, 4 undecided and held" in page


def test_every_key_is_there(docs: ModuleType) -> None:
    page = docs.configuration_page()
    options = [name for kind in PROTECTIONS.names() for name in PROTECTIONS.load(kind).Config.model_fields]
    keys = [*WorkspaceSettings.model_fields, *Train.model_fields, *PROTECTIONS.names(), *options, "metric", "max_drop"]
    assert [key for key in keys if f"`{key}`" not in page and f"### {key}\n" not in page] == []


def test_the_page_of_all_defaults_is_a_valid_file(docs: ModuleType) -> None:
    body = docs.configuration_page().rpartition("```yaml\n")[2].partition("```")[0]
    assert WorkspaceSettings.model_validate(yaml.safe_load(body)) == WorkspaceSettings(model="path/to/model")


def test_every_argument_is_there(docs: ModuleType) -> None:
    part = docs.arguments_part()
    assert [name for name in (*Arguments.model_fields, *ALIASES) if f"`--{name}`" not in part] == []
