"""Run by every process of test_two_processes.py: gradients through the gather, and trainings of 20 steps.

`two_processes_script.py FOLDER`: writes FOLDER/N_PROCESSES-RANK.pt.
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from golden_models import model_of, read

from sae_traits.config.finetune import OptimiserConfig
from sae_traits.contrastive.gather import gather_pairs
from sae_traits.contrastive.objectives import OBJECTIVES, clip_loss, multi_positive_loss, siglip_loss
from sae_traits.contrastive.training_state import Batch, TrainingState, mean_loss

N_STEPS = 20


def gradients(objective, accelerator):
    """Loss and gradients of a process's own rows of the golden batch."""
    settings, tensors = read("two_processes", "two_processes")
    rows = share(len(tensors["image"]), accelerator)
    image, text = (tensors[name].double()[rows].requires_grad_() for name in ("image", "text"))
    scale = torch.tensor(settings["logit_scale"], dtype=torch.float64, requires_grad=True)
    groups = torch.arange(len(tensors["image"]))[rows] // 2 if objective is multi_positive_loss else None
    offset = torch.tensor(-10.0) if objective is siglip_loss else None
    loss = objective(gather_pairs(image, text, groups), scale, offset)
    loss.backward()
    return {"loss": loss.item(), "image": image.grad, "text": text.grad, "scale": scale.grad.item()}


def share(n, accelerator):
    own = n // accelerator.num_processes
    return slice(own * accelerator.process_index, own * (accelerator.process_index + 1))


def trained(folder, name, accelerator, dtype, chunk_size=None):
    """Weights after some steps on the golden batches, each process with its share of every batch."""
    settings, tensors = read(folder, name)
    model = model_of(settings, tensors, "init.", dtype)
    config = OptimiserConfig(learning_rate=1e-3, warmup_steps=4, average_decay=0.9)
    state = TrainingState(model, config, clip_loss, accelerator, n_steps=N_STEPS, chunk_size=chunk_size)
    types = settings.get("chosen_text_type", [None] * N_STEPS)
    if "caption" in types:
        types[3] = types[7] = "caption"
    losses = []
    for step, text_type in enumerate(types[:N_STEPS]):
        rows = tensors["batches"][step]
        rows = rows[share(len(rows), accelerator)]
        ids = tensors["token_ids" if text_type is None else f"token_ids.{text_type}"][rows]
        head = "caption" if text_type == "caption" else "taxonomy"
        batch = Batch(pixels=tensors["images"][rows].to(dtype), token_ids=ids, head=head)
        losses.append(mean_loss(state.step(step, batch), accelerator))
    return {"losses": losses, "weights": state.model.state_dict(), "average": state.best.state_dict()}


def main(folder: Path) -> None:
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    found = {"gradients": {name: gradients(objective, accelerator) for name, objective in OBJECTIVES.items()}}
    for dtype in (torch.float64, torch.float32):
        found[str(dtype)] = trained("training", "trajectory", accelerator, dtype)
    found["in chunks"] = trained("training", "trajectory", accelerator, torch.float64, chunk_size=2)
    found["two heads"] = trained("two_projections", "two_projections", accelerator, torch.float64)
    torch.save(found, folder / f"{accelerator.num_processes}-{accelerator.process_index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
