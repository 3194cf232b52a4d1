"""Advice: the table of families, what is to be learned, where, and whether what is said to fit does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.cycle.settings import WorkspaceSettings
from nacre.records import Weights
from nacre.records.tune import Freeze, Full, Lora, Tune
from nacre.train.advise.choose import advise
from nacre.train.advise.families import Base, base_at, known
from nacre.train.advise.hardware import cards, processor
from nacre.train.advise.plans import plan, remedy
from nacre.train.advise.workload import TASKS, Workload, workload
from nacre.train.estimate import GIB
from nacre.train.shape import shape_of

PUBLISHED = {  # parameters, as their makers' files count them
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-2-27b-it": 27_227_128_320,
    "google/gemma-3-1b-it": 999_885_952,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "microsoft/phi-4": 14_659_507_200,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "01-ai/Yi-1.5-6B-Chat": 6_061_035_520,
    "01-ai/Yi-1.5-34B-Chat": 34_388_917_248,
    "zai-org/GLM-4-9B-0414": 9_400_279_040,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
}
ENTRY = {
    "hub": "me/mine",
    "config": {
        "hidden_size": 256,
        "intermediate_size": 640,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 1000,
        "max_position_embeddings": 512,
    },
}


@pytest.fixture(scope="module")
def bases() -> list[Base]:
    return known()


def named(bases: list[Base], name: str) -> Base:
    return next(base for base in bases if base.name == name)


def work_of(task: str = "generation", rows: str = "2000") -> Workload:
    return workload(rows, task=task)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_in_the_table_give_the_published_number_of_parameters(name: str, bases: list[Base]) -> None:
    assert named(bases, name).sizes.parameters == pytest.approx(PUBLISHED[name], rel=5e-4)


def test_the_table_has_the_families_people_ask_for(bases: list[Base]) -> None:
    assert len({base.name for base in bases}) == len(bases)
    together = " ".join(base.family for base in bases)
    wanted = ("Qwen2.5", "Qwen3", "Llama", "Mistral", "Gemma", "Phi", "DeepSeek", "Yi", "InternLM", "GLM")
    assert [name for name in wanted if name not in together] == []


@pytest.mark.parametrize("tune", [Full(), Freeze(), Lora(rank=4)], ids=lambda tune: tune.name)
def test_sizes_alone_say_the_same_as_a_folder(tune: Tune, tmp_path: Path) -> None:
    written = ENTRY["config"] | {"model_type": "llama", "num_key_value_heads": 2, "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(written))
    start = Weights(identity="x", model=str(tmp_path))
    assert shape_of(base_at(tmp_path).sizes, tune) == shape_of(start, tune)


def test_an_own_table_adds_and_takes_the_place_of_entries(tmp_path: Path) -> None:
    again = ENTRY | {"hub": "Qwen/Qwen3-8B", "licence": "mine"}
    table = {"families": [{"name": "Mine", "languages": ["zh"], "models": [ENTRY, again]}]}
    (tmp_path / "families.json").write_text(json.dumps(table))
    found = {base.name: base for base in known([tmp_path / "families.json"])}
    assert found["me/mine"].family == "Mine"
    assert found["Qwen/Qwen3-8B"].licence == "mine"
    assert len(found) == len(known()) + 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            f'{{"families": [\n {{"name": "x", "makr": "y", "models": [{json.dumps(ENTRY)}]}}]}}',
            ["line 2", "makr", "did you mean 'maker'"],
        ),
        ('{"families": [\n {"name": "x",\n "models": [{"hub": "y"}]}]}', ["line 3", "config"]),
        ('{"families": [\n', ["not valid JSON", "line 2"]),
        ("[]", ["no mapping"]),
        ('{"families": [{"name": "x", "uses": ["cooking"], "models": []}]}', ["uses"]),
    ],
    ids=["key", "missing", "syntax", "list", "value"],
)
def test_a_wrong_table_is_told_with_line_and_key(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    path.write_text(text)
    with pytest.raises(InputError) as told:
        known([path])
    assert [part for part in parts if part not in str(told.value)] == []
    with pytest.raises(InputError, match="no such table"):
        known([tmp_path / "none.json"])


def test_cards_are_named_by_number_and_memory() -> None:
    assert [(one.cards, one.device.memory_bytes / GIB) for one in map(cards, ("24", "1x24", "4x80gb"))] == [
        (1, 24),
        (1, 24),
        (4, 80),
    ]
    assert cards("cpu").cards == 0
    for wrong in ("0x24", "many", "4x", "24x24x24", "-1", "1x99999"):
        with pytest.raises(InputError, match="names no cards"):
            cards(wrong)


def test_rows_are_counted_and_measured(toy, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"instruction": "cat dog " * (1 + place), "output": "sun"} for place in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{}\n")
    counted = workload(str(path), model=toy.base)
    assert (counted.rows, counted.task, counted.language) == (100, "classification", "en")
    assert counted.longest > counted.covering > counted.mean > 20
    assert "tokenizer" in counted.notes[0].en
    assert any("1 of 101 rows cannot be used" in note.en for note in counted.notes)
    guessed = workload(str(path), task="qa")
    assert guessed.task == "qa"
    assert "guessed from characters" in guessed.notes[0].en


def test_chinese_rows_want_a_model_that_knows_chinese(bases: list[Base], tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [
        {"instruction": f"请介绍第{place}个城市", "output": "这座城市历史悠久，" * 9 + str(place)}
        for place in range(400)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    work = workload(str(path))
    assert (work.language, work.task) == ("zh", "generation")
    assert "zh" in advise(bases, work, cards("24")).choices[0].base.languages


@pytest.mark.parametrize("wrong", [{"task": "clasification"}, {"language": "fr"}, {"rows": "0"}, {"rows": "none.json"}])
def test_wrong_words_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError):
        workload(wrong.pop("rows", "100"), **wrong)


def test_seven_billion_train_in_four_bits_on_twelve_gb(bases: list[Base]) -> None:
    work, base = workload("200", task="qa"), named(bases, "Qwen/Qwen2.5-7B-Instruct")
    found = plan(base, work, cards("12"))
    assert found.fits
    assert found.recipe.tune.name == "qlora"
    assert found.recipe.train.epochs == 10.0
    assert not plan(base, work, cards("6")).fits


def test_seven_billion_on_one_card_and_forty_on_eight(bases: list[Base]) -> None:
    one = advise(bases, work_of("chat"), cards("24")).choices[0]
    assert 6e9 < one.base.sizes.parameters < 10e9
    eight = advise(bases, work_of("domain"), cards("8x80")).choices[0]
    assert 30e9 < eight.base.sizes.parameters < 50e9
    small = advise(bases, work_of("classification"), cards("24")).choices[0]
    assert small.base.sizes.parameters < 4e9


@pytest.mark.parametrize("machine", ["8", "24", "80", "4x80", "cpu"])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_said_can_be_pasted(task: str, machine: str, bases: list[Base]) -> None:
    found = advise(bases, work_of(task), cards(machine) if machine != "cpu" else processor(64, 16))
    assert found.choices
    for one in found.choices:
        settings = parse(WorkspaceSettings, yaml.safe_load(one.yaml), where="advice")
        assert settings.recipe.tune == one.recipe.tune
        assert settings.train == one.recipe.train
        assert one.needed_bytes <= one.hardware.device.memory_bytes
        assert settings.train.batch_size % (settings.train.accumulation * settings.train.processes) == 0
    assert json.loads(json.dumps(found.as_json()))["choices"][0]["model"] == found.choices[0].base.name


def test_what_does_not_fit_names_a_change_that_makes_it_fit(bases: list[Base]) -> None:
    work = work_of("generation")
    tried = plan(named(bases, "Qwen/Qwen2.5-32B-Instruct"), work, cards("12"))
    assert not tried.fits
    told = remedy(tried, work).en
    if told.startswith("max_length"):
        assert plan(tried.base, work, tried.hardware, int(told.split()[1])).fits
    else:
        assert plan(tried.base, work, cards(told.split()[0])).fits
    refused = [one.name for one in advise(bases, work, cards("12")).refused if "needs" in one.why.en]
    assert [name for name in refused if plan(named(bases, name), work, cards("12")).fits] == []
    assert len(refused) >= 3


def test_the_same_job_is_told_for_other_machines(bases: list[Base]) -> None:
    found = advise(bases, work_of("chat"), cards("24"))
    machines = [one.hardware.name.en for one in found.elsewhere]
    assert machines[:4] == ["1 x 24 GB card", "1 x 80 GB card", "4 x 80 GB card", "8 x 80 GB card"]
    assert machines[4].startswith("CPU, 16 cores")
    assert {one.base.name for one in found.elsewhere} == {found.choices[0].base.name}


def test_a_large_model_is_cut_among_cards(bases: list[Base]) -> None:
    found = plan(named(bases, "Qwen/Qwen2.5-72B-Instruct"), work_of("domain"), cards("8x80"))
    assert found.fits
    assert found.recipe.train.processes == 8
    assert found.recipe.train.sharding == "fsdp2"


def test_few_rows_get_the_rules_of_few_rows(bases: list[Base]) -> None:
    few = advise(bases, work_of(rows="40"), cards("24"))
    assert any("100 to 200 good ones are the least" in note.en for note in few.notes)
    some = advise(bases, work_of(rows="150"), cards("24"))
    assert any("10 epochs" in note.en for note in some.notes)
    assert all(one.recipe.tune.name == "qlora" for one in some.choices)


def test_a_model_that_needs_foreign_code_is_never_chosen(bases: list[Base]) -> None:
    foreign = [base for base in bases if base.remote_code]
    found = advise(foreign, work_of(), cards("80"))
    assert found.choices == ()
    assert "refuses" in found.refused[0].why.en


def test_a_task_has_usual_lengths_where_there_are_no_rows() -> None:
    assumed = workload(None)
    assert (assumed.rows, assumed.task) == (1000, "generation")
    assert [note.en.split(":")[0] for note in assumed.notes] == ["1,000 rows are assumed", "no rows to look at"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora fp32, Qwen, batch 32", "full, 100M, accumulation 2"])
def test_the_estimate_is_within_fifteen_per_cent_of_a_real_training(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "advise.py"
    out = tmp_path / "found.json"
    done = subprocess.run([sys.executable, script, "--only", name, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert abs(json.loads(out.read_text())[name]["error"]) < 0.15
