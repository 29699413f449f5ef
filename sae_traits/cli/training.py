"""Commands that train vision-language models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_traits.cli.base import DONE, command, show
from sae_traits.config.command_line import add_options, given_options, options_of_file
from sae_traits.config.finetune import FinetuneConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import branches_of, build, with_absolute_paths

RECIPES = ("bioclip-traits", "bioclip2-hierarchical", "biocap-captions")


def _finetune_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "--recipe", choices=RECIPES, help="Published settings to begin with; other options change them."
    )
    parser.add_argument("--config", type=Path, metavar="YAML", help="File of options.")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="Folder of the training and its model.")
    parser.add_argument("--estimate", action="store_true", help="Read the data, say what the training takes, and stop.")
    add_options(parser, words, *branches_of(FinetuneConfig), root=FinetuneConfig)


@command(
    "Train a CLIP further on names, traits or captions.",
    _finetune_arguments,
    examples="""\
examples:
  sae-traits finetune --data runs/moths --model imageomics/bioclip --text-types sci,trait --out runs/clip
  sae-traits finetune --recipe bioclip-traits --data ORG/TRAITS --model imageomics/bioclip --out runs/clip --estimate
  accelerate launch --mixed_precision bf16 -m sae_traits finetune --data shards/ --model imageomics/bioclip --out clip

OUT/model is the CLIP, for --clip of `evaluate`; OUT/training.json has losses and accuracies on validation images.""",
)
def finetune(arguments: argparse.Namespace) -> int:
    recipe: dict[str, Any] = {}
    if arguments.recipe is not None:
        recipe = read_config(recipe_file(f"finetune/{arguments.recipe}.yaml"), FinetuneConfig)
    file = options_of_file(arguments.config, FinetuneConfig)
    config = with_absolute_paths(build(FinetuneConfig, recipe, file, given_options(arguments, FinetuneConfig)))
    if arguments.estimate:
        from sae_traits.contrastive.estimate import estimate_training

        estimated = estimate_training(config)
        show(estimated.to_dict(), estimated.lines(), arguments)
        return DONE
    from sae_traits.contrastive.trainer import finetune as train
    from sae_traits.contrastive.trainer import new_accelerator

    accelerator = new_accelerator(config, arguments.out)
    done = train(config, arguments.out, accelerator=accelerator)
    if accelerator.is_main_process:
        show(done.to_dict(), done.lines(), arguments)
    return DONE
