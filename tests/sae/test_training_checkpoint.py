"""The file that a killed training resumes from."""

import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sae_traits import SAE, SAEConfig
from sae_traits.config.train import TopK, TrainConfig
from sae_traits.errors import StoreError
from sae_traits.sae.architectures.trainable import Penalty
from sae_traits.sae.training_state import TrainingState, load_checkpoint, save_checkpoint


def state_of(n_latents=2000):
    config = TrainConfig(architecture=TopK(k=4), n_latents=n_latents)
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=256, n_latents=n_latents, k=4))
    return TrainingState(sae, config, Accelerator(cpu=True), Penalty())


def test_a_checkpoint_is_written_without_a_copy_in_memory(tmp_path):
    state = state_of()
    tracemalloc.start()
    save_checkpoint(tmp_path / "checkpoint", 7, "key", [state], [[{"loss": 1.0}]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = (tmp_path / "checkpoint").stat().st_size
    assert size > 2 * 4 * 256 * 2000
    assert peak < size / 4
    other = state_of()
    with torch.no_grad():
        other.sae.W_enc.zero_()
    assert load_checkpoint(tmp_path / "checkpoint", "key", [other]) == (7, [[{"loss": 1.0}]])
    assert torch.equal(other.sae.W_enc, state.sae.W_enc)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("n_latents", [4, 2000])
def test_where_there_is_no_room_the_checkpoint_before_stays_and_the_advice_is_about_training(tmp_path, n_latents):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"the one before")
    path.with_name(f"checkpoint.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="cannot be written; free some space, and run the same command ag") as caught:
        save_checkpoint(path, 7, "key", [state_of(n_latents)], [[]])
    assert "extraction" not in str(caught.value)
    assert path.read_bytes() == b"the one before"


def test_a_checkpoint_of_another_number_of_processes_goes_on_where_features_are_stored_and_else_is_kept(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, 7, "key", [state_of(4)], [[]])
    saved = torch.load(path, weights_only=True)
    assert saved["n_processes"] == 1
    torch.save(saved | {"n_processes": 3}, path)
    before = path.read_bytes()
    assert load_checkpoint(path, "key", [state_of(4)])[0] == 7
    with pytest.raises(StoreError, match=r"is of 3 processes, not 1, .*start 3 again, or delete the file"):
        load_checkpoint(path, "key", [state_of(4)], of_same_processes=True)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_training_says_which_settings_differ(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    state = state_of(4)
    key = f"{[state.config]!r} on Features(of='a')"
    save_checkpoint(tmp_path / "checkpoint", 7000, key, [state], [[]])
    for now, differ in ((key.replace("k=4", "k=8"), "k"), (key.replace("'a'", "'b'"), "of"), (f"{key} again", "data")):
        assert load_checkpoint(tmp_path / "checkpoint", now, [state]) == (0, [[]])
        assert f"settings or data ({differ}), training starts anew and writes over its 7,000 steps" in caplog.text
