"""A tokenizer of transformers in GGUF's words: byte-level BPE, and BPE as SentencePiece has it."""

import json
from typing import Any

from gguf import TokenType

from nacre.base.errors import InputError
from nacre.model.chat import prompt_ids
from nacre.records import Message

# Llama.cpp knows how texts are cut before BPE by name alone. The patterns that belong to the names:
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CUTS = {_QWEN2: "qwen2", _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1): "llama-bpe"}
_FIX = "export with --to hf and convert it with llama.cpp's own script, or export with --to ctranslate2"


def add_tokenizer(writer: Any, tokenizer: Any, rows: int) -> list[str]:
    """Write vocabulary, merges and the ids of special tokens; returns what was decided, in sentences.

    Args:
        writer: of the file.
        tokenizer: with its chat template.
        rows: how many rows the model's embeddings have; what the vocabulary lacks is filled up.

    Raises:
        InputError: it is of a kind that llama.cpp does not know.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend is not None else {}
    model = described.get("model") or {}
    if model.get("type") != "BPE":
        raise _refused(f"a tokenizer of the kind {model.get('type') or type(tokenizer).__name__} is not known")
    cut = _cut(described)
    tokens, types = _vocabulary(tokenizer, rows)
    pairs = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model["merges"]]
    writer.add_tokenizer_model("llama" if cut is None else "gpt2")
    writer.add_tokenizer_pre("default" if cut is None else cut)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if cut is None:
        rank = {"".join(pair): place for place, pair in reversed(list(enumerate(pairs)))}
        writer.add_token_scores([-float(rank.get(token, len(rank))) for token in tokens])
        writer.add_add_space_prefix(_prefixed(described))
    else:
        writer.add_token_merges([" ".join(pair) for pair in pairs])
    return _specials(writer, tokenizer)


def starts_with_bos(tokenizer: Any) -> bool:
    """Whether a conversation begins with the beginning-of-sequence token, which llama.cpp then adds by itself."""
    first = prompt_ids((Message(role="user", content="?"),), tokenizer)[:1]
    return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]


def _specials(writer: Any, tokenizer: Any) -> list[str]:
    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(starts_with_bos(tokenizer))
    writer.add_add_eos_token(False)
    writer.add_chat_template(str(tokenizer.chat_template))
    return []


def _vocabulary(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:
    """Texts and kinds of all tokens, by id."""
    kinds = TokenType
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(max(rows, max(by_id) + 1)):
        token = by_id.get(number)
        if token is None:
            tokens.append(f"[PAD{number}]")
            types.append(kinds.UNUSED)
        elif number in added:
            tokens.append(token)
            types.append(kinds.CONTROL if added[number].special else kinds.USER_DEFINED)
        else:
            tokens.append(token)
            types.append(kinds.BYTE if len(token) == 6 and token.startswith("<0x") else kinds.NORMAL)
    return tokens, types


def _cut(described: dict[str, Any]) -> str | None:
    """llama.cpp's name for how texts are cut before BPE; None for SentencePiece's BPE, which cuts nothing.

    Raises:
        InputError: it has none.
    """
    steps = _steps(described.get("pre_tokenizer"), "pretokenizers")
    kinds = [step["type"] for step in steps]
    if "ByteLevel" not in kinds:
        if described["model"].get("byte_fallback"):
            return None
        raise _refused("BPE over letters, without bytes behind it, is not known")
    level = steps[kinds.index("ByteLevel")]
    if level.get("add_prefix_space"):
        raise _refused("a tokenizer that puts a space before every text is not known")
    if kinds == ["ByteLevel"] and level.get("use_regex", True):
        return "gpt-2"
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    if kinds == ["Split", "ByteLevel"] and patterns[0] in _CUTS:
        return _CUTS[patterns[0]]
    raise _refused("texts are cut before BPE by a rule that llama.cpp has no name for here")


def _prefixed(described: dict[str, Any]) -> bool:
    """Whether SentencePiece puts a space before a text."""
    steps = _steps(described.get("normalizer"), "normalizers")
    before = [step for step in _steps(described.get("pre_tokenizer"), "pretokenizers") if step["type"] == "Metaspace"]
    return any(step["type"] == "Prepend" for step in steps) or any(
        step.get("prepend_scheme", "always") != "never" for step in before
    )


def _steps(step: Any, inside: str) -> list[dict[str, Any]]:
    """A step, or the steps of a sequence."""
    if step is None:
        return []
    return list(step[inside]) if step["type"] == "Sequence" else [step]


def _refused(what: str) -> InputError:
    return InputError(f"{what}, so no GGUF is written", where="tokenizer.json", fix=_FIX)
