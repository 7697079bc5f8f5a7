"""Contributions with evidence: what an author is told, and what every replica makes of what peers bring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crdtmerge import Recipe, Replica
from crdtmerge.cli.main import main
from crdtmerge.errors import EvidenceError, ParameterError, UsageError
from crdtmerge.evidence.save import save
from crdtmerge.manifest import Kind
from crdtmerge.op import Add
from crdtmerge.resolve import take

State = dict[str, torch.Tensor]


def model(seed: int) -> State:
    draw, tune = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    state = {"w": torch.randn(6, 4, generator=draw), "b": torch.randn(6, generator=draw)}
    return {k: v + 0.1 * torch.randn(v.shape, generator=tune) for k, v in state.items()} if seed else state


def fisher(seed: int) -> State:
    draw = torch.Generator().manual_seed(100 + seed)
    return {f"fisher.diag/{name}": torch.rand(v.shape, generator=draw) for name, v in model(0).items()}


def pair(recipe: Recipe) -> tuple[Replica, Replica]:
    alice = Replica.create(base=model(0), recipe=recipe)
    bob = Replica.follow(federation=alice)
    alice.admit(bob.id)
    bob.join(alice)
    return alice, bob


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_evidence_travels_with_its_contribution_and_decides_the_merge_alike_everywhere() -> None:
    alice, bob = pair(Recipe("fisher_merge"))
    alice.contribute(model(1), evidence=fisher(1), role="task", topic="digits")
    bob.contribute(model(2), evidence=fisher(2))
    alice.join(bob)
    bob.join(alice)
    assert equal(alice.merged(), bob.merged())
    assert not equal(alice.merged(), alice.merged(recipe=Recipe("weight_average")))
    texts = [dict(alice.store.manifest(digest).metadata) for digest in alice.visible]
    assert {"role": "task", "topic": "digits"} in texts


def test_evidence_is_part_of_what_a_contribution_is() -> None:
    alice, _ = pair(Recipe("fisher_merge"))
    plain, told = alice.contribute(model(1)), alice.contribute(model(1), evidence=fisher(1))
    assert plain != told
    assert alice.store.manifest(plain).model == alice.store.manifest(told).model


def test_a_recipe_that_weighs_by_evidence_says_who_lacks_it_or_goes_on_without() -> None:
    alice, _ = pair(Recipe("fisher_merge"))
    alice.contribute(model(1), evidence=fisher(1))
    lacking = alice.contribute(model(2))
    with pytest.raises(ParameterError, match=rf"{lacking.hex()[:12]}… brings no fisher\.diag"):
        alice.merged()
    left_out = alice.merged(recipe=Recipe("fisher_merge", missing="exclude"))
    assert equal(left_out, model(1))
    assert lacking.hex()[:12] in "".join(alice.plan(Recipe("fisher_merge", missing="exclude")).notes)


def announced(mallory: Replica, evidence: State) -> None:
    """What a program without checks of its own would do: take it in, and say so."""
    base = mallory.base
    manifest = take(mallory.store, model(3), kind=Kind.FULL, base=base.digest, evidence=evidence)
    mallory._say(Add(manifest.digest))


@pytest.mark.parametrize(
    "lie",
    [
        {"fisher.diag/w": -torch.ones(6, 4)},
        {"fisher.diag/w": torch.full((6, 4), torch.inf)},
        {"fisher.diag/w": torch.ones(4, 6)},
        {"nonsense/w": torch.ones(6, 4)},
        {"gram/w": torch.full((10,), 1.0).index_fill(0, torch.tensor(1), 9.0)},
    ],
    ids=["negative", "infinite", "turned", "unknown", "no Gram matrix"],
)
def test_lying_evidence_is_left_out_by_every_replica_alike_and_blocks_nobody(lie: State) -> None:
    alice, mallory = pair(Recipe("weight_average"))
    alice.contribute(model(1))
    announced(mallory, lie)
    alice.join(mallory)
    mallory.join(alice)
    for replica in (alice, mallory):
        ((_, reason),) = replica.plan().excluded
        assert next(iter(lie)) in reason
        assert equal(replica.merged(), model(1))


def test_an_author_is_told_before_anything_is_announced() -> None:
    alice, _ = pair(Recipe("fisher_merge"))
    with pytest.raises(EvidenceError, match="is negative at flat index 0") as refused:
        alice.contribute(model(1), evidence={"fisher.diag/b": -torch.ones(6)})
    assert refused.value.tensor == "fisher.diag/b"
    assert alice.visible == ()
    with pytest.raises(UsageError, match="both as"):
        alice.contribute(model(1), evidence="fisher.safetensors")


def test_one_of_two_kinds_will_do_where_a_method_takes_either() -> None:
    masks = {"mask/w": torch.tensor([1, 0, 0], dtype=torch.uint8)}
    scores = {f"saliency.abs{base}/w": torch.arange(24.0).reshape(6, 4) for base in ("", ".base")}
    alice, _ = pair(Recipe("led_merge", rate="0.5"))
    alice.contribute(model(1), evidence=masks)
    alice.contribute(model(2), evidence=scores)
    merged = alice.merged()["w"].flatten()
    base, one, other = (model(i)["w"].flatten() for i in range(3))
    assert torch.allclose(merged, torch.cat([one[:1], base[1:12], other[12:]]))
    alice.contribute(model(3), evidence=fisher(3))
    with pytest.raises(ParameterError, match=r"brings no mask or saliency\.abs"):
        alice.merged()


def test_only_the_members_of_a_role_are_asked_for_what_that_role_brings() -> None:
    alice, _ = pair(Recipe("safe_merge"))
    alice.contribute(model(1), role="task")
    alice.contribute(model(1), role="task", label="again")
    with pytest.raises(ParameterError, match=r"role 'safety', and there is none\. Contribute with --role"):
        alice.merged()
    silent = alice.contribute(model(2), role="safety")
    with pytest.raises(ParameterError, match=rf"{silent.hex()[:12]}… brings no alignment"):
        alice.merged()
    alice.retract(silent)
    alice.contribute(model(2), role="safety", evidence={"alignment/w": model(2)["w"] - model(0)["w"]})
    assert torch.allclose(alice.merged()["b"], model(1)["b"])


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A federation in a folder with model and evidence files; runs one command."""
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save_file(model(seed), f"{seed}.safetensors")
        save(f"f{seed}.safetensors", fisher(seed), weights=f"{seed}.safetensors")
    save_file({"feat.sq/b": torch.ones(6)}, "unbound.safetensors")

    def command(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    assert command("init", "--base", "0.safetensors", "--recipe", "fisher_merge")[0] == 0
    return command


def test_files_of_evidence_are_contributed_and_named(run: Run) -> None:
    said = ("--evidence", "f1.safetensors", "--evidence", "unbound.safetensors")
    code, out = run("contribute", "1.safetensors", *said, "--role", "task", "--topic", "t", "--json")
    assert code == 0, out
    assert json.loads(out)["evidence"] == ["feat.sq", "fisher.diag"]
    assert run("merge")[0] == 0


def test_evidence_of_other_weights_is_refused_with_both_names(run: Run) -> None:
    code, out = run("contribute", "2.safetensors", "--evidence", "f1.safetensors")
    assert code == 2
    assert "f1.safetensors was computed for the weights" in out
    assert json.loads(run("status", "--json")[1])["contributions"] == []


def test_a_contribution_without_evidence_is_told_what_the_recipe_asks_for(run: Run) -> None:
    assert run("contribute", "1.safetensors")[0] == 0
    code, out = run("merge")
    assert code == 2
    assert "with --evidence" in out
