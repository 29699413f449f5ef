"""Run in the environment of dictionary_learning: dictionaries as it saves them, and what it makes of features.

python train_dictionary_learning.py FOLDER    writes FOLDER/CLASS/{config.json,ae.pt,expected.safetensors}
"""

import json
import sys
from pathlib import Path

import torch
from peers.torchvision_operators import declare_missing_operators
from safetensors.torch import save_file

declare_missing_operators()

from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder  # noqa: E402
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE  # noqa: E402
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE  # noqa: E402
from dictionary_learning.trainers.top_k import AutoEncoderTopK  # noqa: E402

FOLDER = Path(sys.argv[1])
D_MODEL, N_LATENTS = 12, 40
torch.manual_seed(0)
X = torch.randn(60, D_MODEL)

for make, more in [
    (AutoEncoder, {}),
    (AutoEncoderNew, {}),
    (GatedAutoEncoder, {}),
    (JumpReluAutoEncoder, {}),
    (AutoEncoderTopK, {"k": 5}),
    (BatchTopKSAE, {"k": 5}),
    (MatryoshkaBatchTopKSAE, {"k": 5, "group_sizes": [10, 15, 15]}),
]:
    dictionary = make(D_MODEL, N_LATENTS, **more)
    folder = FOLDER / make.__name__
    folder.mkdir(parents=True)
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        if "BatchTopK" in make.__name__:
            dictionary.threshold.fill_(0.7)
        latents = dictionary.encode(X)
        expected = {"x": X, "latents": latents, "reconstruction": dictionary.decode(latents)}
    trainer = {"dict_class": make.__name__, "activation_dim": D_MODEL, "dict_size": N_LATENTS, **more}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    torch.save(dictionary.state_dict(), folder / "ae.pt")
    save_file(expected, folder / "expected.safetensors")
