"""The model card: measured figures, the sweep, pictures, and nothing that a hostile record could smuggle in."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from evaluation.made_results import card_results
from huggingface_hub import ModelCard, ModelCardData, parse_eval_result_entries
from PIL import Image
from small_releases import PROVENANCE

from sae_traits import SAE, SAEConfig
from sae_traits.config.train import TopK, TrainConfig
from sae_traits.errors import CheckpointError, ReleaseError, StoreError
from sae_traits.geometry import Framing
from sae_traits.release.cards import BEGINS, ENDS
from sae_traits.release.facts import LatentPicture, ModelFacts, Rights, Source
from sae_traits.release.model_card import write_model_card
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.sae.sweep_folder import save_saes
from sae_traits.schema import BackboneInfo
from sae_traits.traits.known_background import KnownBackground

BACKBONE = BackboneInfo(
    backbone="facebook/dinov2-base",
    revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    layer=11,
    d_model=768,
    rows=16,
    columns=16,
    patch=14,
    framing=Framing(mode="crop", size=(224, 224), shortest_side=256),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
METRICS = {
    "mse": 0.0123456,
    "normalised_mse": 0.0877,
    "explained_variance": 0.912345,
    "l0": 16.0,
    "dead_share": 0.0625,
    "dense_share": 0.03125,
    "n_patches": 50_176,
    "monosemanticity": {
        "embedding": "facebook/dinov2-base@f9e4 layer 11, mean over patches",
        "mean": 0.61,
        "mean_with_zeros": 0.5719,
        "n_scored": 1440,
        "mean_similarity": 0.4,
    },
}
HISTOGRAM = {"never": 96, "1e-06": 0, "1e-03": 1400, "1e-01": 40}
CURVE = {
    "step": [1, 2, 3],
    "loss": [3.0, 2.0, 1.0],
    "explained_variance": [0.0, 0.5, float("nan")],
    "l0": [16.0, 16.0, 16.0],
    "dead_share": [0.0, 0.1, 0.2],
}
TRAINING = {
    "collection": "moths",
    "n_images": 1234,
    "n_patches": 2_000_896,
    "settings": {"architecture": "topk", "k": 16, "prefixes": [], "learning_rate": 1e-3},
    "metrics": METRICS,
}
WITH_FIGURES = TRAINING | {"curve": CURVE, "metrics": METRICS | {"firing_histogram": HISTOGRAM}}
"""Drawing takes longer than all else about a card, so that only tests of figures have them."""
CONFIG = {
    "model_type": "sae-traits",
    "architecture": "topk",
    "d_model": 768,
    "n_latents": 1536,
    "k": 16,
    "prefixes": [],
    "subtract_decoder_bias": True,
    "backbone": BACKBONE.to_dict(),
    "training": TRAINING,
    "sae_traits_version": "0.1.0",
}
HOSTILE = (
    "Aus bus\n---\nlicense: mit\n",
    "<script>alert(1)</script>",
    "| cell | ```\ncode\n``` # heading",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png)",
    "{{ 7 * 7 }} {% raw %}",
)


def card_of(folder: Path, config: dict = CONFIG, *, repo_id: str | None = "org/moth-sae") -> str:
    write_model_card(folder, config, repo_id=repo_id)
    return (folder / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict:
    _, front, _ = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front)


def rows(card: str, heading: str) -> dict[str, str]:
    """Names and values of the table under a heading."""
    section = card.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [re.findall(r"[^|]+", line) for line in section.splitlines() if line.startswith("|")]
    return {name.strip(): value.strip() for name, value in cells[2:]}


def sweep_folder(folder: Path, text: str, scores: list[float]) -> Path:
    """A sweep of untrained SAEs that say how well they did."""
    configs = expand(TrainConfig(n_latents=8, architecture=TopK(k=2)), parse_sweep(text))
    saes = []
    for number, one in enumerate(configs):
        k = getattr(one.architecture, "k", None)
        config = SAEConfig(architecture=one.architecture.kind, d_model=4, n_latents=8, k=k)
        metrics = METRICS | {"l0": 2.0 + number, "monosemanticity": {"mean_with_zeros": scores[number]}}
        saes.append(SAE.from_config(replace(config, training=TRAINING | {"metrics": metrics}), seed=number))
    save_saes(folder, saes, configs, parse_sweep(text))
    return folder


def test_the_card_takes_a_photograph_to_its_codes(tmp_path: Path):
    card = card_of(tmp_path)
    for line in (
        'sae = SAE.from_pretrained("org/moth-sae")',
        "extractor = load_extractor(sae)",
        'features, grid = extractor("photograph.jpg")  # a file, a PIL image, or a list of these',
        "codes = sae.encode(features)",
    ):
        assert line in card.splitlines()
    assert "subfolder" not in card
    front = front_matter(card)
    assert front["library_name"] == "sae-traits"
    assert front["base_model"] == "facebook/dinov2-base"
    assert front["base_model_relation"] == "adapter"
    assert front["license"] == "unknown"
    assert "](https://arxiv.org/abs/2604.01619)" in card, "the Hub takes links, not BibTeX"


def test_the_card_says_what_was_measured_and_by_which_embedding(tmp_path: Path):
    assert rows(card_of(tmp_path), "How good it is") == {
        "explained variance (1 is perfect)": "0.9123",
        "mean squared error": "0.01235",
        "normalised mean squared error": "0.0877",
        "active latents per patch (L0)": "16.00",
        "latents that never fired": "6.2%",
        "latents that fire at more than 10% of the patches": "3.1%",
        "patches that this was measured on": "50,176",
        "monosemanticity, mean over all latents, those without a score counting zero": "0.5719",
        "monosemanticity, mean over the latents with a score": "0.6100",
        "latents with a score": "1,440",
        "monosemanticity of a latent that ignores the image": "0.4000",
        "similarity of images is judged by": "facebook/dinov2-base&#64;f9e4 layer 11, mean over patches",
    }


def test_the_card_says_what_it_was_trained_on_and_with_which_settings(tmp_path: Path):
    card = card_of(tmp_path)
    assert rows(card, "Training data") == {
        "collection": "moths",
        "images (training split)": "1,234",
        "patches, counted with repetition": "2,000,896",
    }
    assert rows(card, "Training settings") == {
        "architecture": "topk",
        "k": "16",
        "learning_rate": "0.001",
    }
    assert rows(card, "Features")["layer"] == "11"


def test_a_measure_that_the_card_has_no_words_for_is_shown_under_its_name(tmp_path: Path):
    training = {"metrics": {"stability": {"mean": 0.5}, "l0": 3.0}, "optimiser": "Adam"}
    card = card_of(tmp_path, CONFIG | {"training": training})
    assert rows(card, "How good it is") == {"active latents per patch (L0)": "3.00", "stability.mean": "0.5"}
    assert rows(card, "Training data") == {"optimiser": "Adam"}
    assert "## Training settings" not in card


def test_matryoshka_prefixes_are_named(tmp_path: Path):
    assert rows(card_of(tmp_path, CONFIG | {"prefixes": [96, 384]}), "What it is")["Matryoshka prefixes"] == "96, 384"
    assert "Matryoshka" not in card_of(tmp_path)


def test_the_figures_show_the_record_and_are_the_same_bytes_again(tmp_path: Path):
    config = CONFIG | {"training": WITH_FIGURES}
    card = card_of(tmp_path, config)
    assert re.findall(r"!\[(.*)\]\((.*)\)", card) == [
        ("Learning curve", "figures/learning_curve.png"),
        ("How often the latents fire", "figures/firing_histogram.png"),
    ]
    files = sorted((tmp_path / "figures").iterdir())
    assert [file.name for file in files] == ["firing_histogram.png", "learning_curve.png"]
    first = [file.read_bytes() for file in files]
    card_of(tmp_path, config)
    assert [file.read_bytes() for file in files] == first
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert (pixels == (0, 114, 178)).all(-1).any(), "something is drawn in the colour of the data"
    other = CONFIG | {"training": WITH_FIGURES | {"curve": CURVE | {"l0": [16.0, 20.0, 16.0]}}}
    card_of(tmp_path, other)
    assert files[1].read_bytes() != first[1]
    assert files[0].read_bytes() == first[0]


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"curve": [1, 2], "metrics": {"firing_histogram": [1]}},
        {"curve": {"step": [1, 2], "l0": [1.0]}},
        {"curve": {"step": [1], "l0": [1.0]}},
        {"curve": {"l0": [1.0, 2.0]}},
        {"curve": {"step": [1, 2]}},
        {"curve": {"step": [1, 2], "l0": ["a", "b"]}, "metrics": {"firing_histogram": {"never": "x"}}},
    ],
)
def test_a_record_without_a_curve_or_of_another_kind_draws_nothing(tmp_path: Path, training: dict):
    assert "![" not in card_of(tmp_path, CONFIG | {"training": training})
    assert not (tmp_path / "figures").exists()


def test_a_sweep_is_a_table_with_the_recommended_one_and_the_rule(tmp_path: Path):
    folder = sweep_folder(tmp_path / "sae", "architecture=topk,relu k=2,4 l1_coefficient=1e-4", [0.1, 0.3, 0.2])
    card = card_of(folder)
    section = card.split("\n## The sweep\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert table == [
        "| folder | k | l1_coefficient | explained variance | L0 | never fired | monosemanticity |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| topk-k2 | 2 | – | 0.9123 | 2.00 | 6.2% | 0.1000 |",
        "| topk-k4 | 4 | – | 0.9123 | 3.00 | 6.2% | 0.3000 |",
        "| relu-l1_coefficient0.0001 | – | 0.0001 | 0.9123 | 4.00 | 6.2% | 0.2000 |",
    ]
    assert "\n\n".join(("", table[0])) in section, "a table needs an empty line before it"
    assert "\n".join(table) in section, "and none within"
    assert "At the root is `topk-k4`, by this rule: the highest explained variance" in section
    assert 'sae = SAE.from_pretrained("org/moth-sae", subfolder="topk-k2")' in card.splitlines()


def test_a_measure_that_a_sweep_does_not_have_is_a_dash(tmp_path: Path):
    folder = sweep_folder(tmp_path / "sae", "k=2,4", [float("nan"), 0.3])
    assert "| topk-k2 | 2 | 0.9123 | 2.00 | 6.2% | – |" in card_of(folder).splitlines()


def test_a_damaged_sweep_file_is_one_clear_error(tmp_path: Path):
    (tmp_path / "sweep.json").write_text('{"saes": [{"folder": "../x", "settings": {}, "metrics": {}}]}')
    with pytest.raises(CheckpointError, match=r"sweep\.json"):
        card_of(tmp_path)


@pytest.mark.parametrize("backbone", ["texture", "/home/someone/model", "models/insect"])
def test_a_backbone_that_is_not_on_the_hub_is_not_named_as_a_base_model(tmp_path: Path, backbone: str):
    local = CONFIG | {"backbone": BACKBONE.to_dict() | {"backbone": backbone, "revision": "sha256-12"}}
    assert "base_model" not in front_matter(card_of(tmp_path, local))


def test_a_model_without_a_backbone_asks_for_features(tmp_path: Path):
    card = card_of(tmp_path, CONFIG | {"backbone": None, "k": None}, repo_id=None)
    assert "load_extractor(sae)" not in card
    assert f'SAE.from_pretrained("{tmp_path.name}")' in card


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_records_stay_text(tmp_path: Path, value: str):
    of_data = {"collection": value, "n_images": value, value: 1, "settings": {"architecture": value, value: value}}
    measured = {"l0": value, "monosemanticity": {"embedding": value, "mean": value, value: 1}, value: value}
    card = card_of(tmp_path, CONFIG | {"training": of_data | {"metrics": measured}})
    expected = {"library_name", "pipeline_tag", "tags", "base_model", "base_model_relation", "license"}
    assert set(front_matter(card)) == expected
    body = re.sub(r"<!-- sae-traits: [^<>]*-->", "", card.split("\n---\n", 1)[1])
    assert "<" not in body
    assert value.strip() not in body
    assert {line.count("|") for line in body.splitlines()} == {0, 3}


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        (
            "Museum terms, 2026",
            {"license_name": "museum-terms-2026", "license_link": "https://huggingface.co/o/s#licence"},
        ),
        ("https://m.org/terms", {"license_name": "m.org-terms", "license_link": "https://m.org/terms"}),
        *((value, {"license": "other"}) for value in HOSTILE),
    ],
)
def test_the_licence_is_the_hubs_or_has_a_name_and_a_link(tmp_path: Path, license: str, expected: dict[str, str]):
    write_model_card(tmp_path, CONFIG, repo_id="o/s", facts=ModelFacts(license=license))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    front = front_matter(card)
    assert expected.items() <= front.items()
    assert ("license_link" in front) == (front["license"] == "other")
    assert card.count("\n## Licence\n") == 1


FACTS = ModelFacts(
    dataset_id="org/moth_traits",
    dataset_title="Moth traits",
    provenance=replace(
        PROVENANCE,
        source=Source(name="hf://datasets/museum/moths@v1"),
        seconds={"extract": 812.6, "train": 99.9, "annotate": 5.0},
    ),
    results=card_results(),
    gallery=(
        LatentPicture(
            path="figures/latent-00017.jpg",
            latent=17,
            species="Aus bus",
            f_species=0.95,
            f_reference=0.051,
            rights=(Rights("CC BY 4.0", "A. Naturalist", 3), Rights(None, None, 1)),
        ),
    ),
)


def with_facts(folder: Path, facts: ModelFacts = FACTS) -> str:
    training = TRAINING | {"metrics": METRICS | {"measured_on": "validation"}}
    write_model_card(folder, CONFIG | {"training": training}, repo_id="org/moth-sae", facts=facts)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_model_index_comes_back_through_the_hubs_own_classes(tmp_path: Path):
    data = ModelCard(with_facts(tmp_path)).data
    assert isinstance(data, ModelCardData)
    assert data.model_name == "org/moth-sae"
    assert data.datasets == ["org/moth_traits", "museum/moths"]
    found = {(r.task_type, r.metric_type, r.metric_name, r.metric_value, r.dataset_split) for r in data.eval_results}
    features, zero_shot = "image-feature-extraction", "zero-shot-image-classification"
    clip = "top-1 accuracy of imageomics/bioclip, texts: "
    assert found == {
        (features, "explained_variance", "explained variance of the patch features", 0.912345, "validation"),
        (features, "l0", "active latents per patch (L0)", 16.0, "validation"),
        (features, "dead_share", "share of the latents that never fired", 0.0625, "validation"),
        (zero_shot, "accuracy", clip + "name only", 0.3, "test"),
        (zero_shot, "accuracy", clip + "name + traits", 0.35, "test"),
    }
    assert {r.dataset_type for r in data.eval_results} == {"org/moth_traits"}
    assert "model-index" in front_matter(data_card(data))


def data_card(data: ModelCardData) -> str:
    return f"---\n{data.to_yaml()}\n---\n"


def test_the_scores_are_also_written_as_eval_results_where_their_dataset_has_a_place(tmp_path: Path):
    with_facts(tmp_path)
    file = tmp_path / ".eval_results" / "sae-traits.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [
        ("org/moth_traits", "explained_variance", 0.912345),
        ("org/moth_traits", "l0", 16.0),
        ("org/moth_traits", "dead_share", 0.0625),
        ("org/moth_traits", "zero_shot_names", 0.3),
        ("org/moth_traits", "zero_shot_names_and_traits", 0.35),
    ]
    assert entries[-1].notes == "top-1 accuracy of imageomics/bioclip, texts: name + traits, test split"
    card = with_facts(tmp_path, replace(FACTS, dataset_id=None))
    assert not file.exists(), "an entry has to name a dataset on the Hub"
    assert front_matter(card)["model-index"][0]["results"][0]["dataset"]["type"] == "hf://datasets/museum/moths@v1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.9", None, True])
def test_what_is_no_number_is_no_score(tmp_path: Path, value: object):
    training = TRAINING | {"metrics": {"explained_variance": value}}
    write_model_card(tmp_path, CONFIG | {"training": training}, repo_id=None)
    assert "model-index" not in front_matter((tmp_path / "README.md").read_text(encoding="utf-8"))


def test_the_card_links_its_dataset_and_says_what_the_traits_are_worth(tmp_path: Path):
    card = with_facts(tmp_path)
    assert "[Moth traits](https://huggingface.co/datasets/org/moth_traits)" in card
    worth = card.split("\n## Do its traits help to recognise species?\n")[1].split("\n## ")[0]
    assert "| name + traits | 0.350 &#91;0.250, 0.450&#93; |" in worth
    assert "filler" not in worth
    assert "- 1 of 16 species without a trait" in worth
    assert rows(card, "How it was made") == {"extract": "813", "train": "100"}
    assert "<pre><code>sae-traits run moths</code></pre>" in card
    assert "was not measured when this card was written" not in card
    assert "was not measured when this card was written" in card_of(tmp_path)


def test_the_card_says_how_many_latents_fire_on_background_unless_they_are_a_baselines(tmp_path: Path):
    known = KnownBackground(is_known=True, how="Edges were told from middles.", n_latents=9, n_left_out=4)
    run = replace(PROVENANCE, background=known)
    said = "- Latents may fire on background, too. Edges were told from middles. Latents left out because they"
    assert said in with_facts(tmp_path, replace(FACTS, provenance=run))
    assert said not in with_facts(tmp_path, replace(FACTS, provenance=replace(run, regions="pca")))


def test_the_gallery_names_who_holds_the_rights(tmp_path: Path):
    gallery = with_facts(tmp_path).split("\n## What some latents fire on\n")[1].split("\n## ")[0]
    assert "fires in 95 % of the individuals of Aus bus and in 5 % of those of its relatives" in gallery
    assert "![Latent 17](figures/latent-00017.jpg)" in gallery
    assert "Photographs: A. Naturalist (CC BY 4.0); holder unknown (no licence given)." in gallery


def test_with_the_papers_contrast_the_gallery_gives_shares_of_firings(tmp_path: Path):
    card = with_facts(tmp_path, replace(FACTS, provenance=replace(PROVENANCE, contrast={"contrast": "paper"})))
    assert "which has 95.00 % of all firings in patches of Aus bus and 5.10 % of those of its genus" in card
    assert "% of the individuals" not in card


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_facts_stay_text(tmp_path: Path, value: str):
    def of(text: str) -> str:
        picture = replace(FACTS.gallery[0], species=text, rights=(Rights(text, text, 1),))
        facts = replace(
            FACTS,
            dataset_id="org/moths",
            dataset_title=text,
            provenance=replace(PROVENANCE, source=Source(name=text), command=text),
            results=card_results(text),
            gallery=(picture,),
        )
        return with_facts(tmp_path, facts)

    harmless, card = of("x"), of(value)
    assert set(front_matter(card)) == set(front_matter(harmless))
    bodies = [re.sub(r"<!-- sae-traits: [^<>]*-->", "", one.split("\n---\n", 1)[1]) for one in (card, harmless)]
    assert value.strip() not in bodies[0]
    for pattern in (r"<[^>]*>", r"\]\(", r"\|", r"```", "\n"):
        assert len(re.findall(pattern, bodies[0])) == len(re.findall(pattern, bodies[1])), pattern


def test_what_a_person_wrote_into_its_section_of_the_card_stays(tmp_path: Path):
    card = card_of(tmp_path)
    thanks = f"{BEGINS}\n## Thanks\n\nTo all *moths*.\n{ENDS}"
    assert f"{BEGINS}\n{ENDS}\n" in card
    (tmp_path / "README.md").write_text(card.replace(f"{BEGINS}\n{ENDS}", thanks), encoding="utf-8")
    again = card_of(tmp_path, CONFIG | {"k": 32})
    assert thanks in again
    assert "| active latents per patch (k) | 32 |" in again
    assert card_of(tmp_path, CONFIG | {"k": 32}) == again
    (tmp_path / "README.md").write_text(again.replace(ENDS, ""), encoding="utf-8")
    with pytest.raises(ReleaseError, match="does not have each of the comments"):
        card_of(tmp_path)
    assert "To all *moths*." in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(ReleaseError, match="cannot write the card into"):
        card_of(tmp_path, CONFIG | {"training": WITH_FIGURES})
    with pytest.raises(StoreError, match=r"cannot write .*README.md: No such file"):
        card_of(tmp_path / "missing", CONFIG | {"training": {}})


def test_a_card_that_cannot_be_written_leaves_the_former_with_what_a_person_wrote(tmp_path: Path):
    text = card_of(tmp_path).replace(BEGINS, f"{BEGINS}\nThanks to all.")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    (tmp_path / f"README.md.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="the disk is full"):
        card_of(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_the_snippet_asks_for_a_folder_where_no_name_leads_to_the_backbone(tmp_path: Path):
    local = BACKBONE.to_dict() | {"backbone": "vit", "revision": "sha256:" + "ab" * 32}
    card = card_of(tmp_path, CONFIG | {"backbone": local})
    assert 'load_extractor(sae, backbone="FOLDER")' in card
    assert "sha256&#58;" + "ab" * 32 in card
    assert "base_model" not in front_matter(card)
