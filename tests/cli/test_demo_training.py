"""The demo's task is honest: disjoint real data, seeds that decide everything, and a merge that pays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crdtmerge.demo.data import CLASSES, Parts, deal, load
from crdtmerge.demo.train import State, accuracy, fine_tune, train_base
from crdtmerge.errors import ParameterError


def average(states: list[State]) -> State:
    return {name: torch.stack([s[name] for s in states]).double().mean(0).float() for name in states[0]}


def rows(parts: Parts) -> list[bytes]:
    return [image.tobytes() for part in (parts.test, parts.base, *parts.shards) for image in part.images]


def test_all_the_digits_are_there_and_real() -> None:
    digits = load()
    assert digits.images.shape == (1797, 64)
    assert (digits.images.min(), digits.images.max()) == (0.0, 1.0)
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("peers", [1, 8, 16])
def test_a_deal_gives_every_digit_to_exactly_one_part(peers: int) -> None:
    parts = deal(peers, seed=5)
    assert len(parts.shards) == peers
    assert sorted(rows(parts)) == sorted(image.tobytes() for image in load().images)


def test_equal_seeds_give_equal_deals_and_others_do_not() -> None:
    assert rows(deal(8, seed=1)) == rows(deal(8, seed=1))
    assert rows(deal(8, seed=1)) != rows(deal(8, seed=2))


def test_test_and_base_examples_do_not_depend_on_the_number_of_peers() -> None:
    few, many = deal(2, seed=3), deal(12, seed=3)
    assert np.array_equal(few.test.images, many.test.images)
    assert np.array_equal(few.base.images, many.base.images)


def test_shards_are_far_from_alike() -> None:
    shards = deal(8, seed=0).shards
    portions = [np.bincount(shard.labels, minlength=CLASSES) / len(shard) for shard in shards]
    assert all(sum(sorted(portion)[-3:]) > 0.5 for portion in portions)  # alike, three would hold 0.3


def test_more_peers_than_the_data_can_serve_are_refused() -> None:
    with pytest.raises(ParameterError, match="1 to 32 peers"):
        deal(33, seed=0)


def test_training_leaves_the_base_and_the_number_of_threads_as_they_were() -> None:
    parts, threads = deal(2, seed=0), torch.get_num_threads()
    base = train_base(parts.base, seed=0)
    before = {name: tensor.clone() for name, tensor in base.items()}
    tuned = fine_tune(base, parts.shards[0], seed=1)
    assert all(torch.equal(base[name], before[name]) for name in base)
    assert not any(torch.equal(base[name], tuned[name]) for name in base)
    assert torch.get_num_threads() == threads


def test_equal_seeds_train_equal_networks() -> None:
    public = deal(1, seed=0).base
    one, same, other = (train_base(public, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layer0.weight"], other["layer0.weight"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_average_of_eight_beats_the_base_and_the_mean_peer_by_ten_points(seed: int) -> None:
    parts = deal(8, seed=seed)
    base = train_base(parts.base, seed=seed)
    tuned = [fine_tune(base, shard, seed=peer) for peer, shard in enumerate(parts.shards)]
    alone = [accuracy(state, parts.test) for state in tuned]
    merged = accuracy(average(tuned), parts.test)
    assert 55 < accuracy(base, parts.test) < merged
    assert sum(alone) / len(alone) + 10 < merged
