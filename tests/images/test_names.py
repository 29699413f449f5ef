"""Species labels as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.errors import CollectionError
from sae_traits.images.names import MAX_LENGTH, parse_name


@pytest.mark.parametrize(
    ("label", "species", "left_out"),
    [
        ("Danaus plexippus", "Danaus plexippus", None),
        ("Danaus_plexippus", "Danaus plexippus", None),
        ("  Danaus \t plexippus\n", "Danaus plexippus", None),
        ("DANAUS PLEXIPPUS", "Danaus plexippus", None),
        ("danaus plexippus", "Danaus plexippus", None),
        ("DANAUS plexippus", "Danaus plexippus", None),
        ("Polygonia c-album", "Polygonia c-album", None),
        ("Isoëtes lacustris", "Isoëtes lacustris", None),
        ("Isoe\u0308tes lacustris", "Isoëtes lacustris", None),
        ("Papilio machaon Linnaeus, 1758", "Papilio machaon", "Linnaeus, 1758"),
        ("Vanessa cardui (Fabricius)", "Vanessa cardui", "(Fabricius)"),
        ("Abudefduf vaigiensis (Quoy & Gaimard, 1825)", "Abudefduf vaigiensis", "(Quoy & Gaimard, 1825)"),
        ("Papilio machaon Linnæus, 1758 [1759]", "Papilio machaon", "Linnæus, 1758 [1759]"),
        ("PAPILIO MACHAON LINNAEUS", "Papilio machaon", "LINNAEUS"),
        ("Heliconius erato demophoon", "Heliconius erato", "demophoon"),
        ("Heliconius_erato_ssp._demophoon", "Heliconius erato", "ssp. demophoon"),
        ("Picea abies var. nigra", "Picea abies", "var. nigra"),
        ("Ilex aquifolium f. bacciflava", "Ilex aquifolium", "f. bacciflava"),
        ("Papilio machaon cf. gorganus", "Papilio machaon", "cf. gorganus"),
        ("Bombus (Pyrobombus) impatiens Cresson", "Bombus impatiens", "(Pyrobombus) Cresson"),
    ],
)
def test_labels_become_binomials_and_the_note_says_what_was_left_out(label, species, left_out):
    name = parse_name(label)
    assert name.species == species
    assert name.genus == species.split()[0]
    assert name.note == (f"left out: {left_out}" if left_out else None)


@pytest.mark.parametrize(
    "label",
    [
        "Magnolia x soulangeana",
        "Magnolia × soulangeana",
        "Magnolia ×soulangeana",
        "Magnolia x_soulangeana",
        "Magnolia_X_soulangeana",
        "MAGNOLIA X SOULANGEANA",
        "magnolia x soulangeana",
    ],
)
def test_hybrids_are_written_with_the_multiplication_sign(label):
    name = parse_name(label)
    assert (name.genus, name.species, name.note) == ("Magnolia", "Magnolia × soulangeana", None)


@pytest.mark.parametrize("label", ["×Mahoberberis neubertii", "x Mahoberberis neubertii", "X MAHOBERBERIS NEUBERTII"])
def test_hybrid_genera_keep_their_sign(label):
    name = parse_name(label)
    assert (name.genus, name.species) == ("×Mahoberberis", "×Mahoberberis neubertii")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "no species name"),
        ("", "no species name"),
        (" _ ", "no species name"),
        ("Papilio", "no species epithet"),
        ("nan", "not known"),
        ("Unknown species", "not known"),
        ("unidentified", "not known"),
        ("Papilio sp.", "species is not known"),
        ("Papilio sp", "species is not known"),
        ("Papilio spp.", "species is not known"),
        ("Genus sp. 3", "species is not known"),
        ("Genus sp3", "species is not known"),
        ("Papilio cf. machaon", "species is not known"),
        ("Papilio aff. machaon", "species is not known"),
        ("Papilio nr machaon", "species is not known"),
        ("cf. Papilio machaon", "not known"),
        ("Papilio unknown", "species is not known"),
        ("Nymphalidae gen. sp.", "species is not known"),
        ("Papilio ?machaon", "no species epithet"),
        ("Papilio machaon ?", "doubtful"),
        ("Papilio machaon/hospiton", "no species epithet"),
        ("Papilio machaon or hospiton", "several species"),
        ("Rubus fruticosus agg.", "several species"),
        ("Anopheles gambiae complex", "several species"),
        ("Quercus robur x Quercus petraea", "hybrid formula"),
        ("Quercus robur × petraea", "hybrid formula"),
        ("Mentha x piperita x spicata", "hybrid formula"),
        ("Quercus x Salix", "no species epithet"),
        ("D. plexippus", "abbreviated"),
        ("Danaus Plexippus", "no species epithet"),
        ("Papilio Linnaeus, 1758", "no species epithet"),
        ("Rosa 'Peace'", "no species epithet"),
        ("Danaus_plexippus_001", "number"),
        ("Danaus plexippus 3", "number"),
        ("Psychoda sp. 11GMK", "species is not known"),
        ("Cotesia BOLD:AAA1234", "no species epithet"),
        ("Adelpha celerioDHJ01", "no species epithet"),
        ("Cotesia Whitfield12", "no species epithet"),
        ("cecidomyiidaeGMH gracilis", "no genus"),
        ("0001 Danaus plexippus", "no genus"),
        ("x", "no genus"),
        ("../../etc passwd", "no genus"),
        ("Danaus plexip\x00pus", "no species epithet"),
        ("Данаида монарх", "no genus"),
        ("Nicht sortiert", "not known"),
        ("unidentified_blue", "not known"),
        ("Not identified", "not known"),
        ("No image", "not known"),
        ("Incertae sedis", "not known"),
        ("Brown moth", "not known"),
        ("Colias new species", "species is not known"),
        ("Colias probably hyale", "species is not known"),
        ("Colias hyale (unsure)", "doubtful"),
        ("Colias hyale aff.", "doubtful"),
        ("Colias hyale (cf.)", "doubtful"),
        ("Anopheles gambiae s.l.", "several species"),
        ("Anopheles gambiae sensu lato", "several species"),
        ("Rubus fruticosus (aggr.)", "several species"),
        ("Culex pipiens-group", "several species"),
        ("Colias hyale & alfacariensis", "several species"),
        ("Colias hyale et alfacariensis", "several species"),
        ("Colias hyale vel alfacariensis", "several species"),
        ("Colias hyale | Colias alfacariensis", "several species"),
        ("Anas platyrhynchos (hybrid)", "one of two species"),
        ("Papilio glaucus intergrade", "one of two species"),
        ("Colias hyale oder alfacariensis", "several species"),
        ("Colias hyale and C. alfacariensis", "several species"),
        ("Colias hyale & Colias alfacariensis", "several species"),
        ("Colias hyale sens. lat.", "several species"),
        ("Colias hyale likely", "doubtful"),
        ("Colias hyale indet.", "doubtful"),
        ("Sin identificar", "not known"),
        ("to be determined", "not known"),
        ("false positive", "not known"),
        ("Bird feather", "not known"),
        ("small brown moth", "not known"),
        ("Vespula nest", "species is not known"),
        ("Danaidae larvae", "species is not known"),
        ("Painted lady butterfly", "plain language"),
        ("Painted lady Butterfly", "plain language"),
        ("Puma concolor Tracks", "plain language"),
        ("garden_tiger_moth_2021", "plain language"),
        ("PAINTED LADY MOTH 2020", "plain language"),
        ("PAINTED LADY BUTTERFLY", "plain language"),
        ("painted lady butterfly", "plain language"),
        ("Colias hyale White/Black", "several species"),
        ("Colias hyale White?", "doubtful"),
        ("Colias hyale o alfacariensis", "several species"),
        ("Colias hyale o C. alfacariensis", "several species"),
        ("Diptera pupa", "group of many genera"),
        ("Fungi imperfecti", "group of many genera"),
        ("LEPIDOPTERA VARIA", "group of many genera"),
        ("aves ignotae", "group of many genera"),
        ("Vanessa pupa", "species is not known"),
        ("Plecoptera imago", "species is not known"),
        ("Danaus chrysalis 3", "species is not known"),
        ("Rana tadpoles", "species is not known"),
        ("Anas females", "species is not known"),
        ("Pieris affinis napi", "'affinis' before an epithet .* 'ssp. napi'"),
        ("PIERIS AFFINIS NAPI", "'AFFINIS' before an epithet"),
        ("Pieris_affinis_napi_Linnaeus,_1758", "'affinis' before an epithet"),
        ("Pieris confer napi", "species is not known"),
        ("Pieris prox. napi", "species is not known"),
        ("Pieris napi confer", "doubtful"),
        ("Pieris napi c.f.", "doubtful"),
        ("Pieris napi like", "doubtful"),
        ("Pieris napi-like", "may be several species"),
        ("Pieris napi-type", "may be several species"),
        ("Pieris napi gp.", "may be several species"),
        ("Pieris napi-gruppe", "may be several species"),
        ("Pieris napi Gruppe", "may be several species"),
        ("Pieris napi species-group", "may be several species"),
        ("Pieris napi cplx.", "may be several species"),
        ("Pieris napi hybrids", "one of two species"),
        ("Pieris napi (hybrid butterfly)", "one of two species"),
        ("Pieris artogeia sp", "species is not known"),
        ("Pieris artogeia spp.", "species is not known"),
        ("Pieris undescribed", "species is not known"),
        ("Pieris morphospecies", "species is not known"),
        ("Environmental sample", "genus is not known"),
        ("uncultured bacterium", "genus is not known"),
    ],
)
def test_what_names_no_single_species_is_refused_with_a_reason(label, reason):
    with pytest.raises(CollectionError, match=reason):
        parse_name(label)


@pytest.mark.parametrize(
    ("label", "species"),
    [
        ("Colias hyale Müller et Schmidt", "Colias hyale"),
        ("Colias hyale (L.) de Geer & van der Linden, 1901", "Colias hyale"),
        ("Colias hyale Linné et al., 1758", "Colias hyale"),
        ("Colias hyale cf. alta", "Colias hyale"),
        ("Colias hyale s. str.", "Colias hyale"),
        ("Cicada complex Walker, 1850", "Cicada complex"),
        ("bombus (pyrobombus) impatiens", "Bombus impatiens"),
        ("BOMBUS (PYROBOMBUS) IMPATIENS", "Bombus impatiens"),
        ("Colias hyale (Linnaeus) & Cramer in litt.", "Colias hyale"),
        ("Colias hyale male", "Colias hyale"),
        ("Colias\u200b hyale\ufeff", "Colias hyale"),
        ("Pieris affinis", "Pieris affinis"),
        ("Bombus affinis Cresson, 1863", "Bombus affinis"),
        ("Bombus affinis de Geer", "Bombus affinis"),
        ("BOMBUS AFFINIS CRESSON, 1863", "Bombus affinis"),
        ("Apus affinis affinis", "Apus affinis"),
        ("Apus affinis ssp. galilejensis", "Apus affinis"),
        ("Apus affinis subsp galilejensis", "Apus affinis"),
        ("Apus affinis male", "Apus affinis"),
        ("Papilio larvata", "Papilio larvata"),
        ("Pupa solidula", "Pupa solidula"),
        ("Plecoptera reflexa", "Plecoptera reflexa"),
        ("Dipterocarpus fungiferus", "Dipterocarpus fungiferus"),
        ("Colias hyale pupa", "Colias hyale"),
        ("Colias hyale sp. nov.", "Colias hyale"),
        ("Colias hyale Cramer, n. sp.", "Colias hyale"),
        ("Colias hyale (pale clouded yellow butterfly)", "Colias hyale"),
        ("Colias hyale type", "Colias hyale"),
    ],
)
def test_what_only_looks_like_doubt_is_read(label, species):
    assert parse_name(label).species == species


@pytest.mark.parametrize(
    ("label", "species", "author"),
    [
        ("Platysternon megacephalum Gray, 1831", "Platysternon megacephalum", "Gray, 1831"),
        ("PLATYSTERNON MEGACEPHALUM GRAY, 1831", "Platysternon megacephalum", "GRAY, 1831"),
        ("platysternon megacephalum gray, 1831", "Platysternon megacephalum", "gray, 1831"),
        ("Phidippus audax (White, 1849)", "Phidippus audax", "(White, 1849)"),
        ("Ptilinopus porphyreus Brown", "Ptilinopus porphyreus", "Brown"),
        ("Daphnia magna O. F. Müller, 1785", "Daphnia magna", "O. F. Müller, 1785"),
        ("daphnia magna o. f. müller", "Daphnia magna", "o. f. müller"),
        ("Tegenaria domestica O. Pickard-Cambridge, 1871", "Tegenaria domestica", "O. Pickard-Cambridge, 1871"),
        ("Tamias minimus O Thomas 1900", "Tamias minimus", "O Thomas 1900"),
        ("Percina kusha Near & Keck", "Percina kusha", "Near & Keck"),
        ("Hesperia comma Hübner, [1808-1813]", "Hesperia comma", "Hübner, [1808-1813]"),
        ("Hesperia comma Hübner, 1775/76", "Hesperia comma", "Hübner, 1775/76"),
        ("Papilio machaon (Linnaeus,1758)", "Papilio machaon", "(Linnaeus, 1758)"),
    ],
)
def test_authors_whose_names_are_words_are_authors(label, species, author):
    name = parse_name(label)
    assert (name.species, name.note) == (species, f"left out: {author}")


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u02bc", "`", "´"])
def test_an_epithet_is_written_without_its_apostrophe(apostrophe):
    for label in ("Copris o'connelli", "COPRIS O'CONNELLI", "Copris_o'connelli", "Copris oconnelli"):
        name = parse_name(label.replace("'", apostrophe))
        assert (name.species, name.note) == ("Copris oconnelli", None)
    assert parse_name(f"o{apostrophe}connelli", genus="Copris").species == "Copris oconnelli"
    with pytest.raises(CollectionError, match="no species epithet"):
        parse_name(f"Rosa {apostrophe}peace{apostrophe}")


def test_an_epithet_alone_gets_the_genus_of_its_column():
    assert parse_name("cardui", genus="Vanessa").species == "Vanessa cardui"
    assert parse_name("Vanessa cardui", genus="Aglais").species == "Vanessa cardui"
    for label, genus in (("Vanessa", "Aglais"), (None, "Aglais"), ("cardui", None)):
        with pytest.raises(CollectionError):
            parse_name(label, genus=genus)


@pytest.mark.parametrize(
    ("label", "genus", "species"),
    [
        ("Viola v01", "Viola", "Viola v01"),
        ("Megaselia_sp._3YDA", "Megaselia", "Megaselia sp. 3YDA"),
        ("BOLD:AAB1234", None, "BOLD:AAB1234"),
        ("morpho-17", None, "morpho-17"),
        ("MS 4b", "Ms", "MS 4b"),
    ],
)
def test_codes_are_species_where_they_are_asked_for(label, genus, species):
    name = parse_name(label, codes=True)
    assert (name.genus, name.species) == (genus, species)
    assert parse_name(label, codes=True, genus="Lasioglossum").genus == "Lasioglossum"
    with pytest.raises(CollectionError, match="add --species-codes"):
        parse_name(label)


@pytest.mark.parametrize(
    "label", ["unknown", "Papilio cf. machaon 2", "A1/B2", "Viola v01?", "A12 x B13", "moth", "a\x1b[31m1"]
)
def test_what_is_in_doubt_is_no_code(label):
    with pytest.raises(CollectionError) as error:
        parse_name(label, codes=True)
    assert "--species-codes" not in str(error.value)


def test_binomials_are_read_as_ever_where_codes_are_asked_for():
    assert parse_name("Papilio machaon Linnaeus, 1758", codes=True) == parse_name("Papilio machaon Linnaeus, 1758")


def test_a_label_as_long_as_no_name_is_refused():
    author = "Papilio machaon " + "A" * (MAX_LENGTH - 17)
    assert parse_name(author).species == "Papilio machaon"
    for label in (author + "AA", "Papilio " + "a" * MAX_LENGTH, "C1" * MAX_LENGTH):
        with pytest.raises(CollectionError, match="too long"):
            parse_name(label, codes=True)


def test_the_reason_quotes_a_long_label_in_one_short_line():
    with pytest.raises(CollectionError) as error:
        parse_name("Papilio sp.\n" + "very " * 1000)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


stems = st.text(st.sampled_from("abcdefghilmnoprstuvy"), min_size=1, max_size=12)
# Latin endings, which none of the words has that leave a species open.
genera = stems.map(lambda stem: f"{stem}ius".capitalize())
epithets = stems.map(lambda stem: f"{stem}ensis")


@given(genus=genera, epithet=epithets)
def test_case_underscores_and_blanks_do_not_matter(genus, epithet):
    expected = f"{genus} {epithet}"
    binomial = parse_name(expected)
    assert (binomial.genus, binomial.species, binomial.note) == (genus, expected, None)
    for label in (f"{genus}_{epithet}", expected.upper(), expected.lower(), f" {genus}\t{epithet} "):
        assert parse_name(label) == binomial


@given(
    genus=genera,
    epithet=epithets,
    more=st.sampled_from(
        ["L.", "(Linnaeus, 1758)", "Smith & Jones, 1999", "var. alba", "alba", "ab. nigra Meyer 1903"]
    ),
)
def test_what_follows_the_binomial_goes_into_the_note(genus, epithet, more):
    name = parse_name(f"{genus} {epithet} {more}")
    assert name.species == f"{genus} {epithet}"
    assert name.note == f"left out: {more}"


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(["Papilio", "x", "×", "alba", "sp.", "L.", "(", "1758"])).map(" ".join)
    )
)
def test_any_text_is_a_name_that_reads_the_same_again_or_a_reason(label):
    try:
        name = parse_name(label)
    except CollectionError:
        return
    assert re.fullmatch(r"×?[^\W\d_]+(-[^\W\d_]+)? (× )?[^\W\d_]+(-[^\W\d_]+)*", name.species)
    again = parse_name(name.species)
    assert (again.genus, again.species, again.note) == (name.genus, name.species, None)
