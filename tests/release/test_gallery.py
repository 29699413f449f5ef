"""The gallery of a model card: whose regions, of which photographs, with whose rights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image
from small_releases import CONTRAST, odd_photographs

from sae_traits.images.decode import open_image
from sae_traits.release.facts import Rights
from sae_traits.release.gallery import N_LATENTS, draw_latents, latents_to_show
from sae_traits.schema import ChosenLatent, Collection, ImageRecord, Region
from sae_traits.traits.latent_pages import LatentPage, StrongImage

REGION = Region(box=(5.0, 5.0, 20.0, 20.0), polygons=((5, 5, 25, 5, 25, 25, 5, 25),), patches=(0,), area_fraction=0.1)


def choice(species: str, latent: int, f_species: float, *, n_fired: int = 3, effect: float = 2.0) -> ChosenLatent:
    contrast = replace(CONTRAST, f_species=f_species, effect=effect)
    return ChosenLatent(
        species=species, latent=latent, threshold=0.4, contrast=contrast, n_fired=n_fired, n_individuals=4,
        background=0.1,
    )  # fmt: skip


def page(latent: int, collection: Collection, *rows: int) -> LatentPage:
    strongest = tuple(StrongImage(record=collection.images[row], activation=1.0, region=REGION) for row in rows)
    return LatentPage(latent=latent, threshold=0.4, n_fired=3, dropped=None, chosen=(), strongest=strongest)


def test_each_species_shows_the_latent_with_the_best_evidence_that_no_other_shows():
    chosen = [
        *(choice("Aus bus", 1, 0.8), choice("Aus bus", 2, 0.3, effect=9.0)),
        *(choice("Aus cus", 1, 1.0), choice("Aus cus", 3, 0.9)),
    ]
    assert [(one.species, one.latent) for one in latents_to_show(chosen)] == [("Aus cus", 3), ("Aus bus", 1)]
    many = [choice(f"Aus s{n}", n, 1.0, n_fired=n) for n in range(20)]
    assert [one.latent for one in latents_to_show(many)] == [19, 18, 17, 16, 15, 14][:N_LATENTS]
    assert latents_to_show([]) == []


def test_a_latent_that_held_out_individuals_do_not_bear_out_comes_last():
    refuted = replace(choice("Aus bus", 1, 1.0), held_out_f_species=0.1, held_out_f_reference=0.1)
    borne_out = replace(choice("Aus bus", 2, 0.8), held_out_f_species=0.7, held_out_f_reference=0.0)
    assert latents_to_show([refuted, borne_out]) == [borne_out]


def test_only_training_photographs_are_shown_and_earlier_pictures_go(tmp_path: Path):
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
    pages = [page(17, holders, 2, 0, 1), page(18, holders, 2)]
    pictures = draw_latents(pages, [choice("Aus bus", 17, 0.8), choice("Aus cus", 18, 0.8)], open_picture, tmp_path)
    (picture,) = pictures
    assert (picture.path, picture.latent, picture.species) == ("figures/latent-00017.jpg", 17, "Aus bus")
    assert set(picture.rights) == {Rights(None, "B. Collector", 1), Rights("CC BY-NC-ND 4.0", "A. Naturalist", 1)}
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["latent-00017.jpg"]
    with Image.open(tmp_path / picture.path) as sheet:
        assert sheet.width > sheet.height > 200
    before = (tmp_path / picture.path).read_bytes()
    draw_latents(pages, [choice("Aus bus", 17, 0.8)], open_picture, tmp_path)
    assert (tmp_path / picture.path).read_bytes() == before
    assert draw_latents([], [], open_picture, tmp_path) == ()
    assert not list((tmp_path / "figures").iterdir())
