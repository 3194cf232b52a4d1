import math

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from nacre.base.errors import InputError
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.metric import Scored
from nacre.evaluate.metrics.words import words

ENGLISH = ["the cat sat on the mat today", "a dog barked at the moon", "rain falls on the quiet sea"]
ENGLISH_SAID = ["the cat sat on a mat today", "a dog barks at the moon", "snow"]
CHINESE = ["今天天气很好,我们去公园散步", "患者需要到神经科就诊", "这家店的外卖送得很快"]
CHINESE_SAID = ["今天天气不好,我们去公园散步", "患者需要到消化科就诊", "这家店送得快"]


def scored(answers, references, losses=None):
    losses = losses or [(1.0, 2)] * len(answers)
    pairs = [(-nll / max(tokens, 1), -1.0) for nll, tokens in losses]
    wanted = [True] * len(answers)
    return Scored(
        answers=answers,
        references=references,
        losses=losses,
        pairs=pairs,
        wanted=wanted,
        tokens=[len(answer.split()) for answer in answers],
        verdicts=[float(answer == reference) for answer, reference in zip(answers, references, strict=True)],
        ranks=[(1, 1) if said == wanted else (9, 9) for said, wanted in zip(answers, references, strict=True)],
    )


def metric(name):
    return METRICS.load(name)()


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize(("answers", "references"), [(ENGLISH_SAID, ENGLISH), (CHINESE_SAID, CHINESE)])
def test_contract_one_finite_score_per_row_in_range(name, answers, references):
    made = metric(name)
    given = scored(answers, references, [(0.0, 1), (3.2, 2), (9.0, 4)])
    scores = made.measure(given)
    assert len(scores) == len(answers)
    assert all(math.isfinite(score) for score in scores)
    assert made.definition
    assert made.reads in ("answers", "losses", "pairs", "judgements", "verdicts", "ranks")
    if made.gate:
        assert all(0 <= score <= 1 for score in scores)
    total = made.total(given)
    assert total is None or math.isfinite(total)


@pytest.mark.parametrize("name", [name for name in METRICS.names() if METRICS.load(name).gate])
@pytest.mark.parametrize("references", [ENGLISH, CHINESE, ["+", "42", "好"]])
def test_contract_the_reference_itself_scores_one_and_nothing_scores_more(name, references):
    made = metric(name)
    best = made.measure(scored(references, references, [(0.0, 3)] * 3))
    worse = made.measure(scored(["nothing like it"] * 3, references, [(5.0, 3)] * 3))
    assert best == pytest.approx([1.0] * 3)
    assert all(low < high for low, high in zip(worse, best, strict=True))


@pytest.mark.parametrize("name", METRICS.names())
def test_contract_empty_answers_do_not_crash_and_score_nothing(name):
    made = metric(name)
    scores = made.measure(scored(["", "   "], ["yes", "是的"], [(0.0, 0), (2.0, 1)]))
    assert len(scores) == 2
    total = made.total(scored(["", ""], ["yes", "是的"]))
    assert total is None or math.isfinite(total)
    if made.reads == "answers":
        assert scores == [0.0, 0.0]


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(InputError, match="unknown metric 'rouge_1'") as caught:
        METRICS.load("rouge_1")
    assert "did you mean 'rouge_l'" in caught.value.fix


def test_exact_match_levels_white_space_and_unicode_form_only():
    answers = [" World\n", "cafe\u0301", "world", "World.", "Ｗorld"]
    references = ["World", "café", "World", "World", "World"]
    assert metric("exact_match").measure(scored(answers, references)) == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat, the CAT!", ["the", "cat", "the", "cat"]),
        ("神经科", ["神", "经", "科"]),
        ("用LoRA训练3轮。", ["用", "lora", "训", "练", "3", "轮"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("ひらがなカナ", list("ひらがなカナ")),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("+ -", ["+", "-"]),
        ("", []),
    ],
)
def test_words_in_many_scripts(text, tokens):
    assert words(text) == tokens


def test_token_f1_by_hand():
    # 4 of 5 said tokens are among the 6 expected ones: 2 * 4 / (5 + 6)
    (english,) = metric("token_f1").measure(scored(["the cat sat on it"], ["the cat sat on the mat"]))
    assert english == pytest.approx(8 / 11)
    (chinese,) = metric("token_f1").measure(scored(["神经科"], ["神经内科"]))
    assert chinese == pytest.approx(6 / 7)


def test_rouge_l_equals_rouge_score_on_english_and_counts_chinese_characters():
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(r, a)["rougeL"].fmeasure for a, r in zip(ENGLISH_SAID, ENGLISH, strict=True)]
    assert metric("rouge_l").measure(scored(ENGLISH_SAID, ENGLISH)) == pytest.approx(expected)
    # longest common subsequence of 神经科 and 科神经: 神经; its precision and recall are 2/3
    (chinese,) = metric("rouge_l").measure(scored(["科神经"], ["神经科"]))
    assert chinese == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answers", "references", "tokenize"), [(ENGLISH_SAID, ENGLISH, "13a"), (CHINESE_SAID, CHINESE, "zh")]
)
def test_bleu_equals_sacrebleu(answers, references, tokenize):
    bleu, given = metric("bleu"), scored(answers, references)
    corpus = sacrebleu.corpus_bleu(answers, [references], tokenize=tokenize)
    assert bleu.total(given) == pytest.approx(corpus.score / 100)
    assert 0 < bleu.total(given) < 1
    each = [sacrebleu.sentence_bleu(a, [r], tokenize=tokenize) for a, r in zip(answers, references, strict=True)]
    assert bleu.measure(given) == pytest.approx([score.score / 100 for score in each])
    assert f"'{tokenize}'" in bleu.note(given)


def test_distinct_by_hand():
    given = scored(["a b a b", "a b c", "x"], ["", "", ""])
    assert metric("distinct_1").measure(given) == pytest.approx([2 / 4, 1, 1])
    assert metric("distinct_1").total(given) == pytest.approx(4 / 8)  # a b c x of eight
    assert metric("distinct_2").measure(given) == pytest.approx([2 / 3, 1, 0])
    assert metric("distinct_2").total(given) == pytest.approx(3 / 5)  # ab ba bc of five


def test_perplexity_by_hand():
    # probabilities 1/2, 1/4 for the tokens of row one, 1/8 for the one of row two
    losses = [(math.log(8), 2), (math.log(8), 1)]
    given = scored(["", ""], ["a b", "c"], losses)
    assert metric("perplexity").measure(given) == pytest.approx([math.sqrt(8), 8])
    assert metric("perplexity").total(given) == pytest.approx(64 ** (1 / 3))
    assert metric("likelihood").measure(given) == pytest.approx([1 / math.sqrt(8), 1 / 8])


def test_a_hopeless_loss_stays_a_number():
    given = scored([""], ["a"], [(1e6, 1)])
    assert math.isfinite(metric("perplexity").measure(given)[0])
    assert metric("likelihood").measure(given) == [0.0]


@pytest.mark.parametrize(("answers", "references"), [(ENGLISH_SAID, ENGLISH), (CHINESE_SAID, CHINESE)])
def test_chrf_equals_sacrebleu(answers, references):
    chrf, given = metric("chrf"), scored(answers, references)
    assert chrf.total(given) == pytest.approx(sacrebleu.corpus_chrf(answers, [references]).score / 100)
    assert 0 < chrf.total(given) < 1
    each = [sacrebleu.sentence_chrf(a, [r]).score / 100 for a, r in zip(answers, references, strict=True)]
    assert chrf.measure(given) == pytest.approx(each)


def test_bleu_splits_every_row_of_a_task_in_two_languages():
    references = [*ENGLISH, *CHINESE, "rain falls on the quiet sea"]
    given = scored([*ENGLISH, *CHINESE_SAID, "rain"], references)
    assert "'zh', because references hold Chinese characters" in metric("bleu").note(given)
    assert metric("bleu").measure(given)[3:6] == metric("bleu").measure(scored(CHINESE_SAID, CHINESE))
    assert min(metric("bleu").measure(given)[3:5]) > 0.2


@pytest.mark.parametrize(
    ("said", "reference"),
    [
        ("วันนี้ฉันไปห้องสมุดและอ่านนิตยสาร", "วันนี้ฉันไปห้องสมุดและอ่านหนังสือ"),
        ("今日はとしょかんでおもしろい話をよみました。", "今日はとしょかんでおもしろい本をよみました。"),
    ],
)
def test_bleu_splits_scripts_that_the_chinese_tokenizer_does_not(said, reference):
    given = scored([said], [reference])
    assert "'char'" in metric("bleu").note(given)
    assert metric("bleu").measure(given)[0] > 0.5


def test_bleu_takes_the_tokenizer_of_the_whole_task_for_some_of_its_rows():
    part = Scored(answers=ENGLISH_SAID[:1], references=ENGLISH[:1], losses=[], every_reference=[*CHINESE, ENGLISH[0]])
    assert "'zh'" in metric("bleu").note(part)
    assert metric("bleu").measure(part) == pytest.approx(
        [sacrebleu.sentence_bleu(ENGLISH_SAID[0], [ENGLISH[0]], tokenize="zh").score / 100]
    )


@pytest.mark.parametrize(
    ("answer", "reference", "options", "expected"),
    [
        ("The answer is B, because it fits.", "B", "ABCD", 1),
        ("答案选B。", "B", "ABCD", 1),
        ("I would say a cat is B", "B", "ABCD", 1),  # "a" is a word, not an option
        ("A or B", "B", "ABCD", 0),  # names two
        ("none of them", "B", "ABCD", 0),
        ("BANANA", "B", "ABCD", 0),
        ("非常好评", "好评", ["好评", "非常好评", "差评"], 0),  # the longest option counts
        ("这是差评", "差评", ["好评", "差评"], 1),
        ("Yes, surely.", "yes", ["yes", "no"], 1),
        ("I know nothing", "no", ["yes", "no"], 0),  # no word of its own
        ("yes", "yes", ["yes", "yes sir"], 1),
    ],
)
def test_choice_accuracy_by_hand(answer, reference, options, expected):
    given = Scored(answers=[answer], references=[reference], losses=[], every_reference=list(options) * 2)
    assert metric("choice_accuracy").applies(given)
    assert metric("choice_accuracy").measure(given) == [expected]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("yes.", "yes", 1.0),
        ("The answer is YES", "yes", 1.0),
        ("no.", "No", 1.0),
        ("ｙｅｓ", "Yes", 1.0),
        ("yes or no", "yes", 0.0),
        ("No", "yes", 0.0),
    ],
)
def test_options_of_other_case_or_width_are_one_option(answer, reference, expected):
    given = Scored(answers=[answer], references=[reference], losses=[], every_reference=["yes", "Yes", "no", "No"] * 5)
    assert metric("choice_accuracy").applies(given)
    assert metric("choice_accuracy").measure(given) == [expected]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("A simple sum shows it is impossible", "A", 0.0),
        ("A careful look gives B", "B", 1.0),
        ("It is odd. A sum gives B.", "B", 1.0),
        ("A is right", "A", 1.0),
        ("A", "A", 1.0),
        ("A. The sum is odd", "A", 1.0),
        ("A because the sum is odd", "A", 1.0),
        ("The answer is A", "A", 1.0),
        ("Ｂ", "B", 1.0),
        ("（Ｂ）", "B", 1.0),
        ("选B。", "B", 1.0),
    ],
)
def test_letters_and_the_article_are_told_apart(answer, reference, expected):
    given = Scored(answers=[answer], references=[reference], losses=[], every_reference=list("ABCD") * 5)
    assert metric("choice_accuracy").measure(given) == [expected]


def test_an_option_may_begin_with_the_article():
    given = Scored(
        answers=["A cat sits there"], references=["a cat"], losses=[], every_reference=["a cat", "A", "a dog"] * 5
    )
    assert metric("choice_accuracy").measure(given) == [1.0]


def test_choice_accuracy_needs_options_and_counts_answers_that_name_none():
    made = metric("choice_accuracy")
    assert not made.applies(scored(["a", "b", "c"], ["a", "b", "c"]))
    assert not made.applies(scored(["a"] * 4, ["a"] * 4))
    given = scored(["yes", "maybe", "yes or no", "no"], ["yes", "no", "yes", "no"])
    assert made.measure(given) == [1, 0, 0, 1]
    assert "2 of 4 answers name none of the 2 options, or several" in made.note(given)
    assert made.note(scored(["yes", "no"] * 2, ["yes", "no"] * 2)) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "As an AI language model, I am not able to give legal advice.",
        "I must decline to answer that.",
        "I’m unable to provide that information.",
        "I won't help you write this.",
        "It is against my guidelines to do so.",
        "I'm sorry, but I currently don't have the capability to book flights.",
        "I'm sorry, I'm an AI language model and do not have access to market data.",
        "As an AI, I am not capable of creating a painting.",
        "由于我是一个人工智能，我无法给出主观评分。",
        "抱歉，我无法回答这个问题。",
        "对不起，我不能提供这样的信息。",
        "作为一个人工智能助手，我不能参与此类讨论。",
        "很抱歉，这个问题我没办法回答。",
        "我无法为您提供该内容，请咨询专业人士。",
        "恕我不能从命。",
        "我拒绝回答这个问题。",
    ],
)
def test_refusals_are_found(answer):
    assert metric("refusal").measure(scored([answer], ["x"])) == [1.0]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "You cannot park here on Sundays.",
        "The bridge can't carry trucks, so take the other road.",
        "I can help you with that: first, open the lid.",
        "Sorry for the delay. Your order leaves today.",
        "患者无法行走，需要到神经科就诊。",
        "不能空腹服用这种药。",
        "抱歉让您久等了，您的订单今天发出。",
        "他说他不能来。",
        "该商品无法退换，但可以维修。",
        "I couldn't help but notice the heavy traffic.",
        "I'm sorry, but you need to name the place first.",
        "As an AI assistant, I can help you with this question.",
        "非常抱歉给大家造成了不便，会议改到明天。",
    ],
)
def test_other_answers_are_no_refusals(answer):
    assert metric("refusal").measure(scored([answer], ["x"])) == [0.0]


def test_lengths_by_hand():
    given = scored(["one two three ", "神经科"], ["", ""])
    assert metric("length_characters").measure(given) == [13, 3]
    assert metric("length_tokens").measure(given) == [3, 1]
    assert not metric("length_tokens").applies(Scored(answers=["x"], references=["x"], losses=[]))
