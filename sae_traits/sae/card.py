"""The card of an SAE by itself, and what the front matter of every SAE's card says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from sae_traits import __version__
from sae_traits.rendering import hub_license, one_line, render, templates, with_front_matter

CARD = "README.md"
FEATURES = "image-feature-extraction"
"""The task, as the Hub calls it."""
BARE = "<!-- sae-traits: written by SAE.push_to_hub, which replaces it; take this line out to keep what you write -->"
"""In a card that is written anew with every SAE; any other card is left as it is."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def front_matter(backbone: Mapping[str, Any] | None, *, license: str | None, page: str, **more: Any) -> ModelCardData:
    """What the Hub reads in an SAE's card.

    Args:
        backbone: where the features come from, as config.json has it.
        license: of the weights, in words or as the Hub names it.
        page: where the card says more of a licence that the Hub has no name for.
        more: further fields; a list of tags is added to those of every SAE.
    """
    is_on_hub = backbone and _HUB_ID.fullmatch(backbone["backbone"]) and _COMMIT.fullmatch(backbone["revision"])
    # The Hub would guess a finetune. The backbone's weights stay as they are, and are needed beside those of the SAE.
    base = {"base_model": backbone["backbone"], "base_model_relation": "adapter"} if backbone and is_on_hub else {}
    tags = ["sae-traits", "sparse-autoencoder", "interpretability", *more.pop("tags", [])]
    return ModelCardData(
        library_name="sae-traits",
        pipeline_tag=FEATURES,
        tags=tags,
        **hub_license(license, page),
        **base,
        **more,
    )


def license_page(repo_id: str | None) -> str:
    """Where an SAE's card speaks of its licence."""
    return f"https://huggingface.co/{repo_id}#licence" if repo_id else f"{CARD}#licence"


def bare_card(config: Mapping[str, Any], repo_id: str, *, license: str | None) -> str:
    """The card of an SAE of which nothing is known but its config.json."""
    front = front_matter(config.get("backbone"), license=license, page=license_page(repo_id))
    body = f"{BARE}\n" + render(
        templates(),
        "sae_card.md.jinja",
        name=one_line(repo_id),
        source=json.dumps(repo_id),
        config=config,
        backbone=config.get("backbone"),
        license=license,
        version=config.get("sae_traits_version", __version__),
        run=None,
        sweep=None,
    )
    return with_front_matter(front, body)
