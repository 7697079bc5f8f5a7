"""Known answers: merges whose bytes are the same on every machine, and a check that they are here.

The inputs are made of integers, so that nothing but the merge itself is under test: three small models
in two dtypes, with ties, zeros of both signs, subnormal and ill-scaled values. For every strategy that
ships with the package the digest of the merged model is written down; a machine on which one differs
must not take part, since its peers would call its results divergent.
"""

from __future__ import annotations

from typing import Final

import torch

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import DivergenceError
from crdtmerge.evidence import KINDS, Layout
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import Contribution, merge
from crdtmerge.resolve.statedict import to_raw
from crdtmerge.strategy import Needs, find

ANSWERS: Final = {
    "ada_merging 1": "be44fad7584f47f070fc0eec9295cfb832091e341f0e2f82ad024378d288d6bd",
    "adarank 1": "be44fad7584f47f070fc0eec9295cfb832091e341f0e2f82ad024378d288d6bd",
    "arcee_fusion 1": "1a70809af134aa74339326ac86e34bca1747d23e45e74ac3925e14d46f493fd1",
    "breadcrumbs 1": "2af24cbcafd9c316ee4c4189f013899352401d462d9f3855c55ebf0c1402a384",
    "breadcrumbs_ties 1": "c140f8e1f599f14e7a5354ca8e5036e67556c04631eaaba450ed920c57d70c95",
    "bulyan 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "centered_clipping 1": "9de59a37415cde88c657fb13e92587278c85f5d0961682785efdac29475140c5",
    "dam 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "dare 1": "66915d2693c9e604e682cb321c06e47e6e1613b48744921647b11e37e62ba6d7",
    "dare_linear 1": "cc7a5332033d243ff54222a349021f48f9916be233013e924313efb8234d9fb2",
    "dare_ties 1": "a99565060e2c25d75b37d7b483dbbbc0041d72046c584edd7c0ebddf9f1f9e67",
    "della 1": "14df56b259d9004908bd7016c672b4c6ca6bbf961b65a2d6e8eb18ccb8c1555f",
    "della_linear 1": "e6eee9ad530102bb703c50d4b9ee1df50b6738685ea5db0d0994db9a0412346e",
    "dual_projection 1": "1f19a287218de5cf1dc5e9c4a60bef9bbb73e515aa7d50c810be3590ffd8d560",
    "emr 1": "56bc36f62d7ab2c448432b021a10f2517f5d5c71a3514e2f9c2da6b8acddb201",
    "evolutionary_merge 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "fisher_merge 1": "4544fdadfce07608011bf0f25ad56ae2230f494e0256a213bba680d89fd4653d",
    "genetic_merge 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "geometric_median 1": "7ed16cc67433772b7daf5f5a2002296fe10e27d75f2867af586c42d2bd0ad78b",
    "iso_c 1": "2f717a2dde28471fe5f862bf36228140dd4089053a2711d4b51e19f71f8bfff1",
    "iso_cts 1": "a3074f63684243c76c56f989a3eac849f9b7f55f5bde81111a2a28e01194ff6a",
    "karcher 1": "2db4ebbf5410bd863b832c469a599399babdab3a6896cff43cedc4de65f764b9",
    "krum 1": "db97e05ef4823faadc1cca30b6dd58d9007c135fb76802d991ac23be6cd336f7",
    "layer_plan 1": "a1b777bc1293cc0800550a7a13f1091bb337650e4c9c7707add8a17370f7965b",
    "led_merge 1": "4a1b771dce02d880db16f4a611914370875c65ee83bb8cfbe7e0aeb527587ac5",
    "linear 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "lot_merge 1": "99d19ba964ec7a87bfb8bce6030f520e5f387c0925dcb77087f7fa44dc4cc62d",
    "median 1": "077667e1c50289ac0a56ba73f24027ba162af98da25b08a6ae41596c00251bf7",
    "metagpt 1": "1e9624eaac73b4a58a9d557b5e311e2ef5583b953de38913958c2722bf8b153e",
    "model_breadcrumbs 1": "127bb58d8d33c526a057b3199720038d7a2997ab2a3b0b45d4ea4048e10675aa",
    "model_stock 1": "5c086dd5a1dde82244224043ce3b33289f546a123286f1209cebd90446bd1402",
    "multi_krum 1": "db97e05ef4823faadc1cca30b6dd58d9007c135fb76802d991ac23be6cd336f7",
    "multislerp 1": "2db4ebbf5410bd863b832c469a599399babdab3a6896cff43cedc4de65f764b9",
    "nearswap 1": "e0dd7ab8d9f10819977fe74af7de5537895bb72c95e703f351ed719e25b30771",
    "negative_merge 1": "9800c793329f4f0fc6d43a61799c6048d7c2834d1e8167ba92c6e0587a5d3a4d",
    "norm_clipped_mean 1": "fb317b88b6b2fafb6642ceca4b27994d9a0e80e0deffcf981c4ad44b63884934",
    "nuslerp 1": "072808bd6ca25c9350c57795a996c401014a427afbac8c23a7cfe1ca37e6b0ef",
    "ota_merge 1": "9b99939af46fbbed4ff34f6675150b106af0824d3470148320f6bb2d14e96f99",
    "passthrough 1": "a1b777bc1293cc0800550a7a13f1091bb337650e4c9c7707add8a17370f7965b",
    "published_coefficients 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "ram 1": "5f9c4db4d308379b62ea4cbe2f8c0d3d2debc875edff358a7339b440afed5f58",
    "ramplus_tl 1": "63c3bd5dd11484f9ce3d9902ef6f10608250c56b8b575e299438fb3c9498829a",
    "regression_mean 1": "8c989f468081aa58c3a3e4b6eaa66ca94e3c6eef7b8bc8143ec00544fcc826fa",
    "representation_surgery 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "robust 1": "db97e05ef4823faadc1cca30b6dd58d9007c135fb76802d991ac23be6cd336f7",
    "safe_merge 1": "739f533b2d6058e6889a1e64268631222e5909ca6ce56335a1555d30f9b8f111",
    "sce 1": "615a44fc360a8fccabf781cd648cfdaccbaefabcbf67c941021c8f144daae0f1",
    "slerp 1": "2db4ebbf5410bd863b832c469a599399babdab3a6896cff43cedc4de65f764b9",
    "split_unlearn_merge 1": "4bf674a2e5bd92872e7053eec6b5e50bcb032b67c9ccd447629e8a1932ea346e",
    "star 1": "0f2024962280b0c9edf0f25dd834f3d7988e0538f12a19c2b6e68d02d40172ba",
    "svd_knot_tying 1": "925fd961085dc486919ba4492bde0236d891bb7c59e984cf10994d1e5fec333a",
    "task_arithmetic 1": "be44fad7584f47f070fc0eec9295cfb832091e341f0e2f82ad024378d288d6bd",
    "ties 1": "4bf674a2e5bd92872e7053eec6b5e50bcb032b67c9ccd447629e8a1932ea346e",
    "trimmed_mean 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "tsv_merge 1": "dc2aee345b4a7cc7ef9bb3cefb06f7ba838d7479eab9791fdd3251c010b96407",
    "weight_average 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "weight_scope_alignment 1": "5d5a5499443dee1f197f9885a82644dc56b12a525dac82063c5fc5a4f4cb6cb3",
    "wsa_posthoc 1": "5d5a5499443dee1f197f9885a82644dc56b12a525dac82063c5fc5a4f4cb6cb3",
}
"""Strategy and version -> digest of what `answer` merges."""

_GRAM_MAX: Final = 1024
"""Larger Gram matrices show nothing that smaller ones do not, and take seconds."""

_SHAPES: Final = {"bias": (33,), "half": (9, 31), "matrix": (48, 40), "scalar": ()}


def check() -> int:
    """Compute every known answer; return how many there are.

    Raises:
        DivergenceError: at the first that differs.
    """
    for name, wanted in ANSWERS.items():
        got = answer(*name.split(" "))
        if got.hex() != wanted:
            raise DivergenceError(
                f"{name} computes other bytes on this machine than everywhere else: do not let it take part, "
                "and please report the output of `crdtmerge doctor`",
                ours=got,
                theirs=bytes.fromhex(wanted),
            )
    return len(ANSWERS)


def answer(strategy: str, version: str) -> bytes:
    """Return the digest of the test models merged by a strategy with its default parameters."""
    recipe = Recipe(strategy, version=int(version))
    found = find(strategy, int(version))
    needs = found.needs(found.read(()))
    merged = merge(
        [equipped(_model(i), i, needs) for i in (1, 2, 3)[: needs.members_max]], base=_model(0), recipe=recipe
    )
    parts = [raw for _, _, raw in to_raw(merged).values()]
    return digest(Domain.RESULT, b"".join(parts))


def equipped(model: dict[str, torch.Tensor], which: int, needs: Needs) -> Contribution:
    """Return a test model with the evidence and the role that a strategy needs."""
    evidence = {
        f"{kind}/{name}": said
        for kind in needs.kinds_read
        for name, tensor in model.items()
        if (said := testimony(kind, tensor.double())) is not None
    }
    role = needs.roles[which % len(needs.roles)] if needs.roles else None
    return Contribution(model, evidence=evidence or None, role=role)


def testimony(kind: str, values: torch.Tensor) -> torch.Tensor | None:
    """Return well-formed evidence of a kind, made of a tensor's own values; None if it has no place."""
    layout = KINDS[kind].layout
    if layout is Layout.ELEMENT:
        return values / 2 if KINDS[kind].signed else values.abs() + 0.25
    if layout is Layout.BITS:
        bits = values.flatten() > 0
        padded = torch.zeros(-(-bits.numel() // 8) * 8, dtype=torch.int64)
        padded[: bits.numel()] = bits
        return (padded.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    if values.dim() != 2:
        return None
    if layout is Layout.SCALAR:
        return torch.tensor(8)
    if layout is Layout.ROWS or layout is Layout.COLUMNS:
        return torch.arange(1, 1 + values.shape[0 if layout is Layout.ROWS else 1]).double()
    size = values.shape[1 if layout is Layout.GRAM else 0]
    if size > _GRAM_MAX:
        return None
    # The unit matrix times 2 and ones beside the diagonal: positive, and no reduction rounds.
    matrix = 2 * torch.eye(size) + torch.eye(size).roll(1, 1).triu() + torch.eye(size).roll(1, 1).triu().T
    return matrix.double()[tuple(torch.tril_indices(size, size))]


def _model(which: int) -> dict[str, torch.Tensor]:
    model = {}
    for position, (name, shape) in enumerate(_SHAPES.items()):
        count = torch.Size(shape).numel()
        steps = torch.arange(count, dtype=torch.int64)
        base = (steps * 2654435761 + position * 40503) % 65521 - 32760
        change = (steps * (40503 + 2 * which) + which * 2654435761) % 257 - 128
        change = change * (change.abs() % 3 > 0)  # many ties at zero
        values = (base + (change * which if which else 0)).double() / 4096.0
        values[:: max(count // 7, 1)] *= 2.0**-130  # subnormal in float32
        model[name] = values.to(torch.bfloat16 if name == "half" else torch.float32).reshape(shape)
    return model
