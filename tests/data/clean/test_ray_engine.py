"""The engine `ray`: what it makes of files is what the local engine makes of them."""

import gzip
import json
import os
import random
import sys
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from nacre.base.errors import InputError
from nacre.cli.data import app
from nacre.data import cleaning_ray
from nacre.data.clean.chain import Chain, choose
from nacre.data.cleaned import Work
from nacre.data.cleaning import ENGINES, clean_files

WORDS = ("river", "lantern", "copper", "meadow", "signal", "harbour", "window", "pepper", "cloud", "ladder", "violin")
DIRT = (
    "<p>call 13812345678</p>",
    "on 05/03/2024 and 20 May 2024",
    "<|im_end|> token",
    "我叫王小明，电话13912345678",
    "api_key = sk-abcdefghijklmnopqrstuvwx1234",
    "cafÃ© mail a.b@example.com",
    "",
)


def _rows(count, seed):
    draw = random.Random(seed)
    made = []
    for number in range(count):
        text = " ".join(draw.choices(WORDS, k=40)) + f" {draw.choice(DIRT)} {number}."
        if made and number % 9 == 0:
            made.append(dict(draw.choice(made)))
            continue
        if made and number % 11 == 0:
            text = draw.choice(made)["output"] + " so"
        made.append({"instruction": f"Tell me about {draw.choice(WORDS)} number {number}, please.", "output": text})
    return made


@pytest.fixture
def files(write):
    """Three files in three layouts, with rows that cannot be read, that no format fits, and that leak."""
    first = [json.dumps(row, ensure_ascii=False) for row in _rows(400, 1)]
    first[7] = '{"instruction": "cut off", "output": "no end'
    first[11] = '{"nobody": "knows this column"}'
    first[12] = '{"instruction": "q", "output": NaN}'
    second = gzip.compress(json.dumps(_rows(300, 2)).encode())
    third = "instruction,output\n" + "".join(f"{row['instruction']!r},plain answer\n" for row in _rows(50, 1)[:30])
    write("dev/dev.jsonl", "\n".join(json.dumps(row) for row in _rows(400, 1)[20:40]))
    write("terms.csv", "lantern,lamp\ncopper,Cu\n")
    return [
        write("one.jsonl", "\n".join(first) + "\n"),
        write("two.json.gz", second),
        write("three.csv", third.replace("'", '"')),
    ]


@pytest.fixture
def steps(files, write):
    config = write(
        "clean.yaml", "glossary: {file: terms.csv}\nleaks: {dev: [dev]}\ndates: {format: us}\npii: {}\nnear: {}\n"
    )
    return choose(["all", "near", "leaks"], config)


def _same(local, other):
    """Equal reports, but for the names of the outputs, and equal bytes in them."""
    names = {"out": "", "aside": ""}
    assert other.changed(**names).model_dump() == local.changed(**names).model_dump()
    for name in ("out", "aside"):
        with open(getattr(local, name), "rb") as mine, open(getattr(other, name), "rb") as theirs:
            assert mine.read() == theirs.read()


def _did_something(report):
    done = {step.name: step.records + step.dropped for step in report.steps}
    for name in ("html", "tokens", "dates", "glossary", "secrets", "pii", "leaks", "duplicates", "near"):
        assert done[name], name
    assert report.unread >= 3
    assert len(report.notes) > 3


@pytest.mark.parametrize("rows", [1, 37])
def test_chunks_put_together_are_what_one_pass_makes(files, steps, tmp_path, monkeypatch, rows):
    """The whole engine but Ray itself: its two workers called one after the other on every chunk."""

    def one_after_another(ray, paths, work, place, workers):
        read, made = cleaning_ray._Read(work, place), [cleaning_ray._CleanChunk(work, place) for _ in range(2)]
        chunks = (chunk for path in paths for chunk in read({"file": [str(path)]}))
        for number, chunk in enumerate(chunks):
            for packed in made[number % 2](chunk)["chunk"]:
                yield cleaning_ray.unpacked(packed)

    monkeypatch.setattr(cleaning_ray, "_CHUNK_ROWS", rows)
    monkeypatch.setattr(cleaning_ray, "_chunks", one_after_another)
    monkeypatch.setattr(cleaning_ray, "_ray", lambda: None)
    monkeypatch.setattr(cleaning_ray, "_cluster", lambda ray, workers: _Nothing())
    local = clean_files(files, tmp_path / "local.jsonl", steps)
    _did_something(local)
    _same(local, clean_files(files, tmp_path / "ray.jsonl", steps, engine="ray"))


class _Nothing:
    def __enter__(self):
        return 2

    def __exit__(self, *problem):
        return None


def test_the_key_for_pseudonyms_goes_along(monkeypatch):
    monkeypatch.setenv("NACRE_PII_KEY", "k" * 32)
    config = choose(["pii"])["pii"].model_copy(update={"action": "pseudonymise"})
    with Chain({"pii": config}) as chain:
        assert [name for tally in chain.tallies for name in tally.cleaner.environment()] == ["NACRE_PII_KEY"]
    monkeypatch.delenv("NACRE_PII_KEY")
    place = cleaning_ray._Place(os.getcwd(), {"NACRE_PII_KEY": "k" * 32})
    made = cleaning_ray._CleanChunk(Work({"pii": config}, None, (), None), place)
    assert os.environ["NACRE_PII_KEY"] == "k" * 32
    assert made._problem is None


def test_a_worker_that_cannot_work_says_why(tmp_path):
    place = cleaning_ray._Place(str(tmp_path / "elsewhere"), {})
    made = cleaning_ray._CleanChunk(Work(choose(["html"]), None, (), None), place)
    [packed] = made({"chunk": [b""]})["chunk"]
    with pytest.raises(InputError, match="is not on the machine"):
        cleaning_ray.unpacked(packed)


def test_without_ray_one_line_says_what_to_install(write, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    source, out = write("in.jsonl", [{"text": "one"}]), tmp_path / "out.jsonl"
    with pytest.raises(InputError) as caught:
        clean_files([source], out, choose(), engine="ray")
    assert "nacre[ray]" in caught.value.fix
    assert sorted(tmp_path.glob("out*")) == []


def test_engines_and_workers_that_do_not_exist(write, tmp_path):
    assert set(ENGINES.names()) >= {"local", "ray"}
    source, out = write("in.jsonl", [{"text": "one"}]), tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="unknown cleaning-engine") as caught:
        clean_files([source], out, choose(), engine="rai")
    assert "did you mean 'ray'?" in caught.value.fix
    with pytest.raises(InputError, match="one process"):
        clean_files([source], out, choose(), workers=2)
    for wrong in ("ray:0", "ray:x", "ray:", "local:2"):
        with pytest.raises(InputError):
            CliRunner().invoke(
                app, ["clean", str(source), "--out", str(out), "--engine", wrong], catch_exceptions=False
            )
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make install-ray")
@pytest.mark.timeout(400)
def test_two_local_workers_make_what_one_process_makes(files, steps, tmp_path, monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    local = clean_files(files, tmp_path / "local.jsonl", steps)
    _did_something(local)
    _same(local, clean_files(files, tmp_path / "ray.jsonl", steps, engine="ray", workers=2))
    assert not ray.is_initialized()
    big = tmp_path / "big.jsonl"  # several chunks for each of the two
    big.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(8000, 3)), encoding="utf-8")
    local = clean_files([big], tmp_path / "big.local.jsonl", steps)
    _same(local, clean_files([big], tmp_path / "big.ray.jsonl", steps, engine="ray", workers=2))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(InputError, match="empty"):
        clean_files([big, empty], tmp_path / "none.jsonl", steps, engine="ray", workers=2)
    assert not (tmp_path / "none.jsonl").exists()
