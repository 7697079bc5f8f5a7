"""What people see of agreement: how many attest the same model, and who does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crdtmerge.cli.main import main
from crdtmerge.digest import Digest
from crdtmerge.keys import SigningKey
from crdtmerge.ledger import Ledger
from crdtmerge.sync.attestation import Attestation

MALLORY = SigningKey(b"m" * 32)
WRONG = Digest(b"w" * 32)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0), capsys.readouterr().out


def test_agreement_and_divergence_are_shown_and_merge_ends_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"w": torch.ones(4)}, "base.safetensors")
    save_file({"w": torch.full((4,), 2.0)}, "tuned.safetensors")
    assert run(capsys, "init", "--base", "base.safetensors")[0] == 0
    assert run(capsys, "contribute", "tuned.safetensors")[0] == 0
    assert "nobody attests one" in run(capsys, "status")[1]
    code, out = run(capsys, "merge", "--json")
    model = json.loads(out)["model"]
    assert code == 0
    code, out = run(capsys, "status", "--json")
    attestations = json.loads(out)["attestations"]
    assert (attestations["model"], attestations["agree"], attestations["attested"]) == (model, 1, 1)
    assert "agree 1 of 1" in run(capsys, "status")[1]

    with Ledger.open(tmp_path / ".crdtmerge") as ledger:
        ledger.admit(MALLORY.id)
        ((_, _, encoded),) = ledger.store.attestations()
        claim = replace(Attestation.decode(encoded).claim, model=WRONG)
        lie = Attestation.sign(
            MALLORY,
            claim,
            federation=ledger.operations.federation,
            environment="an abacus",
            created_ms=1,
        )
        ledger.store.put_attestation(lie.node, lie.id, lie.encoded)
    code, out = run(capsys, "status", "--json")
    (diverged,) = json.loads(out)["attestations"]["diverged"]
    assert (diverged["node"], diverged["environment"]) == (MALLORY.id.hex(), "an abacus")
    assert "DIVERGED" in run(capsys, "status")[1]
    code, out = run(capsys, "merge", "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (6, "DivergenceError")
    assert (error["ours"], error["theirs"]) == (model, WRONG.hex())
    assert error["their_environment"] == "an abacus"
    assert run(capsys, "verify")[0] == 0
