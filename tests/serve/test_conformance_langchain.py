"""LangChain's client against every engine: what its users call."""

from typing import Any

import openai
import pytest
from conformance_kit import KEY, WITHOUT_EMBEDDINGS
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from serving_kit import ANSWERS, QUESTION, Place


@pytest.fixture
def options(served: tuple[str, Place]) -> dict[str, Any]:
    return {"base_url": f"{served[0]}/v1", "api_key": KEY, "model": "bot", "max_retries": 0, "timeout": 60}


@pytest.fixture
def chat(options: dict[str, Any]) -> ChatOpenAI:
    return ChatOpenAI(**options, temperature=0)


def test_an_answer_with_its_usage(chat: ChatOpenAI) -> None:
    answer = chat.invoke([HumanMessage(QUESTION)])
    assert answer.content == ANSWERS[0]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > len(ANSWERS[0])
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == "bot@1"


def test_a_conversation_with_a_system_message(chat: ChatOpenAI) -> None:
    turns = [SystemMessage("Be brief."), HumanMessage(QUESTION), AIMessage("Well."), HumanMessage(QUESTION)]
    assert chat.invoke(turns, max_tokens=4).response_metadata["finish_reason"] == "length"


def test_a_stream_comes_in_pieces(chat: ChatOpenAI) -> None:
    pieces = list(chat.stream(QUESTION))
    assert "".join(str(piece.content) for piece in pieces) == ANSWERS[0]
    assert len(pieces) > 10


def test_several_questions_side_by_side(chat: ChatOpenAI) -> None:
    assert [answer.content for answer in chat.batch([QUESTION] * 3)] == [ANSWERS[0]] * 3


def test_log_probabilities_and_stops(chat: ChatOpenAI) -> None:
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke(QUESTION, stop=["一层"])
    assert answer.content == ANSWERS[0][: ANSWERS[0].index("一层")]
    assert len(answer.response_metadata["logprobs"]["content"]) > 0


def test_a_structured_answer(chat: ChatOpenAI) -> None:
    schema = {
        "title": "said",
        "description": "whether it went well",
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = chat.with_structured_output(schema, method="json_schema").invoke(QUESTION, max_tokens=400)
    assert answer["ok"] in (True, False)


def test_tools_are_refused_and_not_forgotten(chat: ChatOpenAI) -> None:
    tool = {"type": "function", "function": {"name": "weather", "description": "the weather", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        chat.bind_tools([tool]).invoke(QUESTION)


def test_a_completion(options: dict[str, Any]) -> None:
    texts = OpenAI(**options, temperature=0, max_tokens=4).batch(["layer", "layer"])
    assert texts[0] == texts[1] != ""


def test_vectors(options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["served"] in WITHOUT_EMBEDDINGS:
        with pytest.raises(openai.NotFoundError):
            OpenAIEmbeddings(**options, check_embedding_ctx_length=False).embed_query("layer")
        return
    embeddings = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    first, second = embeddings.embed_documents(["layer", "层"])
    assert len(first) == len(second) == 32
    assert embeddings.embed_query("layer") == pytest.approx(first, abs=1e-3)


def test_an_unknown_model_and_a_wrong_key_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(**options | {"model": "other"}).invoke(QUESTION)
    with pytest.raises(openai.AuthenticationError):
        ChatOpenAI(**options | {"api_key": "other"}).invoke(QUESTION)
