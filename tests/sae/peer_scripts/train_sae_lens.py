"""Run in the environment of SAELens: SAEs that are saved as that library saves them, and what it makes of features.

    python train_sae_lens.py FOLDER    writes FOLDER/NAME/{cfg.json,sae_weights.safetensors,expected.safetensors}

NAME is an architecture, with `_checkpoint` where it is saved as a checkpoint of training.
"""

import json
import sys
from pathlib import Path

import torch
from sae_lens import SAE
from sae_lens.saes import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from safetensors.torch import save_file

FOLDER = Path(sys.argv[1])
D_MODEL, N_LATENTS, SCALE = 12, 40, 0.25
SIZES = {"d_in": D_MODEL, "d_sae": N_LATENTS, "k": 5, "normalize_activations": "expected_average_only_in"}
torch.manual_seed(0)
X = torch.randn(60, D_MODEL) / SCALE

for name, make, config in [
    ("topk", TopKTrainingSAE, TopKTrainingSAEConfig(**SIZES)),
    ("batchtopk", BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**SIZES)),
    (
        "matryoshka",
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig(**SIZES, matryoshka_widths=[10, 25, 40]),
    ),
]:
    sae = make(config)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if name != "topk":
            latents = sae.encode(X * SCALE)
            sae.topk_threshold.fill_(float(latents[latents > 0].min()))
    checkpoint = FOLDER / f"{name}_checkpoint"
    sae.save_model(checkpoint)
    (checkpoint / "activation_scaler.json").write_text(json.dumps({"scaling_factor": SCALE, "has_whitening": False}))
    sae.fold_activation_norm_scaling_factor(SCALE)
    sae.save_inference_model(FOLDER / name)
    finished = SAE.load_from_disk(FOLDER / name)
    with torch.no_grad():
        latents = finished.encode(X)
        expected = {"x": X, "latents": latents, "reconstruction": finished.decode(latents)}
    for folder in (FOLDER / name, checkpoint):
        save_file(expected, folder / "expected.safetensors")
