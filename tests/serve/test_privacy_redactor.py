"""What is taken out of texts before they are written."""

import threading
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.base.hashing import canonical_json, sha256_text
from nacre.data.clean.chain import Chain, choose
from nacre.data.clean.places import Place
from nacre.data.clean.secrets import Secrets
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.serve.privacy import Redactor

WHOLE = Redactor(("secrets", "pii"))
KEY = "sk-" + "a1B2c3D4e5" * 4


def asked(*texts: str, answer: str = "yes", **more: object) -> Interaction:
    return Interaction(
        id="chatcmpl-1",
        time="2026-05-01T00:00:00.000+00:00",
        version=1,
        arm="champion",
        messages=tuple(ChatTurn(role="user", content=text) for text in texts),
        answer=answer,
        finish="stop",
        **more,
    )


def test_secrets_and_personal_data_leave_questions_and_answers_and_are_counted() -> None:
    redactor = Redactor(("secrets", "pii"))
    found = redactor.clean(asked(f"my key is {KEY}", "我的手机 13800138000", answer="write to ann@example.org"))
    assert found is not None
    text = found.to_json()
    assert not any(private in text for private in (KEY, "13800138000", "ann@example.org"))
    assert [turn.content for turn in found.messages] == ["my key is [SECRET]", "我的手机 [PHONE]"]
    assert found.removed == {"API key": 1, "PHONE": 1, "EMAIL": 1}
    clean = redactor.clean(asked("hello"))
    assert clean is not None
    assert clean.removed == {}, "what one answer lost is not another's"
    assert redactor.removed == {"API key": 1, "PHONE": 1, "EMAIL": 1}


def test_the_prompts_hash_is_of_what_is_kept() -> None:
    redactor = Redactor(("pii",))
    first, second, other = (
        redactor.clean(asked(text, answer=str(place), session="s"))
        for place, text in enumerate(("call 13800138000", "call 13912345678", "call me"))
    )
    assert first is not None
    assert second is not None
    assert other is not None
    assert len(first.prompt) == 64
    assert first.prompt == second.prompt != other.prompt
    plain = Redactor(()).clean(asked("call 13800138000"))
    assert plain is not None
    assert plain.messages[0].content == "call 13800138000"
    assert plain.prompt not in ("", first.prompt)
    nothing = redactor.clean(asked())
    assert nothing is not None
    assert nothing.prompt == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("电话：１３８００１３８０００。", "电话:[PHONE]。"),
        ("ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ", "[EMAIL]"),
        ("call 138\u200b0013\u200b8000", "call [PHONE]"),
        ("ann\u2060@example.org, 好", "[EMAIL], 好"),
        ("全角：，。１２３", "全角：，。１２３"),
    ],
)
def test_what_is_written_in_other_characters_is_found_and_other_texts_stay_as_they_are(text: str, left: str) -> None:
    found = Redactor(("secrets", "pii")).clean(asked(text))
    assert found is not None
    assert found.messages[0].content == left


def test_opinions_are_cleaned_too() -> None:
    said = Feedback(time="t", interaction="a", kind="correction", text=f"use {KEY} or ann@example.org")
    found = Redactor(("secrets", "pii")).clean(said)
    assert found is not None
    assert found.text == "use [SECRET] or [EMAIL]"


@pytest.mark.parametrize(
    "text",
    [
        "\x00 nul",
        "half \ufffd",
        "e\u0301 ann@example.org",
        "ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ",
        "\u202eann@example.org",
        "",
    ],
)
def test_odd_characters_pass_and_a_second_cleaning_changes_nothing(text: str) -> None:
    redactor = Redactor(("secrets", "pii"))
    found = redactor.clean(asked(text, answer=text))
    assert found is not None
    again = redactor.clean(found)
    assert again is not None
    assert again.messages == found.messages
    assert "ann@example.org" not in found.to_json()


def test_what_a_step_cannot_clean_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Secrets, text: str) -> str:
        raise RuntimeError(text)

    redactor = Redactor(("secrets", "pii"))
    monkeypatch.setattr(Secrets, "text", broken)
    redactor = Redactor(("secrets", "pii"))
    assert redactor.clean(asked(f"my key is {KEY}")) is None
    assert redactor.refused == 1
    fine = redactor.clean(asked("hello"))
    assert fine is not None, "nothing in it to clean"
    assert fine.removed == {}


def test_half_characters_are_replaced_and_whole_ones_stay() -> None:
    for redactor in (Redactor(), Redactor(("secrets", "pii"))):
        found = redactor.clean(asked("half \ud800 q", "\ud83d\ude00", answer="half \udfff"))
        assert found is not None
        assert [turn.content for turn in found.messages] == ["half \ufffd q", "\U0001f600"]
        assert found.answer == "half \ufffd"
        assert found.removed == {}
        said = redactor.clean(
            Feedback(time="2026-05-01T00:00:00+00:00", interaction="i", kind="comment", text="h \ud800")
        )
        assert said is not None
        assert said.text == "h \ufffd"


_PIECES = st.sampled_from(
    [
        "hello ",
        "call ",
        "13800138000",
        "ann@example.org",
        KEY,
        "\ud800",
        "\u200b",
        "\x00",
        "\x7f",
        "\n",
        '"',
        "\\",
        "我叫",
        "王小明",
    ]
) | st.text(max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_PIECES, max_size=6).map("".join), max_size=3))
def test_the_hash_and_the_texts_are_those_of_the_chain(texts: list[str]) -> None:
    found = WHOLE.clean(asked(*texts))
    assert found is not None
    whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    chain = Chain(choose(["secrets", "pii"]))
    chain.texts({}, [Place(whole, place, True) for place in range(len(whole))])
    for kept, wanted in zip(found.messages, whole, strict=True):
        unseen = wanted.isascii() or unicodedata.normalize("NFKC", wanted) == wanted
        assert kept.content == wanted or not unseen or "\u200b" in wanted
    turns = [["user", turn.content] for turn in found.messages]
    assert found.prompt == (sha256_text(canonical_json(turns)) if turns else "")
    assert Interaction.from_json(found.to_json()) == found == Interaction.model_validate_json(found.model_dump_json())


@pytest.mark.parametrize(("step", "said"), [("duplicates", "private"), ("piii", "did you mean 'pii'")])
def test_only_steps_that_remove_what_is_private(step: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Redactor((step,))
    assert said in str(caught.value)


def test_many_redactors_at_once_find_everything() -> None:
    """They share the automaton that looks for marks, and a server in this process is not the only one."""
    missed: list[str] = []

    def work(redactor: Redactor, place: int) -> None:
        for number in range(300):
            found = redactor.clean(asked(f"{'word ' * 50} mail p{place}n{number}@example.org"))
            if found is None or found.removed != {"EMAIL": 1}:
                missed.append(f"{place} {number}")

    threads = [threading.Thread(target=work, args=(Redactor(("secrets", "pii")), place)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
