"""Asking about a sample of traits again with other regions: does the describer look?"""

from __future__ import annotations

from sae_traits.errors import ConfigError
from sae_traits.io import sealed_json, write_text
from sae_traits.runs.context import Context
from sae_traits.traits.faithfulness import Faithfulness, check_faithfulness
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_traits


def faithfulness(context: Context, *, n_traits: int, seed: int) -> Faithfulness:
    """Ask about a sample of traits again; the scores, kept in RUN/traits/faithfulness.json.

    Raises:
        StoreError: the run is not annotated.
        ConfigError: the descriptions are of whole images, or of several images, or another describer's.
    """
    config, folder = context.config.describer, context.folder
    annotation = context.steps.fingerprint("annotate")
    context.steps.check(reading=["annotate"])
    if getattr(config, "prompt", None) == "whole":
        raise ConfigError(
            "faithfulness shows another region, and --prompt whole shows none; annotate with --prompt region"
        )
    with Ledger(folder.faithfulness_ledger(context.config.regions.kind)) as ledger:
        scores = check_faithfulness(
            read_traits(folder.traits),
            context.collection,
            context.describer,
            ledger,
            n_traits=n_traits,
            seed=seed,
            workers=config.workers,
            use_masks=config.use_masks,
        )
    values = {"annotate": annotation, "seed": seed, **scores.to_dict()}
    write_text(folder.faithfulness, sealed_json(values))
    return scores
