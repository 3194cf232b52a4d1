"""Dev rows as tasks of lm-evaluation-harness: what is written for each kind of rows."""

import importlib.util
import json

import yaml

from nacre.evaluate.lm_eval.export import DevTask, export
from nacre.records import Decoding, Example, Message
from toy_kit import ask

DECODING = Decoding(max_new_tokens=7, max_length=64)


class Loader(yaml.SafeLoader):
    """Reads the harness's own tag as text."""


Loader.add_constructor("!function", lambda loader, node: f"function {loader.construct_scalar(node)}")


def written(tmp_path, name):
    config = yaml.load((tmp_path / f"{name}.yaml").read_text(), Loader=Loader)
    return config, [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]


def test_questions_are_written_as_the_model_is_asked_and_scored_as_nacre_scores(tmp_path, tokenizer):
    rows = [ask("red\nblue", " cat "), ask("one two", "dog")]
    found = export(tmp_path, [DevTask("base", rows, DECODING)], tokenizer)
    assert found.tasks == {"base": "nacre_base"}
    config, lines = written(tmp_path, "nacre_base")
    assert config["task"] == "nacre_base"
    assert config["tag"] == "nacre_dev"
    assert config["generation_kwargs"] == {"until": ["</s>"], "do_sample": False, "max_gen_toks": 7}
    assert config["dataset_kwargs"] == {"file": "nacre_base.jsonl"}
    assert lines[0] == {"id": rows[0].content_id[:16], "prompt": "Human: red\nblue\nAssistant:", "answer": "cat"}
    spec = importlib.util.spec_from_file_location("made", tmp_path / "nacre_dev_rows.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.rows("nacre_base.jsonl")["test"].to_list() == lines
    assert made.score(lines[0], ["\ncat "]) == {"exact_match": 1.0}
    assert made.score({"answer": "caf\u00e9"}, ["cafe\u0301"]) == {"exact_match": 1.0}
    assert made.score(lines[0], ["Cat"]) == {"exact_match": 0.0}


def test_each_kind_of_rows_gets_the_harness_s_kind_of_task(tmp_path, tokenizer):
    said = [Message(role="assistant", content=text) for text in ("cat", "dog")]
    question = (Message(role="user", content="red"),)
    pair = Example(kind="preference", prompt=question, answers=tuple(said))
    bad = Example(kind="kto", prompt=question, answers=(said[0],), desirable=False)
    text = Example(kind="text", prompt=(Message(role="user", content="sun moon"),))
    tasks = {
        "情感/1": [ask("red", "cat")],
        "情感 1": [ask("red", "dog")],
        "pairs": [pair],
        "texts": [text],
        "bad": [bad],
    }
    found = export(tmp_path, [DevTask(name, rows, DECODING) for name, rows in tasks.items()], tokenizer)
    assert found.tasks == {
        "情感/1": "nacre_情感_1",
        "情感 1": "nacre_情感_1_2",
        "pairs": "nacre_pairs",
        "texts": "nacre_texts",
    }
    assert found.notes[0].startswith("bad was left out")
    config, lines = written(tmp_path, "nacre_pairs")
    assert (config["output_type"], config["doc_to_target"]) == ("multiple_choice", 0)
    assert lines[0]["choices"] == ["cat", "dog"]
    config, lines = written(tmp_path, "nacre_texts")
    assert config["output_type"] == "loglikelihood_rolling"
    assert lines == [{"text": "sun moon"}]


def test_a_tokenizer_that_adds_a_token_of_its_own_is_named(tmp_path, tokenizer):
    class Starts:
        bos_token_id = 1

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, text, **options):
            ids = tokenizer(text, **options)["input_ids"]
            return {"input_ids": ids if options else [1, *ids]}

    found = export(tmp_path, [DevTask("base", [ask("red", "cat")], DECODING)], Starts())
    assert any("add_bos_token=False" in note for note in found.notes)
