"""What people do in an atlas, in a browser, over http and as files."""

import json
from pathlib import Path

import pytest
from atlas.small_atlases import HOSTILE, NAME, SUGGESTION

from sae_traits.evaluation.review.ratings import Rating, Ratings
from sae_traits.traits.latent_names import LatentNames

AXE = Path(__file__).with_name("axe.min.js")
PAGES = [
    "review/index.html",
    "index.html",
    "species/aus-bus.html",
    "latents.html",
    "latents/2.html",
    "compare.html",
    "names.html",
]


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
    assert page.locator("#results [role=status]").inner_text().startswith("0 species, 0 latents and 15 traits")
    assert page.locator("#results li img").count() == page.locator("#results li .rights").count() == 15
    assert not page.locator("#main").is_visible()
    page.fill("#query", "aus bus")
    assert page.locator("#results a.binomial").first.inner_text() == "Aus bus"
    page.fill("#query", "aus")
    page.locator("#results").get_by_text("species and 0 latents; traits are on the page of each species").wait_for()
    assert page.locator("#results li").first.inner_text().count("Aus") == 1, "a genus stands in the name already"
    page.fill("#query", "latent 1")
    page.locator("#results").get_by_text("0 species, 1 latent").wait_for()
    assert page.locator("#results li").first.inner_text().count("latent 1") == 1
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


@pytest.mark.parametrize("where", ["latents/1.html", "latents.html", "names.html"])
def test_a_suggestion_counts_once_it_is_accepted(page, address, tmp_path, where):
    page.goto(f"{address}/species/aus-cus.html")
    page.get_by_text(f"latent 1 ({SUGGESTION}?)").first.wait_for()
    page.goto(f"{address}/names.html")
    page.get_by_text(f"{SUGGESTION}?", exact=True).wait_for()
    page.goto(f"{address}/{where}")
    page.get_by_role("button", name=f"Accept “{SUGGESTION}” for latent 1").click()
    assert page.get_by_role("button", name="Accept").count() == 0
    page.goto(f"{address}/names.html")
    page.get_by_text(SUGGESTION, exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export names.json").click()
    download.value.save_as(tmp_path / "names.json")
    assert LatentNames.read(tmp_path / "names.json").names == {1: SUGGESTION, 2: NAME}


def rate(page, address, rater, keys):
    """Begin as a rater, and press keys; the sentences in their order."""
    page.goto(f"{address}/review/index.html")
    page.get_by_label("Your name or initials").fill(rater)
    page.keyboard.press("Enter")
    page.locator("#sentence").wait_for()
    sentences = [page.locator("#sentence").inner_text()]
    for pressed in keys:
        page.keyboard.press(pressed)
        if pressed == "n":
            sentences.append(page.locator("#sentence").inner_text())
    return sentences


def test_a_sheet_is_rated_with_keys_alone_exported_and_read_by_the_command(page, address, tmp_path):
    keys = "".join(f"{'ar'[i % 2]}{5 - i % 5}n" for i in range(8))
    sentences = rate(page, address, "Anna B", keys.removesuffix("n"))
    assert len(set(sentences)) == 8
    assert all("</script><b>" in sentence for sentence in sentences)
    page.get_by_text("All answered").wait_for()
    assert page.locator("#picture").evaluate("image => image.complete && image.naturalWidth > 0")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export my answers").click()
    assert download.value.suggested_filename == "sheet-1-0123456789ab-Anna-B.json"
    download.value.save_as(tmp_path / "anna.json")
    given = Ratings.read(tmp_path / "anna.json")
    assert (given.sheet, given.rater) == ("sheet-1-0123456789ab", "Anna B")
    numbers = [int(sentence.split()[-3]) + 1 for sentence in sentences]
    expected = [Rating("accepted" if i % 2 == 0 else "rejected", 5 - i % 5) for i in range(8)]
    assert [given.by_item[number] for number in numbers] == expected


def test_raters_see_an_order_of_their_own_and_go_on_where_they_stopped(page, address):
    first, second = (rate(page, address, rater, "nnnnnnn") for rater in ("Anna", "Ben"))
    assert sorted(first) == sorted(second)
    assert first != second
    rate(page, address, "Anna", "a4nr1n")
    page.reload()
    page.get_by_label("Your name or initials").fill("Anna")
    page.keyboard.press("Enter")
    page.get_by_text("3 of 8").wait_for()
    assert page.locator("#progress").inner_text() == "2 answered"
    page.keyboard.press("p")
    assert page.get_by_label("Reject: I would not.").is_checked()
    page.get_by_label("Accept: I would keep").check()
    page.keyboard.press("n")  # also from a radio button
    page.get_by_text("3 of 8").wait_for()


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
        if name == "review/index.html":
            page.get_by_label("Your name or initials").fill("Anna")
            page.keyboard.press("Enter")
            page.evaluate("document.getElementById('beginning').hidden = false")  # both are looked at
        else:
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


def test_tab_and_screen_readers_go_from_the_skip_link_over_the_menu_to_the_content(page, address):
    page.goto(f"{address}/species/aus-bus.html")
    page.wait_for_function("document.querySelector('.search').hidden === false")
    focused = "document.activeElement.textContent.trim() || document.activeElement.id"
    visited = []
    for _ in range(8):
        page.keyboard.press("Tab")
        visited.append(page.evaluate(focused))
    assert [visited[0], *visited[2:]] == [
        *("Skip to the content", "Species", "Compare", "Latents", "Names", "Review", "query")
    ]
    page.goto(f"{address}/species/aus-bus.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    headings = page.evaluate("Array.from(document.querySelectorAll('h1, h2')).map((one) => one.textContent)")
    assert headings == ["Aus bus", "What tells it apart", "Beside each relative", "Photographs"]
    seen = page.evaluate(
        "Array.from(document.querySelectorAll('h1, h2')).map((one) => one.getBoundingClientRect().top)"
    )
    assert seen == sorted(seen), "the order of the page is that of its text"


def test_nothing_is_wider_than_a_phone(page, address, site):
    page.set_viewport_size({"width": 360, "height": 740})
    hostile = next(site.glob("species/*onerror*.html"))
    both = f"compare.html#{hostile.stem}&aus-bus"
    for name in [*PAGES, both, f"species/{hostile.name}", image_page(site)]:
        page.goto(f"{address}/{name}")
        if name.startswith("compare.html"):
            page.locator("#comparison h2").first.wait_for()
        if name == both:
            page.get_by_text(f"{HOSTILE} and Aus bus").wait_for()
        if name == "review/index.html":
            page.get_by_label("Your name or initials").fill("Anna")
            page.keyboard.press("Enter")
            page.locator("#sentence").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_side_by_side_has_the_shares_of_the_two_the_largest_difference_first(page, address):
    page.goto(f"{address}/compare.html#aus-bus&aus-cus")
    more, fewer = (page.locator("#comparison .sides > section").nth(n).inner_text() for n in (2, 3))
    assert more.startswith("More often in Aus bus than in the other")
    assert more.index(NAME) < more.index("latent 1")  # latent 2 is called so
    assert (
        "In 90\u00a0% of its individuals and 30\u00a0% of those of Aus cus; found again in 80\u00a0% and 20\u00a0%"
        in more
    )
    assert "Against all of its relatives: " in more
    assert "No latent." in fewer


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
