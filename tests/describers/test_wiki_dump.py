"""The species table from a dump: homonyms, redirects, pages of several meanings; and dumps that are none."""

import bz2
import random
import re
import time
import tracemalloc
from dataclasses import astuple
from itertools import count

import pytest
from describers.small_dump import PAGES, dump_of

from sae_traits.describers.species_context import SpeciesContexts, contexts_of_table, read_wanted, write_contexts
from sae_traits.describers.wiki_dump import Page, contexts_of_dump, read_pages
from sae_traits.describers.wikitext import form_section, plain_text
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.schema import Taxon

WANTED = [
    *(Taxon(kingdom=kingdom, species="Asterina gibbosa") for kingdom in ("Animalia", "Fungi", "Plantae")),
    Taxon(species="Inachis io"),
    Taxon(kingdom="Plantae", species="Prunella modularis"),
    Taxon(kingdom="Plantae", species="Quercus robur"),
    Taxon(species="Unheard of"),
    Taxon(kingdom="Animalia", species="Vanessa atalanta"),
]
EXPECTED = [
    ("Asterina gibbosa", "Animalia", "Asterina gibbosa (starfish)", "Morphology", "It is 5 cm across.", ""),
    (
        *("Asterina gibbosa", "Fungi", "Asterina gibbosa (fungus)", "Appearance and taxonomy"),
        *("Black colonies on leaves.", ""),
    ),
    (
        *("Asterina gibbosa", "Plantae", "", "", ""),
        "disambiguation page Asterina gibbosa leads to no page about it",
    ),
    ("Inachis io", "", "", "", "", "redirect from Inachis io; Aglais is not about it"),
    ("Prunella modularis", "Plantae", "", "", "", "Prunella modularis is of the kingdom Animalia"),
    (
        *("Quercus robur", "Plantae", "Quercus robur", "lead", "Quercus robur is a tree."),
        "Quercus robur does not say its kingdom",
    ),
    ("Unheard of", "", "", "", "", "no page"),
    (
        *("Vanessa atalanta", "Animalia", "Red admiral", "Description"),
        "The wingspan is 45-50 mm. The fore wings are black & white tipped. Spiny and grey.",
        "redirect from Vanessa atalanta",
    ),
]


@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_the_table_of_a_small_dump(tmp_path, compress):
    (tmp_path / "dump").write_bytes(compress(dump_of(PAGES)))
    rows = contexts_of_dump(tmp_path / "dump", WANTED)
    assert [astuple(row) for row in rows] == EXPECTED


@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_a_long_reading_says_how_far_it_is(tmp_path, monkeypatch, caplog, compress):
    caplog.set_level("INFO", logger="sae_traits")
    monkeypatch.setattr(time, "monotonic", count(step=60.0).__next__)  # a clock by which every look takes a minute
    grain = random.Random(0).randbytes(400_000).hex()  # nothing that bzip2 could make small
    (tmp_path / "wiki.xml").write_bytes(compress(dump_of({"Another page": grain, "Aus bus": "Green."})))
    contexts_of_dump(tmp_path / "wiki.xml", [Taxon(species="Aus bus")])
    shares = [int(share) for share in re.findall(r"context: .* (\d+) % of wiki.xml", caplog.text)]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert (shares[0] < 80, shares[-1]) == (True, 100)


def test_without_a_kingdom_a_name_of_two_organisms_is_nobodys(tmp_path):
    (tmp_path / "dump").write_bytes(dump_of(PAGES))
    (row,) = contexts_of_dump(tmp_path / "dump", [Taxon(species="Asterina gibbosa")])
    assert row.text == ""
    assert row.note.endswith("leads to Asterina gibbosa (starfish) (Animalia), Asterina gibbosa (fungus) (Fungi)")


def test_a_page_that_does_not_say_its_kingdom_is_no_homonyms(tmp_path):
    pages = {"Aus bus": "'''''Aus bus''''' is small.\n== Description ==\nGreen."}
    (tmp_path / "dump").write_bytes(dump_of(pages))
    both = [Taxon(kingdom=kingdom, species="Aus bus") for kingdom in ("Animalia", "Plantae")]
    assert {row.note for row in contexts_of_dump(tmp_path / "dump", both)} == {"Aus bus does not say its kingdom"}
    assert [row.text for row in contexts_of_dump(tmp_path / "dump", both[:1])] == ["Green."]


@pytest.mark.parametrize(
    ("title", "text", "kingdom"),
    [
        ("Aus bus", "{{Speciesbox}} [[Category:Moths described in 1758]] [[Category:Moths of Asia]]", "Animalia"),
        ("Aus bus", "{{Speciesbox}} [[category: Medicinal plants of Asia|Aus]]", "Plantae"),
        ("Aus bus", "[[Category:Fungi described in 1801]] [[Category:Plant pathogens and diseases]]", "Fungi"),
        ("Aus bus", "[[Category:Flora of Asia]] [[Category:Butterflies of Asia]]", ""),
        ("Aus bus", "{{Taxobox | regnum = [[Chromista]] | genus = Aus }}", "Chromista"),
        ("Aus bus", "{{Taxobox | regnum = [[Plant|Plantae]] }} [[Category:Moths of Asia]]", "Plantae"),
        ("Aus bus (butterfly)", "", "Animalia"),
        ("Aus bus (Linnaeus)", "", ""),
    ],
)
def test_a_page_says_its_kingdom(title, text, kingdom):
    assert Page(title, text).kingdom == kingdom


def test_what_is_written_is_read_and_given_to_the_right_kingdom(tmp_path):
    (tmp_path / "dump").write_bytes(dump_of(PAGES))
    write_contexts(tmp_path / "table.csv", contexts_of_dump(tmp_path / "dump", WANTED))
    contexts = SpeciesContexts.read(tmp_path / "table.csv")
    starfish, fungus, plant = (contexts.of(taxon) for taxon in WANTED[:3])
    assert starfish is not None
    assert fungus is not None
    assert (starfish.text, fungus.text) == ("It is 5 cm across.", "Black colonies on leaves.")
    assert plant is None
    assert contexts.of(Taxon(species="Asterina gibbosa")) is None
    assert contexts.of(Taxon()) is None
    again = contexts_of_table(tmp_path / "table.csv", WANTED[:3])
    assert [row.text for row in again] == [starfish.text, fungus.text, ""]
    assert again[2].note == "only of other kingdoms: Animalia, Fungi"
    unknown = contexts_of_table(tmp_path / "table.csv", [Taxon(species="Asterina gibbosa")])
    assert "several kingdoms" in unknown[0].note


def test_wanted_species_come_from_a_table(tmp_path):
    (tmp_path / "wanted.csv").write_text("species,kingdom\nvanessa_atalanta,ANIMALIA\nAus bus,\nAus bus,\n")
    assert read_wanted(tmp_path / "wanted.csv") == [
        Taxon(species="Aus bus"),
        Taxon(kingdom="Animalia", species="Vanessa atalanta"),
    ]
    (tmp_path / "none.csv").write_text("name,kingdom\nx,y\n")
    with pytest.raises(ConfigError, match="needs the column species; it has name, kingdom"):
        read_wanted(tmp_path / "none.csv")


def test_a_table_with_two_texts_for_a_species_is_refused(tmp_path):
    (tmp_path / "two.csv").write_text("species,text\nAus bus,Green.\nAus bus,Red.\n")
    with pytest.raises(ConfigError, match="two texts for Aus bus without a kingdom"):
        SpeciesContexts.read(tmp_path / "two.csv")


ENTITIES = '<!DOCTYPE mediawiki [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (dump_of({"Aus": "&i;"}, prolog=f"{ENTITIES}]>").replace(b"&amp;i;", b"&i;"), "has a document type"),
        (b"<html><body/></html>", "begins with <html>, not <mediawiki>"),
        (b"species,text\n", "is no XML dump"),
        (dump_of(PAGES)[:-40], "broken off"),
        (bz2.compress(dump_of(PAGES))[:-40], "cannot read"),
        (b"BZh9 and something else", "cannot read"),
        (b"", "is no XML dump"),
    ],
)
def test_what_is_no_dump_is_refused_in_one_line(tmp_path, content, reason):
    (tmp_path / "dump").write_bytes(content)
    with pytest.raises(CollectionError, match=reason) as error:
        list(read_pages(tmp_path / "dump", lambda title: True))
    assert "\n" not in str(error.value)
    with pytest.raises(CollectionError, match="cannot read"):
        list(read_pages(tmp_path / "absent", lambda title: True))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("convert|45|-|50|mm|in|abbr=on", "45-50 mm"),
        ("convert|20–25|mm|in", "20–25 mm"),
        ("cvt|20-25|mm", "20-25 mm"),
        ("convert|5|or|7|cm", "5 or 7 cm"),
        ("convert|5|+/-|1|mm", "5 ± 1 mm"),
        ("convert|-5|C", "-5 C"),
        ("convert|1 1/2|by|2|in", "1 1/2 by 2 in"),
        ("convert|adj=on|12|mm", "12 mm"),
    ],
)
def test_measures_keep_all_their_numbers_and_their_unit(template, said):
    assert plain_text(f"It is {{{{{template}}}}} long.") == f"It is {said} long."


def test_a_large_dump_is_read_in_little_memory(tmp_path):
    pages = {f"Page {number}": "word " * 10_000 for number in range(50)} | {"Aus bus": "'''Aus bus''' is small."}
    (tmp_path / "dump").write_bytes(dump_of(pages))
    tracemalloc.start()
    found = list(read_pages(tmp_path / "dump", "Aus bus".__eq__))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [page.title for page in found] == ["Aus bus"]
    assert peak < 3e6  # the dump has 5 MB


def test_wikitext_that_is_broken_or_deep_is_read_once(tmp_path):
    deep = "{{" * 100_000 + "x" + "}}" * 100_000
    assert plain_text(f"before {deep} after") == "before after"
    assert plain_text("[[" * 100_000 + "x") == "x"
    assert plain_text("<ref " * 50_000) == "<ref " * 49_999 + "<ref"
    section = form_section("== Description ==\n" + "== x " * 20_000)
    assert section is not None
