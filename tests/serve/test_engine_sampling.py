from collections import Counter

import pytest
import torch

from nacre.serve.engines.sampling import greedy, sample

LOGITS_V = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def _draw(temperature: float, top_p: float, times: int = 4000, **options: float) -> dict[int, float]:
    generator = torch.Generator().manual_seed(5)
    counts = Counter(sample(LOGITS_V, temperature, top_p, generator, **options) for _ in range(times))
    return {token: count / times for token, count in counts.items()}


def test_temperature_one_draws_from_the_models_own_distribution() -> None:
    drawn = _draw(1.0, 1.0)
    for token, share in enumerate([0.5, 0.3, 0.15, 0.05]):
        assert drawn[token] == pytest.approx(share, abs=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert set(_draw(1.0, 0.79)) == {0, 1}
    assert set(_draw(1.0, 0.81)) == {0, 1, 2}
    assert set(_draw(1.0, 0.0)) == {0}
    assert _draw(1.0, 0.79)[0] == pytest.approx(0.5 / 0.8, abs=0.03)


def test_temperature_sharpens_and_zero_is_greedy() -> None:
    assert _draw(0.5, 1.0)[0] == pytest.approx(0.25 / (0.25 + 0.09 + 0.0225 + 0.0025), abs=0.03)
    assert _draw(0.0, 1.0, 10) == {0: 1.0}


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        sample(torch.tensor([1.0, float("nan")]), 0.0, 1.0, torch.Generator())


def test_top_k_and_min_p_leave_the_likeliest() -> None:
    assert set(_draw(1.0, 1.0, top_k=2)) == {0, 1}
    assert _draw(1.0, 1.0, top_k=2)[0] == pytest.approx(0.5 / 0.8, abs=0.03)
    assert set(_draw(1.0, 1.0, top_k=9)) == {0, 1, 2, 3}
    assert set(_draw(1.0, 1.0, min_p=0.25)) == {0, 1, 2}
    assert set(_draw(1.0, 1.0, min_p=1.0)) == {0}
    assert set(_draw(1.0, 0.6, top_k=3, min_p=0.25)) == {0, 1}


def test_a_rounding_error_changes_no_draw() -> None:
    noise = torch.Generator().manual_seed(1)
    for seed in range(300):
        logits_V = torch.randn(5000, generator=noise) * 3
        other_V = logits_V + torch.randn(5000, generator=noise) * 1e-6
        drawn = [sample(one, 1.0, 0.95, torch.Generator().manual_seed(seed)) for one in (logits_V, other_V)]
        assert drawn[0] == drawn[1]


def test_of_nearly_equal_tokens_the_first_is_taken_and_broken_rows_are_told() -> None:
    rows = [[1.0, 3.0, 3.0 + 1e-6, 0.0], [3.0 + 1e-6, 1.0, 3.0, 0.0], [0.0, float("nan"), 9.0, 1.0], [0, 1, 2, 3]]
    assert greedy(torch.tensor(rows)) == [1, 0, None, 3]
