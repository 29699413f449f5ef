"""What every library is asked, and how it answers. Runs in every environment: needs torch and safetensors only.

A task is one JSON object on the command line, the answer one JSON object on the last line of stdout.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PATCHES = "patches"
"""Name of the tensor `[n_patches, d_model]`, float32, in the file of patches."""
MEASURED_BATCHES = 20
"""A library that scales its input learns the scale from this many batches."""
NEAR_TIE = 1e-4
"""Of a patch's latents, in units of the largest: libraries that round differently may choose the one or the other."""
MIN_COMPARABLE = 0.5
"""Share of the patches without a near-tie that a comparison needs."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Training of one SAE: `steps` tells how fast, `train` keeps the weights."""

    action: Literal["steps", "train"]
    patches: str
    """Safetensors file; for `train` at least n_steps * batch_size patches, taken in their order."""
    architecture: str
    """topk or relu; sae-traits knows more."""
    n_latents: int
    n_steps: int
    """Steps that are timed, or trained."""
    batch_size: int
    k: int = 32
    l1_coefficient: float = 4e-4
    """Weight of the L1 penalty (summed over latents) beside the mean-element squared error of unscaled features."""
    learning_rate: float | None = None
    """None for the library's own default."""
    warmup_steps: int = 0
    """Of the learning rate."""
    decay_steps: int = 0
    """Over which the learning rate falls linearly to zero at the end; sae-traits always takes its own share."""
    seed: int = 0
    threads: int = 2
    untimed_steps: int = 2
    """Before the clock starts, for `steps`."""
    dead_after: int | None = None
    """Patches without firing after which a latent is dead and the library's loss for dead latents acts on it; None for
    the library's own default, which is some millions."""
    centre: bool = False
    """Subtract the mean from the features before the library sees them, and add it to b_dec afterwards."""
    sparse_activations: bool = False
    """Sparse latents in training, where the library has that choice."""
    out: str | None = None
    """Folder for the weights, for `train`."""

    def to_json(self) -> str:
        """The argument for the command line."""
        return json.dumps(asdict(self))


class TimedBatches:
    """Batches `[batch_size, d_model]` in the order of a file, from its start again when it ends.

    Notes when each batch is asked for: what lies between two requests is one whole step of whatever trainer asks.
    """

    def __init__(self, patches: Tensor, batch_size: int, n_batches: int) -> None:
        self._patches, self._batch_size, self._n_batches = patches, batch_size, n_batches
        self.asked: list[float] = []

    @property
    def d_model(self) -> int:
        """Width of the features."""
        return self._patches.shape[1]

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Tensor]:
        self.asked = []
        for number in range(self._n_batches):
            self.asked.append(time.perf_counter())
            yield self.batch(number)

    def batch(self, number: int) -> Tensor:
        """A copy of one batch, because dictionary_learning scales what it is given in place."""
        start = number % (len(self._patches) // self._batch_size) * self._batch_size
        return self._patches[start : start + self._batch_size].clone()

    def first(self) -> list[Tensor]:
        """Some batches to learn the scale of the features from."""
        return [self.batch(number) for number in range(min(MEASURED_BATCHES, self._n_batches))]


@dataclass(frozen=True)
class Trained:
    """An SAE in the layout of sae-traits."""

    tensors: dict[str, Tensor]
    """W_enc `[d_model, n_latents]`, b_enc `[n_latents]`, W_dec `[n_latents, d_model]`, b_dec `[d_model]`."""
    config: dict[str, Any]
    """What sae-traits reads from config.json."""

    def moved(self, mean: Tensor) -> Trained:
        """The same SAE for features that are larger by `mean`."""
        assert self.config["subtract_decoder_bias"]
        return Trained(self.tensors | {"b_dec": self.tensors["b_dec"].detach() + mean}, self.config)

    def save(self, folder: Path) -> None:
        """Write what `SAE.from_pretrained` of sae-traits reads."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.config))


def canonical(
    task: Task,
    *,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    x: Tensor,
    reconstruction: Tensor,
) -> Trained:
    """Another library's topk or relu SAE, x̂ = f((x - b_dec) W_enc + b_enc) W_dec + b_dec.

    Args:
        task: names the architecture and k.
        W_enc: `[d_model, n_latents]`, and the other weights as in `Trained`.
        b_enc: see there.
        W_dec: see there.
        b_dec: see there.
        x: features `[n, d_model]`.
        reconstruction: what the library itself makes of x `[n, d_model]`, to check the layout with. Patches whose k-th
            and next latent are nearly equal are not compared, because either may be among the k largest.

    Raises:
        RuntimeError: these weights in this layout are not the library's SAE.
    """
    latents = torch.relu((x - b_dec) @ W_enc + b_enc)
    comparable = torch.ones(len(x), dtype=torch.bool)
    if task.architecture == "topk":
        values, indices = latents.topk(task.k + 1, dim=-1)
        comparable = values[:, -2] - values[:, -1] > NEAR_TIE * values[:, 0]
        latents = torch.zeros_like(latents).scatter(-1, indices[:, :-1], values[:, :-1])
    differences = (latents @ W_dec + b_dec - reconstruction).abs().amax(-1) / x.std()
    difference = float(differences[comparable].max()) if comparable.any() else math.inf
    if difference > 1e-3 or comparable.float().mean() < MIN_COMPARABLE:
        raise RuntimeError(f"the weights in the layout of sae-traits reconstruct otherwise, by {difference:.2g} std")
    d_model, n_latents = W_enc.shape
    config = {
        "model_type": "sae-traits",
        "architecture": task.architecture,
        "d_model": d_model,
        "n_latents": n_latents,
        "k": task.k if task.architecture == "topk" else None,
        "subtract_decoder_bias": True,
    }
    return Trained({"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}, config)


def answer(train: Callable[[TimedBatches, Task], Trained], *distributions: str) -> None:
    """Do the task of the command line and print the answer.

    Args:
        train: trains on all batches, as the library's users do.
        distributions: the installed packages whose versions belong to the figures.
    """
    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    patches = load_file(task.patches)[PATCHES]
    mean = patches.mean(0) if task.centre else torch.zeros(patches.shape[1])
    patches -= mean
    # One batch more than is timed: the clock stops when it is asked for, before anything that follows the last step.
    n_batches = task.untimed_steps + task.n_steps + 1 if task.action == "steps" else task.n_steps
    batches = TimedBatches(patches, task.batch_size, n_batches)
    started = time.perf_counter()
    trained = train(batches, task)
    said: dict[str, Any] = {"versions": {name: version(name) for name in ("torch", *distributions)}}
    if task.action == "steps":
        first, last = batches.asked[task.untimed_steps], batches.asked[task.untimed_steps + task.n_steps]
        said["patches_per_second"] = task.n_steps * task.batch_size / (last - first)
    else:
        assert task.out is not None
        trained.moved(mean).save(Path(task.out))
        said["seconds"] = time.perf_counter() - started
    print(json.dumps(said), flush=True)
