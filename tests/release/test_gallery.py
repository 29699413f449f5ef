"""The gallery of a model card: whose regions, of which photographs, with whose rights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_releases import CONTRAST, odd_photographs, traits_of

from sae_traits.evaluation.species_tallies import Tally
from sae_traits.images.decode import open_image
from sae_traits.release.facts import Rights
from sae_traits.release.gallery import N_LATENTS, N_PHOTOGRAPHS, draw_latents, latents_to_show
from sae_traits.schema import ChosenLatent, Collection, ImageRecord, Taxon, Trait


def choice(species: str, latent: int, f_species: float, *, n_fired: int = 3, effect: float = 2.0) -> ChosenLatent:
    contrast = replace(CONTRAST, f_species=f_species, effect=effect)
    return ChosenLatent(
        species=species, latent=latent, threshold=0.4, contrast=contrast, n_fired=n_fired, n_individuals=4,
        background=0.1,
    )  # fmt: skip


def tallies_of(*choices: tuple[ChosenLatent, int]) -> dict[str, dict[str, Tally]]:
    """Of some latents of species, with regions in so many individuals."""
    tallies: dict[str, dict[str, Tally]] = {}
    for one, n_individuals in choices:
        individuals = {f"{one.species} {number}" for number in range(n_individuals)}
        tally = Tally(one, individuals, backgrounds=[0.1])
        tallies.setdefault(one.species, {})[str(one.latent)] = tally
    return tallies


def test_each_species_shows_the_latent_with_the_best_evidence_that_no_other_shows():
    chosen = [
        *(choice("Aus bus", 1, 0.8), choice("Aus bus", 2, 0.3, effect=9.0)),
        *(choice("Aus cus", 1, 1.0), choice("Aus cus", 3, 0.9)),
    ]
    shown = latents_to_show(tallies_of(*((one, 5) for one in chosen)))
    assert [(one.species, one.latent) for one in shown] == [("Aus cus", 3), ("Aus bus", 1)]
    many = [(choice(f"Aus s{n}", n, 1.0), 5 + n) for n in range(20)]
    assert [one.latent for one in latents_to_show(tallies_of(*many))] == [19, 18, 17, 16, 15, 14][:N_LATENTS]
    assert latents_to_show({}) == []


def test_a_latent_that_held_out_individuals_do_not_bear_out_comes_last():
    refuted = replace(choice("Aus bus", 1, 1.0), held_out_f_species=0.1, held_out_f_reference=0.1)
    borne_out = replace(choice("Aus bus", 2, 0.8), held_out_f_species=0.7, held_out_f_reference=0.0)
    assert latents_to_show(tallies_of((refuted, 5), (borne_out, 5))) == [borne_out]


@pytest.mark.parametrize(("n_individuals", "shown"), [(4, [2, 3]), (5, [1, 3])])
def test_a_latent_with_regions_in_few_individuals_comes_after_those_with_more(n_individuals, shown):
    """Whatever its verdict: the other of its species is in less than half of the individuals."""
    latents = (choice("Aus bus", 1, 1.0), n_individuals), (choice("Aus bus", 2, 0.4), 5), (choice("Aus cus", 3, 0.3), 5)
    assert [one.latent for one in latents_to_show(tallies_of(*latents))] == shown


def test_only_regions_in_training_photographs_of_its_species_are_shown_and_earlier_pictures_go(tmp_path: Path):
    collection = odd_photographs(tmp_path / "photographs", lambda name: None)
    splits = [one.split for one in collection.images]
    assert splits[:3] == ["train", "train", "test"]
    holders = Collection(
        collection.root,
        (replace(collection.images[0], license=None, rights_holder="B. Collector"), *collection.images[1:]),
    )

    def open_picture(record: ImageRecord) -> Image.Image:
        return open_image(holders.path(record))

    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "latent-00099.jpg").write_bytes(b"of an earlier run")
    pattern = traits_of(holders, 1)[0]

    def region(row: int, latent: int) -> Trait:
        candidate = replace(pattern.candidate, image=row, latent=latent)
        return replace(pattern, trait_id=f"{row}-{latent}", candidate=candidate)

    assert holders.images[4].species == "Aus cus"
    traits = [region(row, 17) for row in (0, 1, 2, 4)] + [region(2, 18)]
    choices = [choice("Aus bus", 17, 0.8), choice("Aus cus", 18, 0.8)]
    pictures = draw_latents(holders, traits, choices, open_picture, tmp_path)
    (picture,) = pictures
    assert (picture.path, picture.latent, picture.species) == ("figures/latent-00017.jpg", 17, "Aus bus")
    assert set(picture.rights) == {Rights(None, "B. Collector", 1), Rights("CC BY-NC-ND 4.0", "A. Naturalist", 1)}
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["latent-00017.jpg"]
    with Image.open(tmp_path / picture.path) as sheet:
        assert sheet.width > sheet.height > 200
    before = (tmp_path / picture.path).read_bytes()
    draw_latents(holders, traits, choices[:1], open_picture, tmp_path)
    assert (tmp_path / picture.path).read_bytes() == before
    assert draw_latents(holders, traits, [], open_picture, tmp_path) == ()
    assert not list((tmp_path / "figures").iterdir())


def test_the_strongest_regions_are_outlined_one_per_individual_as_the_dataset_has_them(tmp_path: Path):
    """White photographs with one region each, whose outline is the only thing drawn on them."""
    records, traits = [], []
    Image.new("RGB", (200, 200), "white").save(tmp_path / "white.png")
    pattern = traits_of(odd_photographs(tmp_path / "photographs", lambda name: None), 1)[0]
    for row in range(N_PHOTOGRAPHS + 2):
        record = ImageRecord(
            image_id=f"i{row}", individual_id=f"i{max(row, 1)}", file="white.png", width=200, height=200, sha256="0",
            taxon=Taxon(genus="Aus", species="Aus bus"), split="train",
        )  # fmt: skip
        x = 40.0 * row
        polygon = (x, 0.0, x + 20, 0.0, x + 20, 20.0, x, 20.0)
        region = replace(pattern.region, box=(x, 0.0, 20.0, 20.0), polygons=(polygon,))
        candidate = replace(pattern.candidate, image=row, latent=17, peak=10.0 - row)
        records.append(record)
        traits.append(replace(pattern, trait_id=f"i{row}-17", candidate=candidate, region=region))
    opened: list[str] = []

    def open_picture(record: ImageRecord) -> Image.Image:
        opened.append(record.image_id)
        return open_image(tmp_path / record.file)

    collection = Collection(tmp_path, tuple(records))
    (picture,) = draw_latents(collection, reversed(traits), [choice("Aus bus", 17, 0.8)], open_picture, tmp_path)
    assert opened == ["i0", "i2", "i3", "i4"], "the second image is of the first individual, and weaker"
    with Image.open(tmp_path / picture.path) as sheet:
        tiles = np.asarray(sheet.convert("L"))[:280].reshape(280, N_PHOTOGRAPHS, -1)
    places = [np.flatnonzero((tiles[:, number] < 200).any(axis=0)).mean() / tiles.shape[2] for number in range(4)]
    assert np.round(places, 1).tolist() == [0.1, 0.5, 0.6, 0.8]
