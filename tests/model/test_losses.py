"""Losses of rows in batches: as one row alone gives them, and never more scores at once than are allowed."""

import pytest
import torch
from torch.nn import functional

from nacre.model import losses, vocabulary
from nacre.model.chat import IGNORED
from nacre.model.losses import labelled_losses
from toy_kit import make_model, make_tokenizer

ROWS = [  # input ids, and from which place on they are scored
    (length, length - scored)
    for length, scored in ((5, 1), (9, 9), (12, 3), (12, 12), (4, 0), (30, 29), (7, 2), (6, 6), (6, 1))
]


def drawn(size: int) -> list[tuple[list[int], list[int]]]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for length, start in ROWS:
        ids = torch.randint(5, size, (length,), generator=draw).tolist()
        found.append((ids, [IGNORED] * start + ids[start:]))
    return found


@pytest.mark.parametrize("few", [False, True], ids=["one tile", "tiles of two"])
@pytest.mark.parametrize("most", [10, 17, 1000])
def test_as_each_row_alone_and_within_the_bound(most, few, monkeypatch):
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).eval()
    size = model.config.vocab_size
    rows = drawn(size)
    monkeypatch.setattr(losses, "SCORES_BYTES", most * 4 * size)
    if few:
        monkeypatch.setattr(vocabulary, "TILE_BYTES", 2 * 4 * size)
    passes = []
    model.register_forward_hook(lambda _, given, made: passes.append(tuple(made.logits.shape)))
    with torch.no_grad():
        found = labelled_losses(model, rows)
    scored = [sum(label != IGNORED for label in labels[1:]) for _, labels in rows]
    assert sum(shape[0] for shape in passes) == sum(scored)
    assert len(passes) > 1 if most < 1000 else len(passes) == 1
    assert max(shape[0] for shape in passes) <= max(most, *scored)
    for (nll, count), (ids, labels), wanted in zip(found, rows, scored, strict=True):
        assert count == wanted
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        targets_T = torch.tensor(labels[1:])
        expected = (
            functional.cross_entropy(logits_TV, targets_T, ignore_index=IGNORED, reduction="sum") if wanted else 0
        )
        assert nll == pytest.approx(float(expected), abs=1e-4)
