"""The section `zero_shot`: whether the traits help a vision-language model to recognise species."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sae_traits.config.options import option


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Whether the traits help a vision-language model to recognise species, and how it is asked."""

    clip: str = option(
        help="CLIP model to evaluate: Hub id or local folder (BioCLIP, open_clip, CLIP, SigLIP).",
        metavar="MODEL",
        is_path=True,
    )
    revision: str | None = option(
        None, "Branch, tag or commit of the CLIP model on the Hub.", flag="clip-revision", metavar="REVISION"
    )
    framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto", "How images become square for the CLIP model: as for --framing.", flag="clip-framing"
    )
    text_type: Literal["asis", "sci", "taxon", "com", "sci_com", "taxon_com"] = option(
        "sci",
        "How a species is named: asis: as labelled; sci: its binomial; taxon: all ranks; com: its common name; "
        "sci_com, taxon_com: both (BioCLIP's text types).",
    )
    common_names: str | None = option(
        None, "CSV file with species and common_name, for com, sci_com and taxon_com.", metavar="FILE", is_path=True
    )
    templates: Literal["none", "one", "openai"] = option(
        "one", "none: the bare text; one: `a photo of …`; openai: CLIP's 80 prompts, 80 times the work."
    )
    trait_text: Literal["prompts", "joined"] = option(
        "prompts", "prompts: one text per trait, averaged; joined: all traits in one text."
    )
