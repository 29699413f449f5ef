"""What is read from each kind of data, and what is said where texts are missing."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from small_pairs import make_shard, make_table

from sae_traits.config.finetune import PairsConfig
from sae_traits.contrastive.samples import examine_images, read_samples
from sae_traits.errors import CollectionError
from sae_traits.vocabulary import SPLITS

NAMES = {"sci": "a photo of Apis mellifera.", "com": "a photo of honey bee.", "taxon": "a photo of Animalia Apis."}


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_shard_with_the_keys_of_bioclip_gives_its_texts_and_its_images(tmp_path):
    red = {"jpg": png("red"), "scientific_name.txt": "Apis mellifera", "caption.txt": "A bee on a flower."}
    blue = {"png": png("blue"), "sci.txt": "a photo of Bombus terrestris.", "com.txt": "", "taxon.txt": "x"}
    red |= {f"{kind}.txt": text for kind, text in NAMES.items()}
    make_shard(tmp_path / "shard-000000.tar", {"a/000": red, "a/001": {"json": "{}", "sci.txt": "no image"}})
    make_shard(tmp_path / "shard-000001.tar", {"000": blue})
    samples = read_samples(PairsConfig(data=str(tmp_path)))
    assert [sample.name for sample in samples] == ["shard-000000.tar/a/000", "shard-000001.tar/000"]
    assert samples[0].texts == {kind: (text,) for kind, text in NAMES.items()} | {"caption": ("A bee on a flower.",)}
    assert set(samples[1].texts) == {"sci", "taxon"}
    assert [sample.species for sample in samples] == ["Apis mellifera", None]
    assert [sample.open().getpixel((5, 5)) for sample in samples] == [(255, 0, 0), (0, 0, 255)]


def test_samples_that_lack_an_image_or_a_text_are_counted_with_the_first_and_the_others_are_read(tmp_path, caplog):
    whole = {"png": png("red"), "sci.txt": "a photo of Rubra rubra."}
    make_shard(tmp_path / "0.tar", {"0": whole, "1": {"sci.txt": "no image"}, "2": {"png": png("red")}})
    make_shard(tmp_path / "1.tar", {"0": whole | {"sci.txt": " "}, "1": {"json": "{}"}, "2": whole})
    assert [sample.name for sample in read_samples(PairsConfig(data=str(tmp_path)))] == ["0.tar/0", "1.tar/2"]
    assert f"2 of 6 samples of {tmp_path} have no image and are left out, the first 0.tar/1" in caplog.text
    assert f"2 of 6 samples of {tmp_path} have no text and are left out, the first 0.tar/2" in caplog.text


def test_our_own_shards_say_species_and_trait(tmp_path):
    row = {"species": "Apis mellifera", "order": "Hymenoptera", "trait_id": "t"}
    members = {"png": png("red"), "txt": "The wings are clear.", "json": json.dumps(row)}
    shard = make_shard(tmp_path / "train-000000.tar", {"train-000000000": members})
    (sample,) = read_samples(PairsConfig(data=str(shard), text_types=("trait", "taxon")))
    assert sample.texts["trait"] == ("A photo of Apis mellifera with the wings are clear",)
    assert sample.texts["taxon"] == ("a photo of Hymenoptera Apis mellifera.",)


def test_shards_of_the_trait_paper_have_a_text_and_no_names(tmp_path):
    text = "A photo of Apis mellifera with clear wings"
    shard = make_shard(tmp_path / "00000.tar", {"sample00000000": {"jpg": png("red"), "txt": text}})
    (sample,) = read_samples(PairsConfig(data=str(shard), text_types=("trait",)))
    assert sample.texts == {"trait": (text,)}
    with pytest.raises(CollectionError, match=r"no image of .* has a text of the type sci; there is trait"):
        read_samples(PairsConfig(data=str(shard)))


def test_a_template_may_have_other_braces(tmp_path):
    table = make_table(tmp_path / "squares")
    sample = read_samples(PairsConfig(data=str(table), template="{photo} of {}, {}"))[0]
    assert sample.texts["sci"] == (f"{{photo}} of {sample.species}, {sample.species}",)


def test_the_caption_of_an_image_is_that_of_the_row_that_is_taken_however_its_path_is_written(tmp_path):
    folder = make_table(tmp_path / "squares").parent
    (folder / "blue-0.png").rename(folder / "ble\u0301-0.png")
    rows = ["file,species,caption", "./red-0.png,Rubra rubra,first", "red-0.png,Rubra rubra,second"]
    rows += [".//./green-0.png,Viridia viridis,green", "bl\u00e9-0.png,Caerulea caerula,blue"]
    (folder / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    samples = read_samples(PairsConfig(data=str(folder), text_types=("caption",)))
    assert sorted(sample.texts["caption"][0] for sample in samples) == ["blue", "first", "green"]


def test_a_shard_that_breaks_off_is_told_wherever_it_does(tmp_path, caplog):
    samples = {f"{n}": {"png": png("red"), "sci.txt": "a photo of Rubra rubra."} for n in range(4)}
    shard = make_shard(tmp_path / "0.tar", samples)
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[4]
    config, whole = PairsConfig(data=str(shard)), shard.read_bytes()
    for n_bytes in (third.offset + 100, third.offset_data + 20):
        shard.write_bytes(whole[:n_bytes])
        with pytest.raises(CollectionError, match=r"cannot read the shard .*0\.tar"):
            read_samples(config)
    shard.write_bytes(whole[: third.offset] + b"x" * 512 + whole[third.offset + 512 :])
    with pytest.raises(CollectionError, match=r"cannot read the shard .*0\.tar"):
        read_samples(config)
    assert not caplog.text
    shard.write_bytes(whole[: third.offset])
    assert len(read_samples(config)) == 2
    assert "0.tar has no mark of its end" in caplog.text


def test_shards_without_the_keys_are_refused(tmp_path):
    shard = make_shard(tmp_path / "00000.tar", {"0": {"jpg": png("red"), "cls": "3"}})
    with pytest.raises(CollectionError, match="its shards must have these keys"):
        read_samples(PairsConfig(data=str(shard)))
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(CollectionError, match="cannot read the shard"):
        read_samples(PairsConfig(data=str(tmp_path / "broken.tar")))


def test_a_table_gives_names_captions_and_its_own_splits(tmp_path):
    table = make_table(tmp_path / "squares")
    config = PairsConfig(data=str(table), text_types=("sci", "caption"))
    train, validation = read_samples(config), read_samples(config, "validation")
    assert (len(train), len(validation)) == (24, 8)
    assert train[0].texts["caption"] == ("A blue square, number 0.",)
    assert train[0].texts["sci"] == ("a photo of Caerulea caerula.",)
    assert np.asarray(train[0].open()).shape == (40, 48, 3)


def test_what_of_a_folder_cannot_be_used_is_said_and_images_are_decoded_once_for_all_splits(tmp_path, caplog):
    caplog.set_level("INFO")
    for species in ("Apis_mellifera", "Bombus_terrestris"):
        (tmp_path / species).mkdir()
        for number in range(8):
            noise = np.random.default_rng([number, len(species)]).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / species / f"{number}.png")
    (tmp_path / "Apis_mellifera" / "broken.png").write_bytes(b"no picture")
    config = PairsConfig(data=str(tmp_path), workers=0)
    images = examine_images(config)
    assert "Apis_mellifera/broken.png: " in caplog.text
    assert images is not None
    caplog.clear()
    samples = [sample for split in SPLITS for sample in read_samples(config, split, images)]
    assert len(samples) == 16
    assert "examin" not in caplog.text
