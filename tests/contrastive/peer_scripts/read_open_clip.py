"""Run in the environment of open_clip: the features that it makes with a folder in its layout, by every projection.

python read_open_clip.py FOLDER …    reads FOLDER/inputs.safetensors, writes FOLDER/by_open_clip.safetensors
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# A torchvision of another build than torch lacks its operators, which open_clip does not use.
LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip  # noqa: E402

HEADS = {"visual.caption_proj": "caption", "visual.continual_proj": "replay"}
for folder in map(Path, sys.argv[1:]):
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    weights, inputs = load_file(folder / "open_clip_model.safetensors"), load_file(folder / "inputs.safetensors")
    further = {key: weights.pop(key) for key in list(weights) if key in HEADS}
    weights.pop("logit_scale_caption", None)
    if further:  # those who published such heads have programs of their own; the rest is open_clip's
        for key in ("dual_projector", "is_continual"):
            config["vision_cfg"].pop(key, None)
        model = open_clip.CLIP(**config)
        model.load_state_dict(weights)
    else:
        model = open_clip.create_model(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        features = {"text": model.encode_text(inputs["ids"]), "image": model.encode_image(inputs["pixels"])}
        for key, projection in further.items():
            model.visual.proj.copy_(projection)
            features[HEADS[key]] = model.encode_image(inputs["pixels"])
    save_file({name: tensor.contiguous() for name, tensor in features.items()}, folder / "by_open_clip.safetensors")
