"""Every command, option, setting and quoted message in the documents exists. What they do: test_doc_commands.py."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from docs_kit import (
    ROOT,
    Block,
    blocks,
    commands,
    complaint,
    json_complaint,
    pages,
    plain_lines,
    settings_complaint,
    spoken,
    spoken_complaint,
)
from nacre.base.config import read_yaml

MADE = ("docs/cli.md",)  # held against the code by test_docs.py


def twins() -> list[str]:
    """The Chinese pages that have an English one of the same name."""
    return [page for page in pages() if page.startswith("docs/zh/")]


def english(page: str) -> str:
    return "README.md" if page == "README.zh-CN.md" else page.replace("docs/zh/", "docs/")


@pytest.mark.parametrize("page", pages())
def test_every_command_and_setting_is_known(page: str, tmp_path: Path) -> None:
    found = []
    for block in blocks(page):
        if block.language == "bash":
            found += [f"{block.place}: {wrong}" for words in commands(block.text) if (wrong := complaint(words))]
        elif block.language == "yaml":
            found.append(settings_complaint(block, tmp_path))
        elif block.language == "json":
            found.append(json_complaint(block))
        elif block.language == "python":
            ast.parse(block.text)
        elif block.language == "" and page not in MADE:
            starts = re.findall(r"^(?:nacre|python|pip|make) .*", block.text, re.MULTILINE)
            found += [f"{block.place}: {line!r} is a command: call the block bash" for line in starts]
    found += [f"{page}:{line}: {wrong}" for line, said in spoken(page) if (wrong := spoken_complaint(said))]
    assert [each for each in found if each] == []


@pytest.mark.parametrize("page", ["README.zh-CN.md", *twins()])
def test_both_languages_give_the_same_commands(page: str) -> None:
    assert (ROOT / english(page)).is_file(), f"{page} has no English page"
    assert said(page) == said(english(page))


def said(page: str) -> list[str]:
    """The shell's lines of a page, without comments and without what is written in either language."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in plain_lines(block.text)]
    return [re.sub(r"[^\x00-\x7f]+|--why \S.*", "", line) for line in lines]


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    wrong = {
        "nacre evolve base --promot pass": "No such option: --promot",
        "FOO=1 nacre evolv base": "unknown verb 'evolv'",
        "nacre gate 3": "takes 2 values",
        "nacre train their.yaml --lora_rnk 3": "did you mean '--lora_rank'?",
        "python benchmarks/forgetting.py --dta x": "has no --dta",
        "python benchmarks/forgetful.py": "there is no benchmarks/forgetful.py",
        "kubectl exec x -- nacre keys creat me": "there is no 'creat'",
        "make demonstration": "the Makefile has no demonstration",
    }
    for line, reason in wrong.items():
        assert any(reason in complaint(words) for words in commands(f"true && {line}  # and so on\n")), line
    assert not any(complaint(words) for words in commands("(crontab -l; nacre schedule cron) | crontab -  # 'x\n"))
    block = Block("x.md", 1, "yaml", "keep: {max_dorp: 0.1}\n")
    assert "did you mean 'max_drop'?" in settings_complaint(block, tmp_path)
    assert "there is no '--promot'" in spoken_complaint("nacre evolve NAME --promot never")
    assert "there is no 'creat'" in spoken_complaint("nacre keys creat N")
    assert spoken_complaint("nacre promote N --force --why …") == ""


def test_a_key_of_a_settings_file_is_a_word(tmp_path: Path) -> None:
    file = tmp_path / "nacre.yaml"
    file.write_text("protect: [{name: distill, on: [generic]}]\nno: off\n", encoding="utf-8")
    assert read_yaml(file)[0] == {"protect": [{"name": "distill", "on": ["generic"]}], "no": False}


@pytest.mark.parametrize("page", ["docs/troubleshooting.md", "docs/zh/troubleshooting.md"])
def test_the_messages_that_troubleshooting_quotes_are_those_of_the_code(page: str) -> None:
    texts = messages()
    rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(quoted) > 20
    for text in quoted:
        parts = [part.strip(" '") for part in text.split("…") if len(part.strip(" '")) > 3]
        assert any(all(part in known for part in parts) for known in texts), f"nothing says {text!r}"


@cache
def messages() -> list[str]:
    """Every text in the code, with … in the place of what is only known when it is said."""
    found = []
    for path in (ROOT / "src" / "nacre").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    inside = [page.removeprefix("docs/") for page in pages() if page.startswith("docs/")]
    missing = [page for page in inside if f" {page}\n" not in text and f" {page.rpartition('/')[0]}/\n" not in text]
    assert missing == [], "add a line for each to the nav of mkdocs.yml"
