"""What a part of a run describes: the regions of a shard's images, and the images that get a caption."""

from __future__ import annotations

from sae_traits.config.describer import RuleDescriberConfig
from sae_traits.describers.captions import Guidance, make_captioner
from sae_traits.errors import ConfigError
from sae_traits.rendering import listed
from sae_traits.runs.context import Context
from sae_traits.runs.sharding import Shard
from sae_traits.traits.captions import CaptionPlan
from sae_traits.traits.chosen import read_chosen
from sae_traits.traits.codes import Codes
from sae_traits.traits.plan import Plan, without_labels


def plan_of_shard(context: Context, shard: Shard) -> Plan:
    """The regions of a shard's images; all, where several individuals share a description.

    Args:
        context: the run, whose latents were chosen before.
        shard: of the step `annotate`.
    """
    regions, units = context.config.regions, context.features.units
    is_chosen_here = regions.has_latents and context.released_latents is None
    codes = Codes.open(context.folder.codes) if regions.has_latents else None
    apart = context.describer.images_per_description == 1
    plan = context.plan_of(
        regions,
        context.collection,
        codes.only(shard.share_of(len(units))) if codes and apart else codes,
        read_chosen(context.folder.chosen_for_shards) if is_chosen_here else None,
    )
    return plan.only(shard.rows(units)) if apart else plan


def caption_plan(context: Context, guidance: Guidance) -> CaptionPlan:
    """Which images get a caption; those that are described as if they had no labels are captioned so, too.

    Raises:
        ConfigError: there is guidance, and the describer is told nothing; or there are examples, and none for the class
            of any image.
    """
    config = context.config
    if isinstance(config.describer, RuleDescriberConfig) and guidance != Guidance():
        raise ConfigError(
            f"--context and --examples are for describers that read: {config.describer.kind} only measures; leave them "
            "out, or choose another --describer"
        )
    collection = without_labels(context.collection, config.regions.unlabelled_splits)
    if guidance.examples is not None and all(guidance.lacks_examples(one.taxon) for one in collection.images):
        classes = sorted({one.taxon.class_ for one in collection.images if one.taxon.class_})
        has = f"its classes are {listed(classes)}" if classes else "no image has a class (column class of the table)"
        raise ConfigError(
            f"--examples are of {listed(sorted(guidance.examples))}, and no image of {context.folder.path} is: {has}; "
            "no image would get a caption"
        )
    return CaptionPlan(collection, guidance, make_captioner(config.describer), config.describer.use_masks)
