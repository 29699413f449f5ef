"""Zero-shot classification: does a model put every image next to the name of its class, and do traits help?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sae_traits.config.benchmark import TextType
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.class_taxa import LINEAGE, lineages, species_of
from sae_traits.evaluation.benchmarks.inputs import (
    EmbeddedImages,
    Figures,
    FloatArray,
    Inputs,
    Outcome,
    Score,
    percent,
    percent_interval,
    scores,
)
from sae_traits.evaluation.measures.calibration import expected_calibration_error
from sae_traits.evaluation.measures.class_names import ClassName, class_text
from sae_traits.evaluation.measures.classification import ClassScores, macro, per_class, rank_codes, score_classes
from sae_traits.evaluation.prompts import Prompter
from sae_traits.evaluation.ranking import chance_p_value
from sae_traits.evaluation.statistics import Interval, bootstrap_intervals
from sae_traits.evaluation.text import read_templates, some
from sae_traits.evaluation.zero_shot import evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY, SIGNIFICANT, ZeroShotResult
from sae_traits.logging import say

TOP = (1, 3, 5)


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well the images of one class are recognised."""

    label: str
    text: str
    """What the model was told."""
    n_images: int
    top1: float


@dataclass(frozen=True, kw_only=True)
class RankScore:
    """How well images are placed at a taxon of one rank."""

    rank: str
    n_taxa: int
    n_images: int
    """Those whose class has a taxon at this rank."""
    of_first_class: Interval
    """Share of the images whose most similar class is of the right taxon."""
    of_summed_probabilities: Interval
    """The same for the taxon with the largest sum of the probabilities of its classes."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotScores:
    """How well images are classified by the names of their classes."""

    task: Literal["zero-shot"] = "zero-shot"
    text_type: str
    templates: str
    n_templates: int
    n_images: int
    n_classes: int
    chance: float
    top: dict[int, Score]
    """k -> share of the images whose class is among the first k; classes that tie count in shares."""
    macro: dict[int, float]
    """The same, as the mean over classes."""
    calibration_error: float
    """Expected calibration error of the first class's probability, with the model's own factor, in 15 bins."""
    taxonomic_distance: float | None
    """Mean steps up the ranks to the first that right and most similar class share; None without ranks."""
    ranks: tuple[RankScore, ...]
    classes: tuple[ClassScore, ...]
    names_p_value: float
    """Share of random assignments of the names to the classes that do at least as well (top-1)."""
    same_texts: tuple[str, ...]
    """Labels of classes whose text another class has, too."""
    short_texts: tuple[str, ...]
    """Labels of classes without the binomial or common name that the text type asks for; their text is shorter."""
    cut_texts: tuple[str, ...]
    """Labels of classes whose text the model does not read to its end."""
    traits: ZeroShotResult | None
    """Whether traits help, with all controls; None where no traits were given."""
    n_described: int
    """Images that the traits were written of, left out of the comparison with traits."""

    @property
    def top1(self) -> Score:
        """Share of the images whose class comes first."""
        return self.top[1]


class ZeroShotTask:
    """Classifies images by the texts of their classes."""

    name, title, result = "zero-shot", "Zero-shot classification", ZeroShotScores
    needs_clip, needs_models, head = True, True, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse a single class."""
        if len(inputs.names) < 2:
            raise CollectionError(
                f"all images have the label {inputs.rows[0].label!r}; a classification needs at least two classes"
            )

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Score the images of the split test, or all, among all classes."""
        assert model.texts is not None
        texts = _texts(inputs)
        prompter = Prompter(model.texts, read_templates(inputs.templates))
        if not any(map(prompter.fits, texts)):
            raise ConfigError(
                f"no class text fits into the {model.texts.context_length} tokens that {model.name} reads, not even "
                f"{min(texts, key=len)!r}; choose another --text-type, or --templates none"
            )
        classes = prompter.embed(texts, "class texts")
        if classes.shape[1] != model.images.shape[1]:
            raise ConfigError(
                f"the texts of {model.name} have {classes.shape[1]} dimensions, the image embeddings "
                f"{model.images.shape[1]}; both must come from the same model"
            )
        rows = inputs.scored()
        result, credit = _score(inputs, model, prompter, classes, texts, rows)
        if inputs.traits is not None:
            if len(prompter.templates) > 1:
                say(f"every text with a trait is encoded {len(prompter.templates)} times; --templates one does it once")
            traits, n_described = _ask_for_traits(inputs, model, texts)
            result = replace(result, traits=traits, n_described=n_described)
        return Outcome(result, inputs.spread(credit, rows))

    def figures(self, result: ZeroShotScores) -> Figures:
        figures = result.top1.figures("top-1") | {
            "top-5": result.top[5].individuals,
            "mean of classes": result.macro[1],
        }
        if result.traits is not None:
            figures[NAME_AND_TRAITS] = result.traits.condition(NAME_AND_TRAITS).top1
        return figures | {"calibration error": result.calibration_error}

    def sentence(self, name: str, result: ZeroShotScores) -> str:
        said = (
            f"{name} recognises {percent_interval(result.top1.individuals)} of {result.n_images:,} images of "
            f"{result.n_classes:,} classes by name, where guessing gives {percent(result.chance)}"
        )
        if result.traits is None:
            return f"{said}."
        before, after = (result.traits.condition(kind).top1.mean for kind in (NAME_ONLY, NAME_AND_TRAITS))
        dealt = result.traits.dealt
        helps = dealt.p_value <= SIGNIFICANT and dealt.over_species.low > 0
        verdict = "more than" if helps else "no more than"
        return (
            f"{said}; with traits it is {percent(after)} of {result.traits.n_test:,} images, by the name alone "
            f"{percent(before)}, and own traits help {verdict} traits dealt to the classes at random "
            f"(p = {dealt.p_value:.3f})."
        )

    def notes(self, result: ZeroShotScores) -> list[str]:
        """Say what is wrong with the texts, and whether names are known at all."""
        of_traits = [] if result.traits is None else [note.rstrip(".") for note in result.traits.notes]
        told = result.traits is not None and result.traits.verdict is not None  # their first note, and the gravest
        notes, of_traits = (of_traits[:1], of_traits[1:]) if told else ([], of_traits)
        if result.names_p_value > SIGNIFICANT and not told:
            notes.append(
                "the names do no better than names dealt to the classes at random: the model does not know them "
                f"(p = {result.names_p_value:.2f})"
            )
        for labels, meaning in (
            (result.same_texts, "have a text that another class has too, and are told apart by chance"),
            (
                result.short_texts,
                f"lack the binomial or common name that {result.text_type} asks for",
            ),
            (result.cut_texts, "have a text that the model does not read to its end"),
        ):
            if labels:
                notes.append(f"{len(labels)} of {result.n_classes} classes {meaning}: {some(labels)}")
        if written := [each.label for each in result.classes if "_" in each.text]:
            notes.append(
                f"{len(written)} of {result.n_classes} classes have underscores in their text, such as {written[0]}, "
                "which the model reads as they are; --text-type sci reads binomials"
            )
        return notes + of_traits


def _texts(inputs: Inputs) -> list[str]:
    """The text of every class; as published some classes have none, which is refused."""
    protocol = inputs.config.protocol
    texts = [class_text(name, inputs.text_type, protocol=protocol) for name in inputs.names]
    if "" in texts:
        label = inputs.names[texts.index("")].label
        raise CollectionError(
            f"{label!r} has no text of the type {inputs.text_type} as published; leave out --protocol published, which "
            "gives it a shorter one"
        )
    return texts


def _score(
    inputs: Inputs, model: EmbeddedImages, prompter: Prompter, classes: FloatArray, texts: list[str], rows: np.ndarray
) -> tuple[ZeroShotScores, np.ndarray]:
    """Score the images `rows` among all classes; what each adds to top-1 comes with it."""
    truth, images = inputs.truth[rows], model.images[rows]
    codes = rank_codes(lineages(inputs.names))
    known = np.flatnonzero((codes >= 0).any(axis=1))  # ranks of which nothing is known would count as never shared
    ranks = codes[known] if len(known) else None
    found = score_classes(images, classes, truth, ranks=ranks, logit_scale=model.logit_scale)
    top = {k: found.top(k) for k in TOP}
    places, means = per_class(top[1], truth)
    n_of = np.bincount(truth, minlength=len(inputs.names))
    n_bearers = Counter(texts)
    result = ZeroShotScores(
        text_type=inputs.text_type,
        templates=inputs.templates,
        n_templates=len(prompter.templates),
        n_images=len(rows),
        n_classes=len(inputs.names),
        chance=1 / len(inputs.names),
        top=dict(zip(TOP, scores(list(top.values()), inputs, rows), strict=True)),
        macro={k: macro(credit, truth) for k, credit in top.items()},
        calibration_error=expected_calibration_error(found.confidence, top[1]),
        taxonomic_distance=float(np.nanmean(found.distance)) if ranks is not None else None,
        ranks=() if ranks is None else _ranks(inputs, rows, [LINEAGE[place] for place in known], ranks, found),
        classes=tuple(
            ClassScore(label=inputs.names[c].label, text=texts[c], n_images=int(n_of[c]), top1=float(mean))
            for c, mean in zip(places.tolist(), means, strict=True)
        ),
        names_p_value=chance_p_value(images, classes, truth, seed=inputs.config.seed),
        same_texts=tuple(name.label for name, text in zip(inputs.names, texts, strict=True) if n_bearers[text] > 1),
        short_texts=tuple(name.label for name in inputs.names if _lacks(name, inputs.text_type)),
        cut_texts=tuple(name.label for name, text in zip(inputs.names, texts, strict=True) if not prompter.fits(text)),
        traits=None,
        n_described=0,
    )
    return result, top[1]


def _lacks(name: ClassName, text_type: TextType) -> bool:
    """Whether a class has no binomial, or no common name, where the text type asks for one."""
    asks_for_latin, asks_for_common = text_type not in ("asis", "com"), "com" in text_type
    return (asks_for_latin and species_of(name) is None) or (asks_for_common and not name.common_name)


def _ranks(
    inputs: Inputs, rows: np.ndarray, names: list[str], codes: np.ndarray, found: ClassScores
) -> tuple[RankScore, ...]:
    """Score every rank at which there is more than one taxon; `codes` are those of the ranks `names`."""
    n_taxa = [len(set(taxa.tolist()) - {-1}) for taxa in codes]
    several = [place for place, n in enumerate(n_taxa) if n > 1]
    if not several:
        return ()
    seed, groups = inputs.config.seed, inputs.units[rows]
    first, summed = (
        bootstrap_intervals(right[several].T, groups=groups, seed=seed)
        for right in (found.rank_right, found.rank_right_summed)
    )
    return tuple(
        RankScore(
            rank=names[place],
            n_taxa=n_taxa[place],
            n_images=int(np.isfinite(found.rank_right[place]).sum()),
            of_first_class=first[n],
            of_summed_probabilities=summed[n],
        )
        for n, place in enumerate(several)
    )


def _ask_for_traits(inputs: Inputs, model: EmbeddedImages, texts: list[str]) -> tuple[ZeroShotResult, int]:
    """Ask whether traits help, of images that they were not written of; tuned on validation, if there is one."""
    assert inputs.traits is not None
    assert model.texts is not None
    given = {row.split for row in inputs.rows}
    described = [sha256 in inputs.described for sha256 in inputs.sha256] or [False] * len(inputs.rows)
    rows = [
        place
        for place, row in enumerate(inputs.rows)
        if not described[place] and (row.split in ("test", "validation") or "test" not in given)
    ]
    if not rows:
        raise CollectionError(
            f"every image is one that the traits of {inputs.trait_source} were written of; their scores would say "
            "nothing, so give other images"
        )
    result = evaluate_zero_shot(
        model.texts,
        model.images[rows],
        [inputs.rows[row].label for row in rows],
        [(inputs.rows[row].split if "test" in given else None) or "test" for row in rows],
        inputs.traits,
        individuals=[str(inputs.units[row]) for row in rows],
        names={name.label: text for name, text in zip(inputs.names, texts, strict=True)},
        templates=read_templates(inputs.templates),
        trait_text=inputs.config.trait_text,
        seed=inputs.config.seed,
    )
    return replace(result, model=model.info), sum(described)
