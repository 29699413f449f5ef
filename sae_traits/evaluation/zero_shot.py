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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.prompts import (
    Prompter,
    TextEncoder,
    TraitPrompts,
    TraitText,
    embed_prompts,
    unit_length,
    write_fillers,
    write_prompts,
)
from sae_traits.evaluation.ranking import TIE, chance_p_value, rank_truth
from sae_traits.evaluation.statistics import N_RESAMPLES, bootstrap_interval, holm, mcnemar, paired_difference
from sae_traits.evaluation.zero_shot_results import (
    FILLER,
    NAME_AND_TRAITS,
    NAME_ONLY,
    SHUFFLED,
    TOP,
    TRAITS_ONLY,
    Comparison,
    Condition,
    RandomDeals,
    ZeroShotResult,
)
from sae_traits.logging import track
from sae_traits.vocabulary import SPLITS, Split

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""Of the name in `normalise(weight * name + (1 - weight) * traits)`; 1 would be the name alone."""
TRAIT_COUNTS = (1, 2, 3, 5, 8)
DEFAULT_WEIGHT, DEFAULT_TRAIT_COUNT = 0.5, 5
"""Where there is no validation image to choose with."""

N_PERMUTATIONS = 1999
N_DEALS = 39
"""Random deals of the traits, each with new texts to encode; own traits that beat all of them have p = 1/40."""
_PROTOCOL = {
    "weights": list(WEIGHTS),
    "trait_counts": list(TRAIT_COUNTS),
    "ties": f"cosines within {TIE:g} are ranked at random, image by image",
    "n_resamples": N_RESAMPLES,
    "n_permutations": N_PERMUTATIONS,
    "n_deals": N_DEALS,
}
"""What nobody can choose, for the settings of a result."""


@dataclass(frozen=True)
class _Labelled:
    """The images of a split."""

    images: NDArray[np.float32]
    """Of unit length `[n, embed_dim]`."""
    truth: NDArray[np.int64]
    """Class of each `[n]`."""
    individuals: NDArray[np.int64]
    """Individual that each shows `[n]`."""
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
    clip: TextEncoder,
    images: NDArray[np.float32],
    labels: Sequence[str],
    splits: Sequence[Split],
    traits: Mapping[str, Sequence[str]],
    *,
    individuals: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    templates: Sequence[str] = ("a photo of {}.",),
    trait_text: TraitText = "prompts",
    seed: int = 0,
) -> ZeroShotResult:
    """Measure whether traits help a vision-language model to recognise species.

    Args:
        clip: from `load_clip`, or whatever embeds texts into the space of the images.
        images: embeddings by the same model `[n_images, embed_dim]`, of any length but zero.
        labels: species of each image `[n_images]`.
        splits: of each image `[n_images]`; texts are chosen on `validation`, scores are those of `test`.
        traits: species -> what is said of it, the most important first; from other images than these.
        individuals: which organism each image shows `[n_images]`; None where no two images show the same.
        names: species -> its name in the texts, for all classes; None takes the labels that there are as they are.
        templates: with `{}` in the place of a class text; their embeddings are averaged.
        trait_text: one text per trait, averaged, or all traits in one text.
        seed: of ties, shuffling, resampling and permutations.

    Raises:
        CollectionError: there are no test images, no two species, no traits, or a label without a name.
        ConfigError: the embeddings cannot be used, or no class name fits into the model's context.
    """
    names = names or {label: label for label in sorted(set(labels))}
    _check(images, labels, names, splits, traits)
    validation, test = (
        _labelled(split, images, labels, splits, individuals, names, seed) for split in ("validation", "test")
    )
    prompter = Prompter(clip, tuple(templates))
    names_cut, embedded = _embed_names(prompter, names, images.shape[1])
    of_class = [tuple(traits.get(name, ())) for name in names]
    writer = _Writer(prompter, tuple(names.values()), embedded, validation, trait_text)
    conditions = _write_conditions(writer, of_class, seed)
    right = {condition: test.ranks(texts.classes) == 0 for condition, texts in conditions.items()}
    n_bearers = Counter(names.values())
    context = {"trait_text": trait_text, "n_templates": len(templates), "context_length": clip.context_length}
    return ZeroShotResult(
        settings={**context, **_PROTOCOL, "seed": seed},
        n_classes=len(names),
        n_test=len(test.truth),
        n_test_individuals=len(np.unique(test.individuals)),
        n_test_species=len(np.unique(test.truth)),
        n_validation=len(validation.truth),
        conditions=tuple(_score(name, texts, names, test, prompter, seed) for name, texts in conditions.items()),
        comparisons=_compare(right, test, seed),
        names_p_value=chance_p_value(test.images, embedded, test.truth, n_permutations=N_PERMUTATIONS, seed=seed),
        dealt=_deal_at_random(writer, of_class, right[NAME_AND_TRAITS], test, seed),
        without_traits=tuple(name for name, own in zip(names, of_class, strict=True) if not own),
        names_cut=names_cut,
        same_names=tuple(name for name, text in names.items() if n_bearers[text] > 1),
    )


def _check(
    images: NDArray[np.float32],
    labels: Sequence[str],
    species: Collection[str],
    splits: Sequence[Split],
    traits: Mapping[str, Sequence[str]],
) -> None:
    if images.ndim != 2 or not len(images) == len(labels) == len(splits):
        raise ConfigError(
            f"image embeddings must be [{len(labels)}, embed_dim], not {list(images.shape)}, and every image needs a "
            "label and a split"
        )
    bad = int((~np.isfinite(images).all(axis=1) | ~images.any(axis=1)).sum())
    if bad:
        raise ConfigError(f"{bad} of {len(images)} image embeddings are zero or not finite; the model is broken")
    if len(species) < 2:
        raise CollectionError(f"the collection has {len(species)} species; a classification needs at least two")
    if nameless := sorted(set(labels).difference(species)):
        raise CollectionError(f"{nameless[0]!r} is a label of images, but not among the names of the classes")
    if "test" not in splits:
        raise CollectionError(
            "no image is in the split `test`, so there is nothing to score; collect again with --test-share 0.2, "
            "or with a column `split` in the table"
        )
    if not any(traits.get(name) for name in species):
        raise CollectionError("no training image has a trait; run `sae-traits annotate` first, or see its report")


def _labelled(
    split: Split,
    images: NDArray[np.float32],
    labels: Sequence[str],
    splits: Sequence[Split],
    individuals: Sequence[str] | None,
    species: Iterable[str],
    seed: int,
) -> _Labelled:
    rows = [row for row, of_image in enumerate(splits) if of_image == split]
    place = {name: number for number, name in enumerate(species)}
    _, shown = np.unique(range(len(labels)) if individuals is None else individuals, return_inverse=True)
    return _Labelled(
        images=unit_length(images[rows].astype(np.float32)),
        truth=np.array([place[labels[row]] for row in rows], dtype=np.int64),
        individuals=shown[rows],
        draws=np.random.default_rng([seed, SPLITS.index(split)]).random(len(rows)),
    )


def _embed_names(
    prompter: Prompter, names: Mapping[str, str], n_dimensions: int
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Species whose name exceeds the model's context, and the embeddings of all names `[n_classes, embed_dim]`."""
    names_cut = tuple(name for name, text in names.items() if not prompter.fits(text))
    if len(names_cut) == len(names):
        raise ConfigError(
            f"no class name fits into the {prompter.encoder.context_length} tokens that the model reads, not even "
            f"{min(names.values(), key=len)!r}; choose a shorter --text-type (sci) or --templates none"
        )
    embeddings = prompter.embed(tuple(names.values()), NAME_ONLY)
    if embeddings.shape[1] != n_dimensions:
        raise ConfigError(
            f"text embeddings have {embeddings.shape[1]} dimensions, image embeddings {n_dimensions}; "
            "both must come from the same model"
        )
    return names_cut, embeddings


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
        """Take the names as they are."""
        return _ClassTexts(
            classes=self.name_embeddings,
            prompts=TraitPrompts(tuple((name,) for name in self.names), (0,) * len(self.names)),
            weight=None,
            n_traits=None,
            validation_top1=self.validation.top1(self.name_embeddings) if len(self.validation.truth) else None,
        )

    def with_traits(self, traits: Sequence[Sequence[str]], label: str, *, named: bool = True) -> _ClassTexts:
        """Say the traits of each class `[n_classes]`, with the name or alone, at the best weight and number of traits.

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


def _write_conditions(writer: _Writer, traits: Sequence[Sequence[str]], seed: int) -> dict[str, _ClassTexts]:
    """Write the class texts of every condition."""
    conditions = {
        NAME_ONLY: writer.name_only(),
        NAME_AND_TRAITS: writer.with_traits(traits, NAME_AND_TRAITS),
        TRAITS_ONLY: writer.with_traits(traits, TRAITS_ONLY, named=False),
    }
    bearers = np.flatnonzero([bool(ranked) for ranked in traits])
    if len(bearers) > 1:
        # A cycle in random order, so that every species gets the traits of another one.
        order = np.random.default_rng(seed).permutation(bearers)
        conditions[SHUFFLED] = writer.with_traits(_dealt(traits, order, np.roll(order, -1)), SHUFFLED)
    conditions[FILLER] = writer.with_traits(write_fillers(writer.prompter.encoder, traits), FILLER)
    return conditions


def _dealt(traits: Sequence[Sequence[str]], to: NDArray[np.int64], of: NDArray[np.int64]) -> list[Sequence[str]]:
    """Give the classes `to` the traits of the classes `of`; the others keep theirs."""
    dealt = list(traits)
    for receiver, donor in zip(to.tolist(), of.tolist(), strict=True):
        dealt[receiver] = traits[donor]
    return dealt


def _deal_at_random(
    writer: _Writer, traits: Sequence[Sequence[str]], right: NDArray[np.bool_], test: _Labelled, seed: int
) -> RandomDeals:
    """Compare own traits, with which the images are `right` `[n]`, with traits dealt at random."""
    generator = np.random.default_rng([seed, N_DEALS])
    bearers = np.flatnonzero([bool(ranked) for ranked in traits])
    by_chance = np.zeros((N_DEALS, len(right)), dtype=bool)
    for deal in track(range(N_DEALS), "traits dealt at random", N_DEALS, "deal"):
        # Drawn from all permutations, the true one included: only so is the test exact.
        texts = writer.with_traits(_dealt(traits, bearers, generator.permutation(bearers)), "dealt traits")
        by_chance[deal] = test.ranks(texts.classes) == 0
    top1 = by_chance.mean(axis=1)
    return RandomDeals(
        top1=tuple(top1.tolist()),
        over_species=paired_difference(by_chance.mean(axis=0), right, groups=test.truth, seed=seed),
        p_value=(1 + int((top1 >= right.mean() - 1e-9).sum())) / (N_DEALS + 1),
    )


def _mix(names: NDArray[np.float32], traits: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Mix: normalise(weight * name + (1 - weight) * traits) `[n_classes, embed_dim]`; without traits the name."""
    mixed = unit_length((weight * names + (1 - weight) * traits).astype(np.float32))
    return np.where(traits.any(axis=1, keepdims=True), mixed, names)


def _score(
    name: str, texts: _ClassTexts, species: Collection[str], test: _Labelled, prompter: Prompter, seed: int
) -> Condition:
    ranks = test.ranks(texts.classes)
    n_images = np.bincount(test.truth, minlength=len(species))
    tested = n_images > 0

    def macro(k: int) -> float:
        right = np.bincount(test.truth, weights=ranks < k, minlength=len(species))
        return float((right[tested] / n_images[tested]).mean())

    return Condition(
        name=name,
        top={k: bootstrap_interval(ranks < k, groups=test.individuals, seed=seed) for k in TOP},
        macro={k: macro(k) for k in TOP},
        weight=texts.weight,
        n_traits=texts.n_traits,
        validation_top1=texts.validation_top1,
        n_with_traits=sum(map(bool, texts.prompts.prompts)) if texts.n_traits else 0,
        left_out={name: n for name, n in zip(species, texts.prompts.left_out, strict=True) if n},
        example=next((prompter.example(prompts[0]) for prompts in texts.prompts.prompts if prompts), None),
    )


def _compare(right: Mapping[str, NDArray[np.bool_]], test: _Labelled, seed: int) -> tuple[Comparison, ...]:
    """Compare every other condition with the name only, by which images are right `[n]`."""
    named, others = right[NAME_ONLY], [condition for condition in right if condition != NAME_ONLY]
    tests = [mcnemar(named, right[condition], groups=test.individuals) for condition in others]
    return tuple(
        Comparison(
            condition=condition,
            difference=paired_difference(named, right[condition], groups=test.individuals, seed=seed),
            over_species=paired_difference(named, right[condition], groups=test.truth, seed=seed),
            mcnemar=tested,
            holm_p_value=float(adjusted),
        )
        for condition, tested, adjusted in zip(others, tests, holm([t.p_value for t in tests]), strict=True)
    )
