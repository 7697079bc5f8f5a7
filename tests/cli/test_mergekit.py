"""mergekit's configurations as recipes: said in our parameters, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from crdtmerge import Recipe
from crdtmerge.cli.main import main
from crdtmerge.cli.mergekit import from_mergekit
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import pin

A, B = Digest(b"a" * 32), Digest(b"b" * 32)
KNOWN = {"org/a": (A, "a"), "org/b": (B, "b"), "nameless": (A, "")}


def read(text: str) -> Recipe:
    return from_mergekit(yaml.safe_load(text), KNOWN.__getitem__)


def said(text: str) -> dict[str, Any]:
    recipe = pin(read(text))
    assert recipe.selection.labels == ("a", "b")
    return {"strategy": recipe.strategy, **dict(recipe.parameters)}


MODELS = "models: [{model: org/base}, {model: org/a}, {model: org/b}]\nbase_model: org/base\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "merge_method: ties\nparameters: {density: 0.5, lambda: 0.8, int8_mask: true}",
            {"density": "0.5", "scale": "0.8", "merge_func": "mean", "scope": "tensor", "zero": "plus"},
        ),
        (
            "merge_method: ties\nparameters: {density: [0.2, 1], normalize: false}",
            {"density": ("0.2", "1"), "scale": 1, "merge_func": "sum", "scope": "tensor", "zero": "plus"},
        ),
        ("merge_method: task_arithmetic", {"scale": 1, "normalize": False}),
        ("merge_method: linear", {"normalize": True}),
        (
            "merge_method: dare_ties\nparameters: {density: 0.53}",
            {"p": "0.47", "scale": 1, "merge_func": "sum", "scope": "tensor", "zero": "plus"},
        ),
        ("merge_method: model_stock", {"filter_wise": False}),
        ("merge_method: nuslerp", {"of": "deltas"}),
        ("merge_method: sce\nparameters: {select_topk: 0.1}", {"density": "0.1"}),
        (
            "merge_method: della\nparameters: {density: 0.7}",
            {"density": "0.7", "epsilon": "0.15", "scale": 1, "normalize": False, "rescale": "l1"},
        ),
    ],
)
def test_a_method_is_said_in_our_parameters(text: str, wanted: dict[str, Any]) -> None:
    found = said(MODELS + text)
    found.pop("strategy")
    assert found == wanted


def test_weights_of_models_become_weights_of_contributions() -> None:
    recipe = read(
        "merge_method: linear\ndtype: bfloat16\nmodels:\n"
        "  - {model: org/b, parameters: {weight: 0.3}}\n"
        "  - {model: org/a, parameters: {weight: 1}}\n"
    )
    assert recipe.weights == ((A, "1"), (B, "0.3"))
    assert recipe.output_dtype is not None
    assert recipe.output_dtype.code == "BF16"


def test_equal_settings_of_all_models_are_settings_of_the_recipe() -> None:
    found = said(
        "merge_method: dare_linear\nbase_model: org/base\nmodels:\n"
        "  - {model: org/a, parameters: {density: 0.5, weight: 0.4}}\n"
        "  - {model: org/b, parameters: {density: 0.5, weight: 0.4}}\n"
    )
    assert found == {"strategy": "dare_linear", "density": "0.5", "scale": 1, "normalize": False}


SLERP = """
merge_method: slerp
base_model: {base}
models: [{{model: org/a}}, {{model: org/b}}]
parameters:
  t:
    - {{filter: self_attn, value: [0, 0.25, 1]}}
    - {{filter: mlp, value: 0.25}}
    - {{value: 0.5}}
"""


@pytest.mark.parametrize(
    ("base", "attention", "mlp"),
    [("org/a", ("0", "0.25", "1"), "0.25"), ("org/b", ("1", "0.75", "0"), "0.75")],
)
def test_slerp_begins_at_the_base_model_whatever_its_digest(
    base: str, attention: tuple[str, ...], mlp: str
) -> None:
    recipe = pin(read(SLERP.format(base=base)))
    assert dict(recipe.parameters) == {"t": "0.5"}
    assert [(r.glob, dict(r.parameters)) for r in recipe.rules] == [
        ("*self_attn*", {"t": attention}),
        ("*mlp*", {"t": mlp}),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("merge_method: passthrough\nslices: []", "slices"),
        ("merge_method: task_swapping\n" + MODELS, "task_swapping"),
        ("merge_method: ties\ntokenizer_source: union\n" + MODELS, "tokenizer_source"),
        ("merge_method: ties\nparameters: {swap: 1}\n" + MODELS, "swap"),
        ("merge_method: ties\ndtype: float8\n" + MODELS, "float8"),
        ("merge_method: slerp\nparameters: {t: 0.5}\nmodels: [{model: org/a}]", "slerp merges two models"),
        ("merge_method: nearswap\n" + MODELS, "needs the parameter t"),
        ("merge_method: linear\nmodels: []", "names no models"),
        ("merge_method: linear\nmodels: [{model: nameless}]", "without a label"),
        ("merge_method: linear\nmodels: [{model: org/a}, {model: org/a}]", "named already"),
        (
            "merge_method: linear\nmodels: [{model: org/a, parameters: {weight: [0, 1]}}]",
            "weight that changes along",
        ),
        (
            "merge_method: ties\nmodels: [{model: org/a, parameters: {density: 0.5}}, {model: org/b}]",
            "a density of their own",
        ),
        (
            "merge_method: ties\nparameters: {density: [{value: 1}, {filter: mlp, value: 0.5}]}\n" + MODELS,
            "the last of its values",
        ),
        ("- 1", "is a mapping"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        read(text)


def test_a_configuration_sets_the_recipe_of_a_federation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"base": 1.0, "one": 2.0, "two": 4.0}.items():
        save_file({"w": torch.full((4,), value)}, tmp_path / f"{name}.safetensors")

    def run(*words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        assert not ended.value.code
        parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
        return parsed

    run("init", "--base", "base.safetensors")
    digests = [run("contribute", f"{n}.safetensors", "--label", n)["contribution"] for n in ("one", "two")]
    Path("merge.yml").write_text(
        "merge_method: linear\nmodels:\n"
        "  - {model: /models/one, parameters: {weight: 3}}\n"
        f"  - {{model: {digests[1][:8]}, parameters: {{weight: 1}}}}\n"
    )
    recipe = run("recipe", "--mergekit", "merge.yml")["recipe"]
    assert (recipe["strategy"], recipe["weights"]) == ("linear", {digests[0]: "3", digests[1]: "1"})
    assert recipe["selection"]["labels"] == ["one", "two"]
