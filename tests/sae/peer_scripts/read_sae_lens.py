"""Run in the environment of SAELens: what it makes of the features beside its checkpoint.

python read_sae_lens.py FOLDER …    reads FOLDER/x.safetensors, writes FOLDER/by_sae_lens.safetensors
"""

import sys
from pathlib import Path

import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

for folder in map(Path, sys.argv[1:]):
    sae = SAE.load_from_disk(folder)
    with torch.no_grad():
        latents = sae.encode(load_file(folder / "x.safetensors")["x"])
        reconstruction = sae.decode(latents)
    save_file({"latents": latents, "reconstruction": reconstruction}, folder / "by_sae_lens.safetensors")
