"""The CLIP of the drawn world: what it learns from, how it learns, what the shipped one can do, where it is refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from demo_clip.captions import CaptionWriter, in_words
from demo_clip.model import MEAN, STD, halve_weights, input_framing, train_tokenizer
from demo_clip.scoring import draw_trial, score
from demo_clip.sketches import grow, sketch_species
from demo_clip.species import (
    HELD_OUT,
    MAIN_AND_SECOND,
    PATTERNS,
    SHAPES,
    invented_name,
    looks,
    training_species,
)
from demo_clip.training import TrainingSettings, train
from sae_traits.describers.colours import color_family
from sae_traits.errors import ConfigError
from sae_traits.evaluation.embedding import embed_collection
from sae_traits.features.preprocessing import PreparePixels
from sae_traits.models.clip.model import load_clip
from sae_traits.schema import Collection
from sae_traits.testbench.demo import DRAWN_CLIP
from sae_traits.testbench.drawn.world import NOTE, PALETTE, PARTS, WORLD

TINY = TrainingSettings(n_steps=30, batch_size=16, warmup_steps=2, width=32, vision_layers=1, text_layers=1)
OUR_WORDS = {w.lower() for s in WORLD for w in (s.genus.name, s.epithet, s.genus.family, s.genus.order)}


@pytest.fixture(scope="module")
def many_species():
    return [training_species(np.random.default_rng([7, index])) for index in range(1500)]


@pytest.fixture(scope="module")
def few_sketches():
    return sketch_species(3, 16, 1, input_framing(), workers=1)


@pytest.fixture(scope="module")
def tiny_clip(few_sketches, tmp_path_factory):
    """A training of a few steps, and its CLIP in half precision."""
    folder = tmp_path_factory.mktemp("clip")
    trained = train(few_sketches, replace(TINY, n_tokenizer_captions=400), folder)
    halve_weights(trained.model, folder / "shipped")
    return trained, folder / "shipped"


@pytest.fixture(scope="module")
def shipped():
    return load_clip(DRAWN_CLIP, device="cpu")


def test_every_demo_species_has_looks_that_no_training_species_has(many_species):
    assert all(len(looks(species)) == 2 and looks(species) <= HELD_OUT for species in WORLD)
    assert all(not looks(species) & HELD_OUT for species in many_species)


def test_every_colour_pattern_and_shape_of_every_telling_part_is_seen(many_species):
    seen = {(s.genus.plan, *trait) for s in many_species for trait in s.traits()}
    for plan, (main, second) in MAIN_AND_SECOND.items():
        for colour in PALETTE:
            assert (plan, main, "colour", colour) in seen
            assert (plan, second, "colour", colour) in seen
        assert all((plan, main, "pattern", pattern) in seen for pattern in PATTERNS)
        assert all((plan, main, "shape", shape) in seen for shape in SHAPES)


def test_training_species_are_drawn_from_parts_that_exist(many_species):
    assert all(set(species.parts) <= set(PARTS) for species in many_species)
    assert Counter(s.genus.plan for s in many_species).keys() == {"beetle", "moth", "bee"}


@given(seed=st.integers(0, 2**32), rank=st.sampled_from(["order", "family", "genus", "species"]))
def test_an_invented_name_is_one_word_and_none_of_the_demo(seed, rank):
    name = invented_name(np.random.default_rng(seed), rank)
    assert name.isalpha()
    assert name.lower() not in OUR_WORDS
    assert name[0].isupper() == (rank != "species")


def components(mask):
    """Number of the connected group of each place of a 4 x 6 grid, corners touching; 0 outside the mask `[24]`."""
    labels = ndimage.label(mask.reshape(4, 6), structure=np.ones((3, 3)))
    return np.asarray(labels[0]).ravel()  # pyright: ignore


@given(st.data())
def test_a_grown_region_is_connected_and_stays_where_it_may(data):
    free = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=4, max_size=4)))
    first, n_patches = data.draw(st.integers(0, 23)), data.draw(st.integers(1, 10))
    patches = grow(first, n_patches, free, np.random.default_rng(0))
    grown = np.zeros(24, dtype=bool)
    grown[patches] = True
    assert components(grown).max() == 1
    assert set(patches) <= {first} | set(np.flatnonzero(free).tolist())
    around = components(free.ravel() | grown)
    reachable = (around == around[first]).sum()
    assert len(patches) == min(n_patches, reachable)


def test_sketches_say_what_the_describer_measured_of_the_drawing(few_sketches):
    assert few_sketches.pixels.shape == (16, 1, *input_framing().size, 3)
    agree = 0
    for species, ((main_part, *_),) in zip(few_sketches.species, few_sketches.sentences, strict=True):
        look = species.parts[MAIN_AND_SECOND[species.genus.plan][0]]
        words = main_part.split(" area")[0].split()[3:]
        agree += color_family(" ".join(words)) in {color_family(look.colour), color_family(look.marks)}
    assert agree >= 12  # shades on the border of two names make up the rest


def test_words_state_the_true_looks_and_nothing_else(many_species):
    for species in many_species[:300]:
        text = in_words(species, np.random.default_rng(0)).replace("dark brown", "dark-brown")
        named = {colour for colour in PALETTE if colour.replace(" ", "-") in text.replace(",", "").split()}
        true = {look.colour for look in species.parts.values()}
        true |= {look.marks for look in species.parts.values() if look.pattern != "plain"}
        assert named
        assert named <= true


def test_captions_are_of_all_kinds_and_the_same_species_gets_many_names(many_species):
    writer, rng = CaptionWriter(0), np.random.default_rng(0)
    captions = [writer.caption(many_species[0], ["A small, rounded red area, spotted."] * 3, rng) for _ in range(1500)]
    with_sentence = [text for text in captions if "rounded red area" in text]
    assert 0.6 < len(with_sentence) / len(captions) < 0.9
    assert any(text.count("rounded red area") >= 3 for text in captions)
    assert any(text == "A small, rounded red area, spotted." for text in captions)
    assert any(text == "a photo of a small, rounded red area, spotted." for text in captions)
    names = {text.split(", ")[0] for text in with_sentence if ", a small, rounded red" in text}
    assert len(names) > 30


def test_the_tokenizer_spells_every_word(tiny_clip):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_clip[1])
    rng = np.random.default_rng(11)
    for name in [invented_name(rng, "genus") for _ in range(50)] + [s.binomial for s in WORLD] + ["Ωmega 蛾 é"]:
        ids = tokenizer(name)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == name.lower()
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id


@settings(max_examples=20, deadline=None)
@given(n_tokens=st.integers(300, 400))
def test_a_vocabulary_is_no_larger_than_asked(n_tokens):
    tokenizer = train_tokenizer(["a small, rounded red area", "a beetle with orange elytra"] * 5, n_tokens)
    assert len(tokenizer) <= n_tokens


def test_a_few_steps_of_training_lower_the_loss(tiny_clip):
    trained, _ = tiny_clip
    losses = [point["loss"] for point in trained.curve]
    assert len(losses) == trained.n_steps == TINY.n_steps
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


def test_a_batch_larger_than_the_world_is_refused(few_sketches, tmp_path):
    with pytest.raises(ConfigError, match="there are 16 species for a step of 17 pairs"):
        train(few_sketches, replace(TINY, batch_size=17), tmp_path)


def test_a_saved_clip_is_read_as_it_was_trained_by_the_ordinary_evaluation(tiny_clip, few_sketches):
    trained, folder = tiny_clip
    clip, full = load_clip(folder, device="cpu"), load_clip(trained.model, device="cpu")
    texts = ["Zis cexata, a small, rounded red area", "a photo of Zis.", "a " * 200]
    assert torch.allclose(clip.embed_texts(texts), full.embed_texts(texts), atol=5e-3)  # stored in half precision
    assert isinstance(clip.prepare, PreparePixels)
    assert clip.info.framing == input_framing()
    pixels = few_sketches.pixels[:, 0]
    prepared = torch.stack([clip.prepare(Image.fromarray(image)) for image in pixels])
    expected = torch.from_numpy((pixels.astype(np.float32) / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    assert torch.allclose(prepared, expected, atol=1e-5)


def test_the_clip_is_refused_for_what_is_not_drawn(tiny_clip, shipped, tmp_path):
    _, folder = tiny_clip
    for clip in (load_clip(folder, device="cpu"), shipped):
        clip.check_note(NOTE, tmp_path)
        for note in (None, "Something else."):
            with pytest.raises(ConfigError, match=r"its answers about .* would mean nothing"):
                clip.check_note(note, tmp_path)
            with pytest.raises(ConfigError, match="would mean nothing"):
                embed_collection(clip, Collection(tmp_path, (), note=note), [], cache=tmp_path)


def test_the_shipped_model_is_small_and_has_a_card(shipped):
    assert sum(path.stat().st_size for path in DRAWN_CLIP.iterdir()) <= 8_000_000
    assert "only ever seen drawings" in (DRAWN_CLIP / "README.md").read_text()
    assert shipped.count_tokens("Fictacara ignita, a small, rounded red area") < 30


def test_the_shipped_model_knows_unseen_species_by_their_traits_and_not_by_their_names(shipped):
    rows = score(shipped, draw_trial(5, n_train=4, n_test=3))
    top1 = {(row.wording, row.condition): row.top1 for row in rows}
    for wording in ("measured", "words"):
        assert top1[wording, "name only"].mean < 0.25
        assert top1[wording, "name + traits"].low > top1[wording, "name only"].mean
        assert top1[wording, "name + traits"].mean > 0.35
        assert top1[wording, "name + another species' traits"].mean < 0.2
