"""Folders of images, tidy and hostile."""

from __future__ import annotations

import os

import pytest

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.folder import list_folder
from sae_traits.schema import Problem, Taxon


def rows(root):
    return [(row.file, row.label, row.split) for row in list_folder(CollectionConfig(source=str(root))).rows]


def reasons(root) -> dict[str, str]:
    return {problem.file: problem.reason for problem in list_folder(CollectionConfig(source=str(root))).problems}


def test_the_folder_below_the_root_is_the_label(images):
    root = images(["Danaus_plexippus/b.jpg", "Danaus_plexippus/a.PNG", "Vanessa cardui/dorsal/2019/c.jpeg"])
    assert rows(root) == [
        ("Danaus_plexippus/a.PNG", "Danaus_plexippus", None),
        ("Danaus_plexippus/b.jpg", "Danaus_plexippus", None),
        ("Vanessa cardui/dorsal/2019/c.jpeg", "Vanessa cardui", None),
    ]
    assert list_folder(CollectionConfig(source=str(root))).problems == ()


def test_folders_named_as_splits_give_the_split(images):
    root = images(["train/Danaus_plexippus/a.jpg", "val/Danaus_plexippus/x/b.jpg", "Test/Danaus_plexippus/c.jpg"])
    assert rows(root) == [
        ("Test/Danaus_plexippus/c.jpg", "Danaus_plexippus", "test"),
        ("train/Danaus_plexippus/a.jpg", "Danaus_plexippus", "train"),
        ("val/Danaus_plexippus/x/b.jpg", "Danaus_plexippus", "validation"),
    ]


def test_folders_that_name_all_ranks_give_them(images):
    lepidoptera = "Animalia_Arthropoda_Insecta_Lepidoptera"
    root = images([f"val/06372_{lepidoptera}_Noctuidae_Noctua_pronuba/a.jpg", f"7_{lepidoptera}_x/b.jpg"])
    odd, moth = list_folder(CollectionConfig(source=str(root))).rows
    assert (moth.label, moth.split) == ("Noctua_pronuba", "validation")
    ranks = Taxon("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Noctuidae")
    assert moth.ranks == ranks
    assert (odd.label, odd.ranks) == (f"7_{lepidoptera}_x", Taxon())


def test_images_outside_of_species_folders_are_reported(images):
    root = images(["loose.jpg", "train/loose.jpg", "Danaus_plexippus/a.jpg"])
    assert set(reasons(root)) == {"loose.jpg", "train/loose.jpg"}
    assert "no species folder; expected Genus_species" in reasons(root)["loose.jpg"]


def test_hidden_files_and_other_files_are_passed_over(images):
    root = images(["Danaus_plexippus/a.jpg", "Danaus_plexippus/._a.jpg", ".cache/Danaus_plexippus/a.jpg"])
    images(["__MACOSX/Danaus_plexippus/a.jpg"])
    for name in ("README.txt", "Danaus_plexippus/Thumbs.db", "Danaus_plexippus/notes.csv"):
        (root / name).write_text("x")
    assert len(rows(root)) == 1
    assert list_folder(CollectionConfig(source=str(root))).problems == ()


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["photos/Danaus_plexippus/a.jpg", "photos/Vanessa_cardui/b.jpg"], r"give .*photos as the source"),
        (["Nymphalidae/Danaus_plexippus/a.jpg", "Pieridae/Pieris_rapae/b.jpg"], "put these side by side"),
        (["2019/raw/Danaus_plexippus/a.jpg"], r"give .*2019/raw as the source"),
    ],
)
def test_a_folder_above_those_of_the_species_is_told_so(images, files, advice):
    with pytest.raises(CollectionError, match=f"those inside them do, such as .*; {advice}"):
        rows(images(files))


def test_the_folder_of_one_species_is_told_so(images):
    root = images(["Danaus_plexippus/a.jpg"])
    with pytest.raises(CollectionError, match=f"give {root} instead"):
        rows(root / "Danaus_plexippus")


def test_folders_that_name_nothing_at_any_level_are_listed_to_be_reported(images):
    assert len(rows(images(["unsorted/2019/a.jpg", "b/c/d.jpg"]))) == 2


def test_videos_are_reported(images):
    root = images(["Danaus_plexippus/a.jpg"])
    for name in ("b.MP4", "c.mov"):
        (root / "Danaus_plexippus" / name).write_bytes(b"x")
    assert "videos are not read" in reasons(root)["Danaus_plexippus/b.MP4"]
    assert len(reasons(root)) == 2


def test_a_folder_of_videos_alone_is_not_told_that_images_lie_in_it(tmp_path):
    (tmp_path / "Danaus_plexippus").mkdir()
    (tmp_path / "Danaus_plexippus" / "film.mov").write_bytes(b"x")
    assert "videos are not read" in reasons(tmp_path / "Danaus_plexippus")["film.mov"]


def test_pictures_whose_names_do_not_end_as_one_and_packed_files_are_reported(images):
    root = images(["Danaus_plexippus/a.jpg"])
    folder = root / "Danaus_plexippus"
    for name in ("b", "b.jpg?size=large", "b.jpg.part", "b.jpg_large"):
        (folder / name).write_bytes((folder / "a.jpg").read_bytes())
    for name in ("Thumbs.db", "a.xml", "empty"):
        (folder / name).write_bytes(b"" if name == "empty" else b"some text")
    for name in (folder / "more.ZIP", root / "all.zip"):
        name.write_bytes(b"PK")
    found = reasons(root)
    assert found.pop("Danaus_plexippus/more.ZIP") == "packed files are not read; unpack it"
    assert set(found) == {f"Danaus_plexippus/{name}" for name in ("b", "b.jpg?size=large", "b.jpg.part", "b.jpg_large")}
    assert all(reason.startswith("it is a picture, but its name does not end as one") for reason in found.values())


def test_pictures_in_formats_that_are_not_read_are_reported(images):
    root = images(["Danaus_plexippus/a.jpg"])
    for name in ("b.PSD", "c.nef"):
        (root / "Danaus_plexippus" / name).write_bytes(b"x")
    assert "convert it to JPEG" in reasons(root)["Danaus_plexippus/b.PSD"]
    assert "Danaus_plexippus/c.nef" in reasons(root)


def test_links_are_followed_only_to_files_inside(images, tmp_path):
    root = images(["Danaus_plexippus/a.jpg"])
    (tmp_path / "secret.jpg").write_bytes(b"x")
    folder = root / "Danaus_plexippus"
    (folder / "inside.jpg").symlink_to("a.jpg")
    (folder / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (root / "Vanessa_cardui").symlink_to(folder)
    (folder / "up").symlink_to(root)
    assert [file for file, _, _ in rows(root)] == ["Danaus_plexippus/a.jpg", "Danaus_plexippus/inside.jpg"]
    assert "leads out" in reasons(root)["Danaus_plexippus/outside.jpg"]
    assert "cannot be found" in reasons(root)["Danaus_plexippus/dangling.jpg"]
    assert "cannot be found" in reasons(root)["Danaus_plexippus/circle.jpg"]
    assert "link to a folder" in reasons(root)["Vanessa_cardui"]
    assert "link to a folder" in reasons(root)["Danaus_plexippus/up"]


def test_the_root_itself_may_be_a_link(images, tmp_path):
    root = images(["Danaus_plexippus/a.jpg"])
    (tmp_path / "link").symlink_to(root)
    assert len(rows(tmp_path / "link")) == 1


def test_pipes_and_folders_named_as_images_are_no_images(images):
    root = images(["Danaus_plexippus/a.jpg", "Danaus_plexippus/album.jpg/b.jpg"])
    os.mkfifo(root / "Danaus_plexippus" / "pipe.jpg")
    assert [file for file, _, _ in rows(root)] == ["Danaus_plexippus/a.jpg", "Danaus_plexippus/album.jpg/b.jpg"]
    assert reasons(root) == {"Danaus_plexippus/pipe.jpg": "it is not a regular file"}


def test_hostile_names_are_kept_apart_or_reported(images):
    strange = "Danaus_plexippus/a;rm -rf ~ $(x) <b>\n'\"\\.jpg"
    root = images([strange, "Danaus_plexippus/ü 蝶.jpg"])
    with open(os.fsencode(root / "Danaus_plexippus") + b"/\xff\xfe.jpg", "wb") as stream:
        stream.write(b"x")
    assert {file for file, _, _ in rows(root)} == {strange, "Danaus_plexippus/ü 蝶.jpg"}
    (problem,) = list_folder(CollectionConfig(source=str(root))).problems
    assert problem == Problem(r"Danaus_plexippus/\udcff\udcfe.jpg", "its name is not UTF-8; rename it")
    assert problem.file.encode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_a_folder_that_cannot_be_read_is_reported(images):
    root = images(["Danaus_plexippus/a.jpg", "Vanessa_cardui/b.jpg"])
    (root / "Vanessa_cardui").chmod(0)
    assert "Permission denied" in reasons(root)["Vanessa_cardui"]


@pytest.mark.parametrize("make", [lambda root: None, lambda root: (root / "notes.txt").write_text("x")])
def test_a_folder_without_images_is_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(CollectionError, match=r"no image in .*; expected Genus_species/…jpg"):
        list_folder(CollectionConfig(source=str(tmp_path)))
