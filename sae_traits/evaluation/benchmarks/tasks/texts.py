"""What texts of species are worth: do they tell it from congeners, say what references say, do describers agree?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.captions import without_name
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages, Figures, Inputs, Outcome, percent, percent_interval
from sae_traits.evaluation.measures.text_quality import compare_with_references, describer_agreement, specificity
from sae_traits.evaluation.prompts import Prompter
from sae_traits.evaluation.statistics import Interval, Number, bootstrap_interval
from sae_traits.evaluation.text import read_templates
from sae_traits.traits.consistency import EXCLUDING

N_DEALS = 200


@dataclass(frozen=True, kw_only=True)
class References:
    """Texts of species beside reference descriptions."""

    n_species: int
    coverage: Interval
    """Share of a reference's colours and sizes that the texts say, too; intervals resample species."""
    coverage_dealt: Number
    """The same with references dealt among congeners, or among all species where no genus has two."""
    contradiction: Interval
    """Share of the facets of which both say something, and nothing in common."""
    contradiction_dealt: Number


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """The quality of what is said of species."""

    task: Literal["texts"] = "texts"
    n_texts: int
    n_species: int
    """With texts, images and congeners."""
    specific: Interval
    """Share of the texts, without the species' name, that are nearest to the images of their own species among those of
    its genus; intervals resample species."""
    chance: Number
    """One over the number of species in the genus."""
    references: References | None
    """None where none were given."""
    n_regions: int
    """Regions that two describers described."""
    agreement: dict[str, Number]
    """Facet -> Krippendorff's alpha of the two: 1 is agreement, 0 chance; none where there is one describer."""


class TextTask:
    """Scores what --traits say."""

    name, title, result = "texts", "Quality of texts", TextScores
    needs_clip, needs_models, head = True, True, "caption"

    def check(self, inputs: Inputs) -> None:
        """Refuse a task without texts, without congeners, or of two describers who share no region."""
        if inputs.traits is None:
            raise ConfigError("texts needs --traits: a dataset, or a table with the columns species and text")
        if not _genera_with_texts(inputs.of_scored()):
            raise CollectionError(
                "no genus has two classes with images and texts, so that no text can be told from those of congeners; "
                "say with --taxa of which genus the labels are"
            )
        if inputs.regions and not set(inputs.regions[0]) & set(inputs.regions[1]):
            raise ConfigError("--traits and --other-traits have no `trait_id` in common; both must be of the same run")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Score the texts by a model, by references and by another describer, as far as these are given."""
        images, inputs = model.images[inputs.scored()], inputs.of_scored()
        assert inputs.traits is not None
        assert model.texts is not None
        places = sorted(place for members in _genera_with_texts(inputs).values() for place in members)
        texts, species = _texts(inputs, places)
        embedded = Prompter(model.texts, read_templates(inputs.templates)).embed(texts, "texts")
        unseen = ~np.isin(inputs.sha256 or [""] * len(inputs.rows), list(inputs.described))
        prototypes = np.stack([_prototype(images, inputs.truth == place, unseen) for place in places])
        credit, chance = specificity(
            embedded, species, prototypes, [str(inputs.names[place].genus) for place in places]
        )
        shared = sorted(set(inputs.regions[0]) & set(inputs.regions[1])) if inputs.regions else []
        of_both = [[said[region] for region in shared] for said in inputs.regions]
        return Outcome(
            TextScores(
                n_texts=len(texts),
                n_species=len(places),
                specific=bootstrap_interval(credit, groups=species, seed=inputs.config.seed),
                chance=float(chance.mean()),
                references=_compare(inputs) if inputs.references else None,
                n_regions=len(shared),
                agreement={facet: describer_agreement(of_both, facet) for facet in EXCLUDING} if shared else {},
            )
        )

    def figures(self, result: TextScores) -> Figures:
        figures: Figures = {"specific": result.specific, "chance": result.chance}
        if (references := result.references) is not None:
            figures |= {"coverage": references.coverage, "coverage, dealt": references.coverage_dealt}
            figures |= {"contradiction": references.contradiction}
            figures |= {"contradiction, dealt": references.contradiction_dealt}
        return figures | {f"agreement on {facet}": alpha for facet, alpha in result.agreement.items()}

    def sentence(self, name: str, result: TextScores) -> str:
        return (
            f"With {name} {percent_interval(result.specific)} of {result.n_texts:,} texts are nearest to the images of "
            f"their own species among those of its genus, where chance gives {percent(result.chance)}."
        )

    def notes(self, result: TextScores) -> list[str]:
        """Warn of what one value cannot say."""
        notes = []
        if result.specific.low <= result.chance:
            notes.append(
                "texts tell their species from its congeners no better than chance: they are of no use for that, or "
                "the model reads nothing in them"
            )
        if result.references is not None:
            notes.append(
                "coverage and contradiction are of words of colour and size alone; whatever else a reference says is "
                "not judged"
            )
        return notes


def _genera_with_texts(inputs: Inputs) -> dict[str, list[int]]:
    """Genus -> places of its classes that have texts, of genera with two or more."""
    assert inputs.traits is not None
    members: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(inputs.names):
        if name.genus and inputs.traits[name.label]:
            members[name.genus].append(place)
    return {genus: places for genus, places in members.items() if len(places) > 1}


def _texts(inputs: Inputs, places: Sequence[int]) -> tuple[list[str], NDArray[np.int64]]:
    """What is said of some classes, without their names, and of which of them each text is."""
    assert inputs.traits is not None
    said = [
        (text, number)
        for number, place in enumerate(places)
        for trait in inputs.traits[inputs.names[place].label]
        if (text := without_name(trait, inputs.names[place]))
    ]
    if not said:
        raise CollectionError("the texts say nothing but names")
    return [text for text, _ in said], np.array([number for _, number in said], dtype=np.int64)


def _prototype(
    images: NDArray[np.float32], of_class: NDArray[np.bool_], unseen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Mean embedding of the images of a class that its texts were not written of, where there are any."""
    rows = of_class & unseen
    return images[rows if rows.any() else of_class].mean(axis=0)


def _compare(inputs: Inputs) -> References:
    """Hold the texts to references, and to those of other species."""
    assert inputs.traits is not None
    names = [name for name in inputs.names if name.label in inputs.references and inputs.traits[name.label]]
    if not names:
        raise CollectionError("no class has both a text and a reference")
    texts = [inputs.traits[name.label] for name in names]
    references = [inputs.references[name.label] for name in names]
    own = compare_with_references(texts, references)
    genera = np.array([name.genus or name.label for name in names])
    if len(set(genera.tolist())) == len(genera):
        genera = np.zeros(len(names), dtype=np.int64)
    generator = np.random.default_rng(inputs.config.seed)
    dealt = []
    for _ in range(N_DEALS):
        order = np.arange(len(names))
        for genus in np.unique(genera):
            members = np.flatnonzero(genera == genus)
            order[members] = generator.permutation(members)
        dealt.append([_mean(values) for values in compare_with_references(texts, [references[i] for i in order])])
    coverage, contradiction = (
        bootstrap_interval(values[np.isfinite(values)], seed=inputs.config.seed) for values in own
    )
    coverage_dealt, contradiction_dealt = map(_mean, np.array(dealt).T)
    return References(
        n_species=len(names),
        coverage=coverage,
        coverage_dealt=coverage_dealt,
        contradiction=contradiction,
        contradiction_dealt=contradiction_dealt,
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
