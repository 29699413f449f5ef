"""Zero-shot species classification by a vision-language model: do the traits help, and is it what they say that helps?

Every class is an embedding of its text, every image gets the class with the most similar one. Besides the name alone
and the name with the class's traits there are the traits without the name and two controls: the name with the traits of
another species, and the name with neutral words of the same length. All are scored on the same test images. What a
condition can choose (the weight of the name, and how many traits a class gets) it chooses on validation images, each
condition for itself, so that none has to live with what suits another.

Images of a species look alike, so texts that say nothing suit some species by luck, and the choice on validation
finds such luck. The test that is immune to both deals all traits to the species at random, many times, and chooses anew
each time: own traits help by what they say when they do better than nearly all of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.config import ZeroShotConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.ranking import TIE, chance_p_value, rank_truth
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, holm, mcnemar, paired_difference
from sae_traits.evaluation.text import (
    ClassNames,
    Prompter,
    TextEncoder,
    TraitPrompts,
    TraitText,
    embed_prompts,
    name_classes,
    rank_traits,
    read_common_names,
    read_templates,
    unit_length,
    write_fillers,
    write_prompts,
)
from sae_traits.evaluation.zero_shot_results import (
    FILLER,
    NAME_AND_TRAITS,
    NAME_ONLY,
    SHUFFLED,
    TOP,
    TRAITS_ONLY,
    Comparison,
    ConditionScore,
    RandomDeals,
    ZeroShotResults,
)
from sae_traits.logging import track
from sae_traits.schema import SPLITS, Collection, Split, Taxon, Trait

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""Of the name in `normalise(weight * name + (1 - weight) * traits)`; 1 would be the name alone."""
TRAIT_COUNTS = (1, 2, 3, 5, 8)
DEFAULT_WEIGHT, DEFAULT_TRAIT_COUNT = 0.5, 5
"""Where there is no validation image to choose with."""

N_RESAMPLES = 2000
N_PERMUTATIONS = 1999
N_DEALS = 39
"""Random deals of the traits, each with new texts to encode; own traits that beat all of them have p = 1/40."""


@dataclass(frozen=True)
class _Labelled:
    """The images of a split."""

    images: NDArray[np.float32]
    """Of unit length `[n, embed_dim]`."""
    truth: NDArray[np.int64]
    """Class of each `[n]`."""
    draws: NDArray[np.float64]
    """Uniform random numbers that break the ties of each, the same in every condition `[n]`."""

    def ranks(self, classes: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rank of the true class `[n]`."""
        return rank_truth(self.images, classes, self.truth, self.draws)

    def top1(self, classes: NDArray[np.float32]) -> float:
        """Share of the images whose own class comes first."""
        return float((self.ranks(classes) == 0).mean())


@dataclass(frozen=True, kw_only=True)
class _ClassTexts:
    """What the classes say in a condition, embedded, and what was chosen on validation."""

    classes: NDArray[np.float32]
    """`[n_classes, embed_dim]`"""
    prompts: TraitPrompts
    weight: float | None
    n_traits: int | None
    validation_top1: float | None


def evaluate_zero_shot(
    encoder: TextEncoder,
    *,
    images: NDArray[np.float32],
    rows: NDArray[np.int64] | None = None,
    collection: Collection,
    traits: Iterable[Trait],
    config: ZeroShotConfig,
    seed: int = 0,
) -> ZeroShotResults:
    """Score all conditions on the test images; the classes are all species of the collection.

    Args:
        encoder: the text side of the model.
        images: embeddings of images by the same model `[n_images, embed_dim]`; all of validation and test are needed.
        rows: row in the collection of each image `[n_images]`; None where there is one image an image, in order.
        collection: the images; their splits say what is tuned and what is scored.
        traits: of the run; only those of training images are used.
        config: which texts.
        seed: of ties, shuffling, resampling and permutations.

    Raises:
        CollectionError: there are no test images, no two species, no traits, or images are missing.
        ConfigError: the embeddings cannot be used, or no class name fits into the model's context.
    """
    species = tuple(sorted({name for one in collection.images if (name := one.taxon.species) is not None}))
    if len(species) < 2:
        raise CollectionError(f"the collection has {len(species)} species; a classification needs at least two")
    of_row = _images_by_row(images, rows, len(collection.images))
    validation = _labelled(collection, species, "validation", images, of_row, seed)
    test = _labelled(collection, species, "test", images, of_row, seed)
    if not len(test.truth):
        raise CollectionError(
            "no image is in the split `test`, so there is nothing to score; collect again with --test-share 0.2, "
            "or with a column `split` in the table"
        )
    ranked = rank_traits(collection, traits)
    if not ranked:
        raise CollectionError("no training image has a trait; run `sae-traits annotate` first, or see its report")
    prompter = Prompter(encoder, read_templates(config.templates))
    names = _name(collection, species, config)
    names_cut = _check_names(species, names.texts, prompter)
    name_embeddings = prompter.embed(names.texts, NAME_ONLY)
    if name_embeddings.shape[1] != images.shape[1]:
        raise ConfigError(
            f"text embeddings have {name_embeddings.shape[1]} dimensions, image embeddings {images.shape[1]}; "
            "both must come from the same model"
        )
    of_class = [ranked.get(one, ()) for one in species]
    writer = _Writer(prompter, names.texts, name_embeddings, validation, config.trait_text)
    said = _say_conditions(writer, of_class, seed)
    bearers = Counter(names.texts)
    right = {condition: test.ranks(texts.classes) == 0 for condition, texts in said.items()}
    return ZeroShotResults(
        protocol=_protocol(species, validation, test, prompter, config, seed),
        conditions=tuple(_score(condition, texts, species, test, prompter, seed) for condition, texts in said.items()),
        comparisons=_compare(right, test, seed),
        names_p_value=chance_p_value(
            test.images, name_embeddings, test.truth, n_permutations=N_PERMUTATIONS, seed=seed
        ),
        dealt=_deal_at_random(writer, of_class, right[NAME_AND_TRAITS], test, seed),
        without_traits=tuple(one for one in species if one not in ranked),
        without_common_name=names.without_common_name,
        names_cut=names_cut,
        same_names=tuple(one for one, text in zip(species, names.texts, strict=True) if bearers[text] > 1),
    )


def _images_by_row(images: NDArray[np.float32], rows: NDArray[np.int64] | None, n_images: int) -> NDArray[np.int64]:
    """Index of the image of each image, -1 where there is none `[n_images]`."""
    rows = np.arange(n_images) if rows is None else np.asarray(rows)
    if images.ndim != 2 or len(images) != len(rows):
        raise ConfigError(f"image embeddings must be [{len(rows)}, embed_dim], not {list(images.shape)}")
    bad = int((~np.isfinite(images).all(axis=1) | ~images.any(axis=1)).sum())
    if bad:
        raise ConfigError(f"{bad} of {len(images)} image embeddings are zero or not finite; the model is broken")
    found = np.full(n_images, -1, dtype=np.int64)
    found[rows] = np.arange(len(rows))
    return found


def _labelled(
    collection: Collection,
    species: Sequence[str],
    split: Split,
    images: NDArray[np.float32],
    of_row: NDArray[np.int64],
    seed: int,
) -> _Labelled:
    rows = [row for row, record in enumerate(collection.images) if record.split == split]
    place = {name: number for number, name in enumerate(species)}
    wanted = of_row[rows]
    if (wanted < 0).any():
        raise CollectionError(
            f"{int((wanted < 0).sum())} of {len(rows)} images of the split `{split}` have no image embedding, for "
            f"example {collection.images[rows[int(np.argmin(wanted))]].file}; embed the collection again"
        )
    return _Labelled(
        images=unit_length(images[wanted].astype(np.float32)),
        truth=np.array([place[collection.images[row].species] for row in rows], dtype=np.int64),
        draws=np.random.default_rng([seed, SPLITS.index(split)]).random(len(rows)),
    )


def _name(collection: Collection, species: Sequence[str], config: ZeroShotConfig) -> ClassNames:
    taxon_of: dict[str, Taxon] = {}
    for record in collection.images:
        taxon_of.setdefault(record.species, record.taxon)
    common_names = read_common_names(Path(config.common_names)) if config.common_names else {}
    return name_classes([taxon_of[name] for name in species], config.text_type, common_names)


def _check_names(species: Sequence[str], names: Sequence[str], prompter: Prompter) -> tuple[str, ...]:
    """The species whose name is cut; an error where that goes for all of them."""
    names_cut = tuple(one for one, text in zip(species, names, strict=True) if not prompter.fits(text))
    if len(names_cut) == len(species):
        raise ConfigError(
            f"no class name fits into the {prompter.encoder.context_length} tokens that the model reads, not even "
            f"{min(names, key=len)!r}; choose a shorter --text-type (sci) or --templates none"
        )
    return names_cut


@dataclass(frozen=True)
class _Writer:
    """Makes class texts and chooses among them."""

    prompter: Prompter
    names: tuple[str, ...]
    name_embeddings: NDArray[np.float32]
    """`[n_classes, embed_dim]`"""
    validation: _Labelled
    trait_text: TraitText

    def name_only(self) -> _ClassTexts:
        """The names as they are."""
        return _ClassTexts(
            classes=self.name_embeddings,
            prompts=TraitPrompts(tuple((name,) for name in self.names), (0,) * len(self.names)),
            weight=None,
            n_traits=None,
            validation_top1=self.validation.top1(self.name_embeddings) if len(self.validation.truth) else None,
        )

    def with_traits(self, traits: Sequence[Sequence[str]], label: str, *, named: bool = True) -> _ClassTexts:
        """The traits of each class `[n_classes]`, with the name or alone, at the best weight and number of traits.

        Best is the top-1 on validation; of equals, what is nearest to the name only.
        """
        beginnings = self.names if named else ("",) * len(self.names)
        variants = write_prompts(self.prompter, beginnings, traits, self.trait_text, TRAIT_COUNTS)
        embeddings = embed_prompts(self.prompter, variants, self.name_embeddings.shape[1], label)
        if len(self.validation.truth):
            top1, weight, place = max(
                (self.validation.top1(_mix(self.name_embeddings, embedded, weight)), weight, -place)
                for place, embedded in enumerate(embeddings)
                for weight in (WEIGHTS if named else (0.0,))
            )
        else:
            top1, weight, place = None, DEFAULT_WEIGHT if named else 0.0, -TRAIT_COUNTS.index(DEFAULT_TRAIT_COUNT)
        return _ClassTexts(
            classes=_mix(self.name_embeddings, embeddings[-place], weight),
            prompts=variants[-place],
            weight=weight if named else None,
            n_traits=TRAIT_COUNTS[-place],
            validation_top1=top1,
        )


def _say_conditions(writer: _Writer, traits: Sequence[Sequence[str]], seed: int) -> dict[str, _ClassTexts]:
    """The class texts of every condition."""
    said = {
        NAME_ONLY: writer.name_only(),
        NAME_AND_TRAITS: writer.with_traits(traits, NAME_AND_TRAITS),
        TRAITS_ONLY: writer.with_traits(traits, TRAITS_ONLY, named=False),
    }
    bearers = np.flatnonzero([bool(ranked) for ranked in traits])
    if len(bearers) > 1:
        # A cycle in random order, so that every species gets the traits of another one.
        order = np.random.default_rng(seed).permutation(bearers)
        said[SHUFFLED] = writer.with_traits(_dealt(traits, order, np.roll(order, -1)), SHUFFLED)
    said[FILLER] = writer.with_traits(write_fillers(writer.prompter.encoder, traits), FILLER)
    return said


def _dealt(traits: Sequence[Sequence[str]], to: NDArray[np.int64], of: NDArray[np.int64]) -> list[Sequence[str]]:
    """The classes `to` get the traits of the classes `of`, the others keep theirs."""
    dealt = list(traits)
    for receiver, donor in zip(to.tolist(), of.tolist(), strict=True):
        dealt[receiver] = traits[donor]
    return dealt


def _deal_at_random(
    writer: _Writer, traits: Sequence[Sequence[str]], right: NDArray[np.bool_], test: _Labelled, seed: int
) -> RandomDeals:
    """Own traits, with which the images are `right` `[n]`, against traits dealt at random.

    The deals are drawn from all permutations, the true one included: only so is the test exact.
    """
    generator = np.random.default_rng([seed, N_DEALS])
    bearers = np.flatnonzero([bool(ranked) for ranked in traits])
    by_chance = np.zeros((N_DEALS, len(right)), dtype=bool)
    for deal in track(range(N_DEALS), "traits dealt at random", N_DEALS, "deal"):
        texts = writer.with_traits(_dealt(traits, bearers, generator.permutation(bearers)), "dealt traits")
        by_chance[deal] = test.ranks(texts.classes) == 0
    top1 = by_chance.mean(axis=1)
    return RandomDeals(
        top1=tuple(top1.tolist()),
        over_species=paired_difference(
            by_chance.mean(axis=0), right, groups=test.truth, n_resamples=N_RESAMPLES, seed=seed
        ),
        p_value=(1 + int((top1 >= right.mean() - 1e-9).sum())) / (N_DEALS + 1),
    )


def _mix(names: NDArray[np.float32], traits: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """normalise(weight * name + (1 - weight) * traits) `[n_classes, embed_dim]`; without traits the name."""
    mixed = unit_length((weight * names + (1 - weight) * traits).astype(np.float32))
    return np.where(traits.any(axis=1, keepdims=True), mixed, names)


def _score(
    condition: str, texts: _ClassTexts, species: Sequence[str], test: _Labelled, prompter: Prompter, seed: int
) -> ConditionScore:
    ranks = test.ranks(texts.classes)
    n_images = np.bincount(test.truth, minlength=len(species))
    tested = n_images > 0

    def macro(k: int) -> float:
        right = np.bincount(test.truth, weights=ranks < k, minlength=len(species))
        return float((right[tested] / n_images[tested]).mean())

    return ConditionScore(
        condition=condition,
        top={k: bootstrap_interval(ranks < k, n_resamples=N_RESAMPLES, seed=seed) for k in TOP},
        macro={k: macro(k) for k in TOP},
        weight=texts.weight,
        n_traits=texts.n_traits,
        validation_top1=texts.validation_top1,
        n_with_traits=sum(map(bool, texts.prompts.prompts)) if texts.n_traits else 0,
        left_out={name: n for name, n in zip(species, texts.prompts.left_out, strict=True) if n},
        example=next((prompter.example(prompts[0]) for prompts in texts.prompts.prompts if prompts), None),
    )


def _compare(right: dict[str, NDArray[np.bool_]], test: _Labelled, seed: int) -> tuple[Comparison, ...]:
    """Every other condition with the name only, by which images are right `[n]`."""
    others = [condition for condition in right if condition != NAME_ONLY]
    tests = [mcnemar(right[NAME_ONLY], right[condition]) for condition in others]

    def difference(condition: str, groups: NDArray[np.int64] | None) -> Interval:
        return paired_difference(right[NAME_ONLY], right[condition], groups=groups, n_resamples=N_RESAMPLES, seed=seed)

    return tuple(
        Comparison(
            condition=condition,
            difference=difference(condition, None),
            over_species=difference(condition, test.truth),
            mcnemar=tested,
            holm_p_value=float(adjusted),
        )
        for condition, tested, adjusted in zip(others, tests, holm([t.p_value for t in tests]), strict=True)
    )


def _protocol(
    species: Sequence[str],
    validation: _Labelled,
    test: _Labelled,
    prompter: Prompter,
    config: ZeroShotConfig,
    seed: int,
) -> dict[str, Any]:
    """Everything that the numbers depend on, besides model and images."""
    return asdict(config) | {
        "classes": "all species of the collection",
        "n_classes": len(species),
        "chance": 1 / len(species),
        "n_test": len(test.truth),
        "n_test_species": len(np.unique(test.truth)),
        "n_validation": len(validation.truth),
        "traits_from": "train",
        "n_templates": len(prompter.templates),
        "context_length": prompter.encoder.context_length,
        "weights": list(WEIGHTS),
        "trait_counts": list(TRAIT_COUNTS),
        "ties": f"cosines within {TIE:g} are ranked at random, image by image",
        "n_resamples": N_RESAMPLES,
        "n_permutations": N_PERMUTATIONS,
        "n_deals": N_DEALS,
        "seed": seed,
    }
