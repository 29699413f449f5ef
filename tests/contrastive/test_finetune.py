"""Trainings from data to a model that others read."""

import json
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from clip_folders import make_siglip_folder
from kept_tracker import KeptTracker
from small_pairs import config_of, make_model, make_table

from sae_traits.contrastive.base_model import SIGLIP_OFFSET, SIGLIP_SCALE, trainable_model
from sae_traits.contrastive.model import ContrastiveModel
from sae_traits.contrastive.samples import Sample
from sae_traits.contrastive.texts import choose_text
from sae_traits.contrastive.trainer import finetune, new_accelerator
from sae_traits.contrastive.validation import Validation
from sae_traits.errors import BackboneError, CheckpointError, CollectionError, ConfigError
from sae_traits.features.preprocessing import PreparePixels
from sae_traits.images.decode import open_image
from sae_traits.models.clip.model import info_of, load_clip, read_clip, whole_image
from sae_traits.models.clip.saving import save_transformers

TEXTS = ["a photo of Rubra rubra.", "don’t  do “it” ", "long antennae " * 20]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("pairs") / "squares")


@pytest.fixture(scope="module", params=["open_clip", "transformers"])
def model(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / request.param, request.param)


def train(config, out):
    return finetune(config, out, accelerator=Accelerator(cpu=True))


def test_a_small_training_learns_names_and_leaves_a_clip(table, model, tmp_path):
    config = config_of(table, model, pairs={"text_types": ("sci", "taxon")}, schedule={"epochs": 30})
    done = train(config, tmp_path / "out")
    losses = [point["loss"] for point in done.curve if "loss" in point]
    accuracies = [point["validation_accuracy"] for point in done.curve if "validation_accuracy" in point]
    assert losses[-1] < losses[0] - 0.3
    assert accuracies[-1] > max(accuracies[0], 0.6)
    assert (done.n_steps, done.n_pairs) == (90, 24)
    assert not (tmp_path / "out" / "training.checkpoint").exists()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["config"]["pairs"]["text_types"] == ["sci", "taxon"]
    before, after = load_clip(model, device="cpu"), load_clip(done.model, device="cpu")
    for what in ("hidden_act", "framing", "mean", "std", "context_length"):
        assert getattr(after.info, what) == getattr(before.info, what)
    assert torch.equal(after.tokenize(TEXTS), before.tokenize(TEXTS))
    assert not torch.allclose(after.embed_texts(TEXTS), before.embed_texts(TEXTS), atol=1e-3)


def test_a_template_with_other_braces_stands_in_the_card(table, tmp_path):
    model = make_model(tmp_path / "model")
    done = train(
        config_of(table, model, pairs={"template": "{plate} of {}"}, schedule={"epochs": 0.1}), tmp_path / "out"
    )
    assert "{plate} of Apis mellifera" in (done.model / "README.md").read_text()


def test_with_siglip_s_loss_captions_have_an_offset_of_their_own(table, tmp_path):
    model = make_model(tmp_path / "model")
    pairs = {"text_types": ("sci", "caption"), "text_per": "batch"}
    config = config_of(table, model, pairs=pairs, base={"caption_head": "new"}, schedule={"objective": "siglip"})
    parts = read_clip(model)
    begun = trainable_model(parts, config)
    assert begun.logit_bias.item() == begun.logit_bias_caption.item() == SIGLIP_OFFSET
    scales = begun.clip.logit_scale.exp().item(), begun.logit_scale_caption.exp().item()
    assert scales == pytest.approx((SIGLIP_SCALE, SIGLIP_SCALE)), "those of softmax go with no offset"
    done = train(config, tmp_path / "out")
    trained = read_clip(done.model).others
    assert trained["logit_bias"].item() != trained["logit_bias_caption"].item() != SIGLIP_OFFSET
    again = trainable_model(read_clip(done.model), config_of(table, done.model, schedule={"objective": "siglip"}))
    assert again.logit_bias_caption.item() == trained["logit_bias_caption"].item()
    assert again.clip.logit_scale.item() == read_clip(done.model).model.logit_scale.item()


def test_a_siglip_goes_on_with_its_own_scale_and_offset_also_above_the_ceiling(table, tmp_path):
    published = make_siglip_folder(tmp_path / "model")
    with torch.no_grad():
        published.logit_scale.fill_(math.log(117.33))
        published.logit_bias.fill_(-12.93)
    published.save_pretrained(tmp_path / "model")
    optimiser, objective = {"learning_rate": 1e-6}, {"objective": "siglip"}
    begun = trainable_model(read_clip(tmp_path / "model"), config_of(table, tmp_path / "model", schedule=objective))
    assert begun.logit_bias is None
    assert begun.clip.logit_bias.item() == pytest.approx(-12.93)
    done = train(config_of(table, tmp_path / "model", schedule=objective, optimiser=optimiser), tmp_path / "out")
    trained = read_clip(done.model).model
    assert trained.logit_scale.exp().item() == pytest.approx(117.33, abs=0.01)
    assert trained.logit_bias.item() == pytest.approx(-12.93, abs=0.01)
    softmax = train(config_of(table, tmp_path / "model", optimiser=optimiser), tmp_path / "softmax")
    assert read_clip(softmax.model).model.logit_scale.exp().item() == pytest.approx(100, abs=0.01)


def test_captions_train_a_second_projection_that_is_saved(table, tmp_path):
    model = make_model(tmp_path / "model")
    config = config_of(
        table,
        model,
        pairs={"text_types": ("sci", "caption"), "text_per": "batch"},
        base={"caption_head": "new"},
        optimiser={"average_decay": 0.5},
        schedule={"evaluations": 0},
    )
    saved = load_clip(train(config, tmp_path / "out").model, device="cpu")
    assert saved.info.heads == ("taxonomy", "caption")
    pixels = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(saved.embed_images(pixels, "caption"), saved.embed_images(pixels), atol=1e-4)


@pytest.mark.parametrize("heads", [(), ("visual.caption_proj", "logit_scale_caption"), ("visual.continual_proj",)])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_clip_of_open_clip_is_saved_as_one_of_transformers_and_is_the_same(heads, quick_gelu, tmp_path):
    extra = {name: torch.randn(()) if "scale" in name else torch.randn(32, 16) for name in heads}
    given, saved = tmp_path / "given", tmp_path / "saved"
    make_model(given, extra_tensors=extra, quick_gelu=quick_gelu, resize_mode="squash")
    parts = read_clip(given)
    saved.mkdir()
    save_transformers(parts.model, parts.others, parts.preprocessing, parts.files, saved)
    again = read_clip(saved)
    assert again.preprocessing == parts.preprocessing
    for before, after in ((parts.model.state_dict(), again.model.state_dict()), (parts.others, again.others)):
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    clips = [load_clip(folder, device="cpu") for folder in (given, saved)]
    assert clips[0].info.hidden_act == clips[1].info.hidden_act
    torch.testing.assert_close(*(clip.embed_texts(TEXTS) for clip in clips), rtol=0, atol=1e-5)


def test_a_clip_that_letterboxes_is_refused_before_it_is_trained(table, tmp_path):
    model = make_model(tmp_path / "model", resize_mode="longest")
    with pytest.raises(BackboneError, match=r"no processor that letterboxes images .* choose another --model"):
        train(config_of(table, model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": {"batch_size": 25}}, "a step of 25 pairs is larger than the data, which have 24"),
        ({"pairs": {"text_types": ("trait",)}}, "no image of .* has a text of the type trait; there is caption, com"),
        ({"pairs": {"sampling": "distinct"}}, "there are 4 species for a step of 8 pairs"),
        (
            {"base": {"caption_head": "own"}, "pairs": {"text_types": ("caption",)}},
            "no caption head of its own; choose --caption-head new",
        ),
        ({"schedule": {"batch_size": 24}, "base": {"lora_rank": 2}}, "--lora-rank needs peft"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(options, message, table, tmp_path):
    model = make_model(tmp_path / "model")
    with pytest.raises((ConfigError, CollectionError), match=message) as caught:
        train(config_of(table, model, **options), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


LACKING = r"8 of 24 images .* no text of the type caption, the first blue-0\.png"


@pytest.mark.parametrize(
    ("pairs", "n_pairs"),
    [
        ({"text_types": ("sci", "caption")}, 24),
        ({"text_types": ("caption",)}, 16),
        ({"text_types": ("caption",), "text_per": "batch"}, 16),
        ({"text_types": ("sci", "caption"), "without_text": "drop"}, 16),
        ({"text_types": ("sci", "caption"), "text_per": "batch", "without_text": "drop"}, 16),
    ],
)
def test_images_without_a_caption_are_counted_and_trained_on_what_else_they_have(tmp_path, caplog, pairs, n_pairs):
    caplog.set_level("INFO", logger="sae_traits")
    table = make_table(tmp_path / "squares", without_caption=(0, 3))
    config = config_of(table, make_model(tmp_path / "model"), pairs=pairs, schedule={"epochs": 1})
    assert train(config, tmp_path / "out").n_pairs == n_pairs
    assert re.search(LACKING, caplog.text)
    assert ("8 of 24 images have no text of" in caplog.text) == (n_pairs == 16)


@pytest.mark.parametrize(
    ("pairs", "advice"),
    [
        ({"text_types": ("sci", "caption"), "text_per": "batch"}, "--text-per batch .*--without-text drop, or choose"),
        ({"text_types": ("sci", "caption"), "without_text": "refuse"}, "choose other --text-types, or another"),
    ],
)
def test_images_without_a_caption_are_refused_where_a_step_or_the_user_wants_one_of_all(tmp_path, pairs, advice):
    table = make_table(tmp_path / "squares", without_caption=(0, 3))
    with pytest.raises(CollectionError, match=f"{LACKING}.*{advice}"):
        train(config_of(table, make_model(tmp_path / "model"), pairs=pairs), tmp_path / "out")


def test_a_text_is_of_a_type_that_the_image_has_in_the_shares_of_those():
    types, weights = ("sci", "trait", "caption"), (1.0, 5.0, 3.0)
    said = [
        choose_text({"sci": ("name",), "caption": ("caption",)}, types, weights, np.random.default_rng(seed))
        for seed in range(2000)
    ]
    assert {*said} == {"name", "caption"}
    assert said.count("caption") == pytest.approx(1500, abs=80)


def test_texts_that_the_model_cuts_are_counted_and_said(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    table = make_table(tmp_path / "squares")
    short = re.sub(r"A \w+ square, number (\d)", r"\1", table.read_text())
    table.write_text(short.replace('"0."', f'"0{" and so on" * 40}."'))
    config = config_of(
        table, make_model(tmp_path / "model"), pairs={"text_types": ("sci", "caption")}, schedule={"epochs": 1}
    )
    train(config, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["cut_texts"] == {"caption": {"n_cut": 1, "n_texts": 6}}
    assert "tokens are cut there: caption 1 of 6" in caplog.text


def test_a_tokenizer_of_another_model_is_refused(table, tmp_path):
    model = make_model(tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][-1] | {"id": 5000, "content": "<|more|>"})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BackboneError, match="tokenizer"):
        train(config_of(table, model), tmp_path / "out")


def test_frozen_towers_stay_as_they_are(table, tmp_path):
    model = make_model(tmp_path / "model")
    done = train(config_of(table, model, base={"freeze": ("vision",)}, schedule={"epochs": 1}), tmp_path / "out")
    before, after = read_clip(model).model.state_dict(), read_clip(done.model).model.state_dict()
    for name, tensor in before.items():
        is_frozen = name.startswith(("vision_model", "visual_projection"))
        assert torch.equal(tensor, after[name]) == (is_frozen or "position_ids" in name), name


def test_a_tracker_is_told_of_losses_and_accuracies_and_closed(table, tmp_path):
    kept, model = KeptTracker(), make_model(tmp_path / "model")
    config = config_of(table, model, schedule={"tracker": "kept"})
    finetune(config, tmp_path / "out", accelerator=Accelerator(cpu=True, log_with=[kept]))
    assert set(kept.steps[1]) == {"loss"}
    assert set(kept.steps[6]) == {"loss", "validation_accuracy"}
    assert kept.finished


def test_a_tracker_that_is_not_installed_is_named(table, tmp_path):
    config = config_of(table, tmp_path / "model", schedule={"tracker": "nothing_like_it"})
    with pytest.raises(ConfigError, match="the tracker 'nothing_like_it' is not installed"):
        new_accelerator(config, tmp_path / "out")


def test_a_training_that_diverges_ends_at_once_and_keeps_the_last_good_checkpoint(table, tmp_path):
    config = config_of(
        table,
        make_model(tmp_path / "model"),
        optimiser={"learning_rate": 1e30, "warmup_steps": 0},
        schedule={"epochs": 20},
    )
    with pytest.raises(CheckpointError, match=r"training diverged: the loss of step [2-9] is not finite"):
        finetune(config, tmp_path / "out", accelerator=Accelerator(cpu=True), seconds_between_checkpoints=0)
    kept = torch.load(tmp_path / "out" / "training.checkpoint", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in kept["state"]["model"].values())


def test_a_validation_image_that_cannot_be_opened_any_more_is_named(table, tmp_path):
    parts = read_clip(make_model(tmp_path / "model"))
    (tmp_path / "1.png").write_bytes(b"no picture")
    samples = [
        Sample("1.png", partial(open_image, tmp_path / "1.png"), {"sci": (species,)}, species) for species in "ab"
    ]
    with pytest.raises(CollectionError, match=r"1\.png cannot be used: "):
        Validation(samples, PreparePixels(whole_image(info_of(parts))), parts.tokenizer).accuracy(
            ContrastiveModel(parts.model)
        )
