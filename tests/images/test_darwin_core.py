"""Darwin Core archives: their species, their photographs and what cannot be had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_archive import MEDIA_TERMS, META, OCCURRENCE_TERMS, lines, meta, table, write_archive
from web import photograph, running_web

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import fingerprint, list_source, read_collection
from sae_traits.schema import Taxon

RANKS = {"kingdom": "Animalia", "phylum": "Arthropoda", "class": "Insecta", "order": "Lepidoptera"}
CC_BY = "http://creativecommons.org/licenses/by/4.0/legalcode"


def occurrence(gbif_id: str, species: str = "Vanessa cardui", **cells: str) -> dict[str, str]:
    """A row of occurrence.txt."""
    return RANKS | {"gbifID": gbif_id, "species": species, "family": "Nymphalidae", "license": "CC_BY_4_0"} | cells


def image(gbif_id: str, url: str, **cells: str) -> dict[str, str]:
    """A row of multimedia.txt."""
    return {"gbifID": gbif_id, "type": "StillImage", "format": "image/jpeg", "identifier": url} | cells


@pytest.fixture
def web():
    with running_web() as server:
        server.pages = {f"/{n}.jpg": photograph(n) for n in range(20)}
        yield server


def config_of(source, cache, **options) -> CollectionConfig:
    return CollectionConfig(source=str(source), image_cache=str(cache), allow_private_addresses=True, **options)


@pytest.mark.parametrize("name", ["archive.zip", "archive"])
def test_occurrences_become_images_with_names_licence_and_source(tmp_path, web, name):
    occurrences = [
        occurrence("1", rightsHolder="C. Holder"),
        occurrence("2", "", acceptedScientificName='Papilio machaon "Linnaeus", 1758', rightsHolder="B. Holder"),
        occurrence("3", "", scientificName="Papilio Linnaeus, 1758"),
        occurrence("4"),
    ]
    media = [
        image("1", f"{web.url}/1.jpg", license=CC_BY, rightsHolder="A. Holder", references="https://page.example/1"),
        image("1", f"{web.url}/2.jpg"),
        image("2", f"{web.url}/3.jpg", type="http://purl.org/dc/dcmitype/StillImage"),
        image("3", f"{web.url}/4.jpg"),
        image("1", f"{web.url}/song.mp3", type="Sound", format="audio/mpeg"),
        image("1", ""),
        image("9", f"{web.url}/5.jpg"),
    ]
    source = write_archive(tmp_path / name, occurrences, media)
    found = read_collection(config_of(source, tmp_path / "cache"), workers=1)
    by_url = {s.source_url: s for s in found.images}
    assert set(by_url) == {f"{web.url}/{n}.jpg" for n in (1, 2, 3)}  # of the files, so that others can fetch them
    first = by_url[f"{web.url}/1.jpg"]
    assert first.taxon == Taxon(**RANKS_OF_TAXON, family="Nymphalidae", genus="Vanessa", species="Vanessa cardui")
    assert (first.license, first.rights_holder) == (CC_BY, "A. Holder")
    assert found.path(first).read_bytes() == photograph(1)
    assert by_url[f"{web.url}/2.jpg"].rights_holder == "C. Holder"
    second = by_url[f"{web.url}/3.jpg"]
    assert (second.species, second.license, second.rights_holder) == ("Papilio machaon", "CC_BY_4_0", "B. Holder")
    reasons = [problem.reason for problem in found.problems]
    for reason in (
        "1 occurrences have no photograph",
        "1 occurrences that have photographs are not in it",
        "1 media are Sound, not photographs",
        "1 media have no address",
    ):
        assert reason in reasons
    assert any("'Papilio Linnaeus, 1758' cannot be placed at a species" in reason for reason in reasons)
    assert len(reasons) == 5


def test_terms_are_told_only_where_they_may_be_misspelt(tmp_path, web, caplog):
    names = ("subgenus", "infraspecificEpithet", "otherCatalogNumbers", "recordedBy", "familyKey", "scientificNameID")
    others = [f"http://rs.tdwg.org/dwc/terms/{name}" for name in names]
    own = meta().replace("/terms/family", "/terms/famly").replace("</core>", "{}</core>")
    more = "".join(f'<field index="{15 + n}" term="{term}"/>' for n, term in enumerate(others))
    media = [image("1", f"{web.url}/1.jpg")]
    usual = write_archive(tmp_path / "usual", [occurrence("1")], media, meta().replace("</core>", f"{more}</core>"))
    list_source(config_of(usual, tmp_path / "cache"))
    assert "not read" not in caplog.text
    odd = write_archive(tmp_path / "odd", [occurrence("1")], media, own.format(more))
    list_source(config_of(odd, tmp_path / "cache"))
    assert "columns of occurrence.txt that are not read: famly (did you mean family?)\n" in caplog.text


RANKS_OF_TAXON = {("class_" if rank == "class" else rank): name for rank, name in RANKS.items()}


def test_what_cannot_be_fetched_is_reported_by_its_address_and_tried_by_the_next_command(tmp_path, web):
    del web.pages["/2.jpg"]
    web.pages["/3.jpg"] = lambda handler, number: handler.reply(429, headers={"Retry-After": "3600"})
    media = [image("1", f"{web.url}/{n}.jpg") for n in range(1, 4)]
    source = write_archive(tmp_path / "archive.zip", [occurrence("1")], media)
    config = config_of(source, tmp_path / "cache")
    found = read_collection(config, workers=1)
    assert len(found.images) == 1
    assert {problem.file: problem.reason for problem in found.problems} == {
        f"{web.url}/2.jpg": "the server answered 404 Not Found",
        f"{web.url}/3.jpg": "the server answered 429 Too Many Requests; the server asks to wait 3600 s",
    }
    seen = fingerprint(config)
    web.pages["/3.jpg"] = photograph(3)
    assert fingerprint(config) != seen
    assert len(read_collection(config, workers=1).images) == 2
    assert web.requests == {"/1.jpg": 1, "/2.jpg": 1, "/3.jpg": 3}


def test_only_what_is_drawn_is_fetched(tmp_path, web):
    media = [image(str(n), f"{web.url}/{n}.jpg") for n in range(1, 11)]
    occurrences = [occurrence(str(n), family="Nymphalidae" if n < 9 else "Pieridae") for n in range(1, 11)]
    source = write_archive(tmp_path / "archive.zip", occurrences, media)
    listing = list_source(config_of(source, tmp_path / "cache", family="Nymphalidae", per_species=3, connections=1))
    assert len(listing.rows) == sum(web.requests.values()) == 3
    assert web.most_under_way == 1
    with pytest.raises(CollectionError, match="its splits are not given"):
        list_source(config_of(source, tmp_path / "cache", split=("train",)))


@pytest.mark.parametrize("per_species", [None, 1])
def test_photographs_at_no_species_are_reported_and_not_fetched(tmp_path, web, per_species):
    media = [image(str(n), f"{web.url}/{n}.jpg") for n in (1, 2, 3)]
    genus_only = occurrence("2", "", scientificName="Papilio Linnaeus, 1758")
    code = occurrence("3", "", scientificName="Viola v01")
    source = write_archive(tmp_path / "archive.zip", [occurrence("1"), genus_only, code], media)
    config = config_of(source, tmp_path / "cache", per_species=per_species)
    listing = list_source(config)
    assert [row.label for row in listing.rows] == ["Vanessa cardui"]
    reasons = {problem.file: problem.reason for problem in listing.problems}
    assert reasons.keys() == {f"{web.url}/2.jpg", f"{web.url}/3.jpg"}
    assert "cannot be placed at a species" in reasons[f"{web.url}/2.jpg"]
    assert web.requests == {"/1.jpg": 1}
    assert len(list_source(replace(config, species_codes=True)).rows) == 2
    unlabelled = list_source(config_of(source, tmp_path / "cache", labels=False))
    assert len(unlabelled.rows) == 3


def test_a_photograph_of_one_species_spelt_in_two_ways_is_taken(tmp_path, web):
    both = [occurrence("1", "Vanessa cardui"), occurrence("2", "Vanessa_cardui (Linnaeus, 1758)")]
    source = write_archive(tmp_path / "archive", both, [image(n, f"{web.url}/1.jpg") for n in "12"])
    listing = list_source(config_of(source, tmp_path / "cache"))
    assert [row.label for row in listing.rows] == ["Vanessa cardui"]
    assert [problem.reason for problem in listing.problems] == ["it is listed 2 times; its first row is taken"]


def test_an_address_of_several_species_is_refused_and_none_leads_out_of_the_cache(tmp_path, web):
    media = [
        *(image(n, f"{web.url}/1.jpg") for n in "12"),
        image("1", f"{web.url}/../../../../escape.jpg"),
        image("1", "/etc/passwd"),
        image("1", "../../etc/passwd"),
        image("1", "http://[::1/x.jpg"),
    ]
    source = write_archive(tmp_path / "a" / "archive", [occurrence("1"), occurrence("2", "Papilio machaon")], media)
    with pytest.raises(CollectionError, match=r"no image of .* can be used"):
        read_collection(config_of(source, tmp_path / "a" / "cache"))
    listing = list_source(config_of(source, tmp_path / "a" / "cache"))
    reasons = sorted(problem.reason for problem in listing.problems)
    assert any("listed as several species" in reason for reason in reasons)
    assert reasons.count("it is no address of the web (http or https)") == 2
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in written} == {"meta.xml", "occurrence.txt", "multimedia.txt", "fetched.jsonl"}


def test_archives_without_occurrences_or_media_are_refused(tmp_path):
    core = table("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    for xml, message in (
        (META.format(core=core, extension=""), "no table of media .*choose the download `Darwin Core Archive`"),
        (meta(core_type="http://rs.tdwg.org/dwc/terms/Taxon"), "the core of .* is Taxon"),
    ):
        source = write_archive(tmp_path / "archive.zip", [occurrence("1")], [], xml)
        with pytest.raises(CollectionError, match=message):
            list_source(config_of(source, tmp_path / "cache"))


@pytest.mark.parametrize(
    ("cells", "is_photograph"),
    [
        ({"type": "Still Image", "format": ""}, True),
        ({"type": "dcmitype:StillImage", "format": ""}, True),
        ({"type": "image/jpeg", "format": "StillImage"}, True),
        ({"type": "", "format": "jpg"}, True),
        ({"type": "", "format": "StillImage"}, True),
        ({"type": "", "format": ""}, True),
        ({"type": "PhysicalObject", "format": ""}, True),
        ({"type": "Sound", "format": ""}, False),
        ({"type": "MovingImage", "format": "video/mp4"}, False),
        ({"type": "", "format": "audio/mpeg"}, False),
        ({"type": "", "format": "image/heic", "identifier": "{url}/1"}, True),
        ({"type": "", "format": "image/gif", "identifier": "{url}/1"}, True),
        ({"type": "", "format": "JPEG image", "identifier": "{url}/1"}, True),
        ({"type": "", "format": "model/gltf+json", "identifier": "{url}/1"}, False),
        ({"type": "Dataset", "format": ""}, False),
    ],
)
def test_media_are_photographs_as_publishers_write_it(tmp_path, web, cells, is_photograph):
    """A kind that is neither an image nor anything else is one where its address ends as one."""
    web.pages["/1"] = photograph(1)
    cells = {term: value.format(url=web.url) for term, value in cells.items()}
    media = [image("1", f"{web.url}/1.jpg") | cells, image("2", f"{web.url}/2.jpg")]
    source = write_archive(tmp_path / "archive", [occurrence("1"), occurrence("2")], media)
    listing = list_source(config_of(source, tmp_path / "cache"))
    assert len(listing.rows) == 1 + is_photograph


def test_addresses_may_stand_in_one_cell_or_in_the_table_of_occurrences(tmp_path, web):
    terms = [*OCCURRENCE_TERMS, "http://rs.tdwg.org/dwc/terms/associatedMedia"]
    core = table("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", terms)
    extension = table("extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA_TERMS)
    rows = [
        occurrence("1", associatedMedia=f"{web.url}/8.jpg"),
        occurrence("2", associatedMedia=f"{web.url}/3.jpg | {web.url}/4.jpg;{web.url}/5.jpg"),
        occurrence("3", associatedMedia="drawer 12"),
    ]
    media = [image("1", f"{web.url}/1.jpg|{web.url}/2.jpg", license=CC_BY)]
    source = write_archive(tmp_path / "a", rows, media, META.format(core=core, extension=extension))
    (source / "occurrence.txt").write_text(lines(terms, rows))
    with_both = list_source(config_of(source, tmp_path / "cache"))
    assert [(row.individual, row.license) for row in with_both.rows] == [("1", CC_BY)] * 2 + [("2", "CC_BY_4_0")] * 3
    assert {row.source_url for row in with_both.rows} == {f"{web.url}/{n}.jpg" for n in range(1, 6)}
    assert [problem.reason for problem in with_both.problems] == ["1 occurrences have no photograph"]
    (source / "meta.xml").write_text(META.format(core=core, extension=""))
    assert len(list_source(config_of(source, tmp_path / "cache")).rows) == 4


def test_a_doubt_about_the_species_in_a_column_of_its_own_is_one(tmp_path, web):
    terms = [*OCCURRENCE_TERMS, "http://rs.tdwg.org/dwc/terms/identificationQualifier"]
    qualifiers = ["cf. cardui", "aff.", "?", "cf. var. carnea", "sensu stricto"]
    rows = [occurrence(str(n), identificationQualifier=said) for n, said in enumerate(qualifiers)]
    media = [image(str(n), f"{web.url}/{n}.jpg") for n in range(len(rows))]
    core = table("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", terms)
    extension = table("extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA_TERMS)
    source = write_archive(tmp_path / "a", rows, media, META.format(core=core, extension=extension))
    (source / "occurrence.txt").write_text(lines(terms, rows))
    listing = list_source(config_of(source, tmp_path / "cache"))
    assert [row.individual for row in listing.rows] == ["3", "4"]
    assert sum("marked as doubtful" in problem.reason for problem in listing.problems) == 3


def test_audubon_core_says_licence_and_owner_in_its_own_words(tmp_path, web):
    terms = [*MEDIA_TERMS[:4], *(f"http://ns.adobe.com/xap/1.0/rights/{name}" for name in ("UsageTerms", "Owner"))]
    core = table("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    extension = table("extension", "http://rs.tdwg.org/ac/terms/Multimedia", "multimedia.txt", terms)
    media = [image("1", f"{web.url}/1.jpg", UsageTerms="CC BY-NC", Owner="A Museum")]
    source = write_archive(tmp_path / "a", [occurrence("1")], media, META.format(core=core, extension=extension))
    (source / "multimedia.txt").write_text(lines(terms, media))
    (row,) = list_source(config_of(source, tmp_path / "cache")).rows
    assert (row.license, row.rights_holder) == ("CC BY-NC", "A Museum")


def test_two_tables_of_media_are_both_read_and_the_same_photograph_once(tmp_path, web):
    core = table("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    extensions = [
        table("extension", row_type, location, MEDIA_TERMS)
        for row_type, location in (
            ("http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt"),
            ("http://rs.tdwg.org/ac/terms/Multimedia", "ac.txt"),
        )
    ]
    xml = META.format(core=core, extension="".join(extensions))
    source = write_archive(tmp_path / "a", [occurrence("1"), occurrence("2")], [image("1", f"{web.url}/1.jpg")], xml)
    more = [image("1", f"{web.url}/1.jpg"), image("2", f"{web.url}/2.jpg")]
    (source / "ac.txt").write_text(lines(MEDIA_TERMS, more))
    listing = list_source(config_of(source, tmp_path / "cache"))
    assert len(listing.rows) == 2
    assert listing.problems == ()
