"""Additions of low rank (LoRA), where peft is installed."""

import pytest
import torch
from accelerate import Accelerator
from small_pairs import config_of, make_model, make_table

from sae_traits.contrastive.trainer import finetune
from sae_traits.models.clip.model import read_clip

pytest.importorskip("peft", reason="peft is an extra")


def test_additions_of_low_rank_become_part_of_the_attention_and_nothing_else_of_the_towers_changes(tmp_path):
    table, model = make_table(tmp_path / "squares"), make_model(tmp_path / "model")
    config = config_of(table, model, base={"lora_rank": 2}, optimiser={"average_decay": 0.5})
    done = finetune(config, tmp_path / "out", accelerator=Accelerator(cpu=True))
    before, after = read_clip(model).model.state_dict(), read_clip(done.model).model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        added = name.endswith(("q_proj.weight", "v_proj.weight"))
        if name.startswith(("vision_model", "text_model")):
            assert torch.equal(tensor, after[name]) == (not added), name
            if added:
                assert torch.linalg.matrix_rank(after[name] - tensor, atol=1e-5) <= 2, name
    assert not torch.equal(before["visual_projection.weight"], after["visual_projection.weight"])
