"""Dev rows as tasks of lm-evaluation-harness: a folder for its `--include_path`, which needs no nacre to run.

Questions are written as the model's chat template renders them, so the harness is not to apply one again. Answers are
compared as nacre's exact match does it: white space around them and the Unicode form aside.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nacre.base.files import atomic_write
from nacre.base.hashing import canonical_json
from nacre.evaluate.metrics.exact_match import plain
from nacre.evaluate.plan import generates, reads_judgements, reads_pairs, reads_text
from nacre.model.chat import answer_text, render, stop_ids, stop_texts
from nacre.records import Decoding, Example, Message

PREFIX = "nacre_"
TAG = "nacre_dev"
_CODE = "nacre_dev_rows"
_FUNCTIONS = '''"""Rows and scores of this folder's tasks, for lm-evaluation-harness. Made by `nacre lm-eval export`."""

import json
import unicodedata
from pathlib import Path

from datasets import Dataset, DatasetDict


def rows(file, **_):
    """The rows of one task, from the file beside this one."""
    lines = Path(__file__).with_name(file).read_text(encoding="utf-8").split("\\n")
    return DatasetDict({"test": Dataset.from_list([json.loads(line) for line in lines if line])})


def score(doc, results):
    """1 for the answer that equals the reference, white space around it and the Unicode form aside."""
    said, wanted = (unicodedata.normalize("NFC", text).strip() for text in (results[0], doc["answer"]))
    return {"exact_match": float(said == wanted)}
'''


@dataclass(frozen=True)
class DevTask:
    """One task to write: its rows, and how long its answers may be."""

    name: str
    rows: Sequence[Example]
    decoding: Decoding


@dataclass(frozen=True)
class Exported:
    """What was written: the harness's name of each task, and sentences on what could not be."""

    folder: Path
    tasks: dict[str, str]
    notes: tuple[str, ...]


def export(folder: Path, tasks: Sequence[DevTask], tokenizer: Any) -> Exported:
    """Write a YAML file and a JSON-lines file for each task, and one Python file with what the YAML cannot say.

    Questions become `generate_until` tasks scored by exact match, or `multiple_choice` tasks where the answer is one of
    a few options, preference pairs `multiple_choice` tasks, plain
    text a `loglikelihood_rolling` task. The tag `nacre_dev` stands for all of them. Answers that were judged bad
    have no counterpart and are left out with a note.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    names: dict[str, str] = {}
    notes = []
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if reads_judgements(task.rows):
            notes.append(f"{task.name} was left out: lm-eval has no tasks of answers that were judged")
            continue
        name = _name(task.name, names.values())
        config, lines = _task(task, tokenizer)
        names[task.name] = name
        atomic_write(folder / f"{name}.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
        atomic_write(folder / f"{name}.yaml", _yaml({"task": name, "tag": TAG, **config}, f"{name}.jsonl"))
    atomic_write(folder / f"{_CODE}.py", _FUNCTIONS)
    if _adds_start(tokenizer) and names:
        notes.append(
            "this tokenizer puts a token before every text, which nacre does not: run lm_eval with "
            "--model_args pretrained=…,add_bos_token=False to get the same scores"
        )
    return Exported(folder, names, tuple(notes))


def _task(task: DevTask, tokenizer: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the YAML says of the task, and its rows."""
    if reads_text(task.rows):
        texts = [{"text": "\n".join(turn.content for turn in (*row.prompt, *row.answers))} for row in task.rows]
        metrics = [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")]
        asked = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
        return {**asked, "metric_list": metrics}, texts
    prompts = [render(row.prompt, tokenizer, system=row.system, tools=row.tools) for row in task.rows]
    ids = [row.content_id[:16] for row in task.rows]
    if reads_pairs(task.rows):
        choices = [[turn.content for turn in row.answers] for row in task.rows]
        lines: list[dict[str, Any]] = [
            {"id": one, "prompt": prompt, "choices": pair}
            for one, prompt, pair in zip(ids, prompts, choices, strict=True)
        ]
        return {
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": 0,
            "doc_to_choice": "choices",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc_norm"}],
        }, lines
    assert generates(task.rows), "text, pairs and judged answers are dealt with above"
    if task.decoding.options:
        return _choice(task, tokenizer, [{"id": one, "prompt": text} for one, text in zip(ids, prompts, strict=True)])
    lines = [
        {"id": one, "prompt": prompt, "answer": plain(row.answer)}
        for one, prompt, row in zip(ids, prompts, task.rows, strict=True)
    ]
    generation = {
        "until": [*tokenizer.convert_ids_to_tokens(sorted(stop_ids(tokenizer))), *stop_texts(tokenizer)],
        "do_sample": False,
        "max_gen_toks": task.decoding.max_new_tokens,
    }
    return {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": generation,
        "process_results": f"!function {_CODE}.score",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }, lines


def _choice(
    task: DevTask, tokenizer: Any, asked: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A task whose answer is the likeliest of its options: with the tokens that end an answer, as nacre reads them."""
    options = task.decoding.options
    first = task.rows[0]
    texts = [
        answer_text(first.changed(answers=(Message(role="assistant", content=option),)), tokenizer)
        for option in options
    ]
    right = [options.index(row.answer) for row in task.rows]
    lines = [{**line, "choices": texts, "right": place} for line, place in zip(asked, right, strict=True)]
    return {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "right",
        "doc_to_choice": "choices",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }, lines


def _yaml(config: Mapping[str, Any], file: str) -> str:
    """The task file; `!function` is a tag of the harness's own, which no YAML library writes as such."""
    whole = {
        **config,
        "custom_dataset": f"!function {_CODE}.rows",
        "dataset_kwargs": {"file": file},
        "test_split": "test",
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
    }
    text = yaml.safe_dump(whole, allow_unicode=True, sort_keys=False)
    return re.sub(r"'(!function [\w.]+)'", r"\1", text)


def _name(task: str, taken: Any) -> str:
    """A name that the harness's command line can take: letters, digits, line and underscore."""
    plainer = PREFIX + re.sub(r"[^\w-]+", "_", task)
    found, count = plainer, 2
    while found in taken:
        found, count = f"{plainer}_{count}", count + 1
    return found


def _adds_start(tokenizer: Any) -> bool:
    return bool(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None)
