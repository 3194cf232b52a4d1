"""Documents for the tests of the store, and an embedding model that knows a few words that mean the same."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from nacre.serve.knowledge.build import Renewed, renew
from nacre.serve.knowledge.search import Searcher
from nacre.serve.knowledge.settings import Knowledge
from nacre.serve.knowledge.snapshots import Source, Where

HANDBOOK = {
    "returns.md": "# Returns\n\nGoods can be sent back within 30 days.\nThe warehouse in Lyon takes them.\n",
    "hours.txt": "The shop opens at nine and closes at six.\nOn Sundays it stays closed.\n",
    "zh.md": "# 退货政策\n\n商品签收后三十天内可以退货。\n运费由商店承担。\n",
}
SAME = (("car", "automobile"), ("doctor", "physician"), ("buy", "purchase"), ("begin", "commence"))


def write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def where(root: Path, **settings: object) -> Where:
    return Where(root, root / "knowledge", Knowledge(**settings))


def fill(root: Path, files: Mapping[str, str], *, orders: bool = False, **settings: object) -> tuple[Where, Renewed]:
    """A store of these files, which lie in the folder `handbook`."""
    write(root / "handbook", files)
    store = where(root, **settings)
    return store, renew(store, [Source(path="handbook", orders=orders)])


def found(store: Where, question: str) -> list[str]:
    """The documents of the passages for a question, the best first."""
    hits = Searcher(store).search(question)
    assert hits is not None
    return [one.source for one in hits.passages]


def make_encoder(folder: Path) -> Path:
    """Every word has a direction of its own, words of `SAME` share one."""
    folder.mkdir(parents=True)
    known = ["[UNK]", *(word for pair in SAME for word in pair), "red", "is", "a", "the", "to", "where"]
    places = {word: place for place, word in enumerate(known)}
    raw = Tokenizer(models.WordLevel(places, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.save(str(folder / "tokenizer.json"))
    table = np.eye(len(known), 32, dtype=np.float32)
    for one, other in SAME:
        table[places[other]] = table[places[one]]
    for empty in ("is", "a", "the", "to", "where"):
        table[places[empty]] = 0
    save_file({"embeddings": table}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return folder
