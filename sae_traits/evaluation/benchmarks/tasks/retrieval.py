"""Retrieval of captions by images and of images by captions, also without the species' name, and by the name alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.captions import Captions, name_alone, without_name
from sae_traits.evaluation.benchmarks.inputs import (
    EmbeddedImages,
    Figures,
    Inputs,
    Outcome,
    percent,
    percent_interval,
)
from sae_traits.evaluation.measures.retrieval import Retrieved, retrieve
from sae_traits.evaluation.prompts import Prompter
from sae_traits.evaluation.statistics import Interval, bootstrap_intervals
from sae_traits.images.splits import units

KS = (1, 5, 10)
DEPTH = 50
Variant = Literal["as written", "without the name", "the name alone"]
Side = Literal["images", "texts"]
_BOTH_WAYS: tuple[tuple[Side, Side], ...] = (("images", "texts"), ("texts", "images"))


@dataclass(frozen=True, kw_only=True)
class Direction:
    """How well one side finds the other."""

    texts: Variant
    queries: Side
    n_queries: int
    n_gallery: int
    chance: float
    """Expected recall at 1 of a random order."""
    recall: dict[int, Interval]
    """k -> share of the queries with something relevant among the first k; over individuals, as all intervals here."""
    average_precision: Interval
    ndcg: Interval
    reciprocal_rank: Interval


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """How well images and captions find each other."""

    task: Literal["retrieval"] = "retrieval"
    head: str
    """Projection of the image tower."""
    n_images: int
    n_texts: int
    n_cut: int
    """Captions that the model does not read to their end."""
    n_named: int
    """Captions that have the name of the class in them."""
    directions: tuple[Direction, ...]

    def direction(self, texts: Variant, queries: Side) -> Direction:
        return next(each for each in self.directions if (each.texts, each.queries) == (texts, queries))


class RetrievalTask:
    """Finds captions by images, and images by captions."""

    name, title, result = "retrieval", "Retrieval", RetrievalScores
    needs_clip, needs_models, head = True, True, "caption"

    def check(self, inputs: Inputs) -> None:
        """Refuse images without captions."""
        if inputs.captions is None:
            raise ConfigError("retrieval needs --captions TABLE, with the columns file and text")
        if len(set(inputs.captions.images) & set(inputs.scored().tolist())) < 2:
            raise ConfigError("retrieval needs captions of at least two images that are scored")
        if inputs.config.protocol == "published" and len(set(inputs.captions.images)) < len(inputs.captions.images):
            raise ConfigError("retrieval as published has one caption per image; leave out --protocol published")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Score captions as written, without the name, and the name alone, in both directions."""
        embedded_images, inputs = model.images[inputs.scored()], inputs.of_scored()
        captions = inputs.captions
        assert captions is not None
        assert model.texts is not None
        images = np.array(list(dict.fromkeys(captions.images)), dtype=np.int64)  # as captions are ordered
        place = {int(image): row for row, image in enumerate(images)}
        of_text = np.array([place[image] for image in captions.images], dtype=np.int64)
        names = [inputs.names[inputs.truth[image]] for image in captions.images]
        stripped = [without_name(text, name) for text, name in zip(captions.texts, names, strict=True)]
        alone = [name_alone(name) for name in names]
        same = _groups(inputs, captions, images, of_text)
        by_name = inputs.truth[images], inputs.truth[list(captions.images)]
        as_they_are = Prompter(model.texts, ("{}",))
        directions = []
        variants: list[tuple[Variant, Sequence[str], tuple[NDArray[np.int64], NDArray[np.int64]]]] = [
            ("as written", captions.texts, same),
            ("without the name", stripped, same),
            ("the name alone", alone, by_name),
        ]
        for variant, texts, (image_groups, text_groups) in variants:
            embedded = as_they_are.embed([text or "a photo" for text in texts], "captions")
            sides = {"images": (embedded_images[images], image_groups), "texts": (embedded, text_groups)}
            units_of = {"images": inputs.units[images], "texts": inputs.units[list(captions.images)]}
            for queries, gallery in _BOTH_WAYS:
                found = retrieve(
                    *(sides[queries][0], sides[gallery][0], sides[queries][1], sides[gallery][1]),
                    ks=KS,
                    depth=DEPTH,
                    protocol=inputs.config.protocol,
                )
                groups = sides[queries][1], sides[gallery][1]
                if inputs.config.protocol == "published":  # a query's own row alone counts
                    groups = np.arange(len(groups[0])), np.arange(len(groups[1]))
                directions.append(_direction(variant, queries, found, groups, units_of[queries], inputs.config.seed))
        result = RetrievalScores(
            head=model.info.get("head", "taxonomy"),
            n_images=len(images),
            n_texts=len(captions.texts),
            n_cut=sum(model.texts.count_tokens(text) > model.texts.context_length for text in captions.texts),
            n_named=sum(text != bare for text, bare in zip(captions.texts, stripped, strict=True)),
            directions=tuple(directions),
        )
        return Outcome(result)

    def figures(self, result: RetrievalScores) -> Figures:
        return {
            f"{queries}, {variant}: R@1": result.direction(variant, queries).recall[1]
            for variant in ("as written", "without the name", "the name alone")
            for queries in ("images", "texts")
        }

    def sentence(self, name: str, result: RetrievalScores) -> str:
        written, bare, alone = (
            result.direction(variant, "images") for variant in ("as written", "without the name", "the name alone")
        )
        return (
            f"{name} finds the caption of an image first for {percent_interval(written.recall[1])} of "
            f"{result.n_images:,} images among {result.n_texts:,} captions (by chance {percent(written.chance)}), for "
            f"{percent_interval(bare.recall[1])} when the species' name is taken out of the captions, and the right "
            f"name alone for {percent_interval(alone.recall[1])} (by chance {percent(alone.chance)})."
        )

    def notes(self, result: RetrievalScores) -> list[str]:
        """Say how much names alone explain, and what the model does not read."""
        notes = []
        if result.n_named > result.n_texts / 2:
            notes.append(
                f"{result.n_named:,} of {result.n_texts:,} captions have the name of the class in them, so that a "
                "reader of names finds them; look at the figures without the name"
            )
        if result.n_cut:
            notes.append(f"{result.n_cut:,} captions exceed the model's context and are cut")
        return notes


def _groups(
    inputs: Inputs, captions: Captions, images: NDArray[np.int64], of_text: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group images and texts that belong together: near-identical images, and captions that are the same text."""
    n_images = len(images)
    first: dict[int, int] = {}
    joined = [first.setdefault(int(unit), place) for place, unit in enumerate(inputs.units[images])]
    joined += of_text.tolist()
    texts = [None] * n_images + [text.casefold() for text in captions.texts]
    groups = np.array(units(texts, joined), dtype=np.int64)
    return groups[:n_images], groups[n_images:]


def _direction(
    variant: Variant,
    queries: Side,
    found: Retrieved,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    of: NDArray[np.int64],
    seed: int,
) -> Direction:
    counts = dict(zip(*np.unique(groups[1], return_counts=True), strict=True))
    relevant = np.array([counts.get(group, 0) for group in groups[0]])
    values = [*(found.recall[k] for k in KS), found.average_precision, found.ndcg, found.reciprocal_rank]
    intervals = bootstrap_intervals(np.stack(values, axis=1), groups=of, seed=seed)
    return Direction(
        texts=variant,
        queries=queries,
        n_queries=len(groups[0]),
        n_gallery=len(groups[1]),
        chance=float(relevant.mean() / len(groups[1])),
        recall=dict(zip(KS, intervals, strict=False)),
        average_precision=intervals[len(KS)],
        ndcg=intervals[len(KS) + 1],
        reciprocal_rank=intervals[len(KS) + 2],
    )
