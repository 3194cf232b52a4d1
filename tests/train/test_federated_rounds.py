"""Rounds over Flower: what mean, trimmed mean and median make of known answers, of lies, of silence and of masks."""

import io
import logging

import numpy as np
import pytest

from federated_kit import adapter, backwards, changing, masked_apps, moved, scripted_apps, vanishing
from nacre.base.errors import NacreError
from nacre.records import Federating

pytest.importorskip("flwr", reason="needs nacre[federated]")

from flwr.app import MetricRecord
from numpy.lib import format as npy

from nacre.train.federated.app import ARRAYS, METRICS
from nacre.train.federated.grid import HereGrid
from nacre.train.federated.rounds import Rounds

HONEST = (0.08, 0.09, 0.1, 0.1, 0.1, 0.1, 0.1, 0.11, 0.12)  # their mean is their median


def run(apps, tap=lambda _: None, **how):
    said = []
    rounds = Rounds(Federating.model_validate({"rounds": 1, **how}), HereGrid(apps, tap), said.append)
    arrays, told = rounds.run(adapter())
    return arrays, told, said


def change(arrays) -> float:
    """By how much all numbers changed; they must all have changed alike."""
    moves = np.concatenate([(arrays[name] - one).ravel() for name, one in adapter().items()])
    assert np.ptp(moves) < 1e-4
    return float(moves.mean())


@pytest.mark.parametrize("aggregation", ["mean", "trimmed-mean", "median"])
def test_honest_answers_give_their_middle(aggregation: str) -> None:
    arrays, told, said = run(scripted_apps(HONEST), aggregation=aggregation, rounds=2)
    assert change(arrays) == pytest.approx(0.2, abs=1e-5)
    assert [(one.asked, one.counted, one.silent, one.refused) for one in told] == [(9, 9, 0, {})] * 2
    assert told[0].loss == 1.0
    assert all("9 of 9 answers counted" in sentence for sentence in said)


def test_a_mean_weighs_rows_but_nobody_too_much() -> None:
    apps = scripted_apps((0.1,) * 4, count=10) | {5: scripted_apps((0.3,), count=10**6)[1]}
    arrays, _, _ = run(apps, aggregation="mean")
    assert change(arrays) == pytest.approx((4 * 10 * 0.1 + 40 * 0.3) / 80, abs=1e-5)


def test_one_liar_of_ten_moves_a_mean_and_no_trimmed_mean_or_median() -> None:
    apps = scripted_apps((*HONEST, 0.1))
    apps[10] = backwards(apps[10], 4.0)
    found = {name: change(run(apps, aggregation=name)[0]) for name in ("mean", "trimmed-mean", "median")}
    assert found["mean"] < 0.06
    assert found["trimmed-mean"] == pytest.approx(0.1, abs=0.01)
    assert found["median"] == pytest.approx(0.1, abs=0.01)


def test_few_answers_are_trimmed_too() -> None:
    apps = scripted_apps((0.1, 0.1, 0.1))
    apps[3] = backwards(apps[3], 4.0)
    arrays, told, _ = run(apps, aggregation="trimmed-mean", trimmed=0.2)  # of 3, a fifth is none
    assert told[0].counted == 3
    assert change(arrays) == pytest.approx(0.1, abs=1e-5)


def test_what_cannot_be_used_is_refused_with_its_reason_and_the_round_goes_on() -> None:
    apps = scripted_apps((0.1,) * 15)
    apps[1] = backwards(apps[1], 50.0)
    apps[2] = changing(apps[2], lambda arrays, *_: {**arrays, "more": np.zeros(3, np.float32)})
    apps[3] = changing(apps[3], lambda arrays, *_: {name: one[:1] for name, one in arrays.items()})
    apps[4] = changing(apps[4], lambda arrays, *_: {name: one * np.float32("inf") for name, one in arrays.items()})

    def without_rows(arrays, _, reply):
        del reply.content[METRICS]["num-examples"]

    def garbage(arrays, _, reply):
        next(iter(reply.content[ARRAYS].values())).data = b"no array"

    def bytes_of(data):
        def put(arrays, _, reply):
            next(iter(reply.content[ARRAYS].values())).data = data

        return put

    def no_arrays(arrays, _, reply):
        reply.content[ARRAYS] = MetricRecord({"a": 1.0})

    header, packed = io.BytesIO(), io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**14,)})
    np.savez(packed, a=np.zeros((4, 4), np.float32))
    torn = b"\x93NUMPY\x01\x00\x10\x00(((((((((((((((("
    apps[5], apps[6] = changing(apps[5], without_rows), changing(apps[6], garbage)
    for node, data in enumerate((b"PK\x03\x04junk", packed.getvalue(), header.getvalue(), torn), 7):
        apps[node] = changing(apps[node], bytes_of(data))
    apps[11] = changing(apps[11], no_arrays)
    arrays, told, said = run(apps, aggregation="mean")
    assert told[0].counted == 4
    assert told[0].refused == {
        "not finite": 1,
        "other names": 1,
        "other shapes": 1,
        "too far away": 1,
        "unreadable": 7,
    }
    assert change(arrays) == pytest.approx(0.1, abs=1e-5)
    assert "7 refused (unreadable)" in said[0]


def test_tensors_in_another_order_are_put_back_into_ours() -> None:
    apps = scripted_apps((0.1,) * 3)
    apps[2] = changing(apps[2], lambda arrays, *_: dict(reversed(arrays.items())))
    assert change(run(apps, aggregation="trimmed-mean")[0]) == pytest.approx(0.1, abs=1e-5)


def test_parties_that_vanish_are_not_missed_above_the_minimum() -> None:
    apps = scripted_apps((0.1,) * 5)
    apps[1], apps[2] = vanishing(apps[1], 1), vanishing(apps[2], 1)
    arrays, told, _ = run(apps, rounds=3, least=3)
    assert [(one.counted, one.silent) for one in told] == [(5, 0), (3, 2), (3, 2)]
    assert change(arrays) == pytest.approx(0.3, abs=1e-5)
    _, told, _ = run(apps | {3: vanishing(apps[3], 0)}, rounds=2, least=2)
    assert [one.counted for one in told] == [2, 2]


def test_a_round_below_the_minimum_does_not_count() -> None:
    apps = scripted_apps((0.1,) * 3)
    apps[1] = vanishing(apps[1], 1)
    arrays, told, said = run(apps, rounds=2, least=3)
    assert [bool(one.moved) for one in told] == [True, False]
    assert change(arrays) == pytest.approx(0.1, abs=1e-5)
    assert "too few: the adapter stays as it was" in said[1]
    with pytest.raises(NacreError, match="no round counted"):
        run(apps, rounds=1, least=3)
    with pytest.raises(NacreError, match="2 of 3 parties are there"):
        Rounds(Federating(least=3), HereGrid(scripted_apps((0.1, 0.1))), wait_s=0.0).run(adapter())


def test_updates_are_clipped_and_noise_is_as_loud_as_said() -> None:
    apps = scripted_apps((0.1,) * 4)
    noise, clip = 0.5, 0.2
    found = np.concatenate(
        [
            np.concatenate([(arrays[name] - one).ravel() for name, one in adapter().items()])
            for arrays, _, _ in (run(apps, aggregation="mean", clip=clip, noise=noise) for _ in range(60))
        ]
    )
    numbers = sum(one.size for one in adapter().values())
    each = clip / np.sqrt(numbers)  # what is left of an update in every number
    assert found.mean() == pytest.approx(each, abs=4 * noise * clip / 4 / np.sqrt(found.size))
    assert found.std() == pytest.approx(noise * clip / 4, rel=0.1)


def test_noise_is_no_one_elses_to_repeat() -> None:
    apps = scripted_apps((0.1,) * 4)
    found = []
    for _ in range(2):
        np.random.seed(0)  # as a training in this process does
        found.append(run(apps, aggregation="mean", clip=0.2, noise=0.5)[0])
    assert not np.array_equal(found[0]["q.lora_A"], found[1]["q.lora_A"])


def test_of_masked_answers_the_mean_alone_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[bytes] = []
    with caplog.at_level(logging.WARNING):
        arrays, told, _ = run(
            masked_apps((0.05, 0.1, 0.15, 0.2)), sent.append, aggregation="mean", secure=True, least=3
        )
    assert change(arrays) == pytest.approx(0.125, abs=1e-4)
    assert (told[0].asked, told[0].counted, told[0].loss) == (4, 4, None)
    plain = [moved(adapter(), by)["q.lora_B"] for by in (0.05, 0.1, 0.15, 0.2)]
    for data in sent:
        assert not any(one.tobytes() in data for one in plain)
    open_sent: list[bytes] = []
    run(scripted_apps((0.05, 0.1, 0.15, 0.2)), open_sent.append, aggregation="mean", least=3)
    assert all(any(one.tobytes() in data for data in open_sent) for one in plain)  # what the check above would find


def test_masks_of_a_party_that_vanished_are_taken_away() -> None:
    apps = masked_apps((0.05, 0.1, 0.15, 0.2, 0.9))
    apps[5] = vanishing(apps[5], 2)  # it has shared its keys, and never sends its answer
    arrays, told, _ = run(apps, aggregation="mean", secure=True, least=3)
    assert (told[0].asked, told[0].counted, told[0].silent) == (5, 4, 1)
    assert change(arrays) == pytest.approx(0.125, abs=1e-4)


def test_a_party_that_is_promised_masks_does_not_answer_without() -> None:
    apps = masked_apps((0.1,) * 3)
    with pytest.raises(ValueError, match="not masked"):
        run(apps, aggregation="mean", least=3)
