"""What people do in an atlas, in a browser, over http and as files."""

import json
from pathlib import Path

import pytest
from atlas.small_atlases import HOSTILE, NAME

from sae_traits.traits.latent_names import LatentNames

AXE = Path(__file__).with_name("axe.min.js")
PAGES = ["index.html", "species/aus-bus.html", "latents.html", "latents/2.html", "compare.html", "names.html"]


def image_page(site):
    """A photograph with three traits."""
    return next(
        path.relative_to(site).as_posix()
        for path in sorted(site.glob("images/*/*.html"))
        if path.read_text(encoding="utf-8").count('<li data-region="') == 3
    )


def test_a_search_finds_taxa_latents_and_sentences_and_goes_away_again(page, address):
    page.goto(f"{address}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("aus small")
    page.locator("#results li").first.wait_for()
    assert page.locator("#results [role=status]").inner_text().startswith("0 taxa, 0 latents and 15 traits")
    assert page.locator("#results li img").count() == page.locator("#results li .rights").count() == 15
    assert not page.locator("#main").is_visible()
    page.fill("#query", "aus bus")
    assert page.locator("#results a.binomial").first.inner_text() == "Aus bus"
    page.fill("#query", "abdomen")
    assert "latent 2" in page.locator("#results").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#main").is_visible()
    assert not page.locator("#results").is_visible()


def test_a_sentence_that_was_found_leads_to_its_photograph(page, address):
    page.goto(f"{address}/species/aus-bus.html")
    page.fill("#query", "1 & more")
    page.locator("#results li a").first.click()
    assert page.locator("figure.large img").evaluate("image => image.complete && image.naturalWidth > 0")


def test_regions_are_toggled_all_together_and_one_by_one(page, address, site):
    page.goto(f"{address}/{image_page(site)}")
    regions = page.locator(".region")
    assert [regions.nth(i).is_visible() for i in range(3)] == [True, True, True]
    button = page.get_by_role("button", name="Region B")
    button.focus()
    assert "focus" in regions.nth(1).get_attribute("class")
    page.keyboard.press("Enter")
    assert [regions.nth(i).is_visible() for i in range(3)] == [True, False, True]
    assert button.get_attribute("aria-pressed") == "false"
    page.get_by_label("Regions").uncheck()
    assert not any(regions.nth(i).is_visible() for i in range(3))
    page.get_by_label("Regions").check()
    button.click()
    assert [regions.nth(i).is_visible() for i in range(3)] == [True, True, True]


def test_two_species_stand_side_by_side(page, address):
    page.goto(f"{address}/species/aus-bus.html")
    page.get_by_role("link", name="Side by side").first.click()
    page.get_by_text(f"Aus bus and {HOSTILE}").wait_for()
    page.get_by_label("Second").select_option(label="Aus cus")
    page.get_by_text("Aus bus and Aus cus").wait_for()
    page.get_by_role("button", name="Swap the two species").click()
    page.get_by_text("Aus cus and Aus bus").wait_for()
    pictures = page.locator("#comparison img")
    assert pictures.count() > 2
    assert page.locator("#comparison figure .rights").count() == pictures.count()
    page.reload()
    page.get_by_text("Aus cus and Aus bus").wait_for()


def test_names_are_kept_exported_and_read_by_the_command(page, address, tmp_path):
    page.goto(f"{address}/latents/0.html")
    page.get_by_label("What does it stand for?").fill("  hind\twing <i> ")
    page.keyboard.press("Enter")
    page.get_by_text("Kept in this browser").wait_for()
    assert page.locator("h1").inner_text().lower() == "hind wing <i>"
    page.goto(f"{address}/species/aus-bus.html")
    page.get_by_text("hind wing <i>").first.wait_for()
    page.goto(f"{address}/names.html")
    page.get_by_text("hind wing <i>").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export names.json").click()
    download.value.save_as(tmp_path / "names.json")
    assert LatentNames.read(tmp_path / "names.json") == LatentNames("org/sae@0123", {0: "hind wing <i>", 2: NAME})


def test_names_of_another_sae_are_refused_and_those_of_this_one_read(page, address, tmp_path):
    page.goto(f"{address}/names.html")
    page.locator("#names tr").first.wait_for()
    file = tmp_path / "names.json"
    for sae, said in (("org/other@1", "are of another SAE (org/other@1)"), ("org/sae@0123", "1 names were read")):
        file.write_text(json.dumps({"format": "sae-traits names", "sae": sae, "names": {"1": "leg"}}))
        page.set_input_files("#import-names", file)
        page.get_by_text(said).wait_for()
    assert "leg" in page.locator("#names").inner_text()


def test_html_in_the_name_of_a_species_is_text(page, address, site):
    path = next(site.glob("species/*onerror*.html"))
    page.goto(f"{address}/species/{path.name}")
    assert page.locator("h1").inner_text() == HOSTILE
    page.fill("#query", "onerror")
    page.locator("#results li").first.wait_for()
    assert HOSTILE in page.locator("#results").inner_text()
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page, address, site, scheme):
    page.emulate_media(color_scheme=scheme)
    found = {}
    for name in [*PAGES, image_page(site)]:
        page.goto(f"{address}/{name}")
        page.wait_for_function("document.querySelector('.search').hidden === false")
        if name == "compare.html":
            page.locator("#comparison h2").first.wait_for()
        if name == "index.html":
            page.fill("#query", "blue")
            page.locator("#results li").first.wait_for()
            page.evaluate("document.getElementById('main').hidden = false")  # both are looked at
        page.evaluate(AXE.read_text(encoding="utf-8"))
        for violation in page.evaluate("axe.run({preload: false})")["violations"]:
            nodes = [(node["html"][:200], node["failureSummary"][:300]) for node in violation["nodes"][:2]]
            found.setdefault(violation["id"], (name, nodes))
    assert not found


def test_nothing_is_wider_than_a_phone(page, address, site):
    page.set_viewport_size({"width": 360, "height": 740})
    for name in [*PAGES, image_page(site)]:
        page.goto(f"{address}/{name}")
        if name == "compare.html":
            page.locator("#comparison h2").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_pages_are_readable_without_javascript(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/species/aus-bus.html")
    assert page.locator(".region").first.is_visible()
    assert not page.locator(".search").is_visible()
    page.get_by_role("link", name="latent 0").first.click()
    assert page.locator(".histogram rect").count() > 0
    context.close()


def test_the_first_page_is_small(browser, server):
    context = browser.new_context()
    page, sizes = context.new_page(), []
    page.on("response", lambda answer: sizes.append(len(answer.body())))
    page.goto(f"{server}/index.html", wait_until="networkidle")
    context.close()
    assert len(sizes) >= 5
    assert sum(sizes) < 300_000
