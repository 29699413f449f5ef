"""The step `annotate`: choose latents by the contrast, have their regions described, and write RUN/traits.

traits.parquet has what was described, latents.parquet the chosen latents, ledger.sqlite every call of the describer
(ledger-KIND.sqlite about regions of a baseline), pictures.sqlite the small pictures of the photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae_traits.config.regions import SpecimenContrast
from sae_traits.config.tree import as_dict
from sae_traits.errors import DescriberError
from sae_traits.images.pictures import PictureCache
from sae_traits.runs.context import Context
from sae_traits.runs.plans import plan_of_shard
from sae_traits.runs.record import Counts
from sae_traits.runs.sharding import Shard, ShardedStep, do_sharded
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.asking import Pictures
from sae_traits.traits.chosen import ChosenLatents, write_chosen
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.plan import Plan
from sae_traits.traits.untold_species import untold_species

_LEDGER, _PICTURES = "ledger.sqlite", "pictures.sqlite"


def annotate(context: Context) -> None:
    """Ask the describer about every region that the ledger has no answer for, and write traits and latents.

    Raises:
        DescriberError: the describer cannot answer from the start, or stopped before a shard was done.
        CollectionError: an image cannot be read any more.
    """
    config, folder, describer = context.config, context.folder, context.describer
    use_masks = config.describer.use_masks
    context.check_masks()
    work = _Work(context)
    step = ShardedStep(
        name="annotate",
        inputs={
            "regions": as_dict(config.regions),
            "describer": [describer.name, describer.model, describer.prompt, describer.settings],
            "images_per_description": describer.images_per_description,
            "labels": context.collection.digest("taxon", "individual_id", "split", "mm_per_pixel"),
            "masks": context.collection.digest("mask_file") if use_masks else None,
        },
        outputs=[folder.traits, folder.chosen_latents],
        whole=work.whole,
        prepare=work.prepare,
        shard=work.shard,
        join=work.join,
        keeps_damaged=True,
        options={"kept": [folder.ledger(config.regions.kind)]},
    )
    do_sharded(context.steps, folder, context.part, step)
    if context.part == "merge":
        _remove_shards(context)


@dataclass(frozen=True)
class _Work:
    """How regions are described: all in this process, or the images of a shard, which are joined later."""

    context: Context

    def whole(self) -> Counts:
        """Describe all regions that no answer is there for, and write the traits."""
        context = self.context
        with context.open_ledger() as ledger:
            self._describe(context.plan, ledger, context.pictures_of_dataset)
            annotation = export_traits(
                context.plan,
                ledger,
                traits_file=context.folder.traits,
                latents_file=context.folder.chosen_latents,
                withhold=context.describer.withhold,
            )
            return asdict(annotation) | self._untold_species()

    def _untold_species(self) -> Counts:
        """The species without a significant latent, where species were tested."""
        chosen = self.context.plan.chosen
        if not isinstance(getattr(self.context.config.regions, "contrast", None), SpecimenContrast):
            return {}
        assert isinstance(chosen, ChosenLatents)
        return asdict(untold_species(chosen, self.context.firing_shares.training))

    def prepare(self) -> Iterator[Path]:
        """Choose the latents, of all images, for the shards; the files of it."""
        _take_over_shards(self.context)
        _remove_shards(self.context)
        if isinstance(chosen := self.context.plan.chosen, ChosenLatents):
            write_chosen(self.context.folder.chosen_for_shards, chosen)
            yield self.context.folder.chosen_for_shards

    def shard(self, part: Shard) -> Iterator[Path]:
        """Describe the regions of a shard; the files of it."""
        context = self.context
        own = context.folder.shards("annotate") / part.name
        with ExitStack() as stack:
            ledger = stack.enter_context(Ledger(own / _LEDGER))
            pictures = context.pictures_of_dataset
            if pictures is not None:
                pictures = Pictures(stack.enter_context(PictureCache(own / _PICTURES)), pictures.longest_side)
            of_run = context.folder.ledger(context.config.regions.kind)
            answered = stack.enter_context(Ledger(of_run, read_only=True)) if of_run.is_file() else None
            if answered is not None:
                ledger.go_on_with(answered)
            dealt_to = part if context.describer.images_per_description > 1 else None
            n_open = self._describe(
                plan_of_shard(context, part), ledger, pictures, lambda keys: _wanted(dealt_to, answered, keys)
            )
        if n_open:
            raise DescriberError(f"{n_open} calls are left to ask; the same command asks them")
        yield from (path for path in (own / _LEDGER, own / _PICTURES) if path.is_file())

    def join(self, files: Mapping[str, list[Any]]) -> Counts:
        """Take over what the shards were answered, and write the traits."""
        _take_over_shards(self.context)
        return self.whole()

    def _describe(
        self,
        plan: Plan,
        ledger: Ledger,
        pictures: Pictures | None,
        wanted: Callable[[Sequence[str]], Collection[str]] | None = None,
    ) -> int:
        config = self.context.config.describer
        return describe_candidates(
            plan,
            self.context.describer,
            ledger,
            workers=config.workers,
            use_masks=config.use_masks,
            pictures=pictures,
            wanted=wanted,
        )


def _wanted(part: Shard | None, answered: Ledger | None, keys: Sequence[str]) -> Collection[str]:
    """The calls that a shard asks: those that have no answer from an earlier command.

    Args:
        part: deals calls out by their keys, where several individuals share a description: which of them do depends on
            all images. None where the plan is the shard's own.
    """
    if part is not None:
        keys = [key for key in keys if int(key[:12], 16) % part.count == part.number - 1]
    return set(keys) if answered is None else answered.open_calls(keys)


def _take_over_shards(context: Context) -> None:
    """Add what the shards were answered to the run's ledger, and their pictures to its pictures."""
    shards = sorted(context.folder.shards("annotate").glob("*-of-*/"))
    with context.open_ledger() as ledger:
        for path in (own / _LEDGER for own in shards):
            if path.is_file():
                ledger.take_over(path)
    for path in (own / _PICTURES for own in shards):
        if path.is_file():
            context.pictures.take_over(path)


def _remove_shards(context: Context) -> None:
    """Remove the ledgers and pictures of the shards, which the run's own have taken over."""
    for own in context.folder.shards("annotate").glob("*-of-*/"):
        for path in own.glob("*.sqlite*"):
            path.unlink()
        own.rmdir()
