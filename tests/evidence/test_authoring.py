"""Evidence as authors compute it: against hand-made numbers, and against the definition written slowly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from crdtmerge.arith.linear import unpack
from crdtmerge.errors import ParameterError, UsageError
from crdtmerge.evidence.fisher import diagonal_fisher
from crdtmerge.evidence.gram import GramCollector
from crdtmerge.evidence.moments import adam_moments
from crdtmerge.evidence.save import model_digest, save
from crdtmerge.evidence.snip import elected, packed_bits, saliency
from crdtmerge.manifest import Kind
from crdtmerge.resolve import take
from crdtmerge.store import Store


class Toy(nn.Module):
    """One weight θ, two classes with the scores θ·x and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.theta * x, torch.zeros(1, dtype=torch.float64)])


def test_gradients_are_squared_one_by_one_and_not_as_a_batchs_sum() -> None:
    model, examples = Toy(), [torch.tensor([1.0]), torch.tensor([-1.0])]
    exact = diagonal_fisher(model, examples, model)["fisher.diag/theta"]
    p = 1 / (1 + math.exp(-0.7))
    assert exact.item() == pytest.approx(p * (1 - p), rel=1e-6)
    assert exact.item() == pytest.approx(0.2217, abs=5e-5)
    # The short cut: the square of a sum over classes and examples. It is another number.
    likelihoods = torch.stack([torch.log_softmax(model(x), 0) for x in (examples[0], examples[0])])
    (likelihoods.exp().detach().sqrt() * likelihoods).sum().backward()  # type: ignore[no-untyped-call]
    gradient = model.theta.grad
    assert gradient is not None
    assert (gradient.square() / 2).item() == pytest.approx(0.0258, abs=5e-5)


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def inputs(count: int = 5) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_exact_information_is_the_definitions() -> None:
    model, xs = classifier(), inputs()
    said = diagonal_fisher(model, xs, lambda x: model(x))
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x in xs:
        for c in range(3):
            model.zero_grad()
            likelihood = torch.log_softmax(model(x), 0)[c]
            likelihood.backward()  # type: ignore[no-untyped-call]
            for name, p in model.named_parameters():
                assert p.grad is not None
                wanted[name] += likelihood.exp().item() * p.grad**2 / len(xs)
    assert said.keys() == {f"fisher.diag/{name}" for name in wanted}
    for name, values in wanted.items():
        assert torch.allclose(said[f"fisher.diag/{name}"].double(), values, rtol=1e-6, atol=1e-12)


def test_sampled_labels_are_right_on_average_and_repeatable() -> None:
    model, x = classifier(), inputs(1)[0]
    exact = diagonal_fisher(model, [x], model)["fisher.diag/2.bias"]
    sampled = [diagonal_fisher(model, [x] * 3000, model, labels="sampled", seed=s) for s in (1, 1)]
    assert torch.allclose(sampled[0]["fisher.diag/2.bias"], exact, rtol=0.1)
    assert torch.equal(sampled[0]["fisher.diag/2.bias"], sampled[1]["fisher.diag/2.bias"])


def test_given_labels_square_the_gradient_of_the_true_class_and_skip_padding() -> None:
    model, x = classifier(), inputs(2)
    given = diagonal_fisher(
        model, [x], lambda row: model(row), labels="given", target=lambda _: torch.tensor([2, -100])
    )
    torch.log_softmax(model(x[0]), 0)[2].backward()  # type: ignore[no-untyped-call]
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert torch.allclose(given[f"fisher.diag/{name}"].double(), p.grad**2, rtol=1e-6)


def test_what_cannot_be_a_fisher_information_is_refused() -> None:
    model = classifier()
    with pytest.raises(ParameterError, match="at least one"):
        diagonal_fisher(model, [], model)
    with pytest.raises(ParameterError, match="labels is one of"):
        diagonal_fisher(model, [inputs(1)[0]], model, labels="given")
    with pytest.raises(ParameterError, match="one position"):
        diagonal_fisher(model, [inputs(2)], model)


class Turned(nn.Module):
    """A layer with weights [in, out], as transformers' Conv1D."""

    def __init__(self, outputs: int, size: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.ones(size, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_gram_matrices_are_means_over_tokens_without_padding() -> None:
    model = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2), Turned(4, 2))
    tokens = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    with GramCollector(model) as grams, torch.no_grad():
        for row, counts in zip(tokens, mask, strict=True):
            with grams.counting(counts[None]):
                model(row[None])
    model(tokens)  # outside the block nothing is watched
    said = grams.evidence()
    seen = tokens[mask.bool()].double()
    normal = nn.functional.layer_norm(seen, (3,))
    assert said["gram.n/1.weight"].item() == 4
    assert torch.allclose(unpack(said["gram/1.weight"].double()), normal.mT @ normal / 4, atol=1e-6)
    assert torch.allclose(said["gram.mean/1.weight"].double(), normal.mean(0), atol=1e-6)
    assert torch.allclose(said["feat.sq/0.weight"].double(), normal.square().sum(0), atol=1e-5)
    hidden = model[1](normal.float()).double().detach()
    assert torch.allclose(unpack(said["gram.first/2.weight"].double()), hidden.mT @ hidden / 4, atol=1e-5)
    assert "gram.mean/2.weight" not in said


def test_wide_layers_may_bring_their_diagonal_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    xs = inputs().float()
    with GramCollector(model, diagonal=lambda name: name.startswith("0")) as grams:
        model(xs)
    said = grams.evidence()
    assert "gram/0.weight" not in said
    assert torch.allclose(said["gram.diag/0.weight"], xs.square().mean(0))


def test_root_mean_square_norms_are_watched_whoever_wrote_them() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(3)), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    for norm in (nn.RMSNorm(3, eps=1e-6), Own()):
        with GramCollector(norm) as grams:
            norm(inputs().float())
        wanted = nn.functional.rms_norm(inputs(), (3,), eps=1e-6).square().sum(0)
        assert torch.allclose(grams.evidence()["feat.sq/weight"].double(), wanted, atol=1e-5)


def test_a_mask_of_other_tokens_and_a_model_that_never_ran_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    with GramCollector(model) as grams, grams.counting(torch.ones(2, 2)):
        with pytest.raises(ParameterError, match="a mask of"):
            model(torch.ones(2, 3, 3))
        with pytest.raises(ParameterError, match="no linear layer was run"):
            grams.evidence()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adams_moments_are_corrected_for_their_start_at_zero(kind: type[torch.optim.Adam]) -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = kind(model.parameters(), betas=(0.9, 0.5))
    gradients = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])
    for gradient in gradients:
        model.weight.grad = gradient
        optimizer.step()
    # v₂ = (g₁² · ½ + g₂²) · ½, over 1 - ½².
    said = adam_moments(model, optimizer)["adam.v/weight"]
    assert torch.allclose(said, torch.tensor([[(0.5 + 9) / 2, 1.0]]) / 0.75)
    sums = adam_moments(model, optimizer, factored=True)
    assert torch.allclose(sums["adam.v.row/weight"], said.sum(1))
    assert torch.allclose(sums["adam.v.col/weight"], said.sum(0))


def test_an_optimizer_without_moments_is_told_apart() -> None:
    model = nn.Linear(2, 1)
    for optimizer in (torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), 0.1)):
        with pytest.raises(ParameterError, match="no second moments"):
            adam_moments(model, optimizer)


def test_saliency_is_summed_over_batches_after_magnitudes_are_taken() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, -2.0)
    batches = [torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 1.0])]
    said = saliency(model, batches, lambda x: model(x).sum())
    assert said["saliency.abs/weight"].tolist() == [[4.0, 8.0]]
    assert saliency(model, batches, lambda x: model(x).sum(), of_base=True).keys() == {
        "saliency.abs.base/weight"
    }


def test_the_elected_rank_high_in_both_and_are_written_in_bits() -> None:
    fine = {"saliency.abs/w": torch.tensor([0.9, 0.1, 0.8, 0.2])}
    base = {"saliency.abs.base/w": torch.tensor([0.7, 0.6, 0.1, 0.3])}
    assert elected(fine, base, "0.5")["mask/w"].tolist() == [1]
    assert elected(fine, base, "1")["mask/w"].tolist() == [0b1111]
    assert packed_bits(torch.tensor([0, 1, 0, 0, 0, 0, 0, 0, 1])).tolist() == [2, 1]
    with pytest.raises(ParameterError, match="same tensors"):
        elected(fine, {}, "0.5")


def test_a_file_is_bound_to_the_digest_that_every_manifest_of_the_weights_has(tmp_path: Path) -> None:
    state = {"b": torch.ones(3, dtype=torch.bfloat16), "a": torch.randn(600, 700), "n": torch.tensor(3)}
    save_file(state, tmp_path / "model.safetensors")
    with Store.memory() as store:
        manifest = take(store, state, kind=Kind.FULL, base=None)
    assert model_digest(state) == model_digest(tmp_path / "model.safetensors") == manifest.model
    named = save(tmp_path / "evidence.safetensors", {"fisher.diag/b": torch.ones(3)}, weights=state)
    assert named == model_digest(tmp_path) == manifest.model


def test_what_could_not_be_contributed_is_not_written(tmp_path: Path) -> None:
    said, path = {"fisher.diag/b": torch.ones(3)}, tmp_path / "e.safetensors"
    with pytest.raises(ParameterError, match="twice"):
        save(path, said, said, weights=said)
    with pytest.raises(ParameterError, match="no known kind"):
        save(path, {"guess/b": torch.ones(3)}, weights=said)
    with pytest.raises(UsageError, match="no safetensors file"):
        save(path, said, weights=tmp_path)
    assert not path.exists()
