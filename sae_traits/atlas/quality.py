"""What is known of a release's quality, and what was not found, for the first page: figures with what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sae_traits.atlas.nouns import Atlas, percent
from sae_traits.evaluation.results import Results
from sae_traits.evaluation.verdict import RULES
from sae_traits.rendering import listed
from sae_traits.traits.chosen import ON_BACKGROUND


@dataclass(frozen=True)
class Figure:
    """One number and what it says."""

    value: str
    label: str
    meaning: str


@dataclass(frozen=True)
class Quality:
    """Figures, the verdicts, what was not found, and the evaluation in its own words."""

    figures: tuple[Figure, ...]
    verdicts: tuple[tuple[str, int, str], ...]
    """Word, how often it is said of a latent of a species, and what it stands for."""
    not_found: tuple[str, ...]
    background: str
    """What was known of the photographs' backgrounds; empty where that is not known."""
    lines: tuple[str, ...]


def quality_of(atlas: Atlas, results: Results | None) -> Quality:
    """What the rows show, and what an evaluation found where there was one."""
    verdicts = dict.fromkeys(RULES, 0)
    for species in atlas.species:
        for latent in species.shown_latents:
            verdicts[latent.verdict.word] += 1
    return Quality(
        figures=(*_reviewed(atlas), *(_figures(results) if results else ())),
        verdicts=tuple((word, n, RULES[word]) for word, n in verdicts.items() if n),
        not_found=tuple(_not_found(atlas, results)),
        background=_background(results),
        lines=tuple(results.lines()) if results else (),
    )


def _reviewed(atlas: Atlas) -> Iterator[Figure]:
    verdicts = [trait.reviewed for _, trait in atlas.traits if trait.reviewed is not None]
    if verdicts:
        meaning = f"of the {len(verdicts):,} traits that people reviewed on blind sheets were accepted"
        yield Figure(percent(verdicts.count("accepted") / len(verdicts)), "accepted by people", meaning)


def _background(results: Results | None) -> str:
    if results is None or (known := results.background) is None:
        return ""
    return " ".join([*known.warnings, *known.sentences("the photographs of each species")])


def _figures(results: Results) -> list[Figure]:
    figures = []
    if (found := results.tasks.get("localisation")) is not None:
        on = found.on_animal
        meaning = (
            "of the regions' area lies on the organism (95\u00a0% interval "
            f"{percent(on.low)} to {percent(on.high)}); of the same shapes at random places "
            f"{percent(found.random.mean)}"
        )
        if results.background is not None and results.background.by_masks:
            meaning += ". The masks themselves kept regions off what lies outside them"
        figures.append(Figure(percent(on.mean), "on the organism", meaning))
    elif (inside := results.inside) is not None:
        meaning = (
            "of the regions' area lies on the organism, by the files given to sae-traits parts (mean over species); at "
            f"random places {percent(inside.null)}"
        )
        figures.append(Figure(percent(inside.value), "on the organism", meaning))
    if (found := results.tasks.get("text_quality")) is not None:
        shared = found.shared
        if shared.n_traits:
            meaning = "of the traits have a sentence that is said of another species, too, and tells neither apart"
            figures.append(Figure(percent(shared.n_shared / shared.n_traits), "shared sentences", meaning))
    if results.sae is not None:
        sae = results.sae
        meaning = (
            f"of what the image model says of a patch (the variance of its features) is kept by the {sae['l0']:.0f} "
            f"latents that fire there; {percent(sae['dead_share'])} of the latents never fire"
        )
        figures.append(Figure(percent(sae["explained_variance"]), "explained by the SAE", meaning))
    return figures


def _not_found(atlas: Atlas, results: Results | None) -> list[str]:
    lines = []
    without = [one.name for one in atlas.species if not one.latents and one.has_label]
    if without and any(one.latents for one in atlas.species):
        lines.append(f"{len(without)} species without a latent that tells them from their relatives: {listed(without)}")
    if bare := sum(not image.traits for image in atlas.images):
        lines.append(f"{bare:,} of {len(atlas.images):,} photographs without a trait")
    if unseen := sum(image.picture is None for image in atlas.images):
        lines.append(f"{unseen:,} photographs that the release names and does not hold; their outlines are shown alone")
    if unstated := sum(image.rights.license is None for image in atlas.images):
        lines.append(f"{unstated:,} photographs whose licence is not stated")
    if results is None:
        return [*lines, "no evaluation: the release alone was given, not the run that made it"]
    counts: dict[str, Any] = results.annotation
    said = {
        "n_background": "regions that the describer called background",
        "n_invalid": "answers that could not be used",
        "n_failed": "calls that failed",
        "n_open": "regions that nobody has been asked about yet",
    }
    lines += [f"{counts[name]:,} {words}" for name, words in said.items() if counts.get(name)]
    if everywhere := [reason for reason in counts.get("dropped_latents", ()) if ON_BACKGROUND not in reason]:
        lines.append(f"{len(everywhere):,} latents left out beforehand, because they fire nearly everywhere")
    if (found := results.tasks.get("species_traits")) is not None and found.without_trusted:
        names = list(found.without_trusted)
        lines.append(f"{len(names)} species with no trait to trust: {listed(names)}")
    if results.tasks.get("localisation") is None and results.inside is None:
        lines.append("no masks or boxes of the organisms, so how much of the regions lies on them was not measured")
    if results.zero_shot is None:
        lines.append("no test whether the traits help a vision-language model to name species")
    return lines
