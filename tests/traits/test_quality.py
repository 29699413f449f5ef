"""The quality report: what came of the calls, names that leak, and that nothing in it is acted on by a browser."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_traits import collection_of, described, record_of, trait_of

from sae_traits import evaluation
from sae_traits.rendering import render
from sae_traits.schema import Collection, Taxon
from sae_traits.traits.consistency import LONGEST_EXCERPT, excerpt
from sae_traits.traits.ledger import MAX_ATTEMPTS, CallIdentity, Ledger, Outcome
from sae_traits.traits.quality import MAX_REASONS, assess_quality, leaked_names

DESCRIBER = SimpleNamespace(name="scripted", model="none@1", prompt="v1")


def fill(ledger, *outcomes, prompt="v1", attempts=1):
    """One call for each of the outcomes, given as keywords without the key."""
    for number, outcome in enumerate(outcomes):
        key = f"{prompt}-{number:04d}"
        identity = CallIdentity(key=key, trait_id=f"s{number}-7", describer="scripted", model="none@1", prompt=prompt)
        for _ in range(attempts):
            ledger.begin([identity], {})
        if outcome is not None:
            ledger.record([Outcome(key=key, **outcome)])


def ok(text="A wing.", is_background=False):
    description = {"text": text, "part": None, "attributes": [], "is_background": is_background}
    return {"state": "ok", "raw": "{}", "description": description}


def invalid(raw, error):
    return {"state": "invalid", "raw": raw, "error": error}


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def assess(ledger, traits=(), species=("Heliconius erato",)):
    return assess_quality(iter(traits), ledger, collection_of(species), DESCRIBER)  # pyright: ignore[reportArgumentType]


def report(quality):
    """The section of report.md."""
    folder = Path(evaluation.__file__).parent
    return render(folder, "tasks/text_quality.md.jinja", result=quality, heading="Quality of the descriptions")


def test_calls_are_counted_by_what_came_of_them(ledger):
    fill(
        ledger,
        ok(), ok(), ok("Sand.", is_background=True),
        invalid("I cannot see", "there is no JSON object in the answer"),
        {"state": "failed", "error": "502 Bad Gateway (given up after 5 errors)"},
        None,
        attempts=2,
    )  # fmt: skip
    calls = assess(ledger).calls
    assert (calls.n_calls, calls.n_attempts, calls.n_ok, calls.n_background) == (6, 5, 3, 1), "finished ones count"
    assert (calls.n_invalid, calls.n_failed, calls.n_pending) == (1, 1, 1)
    text = report(assess(ledger))
    assert "| background, of the valid answers | 1 | 33.3% |" in text
    assert "| invalid, of the answers | 1 | 25.0% |" in text
    assert "| failed, of the calls | 1 | 20.0% |" in text
    assert "6 calls, sent 5 times; 1 are not answered yet." in text
    assert [(e.trait_ids, e.said) for e in calls.background] == [(("s2-7",), "Sand.")]
    assert [(e.trait_ids, e.said) for e in calls.invalid] == [(("s3-7",), "I cannot see")]
    assert [e.trait_ids for e in calls.failed] == [("s4-7",)]


def test_calls_of_another_prompt_are_left_out(ledger):
    fill(ledger, ok())
    fill(ledger, *[invalid("no", "no")] * 3, prompt="v0", attempts=MAX_ATTEMPTS)
    assert (assess(ledger).calls.n_calls, assess(ledger).calls.n_invalid) == (1, 0)


def test_reasons_are_counted_without_their_numbers_and_paths(ledger):
    fill(
        ledger,
        *(invalid("…", f"the sentence has {n} characters, more than 400") for n in (401, 512, 999)),
        *({"state": "failed", "error": f"/photographs/a b/{n}.png: cannot be read: gone"} for n in range(2)),
    )
    calls = assess(ledger).calls
    assert [(r.state, r.reason, r.n_calls) for r in calls.reasons] == [
        ("invalid", "the sentence has N characters, more than N", 3),
        ("failed", "the image: cannot be read: gone", 2),
    ]
    assert "/photographs" not in json.dumps(asdict(assess(ledger)))


def test_reasons_without_end_do_not_fill_the_memory(ledger):
    words = [f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
    fill(ledger, *(invalid("", word) for word in words))
    reasons = assess(ledger).calls.reasons
    assert len(reasons) == MAX_REASONS + 1
    assert (reasons[0].reason, reasons[0].n_calls) == ("another reason", 100 - MAX_REASONS)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A HELICONIUS wing.", ("genus",)),
        ("The wing of Heliconius erato.", ("genus", "epithet")),
        ("An erato-like band.", ("epithet",)),
        ("A band, as in heliconiusX and moderato.", ()),
        ("A red band.", ()),
    ],
)
def test_a_name_leaks_as_a_word_in_any_case(text, names):
    assert leaked_names(described(text), Taxon(genus="Heliconius", species="Heliconius erato")) == names


def test_a_name_leaks_from_the_part_and_the_attributes_too():
    taxon = Taxon(species="Magnolia × soulangeana")
    assert leaked_names(described(part="magnolia leaf"), taxon) == ("genus",)
    assert leaked_names(described(shape="like soulangeana"), taxon) == ("epithet",)
    assert leaked_names(described("Two × three."), taxon) == ()


def test_leaks_are_counted_over_the_traits_with_their_own_species(ledger):
    texts = ["A Danaus wing.", "A Heliconius wing.", "A wing of Heliconius erato.", "A wing."]
    traits = [trait_of(row, 1, described(text)) for row, text in enumerate(texts)]
    leakage = assess(ledger, traits, ["Heliconius erato"] * 4).leakage
    assert (leakage.n_traits, leakage.n_any, leakage.n_genus, leakage.n_epithet) == (4, 2, 2, 1)
    assert [e.trait_ids for e in leakage.examples] == [("s1-1",), ("s2-1",)]


def test_sentences_of_several_species_are_counted(ledger):
    texts = ["A red wing.", "A red wing.", "A leg.", "A leg."]
    traits = [trait_of(row, 1, described(text)) for row, text in enumerate(texts)]
    quality = assess(ledger, traits, ["Aus bus", "Aus cus", "Aus bus", "Aus bus"])
    assert (quality.shared.n_shared, quality.shared.n_traits) == (2, 4)
    assert "Shared with another species: 50.0% of the sentences" in report(quality)
    assert "Shared with another species" not in report(assess(ledger, traits, ["Aus bus"] * 4))


def test_the_report_says_the_figures_and_escapes_what_models_wrote(ledger):
    fill(ledger, ok(), invalid("<script>alert(1)</script> | *x* " + "y" * 500, "bad <b>|answer|</b>"))
    colours = ("red", "blue")
    traits = [trait_of(row, 1, described(f"<i>Fictus</i> {c}", colour=c)) for row, c in enumerate(colours)]
    quality = assess(ledger, traits, ["Fictus <u>"] * 2)
    text = report(quality)
    assert "| invalid, of the answers | 1 | 50.0% |" in text
    assert "| colour | 1 | 1 | 100.0% |" in text
    assert "| colour | 0.000 | 0.000 | 1 | 1 |" in text
    assert "in 2 of 2 descriptions (100.0%)" in text
    assert "<" not in text
    assert "*x*" not in text
    table = [line for line in text.splitlines() if line.startswith("| bad")]
    assert [line.count("|") for line in table] == [4]
    assert max(len(e.said) for e in quality.calls.invalid) == LONGEST_EXCERPT
    assert quality.agreement[0].by_species == {"Fictus <u>": 0.0}


def test_a_run_without_anything_has_a_report_that_says_so(ledger):
    quality = assess(ledger)
    text = report(quality)
    assert "| background, of the valid answers | 0 | none |" in text
    assert "agreement is not known" in text
    assert "in 0 of 0 descriptions (none)" in text


def test_excerpts_are_one_line():
    assert excerpt(" a\n\n b ") == "a b"
    assert len(excerpt("x" * 999)) == LONGEST_EXCERPT


def test_photographs_without_a_label_are_counted_and_left_out_of_what_needs_a_species(ledger):
    named, unnamed = collection_of(["Heliconius erato"]).images[0], replace(record_of(1), taxon=Taxon())
    collection = Collection(Path("/photographs"), (named, unnamed))
    red, erato = described("A wing.", colour="red"), described("Like erato.", colour="blue")

    def quality_of(traits):
        return assess_quality(iter(traits), ledger, collection, DESCRIBER)  # pyright: ignore[reportArgumentType]

    both = quality_of([trait_of(0, 7, red), trait_of(1, 7, erato)])
    assert (both.n_unlabelled, both.leakage.n_traits, both.leakage.n_any) == (1, 1, 0)
    assert both.agreement == ()
    text = report(both)
    assert "1 descriptions are of photographs without a label" in text
    assert "The species' own name is in 0 of 1" in text
    alone = report(quality_of([trait_of(1, 7, erato)]))
    assert "own name" not in alone
    assert "contradicts itself" not in alone
    assert "without a label" not in report(quality_of([trait_of(0, 7, red)]))
