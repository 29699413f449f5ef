"""The report and the atlas of one run say the same of the latents of each species."""

import html
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from evaluation.made_results import made_evidence, made_results
from release.small_releases import FACTS, many_images
from scipy.sparse import csr_array
from traits.made_traits import described, trait_of

from sae_traits.atlas.building import build_atlas
from sae_traits.atlas.quality import quality_of
from sae_traits.atlas.reading import read_atlas
from sae_traits.config.release import ReleaseConfig
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.tasks.species_traits import SpeciesTraits
from sae_traits.evaluation.verdict import RULES
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.schema import ChosenLatent, Contrast
from sae_traits.traits.firing_shares import FiringShares, with_held_out_shares
from sae_traits.traits.known_background import KnownBackground
from sae_traits.traits.species_counts import SpeciesCounts

N_LATENTS = 12
CONTRAST = Contrast(f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus")


def release(folder, collection, traits, latents):
    summary = write_dataset(
        folder, collection, traits, latents, sae=FACTS.sae, config=ReleaseConfig(longest_side=64), workers=1
    )
    write_dataset_card(folder, summary, FACTS)
    return folder


def with_numbers(trait, contrast, background):
    return replace(trait, candidate=replace(trait.candidate, contrast=contrast, background=background))


def random_firing(collection, rng):
    """Of training and of held-out individuals, in how many each latent fires."""
    taxa = tuple({record.taxon: None for record in collection.images})

    def counts(n):
        often = rng.random((len(taxa), N_LATENTS)) < 0.3  # few species have many latents in common
        fired = csr_array((rng.integers(0, n + 1, often.shape) * often).astype(np.int32))
        return SpeciesCounts(taxa, N_LATENTS, np.full(len(taxa), n), fired, fired.astype(np.int64))

    return FiringShares(counts(7), counts(3))


@pytest.mark.parametrize("seed", range(3))
def test_an_atlas_judges_ranks_and_shows_as_the_report_does(tmp_path, seed):
    rng = np.random.default_rng(seed)
    collection = many_images(tmp_path / "photographs", 60)
    firing = random_firing(collection, rng)
    latents = {}
    for species in sorted({record.species for record in collection.images}):
        for latent in range(N_LATENTS):
            own, others = (int(rng.integers(7)), int(rng.integers(4)))
            contrast = replace(
                CONTRAST,
                f_species=(own + 1) / 7,
                f_reference=others / 7,
                effect=float(rng.normal()),
                significant=bool(rng.random() < 0.5),
            )
            latents[species, latent] = ChosenLatent(
                species=species, latent=latent, threshold=0.5, contrast=contrast, n_fired=own + 1, n_individuals=7,
                background=float(rng.random()),
            )  # fmt: skip
    values = {"colour": ("red", "black", "white"), "pattern": ("plain", "banded"), "place": ("centre", "end", "side")}
    traits = []
    for row, record in enumerate(collection.images):
        for latent in sorted(rng.choice(N_LATENTS, 8, replace=False).tolist()):
            words = {name: str(rng.choice(some)) for name, some in values.items() if rng.random() < 0.8}
            if rng.random() < 0.5:
                words["shape"] = f"shape {record.species[-1]}"  # tells the species apart
            trait = trait_of(row, latent, described(**words))
            background = float(rng.random() ** 2)
            traits.append(with_numbers(trait, latents[record.species, latent].contrast, background))
    chosen = with_held_out_shares(latents.values(), firing)
    found = SpeciesTraits().run(made_evidence(collection, traits, latents=chosen, firing=lambda: firing))
    atlas = read_atlas(release(tmp_path / "dataset", collection, traits, chosen), tmp_path / "pictures", workers=1)
    assert {word: n for word, n, _ in quality_of(atlas, None).verdicts} == found.verdicts
    assert len(found.verdicts) > 2
    shown = {
        species: [(row.picked_by, str(row.verdict), row.shared, row.picture.trait_id) for row in rows]
        for species, rows in groupby(found.traits, key=lambda row: row.species)
    }
    first = {
        one.name: [(f"latent {i.latent}", str(i.verdict), i.shared, i.shown[1].trait_id) for i in one.latents[:3]]
        for one in atlas.species
    }
    assert first == shown
    words = [latent.words for one in atlas.species for latent in one.latents if len(latent.shared) > 2]
    telling = [[word.is_telling for word in of_latent] for of_latent in words]
    assert any(any(some) and not all(some) for some in telling)
    assert all(some == sorted(some, reverse=True) for some in telling), "what tells comes first"


def test_the_first_page_says_what_is_known_of_backgrounds(tmp_path):
    collection = many_images(tmp_path / "photographs", 3)
    traits = [with_numbers(trait_of(0, 3, described(colour="red")), CONTRAST, None)]
    atlas = read_atlas(release(tmp_path / "dataset", collection, traits, []), tmp_path / "pictures", workers=1)
    assert quality_of(atlas, made_results()).background == ""
    unknown = KnownBackground(is_known=False, how="Background is not known: nobody looked.")
    quality = quality_of(atlas, replace(made_results(), background=unknown))
    assert quality.background.startswith("Background is not known: nobody looked. So no latent and no region was left")
    masked = replace(unknown, is_known=True, by_masks=True)
    on_animal = made_results(on_animal=Interval(0.9, 0.8, 1.0, 9), random=Interval(0.3, 0.2, 0.4, 9))
    (figure, *_) = quality_of(atlas, replace(on_animal, background=masked)).figures
    assert "The masks themselves kept regions off" in figure.meaning


def test_a_latent_whose_regions_show_background_is_not_to_be_used_though_it_seldom_fires_on_background(tmp_path):
    collection = many_images(tmp_path / "photographs", 35)
    traits = [
        with_numbers(trait_of(row, latent, described(colour=colour)), CONTRAST, background)
        for row, record in enumerate(collection.images)
        for colour, latents in [("red", ((3, 0.7), (4, 0.1))) if record.species == "Aus s0" else ("blue", ((6, 0.1),))]
        for latent, background in latents
    ]
    latents = [
        ChosenLatent(
            species=species, latent=latent, threshold=0.5, contrast=CONTRAST, n_fired=6, n_individuals=7,
            background=0.1,
        )
        for species in sorted({str(record.species) for record in collection.images})
        for latent in ((3, 4, 5) if species == "Aus s0" else (6,))
    ]  # fmt: skip
    atlas = read_atlas(release(tmp_path / "dataset", collection, traits, latents), tmp_path / "pictures", workers=1)
    species = atlas.species_by_name["Aus s0"]
    assert {one.latent: one.verdict.word for one in species.latents} == {3: "do not use", 4: "trust", 5: "look first"}
    assert species.n_trusted == 1
    assert [one.verdict.word for one in atlas.latents[3].of_species] == ["do not use"]
    beside = read_atlas(tmp_path / "dataset", tmp_path / "again", workers=1, on_organism={"Aus s0": {"4": 0.4}})
    assert [one.verdict.word for one in beside.latents[4].of_species] == ["do not use"]
    counted = {word: n for word, n, _ in quality_of(atlas, None).verdicts}
    assert counted == {"trust": 1, "look first": 6, "do not use": 1}, "latent 5 has no region, so it is not judged"
    build_atlas(tmp_path / "dataset", tmp_path / "atlas", workers=1)
    page = html.unescape((tmp_path / "atlas" / "index.html").read_text())
    assert RULES["trust"] in page, "texts of data are shortened, ours are not"
