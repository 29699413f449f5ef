"""Evidence and results made up for tests of reports, cards and terminals."""

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.report import render_report
from sae_traits.evaluation.results import Results, run_tasks
from sae_traits.evaluation.statistics import Interval, McNemar
from sae_traits.evaluation.tasks.localisation import LocalisationResult
from sae_traits.evaluation.zero_shot_results import (
    NAME_AND_TRAITS,
    NAME_ONLY,
    Comparison,
    Condition,
    RandomDeals,
    ZeroShotResult,
)
from sae_traits.geometry import Framing
from sae_traits.images.decode import open_image
from sae_traits.schema import BackboneInfo, ChosenLatent
from sae_traits.traits.consistency import Contradictions, FacetAgreement
from sae_traits.traits.faithfulness import Faithfulness, FaithfulnessScore
from sae_traits.traits.quality import CallQuality, Leakage, Quality
from sae_traits.traits.shared_sentences import SharedSentences

ANNOTATION = {
    "n_traits": 10, "n_images": 4, "n_significant": 3, "n_background": 1, "n_invalid": 2, "n_failed": 0,
}  # fmt: skip
SAE = {"explained_variance": 0.5, "mse": 0.1, "l0": 3.0, "dead_share": 0.25, "n_patches": 1000}
INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


def latents_of(collection, traits):
    """The latents that some traits have, each for the species of its image."""
    chosen = {}
    for trait in traits:
        candidate, species = trait.candidate, collection.images[trait.candidate.image].taxon.species
        if species is not None and candidate.contrast is not None:
            chosen[species, candidate.latent] = ChosenLatent(
                species=species, latent=candidate.latent, threshold=0.5, contrast=candidate.contrast, n_fired=9,
                n_individuals=10,
            )  # fmt: skip
    return tuple(chosen.values())


def made_evidence(collection, traits, **others):
    """Evidence of a collection and traits, without a ledger and without a CLIP."""
    others = {
        "latents": latents_of(collection, traits),
        "open_picture": lambda record: open_image(collection.path(record)),
    } | others
    return Evidence(
        collection=collection,
        traits=traits,
        backbone=INFO,
        region_source="sae",
        annotation=ANNOTATION,
        sae=SAE,
        **others,
    )


def section(task, evidence):
    """The section of a task in the report."""
    report = render_report("T", run_tasks(evidence, [task]))
    return report.partition(f"\n## {task.heading}\n")[2].partition("\n## ")[0].strip()


def interval(mean, spread=0.1):
    return Interval(mean, mean - spread, mean + spread, 16)


def made_zero_shot(top1=None, *, gain=None, **others):
    """A zero-shot result with the given top-1 interval of each condition."""
    top1 = top1 or {NAME_ONLY: interval(0.3), NAME_AND_TRAITS: interval(0.35)}
    gain = gain or Interval(0.05, -0.01, 0.11, 16)
    values = {
        "model": {"model": "some/clip", "revision": "abc"},
        "settings": {
            "text_type": "sci", "templates": "one", "n_templates": 1, "trait_text": "prompts", "seed": 0,
        },
        "n_classes": 16,
        "n_test": 74,
        "n_test_individuals": 70,
        "n_test_species": 16,
        "n_validation": 30,
        "conditions": tuple(
            Condition(
                name=name, top=dict.fromkeys((1, 3, 5), score), macro={1: 0.1, 3: 0.2, 5: 0.3}, left_out={},
                weight=None if name == NAME_ONLY else 0.5, n_traits=None if name == NAME_ONLY else 3,
                validation_top1=0.3, n_with_traits=0 if name == NAME_ONLY else 16, example="a photo of Aus bus.",
            )
            for name, score in top1.items()
        ),
        "comparisons": (
            Comparison(
                condition=NAME_AND_TRAITS, difference=gain, over_species=gain, holm_p_value=0.5,
                mcnemar=McNemar(only_first=1, only_second=4, p_value=0.375),
            ),
        ),
        "names_p_value": 0.001,
        "dealt": RandomDeals(top1=(0.25, 0.35), over_species=gain, p_value=0.05),
        "without_traits": (),
        "names_cut": (),
        "same_names": (),
    }  # fmt: skip
    return ZeroShotResult(**(values | others))


def made_results(*, zero_shot=None, quality=None, on_animal=None, random=None, by_latent=None, extra=None, **tasks):
    """Results as cards show them: any of the zero-shot result, quality, and intervals on the animal."""
    localisation = on_animal and LocalisationResult(
        on_animal=on_animal, random=random, gain=on_animal, by_species={"Aus <b>x</b>": 0.9},
        chance_by_species={"Aus <b>x</b>": 0.4}, by_latent=by_latent or {}, n_traits=10, n_images=4, n_individuals=3,
    )  # fmt: skip
    return Results(
        region_source="sae",
        annotation=ANNOTATION,
        sae=SAE,
        tasks={"text_quality": quality, "localisation": localisation, "zero_shot": zero_shot} | tasks,
        extra=extra or {},
    )


def made_quality(*, labelled=True, asked_again=True):
    """The quality of some descriptions, of images with or without labels."""
    counts = dict.fromkeys(("n_genus", "n_epithet"), 0)
    swapped = FaithfulnessScore(
        kind="swapped", n_asked=10, n_answered=10, n_changed=8, n_background=1, kept=0.2, unchanged=()
    )
    return Quality(
        calls=CallQuality(
            n_calls=110, n_attempts=120, n_ok=90, n_background=9, n_invalid=10, n_failed=10, n_pending=0,
            reasons=(), background=(), invalid=(), failed=(),
        ),
        n_unlabelled=0 if labelled else 80,
        leakage=Leakage(n_traits=80 * labelled, n_any=2 * labelled, examples=(), **counts),
        shared=SharedSentences(
            n_traits=80 * labelled, n_shared=20 * labelled, n_sentences=40 * labelled, n_shared_sentences=5 * labelled,
            n_species=9 * labelled,
        ),
        contradictions=tuple(
            Contradictions(facet=facet, n_groups=n, n_contradictory=n // 4, examples=())
            for facet, n in (("colour", 20 * labelled), ("size", 0))
        ),
        agreement=(FacetAgreement(facet="shape", share=0.75, chance=0.5, n_pairs=9, by_species={}),) * labelled,
        faithfulness=Faithfulness(n_traits=10, n_open=0, scores=(swapped,)) if asked_again else None,
    )  # fmt: skip


def card_results(text="imageomics/bioclip"):
    """Results with everything that a card shows; what of it comes from data is `text`."""
    return made_results(
        zero_shot=made_zero_shot(model={"model": text, "revision": text}, without_traits=(text,)),
        quality=made_quality(),
        on_animal=Interval(0.91, 0.9, 0.92),
        random=Interval(0.25, 0.2, 0.3),
    )
