"""CLIPs of every layout give the numbers of the libraries that they come from, or say why they cannot."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from clip_folders import (
    CONTEXT_LENGTH,
    END,
    START,
    STD,
    make_open_clip_folder,
    make_siglip_folder,
    make_tokenizer,
    make_transformers_clip_folder,
)
from hub.answers import Hub
from huggingface_hub import HfApi
from hypothesis import given, settings
from hypothesis.strategies import text
from PIL import Image
from safetensors.torch import load_file, save_file

from sae_traits.errors import BackboneError
from sae_traits.features.model_files import ModelFiles
from sae_traits.geometry import Framing
from sae_traits.models.clip.model import CLIP, load_clip
from sae_traits.models.clip.open_clip_config import transformers_config
from sae_traits.models.clip.tokens import clean_text, transformers_tokenizer, wants_small_letters

TEXTS = ["a photo of Apis mellifera.", "a moth", "", "long antennae " * 20]
WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "open_clip"
    make_open_clip_folder(folder)
    return folder


@pytest.fixture(scope="module")
def clip(open_clip_folder: Path) -> CLIP:
    return load_clip(open_clip_folder, device="cpu")


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features_of(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What transformers computes."""
    with torch.no_grad():
        return model.get_image_features(pixel_values=pixels).pooler_output


def text_features_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What transformers computes from ids padded to the whole context length."""
    with torch.no_grad():
        return model.get_text_features(input_ids=ids).pooler_output


def edit_json(path: Path, *keys: str, value: Any) -> None:
    """Change one setting of a JSON file."""
    values = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))


# --- against open_clip itself ---


@pytest.fixture(scope="module", params=["gelu", "quickgelu"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIP, Path, Path]:
    """A CLIP of open_clip with its tokenizer, its folder, and the folder of what all of them share."""
    if not (shared := os.environ.get("SAE_TRAITS_SHARED")):
        pytest.skip("SAE_TRAITS_SHARED is not set: open_clip's outputs are not in the repository, being large")
    source = Path(shared) / "golden" / "open_clip"
    folder = tmp_path_factory.mktemp(request.param)
    for file in (source / request.param).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "tokenizer").symlink_to(source / "tokenizer")
    return load_clip(folder, device="cpu"), folder, source


def test_features_are_those_of_open_clip(published: tuple[CLIP, Path, Path]):
    clip, folder, source = published
    expected = load_file(folder / "expected.safetensors")
    texts = json.loads((source / "texts.json").read_text())["texts"]
    assert (clip.image_features(expected["pixel_values"]) - expected["image_features"]).abs().max() < 1e-4
    assert (clip.text_features(texts) - expected["text_features"]).abs().max() < 1e-4
    assert clip.info.hidden_act == {"gelu": "gelu", "quickgelu": "quick_gelu"}[folder.name.rstrip("0123456789")]


def test_token_ids_are_those_of_open_clip(published: tuple[CLIP, Path, Path]):
    clip, _, source = published
    expected = json.loads((source / "texts.json").read_text())
    assert clip.tokenize(expected["texts"]).tolist() == expected["input_ids"]
    is_cut = [clip.count_tokens(text) > clip.context_length for text in expected["texts"]]
    assert is_cut == [False] * 4 + [True] + [False] * 3
    assert [clip.count_tokens(expected["texts"][row]) for row in (0, 6)] == [10, 2]


def test_pixels_are_those_of_open_clip(published: tuple[CLIP, Path, Path]):
    clip, _, source = published
    expected = load_file(source / "preprocessed.safetensors")["pixel_values"][0]
    with Image.open(source / "non_square.png") as image:
        prepared = clip.prepare(image.convert("RGB"))
    assert ((prepared - expected).abs() * torch.tensor(STD)[:, None, None]).mean() < 2 / 255


# --- open_clip's layout ---


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_an_open_clip_folder_gives_what_its_model_gives(tmp_path: Path, pixels: torch.Tensor, quick_gelu: bool):
    model = make_open_clip_folder(tmp_path, quick_gelu=quick_gelu, head_width=8)
    clip = load_clip(tmp_path, device="cpu")
    torch.testing.assert_close(clip.image_features(pixels), features_of(model, pixels))
    torch.testing.assert_close(clip.text_features(TEXTS), text_features_of(model, clip.tokenize(TEXTS)))
    assert clip.caption_projection is None


def test_the_kind_of_gelu_changes_the_numbers(tmp_path: Path, clip: CLIP, pixels: torch.Tensor):
    make_open_clip_folder(tmp_path, quick_gelu=True)
    quick = load_clip(tmp_path, device="cpu")
    assert (quick.image_features(pixels) - clip.image_features(pixels)).abs().max() > 1e-3


def test_info_records_what_the_numbers_depend_on(clip: CLIP, open_clip_folder: Path):
    values = json.loads(json.dumps(clip.info.to_dict()))
    assert values["model"] == str(open_clip_folder)
    assert values["revision"].startswith("sha256:")
    assert values["framing"] == {"mode": "crop", "size": [32, 32], "shortest_side": 32, "resample": "bicubic"}
    rest = {name: values[name] for name in ("layout", "hidden_act", "context_length", "embed_dim", "heads")}
    assert rest == {
        "layout": "open_clip",
        "hidden_act": "gelu",
        "context_length": CONTEXT_LENGTH,
        "embed_dim": 16,
        "heads": ["taxonomy"],
    }
    assert values["n_parameters"] == sum(t.numel() for t in load_file(open_clip_folder / WEIGHTS).values())


def test_the_revision_follows_the_weights(tmp_path: Path, clip: CLIP):
    make_open_clip_folder(tmp_path / "same")
    make_open_clip_folder(tmp_path / "other", seed=1)
    assert load_clip(tmp_path / "same", device="cpu").info.revision == clip.info.revision
    assert load_clip(tmp_path / "other", device="cpu").info.revision != clip.info.revision


def test_embeddings_have_unit_length_and_there_may_be_none(clip: CLIP, pixels: torch.Tensor):
    for embeddings in (clip.embed_images(pixels), clip.embed_texts(TEXTS)):
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
        assert not embeddings.requires_grad
    assert clip.embed_images(pixels[:0]).shape == clip.embed_texts([]).shape == (0, 16)


def test_batches_do_not_change_embeddings(clip: CLIP):
    texts = [f"a moth with {n} eyes and {'very ' * (n % 9)}long antennae" for n in range(70)]
    together, alone = clip.embed_texts(texts), torch.cat([clip.embed_texts([one]) for one in texts])
    torch.testing.assert_close(together, alone)
    images = torch.randn(40, 3, 32, 32)
    torch.testing.assert_close(clip.embed_images(images)[35:], clip.embed_images(images[35:]))


def test_the_preparation_of_images_travels_without_weights(clip: CLIP):
    pickled = pickle.dumps(clip.prepare)
    assert len(pickled) < 5000
    image = Image.linear_gradient("L").convert("RGB")
    prepared = pickle.loads(pickled)(image)
    assert prepared.shape == (3, 32, 32)
    assert torch.equal(prepared, clip.prepare(image))


@pytest.mark.parametrize(
    ("resize_mode", "mode"), [("shortest", "crop"), ("squash", "squash"), ("longest", "letterbox")]
)
def test_images_are_framed_as_the_config_says(tmp_path: Path, resize_mode: str, mode: str):
    make_open_clip_folder(tmp_path, resize_mode=resize_mode)
    assert load_clip(tmp_path, device="cpu").info.framing.mode == mode


def test_images_are_framed_as_the_user_says(open_clip_folder: Path, tmp_path: Path):
    make_siglip_folder(tmp_path)
    assert load_clip(open_clip_folder, framing="squash", device="cpu").info.framing == Framing(
        mode="squash", size=(32, 32)
    )
    assert load_clip(tmp_path, framing="crop", device="cpu").info.framing == Framing(
        mode="crop", size=(32, 32), shortest_side=32
    )


def test_the_projection_for_continual_learning_is_dropped(tmp_path: Path, clip: CLIP, pixels: torch.Tensor):
    make_open_clip_folder(tmp_path, extra_tensors={"visual.continual_proj": torch.randn(32, 16)})
    torch.testing.assert_close(load_clip(tmp_path, device="cpu").image_features(pixels), clip.image_features(pixels))


def test_captions_have_their_own_projection(tmp_path: Path, pixels: torch.Tensor):
    projection = torch.randn(32, 16)
    extra = {"visual.caption_proj": projection, "logit_scale_caption": torch.tensor(3.0)}
    model = make_open_clip_folder(tmp_path, extra_tensors=extra)
    clip = load_clip(tmp_path, device="cpu")
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=pixels).pooler_output
    torch.testing.assert_close(clip.image_features(pixels, head="caption"), pooled @ projection)
    torch.testing.assert_close(clip.image_features(pixels), features_of(model, pixels))
    assert clip.info.heads == ("taxonomy", "caption")
    assert clip.info.n_parameters == model.num_parameters() + projection.numel()


def test_a_head_that_a_model_lacks_is_refused(clip: CLIP, pixels: torch.Tensor):
    with pytest.raises(BackboneError, match="no image head 'caption', only taxonomy"):
        clip.embed_images(pixels, head="caption")


def test_a_pickled_training_checkpoint_is_read(tmp_path: Path, clip: CLIP, pixels: torch.Tensor):
    make_open_clip_folder(tmp_path)
    weights = {f"module.{name}": tensor for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    weights["module.logit_scale"] = weights["module.logit_scale"].reshape(1)
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / WEIGHTS).unlink()
    torch.testing.assert_close(load_clip(tmp_path, device="cpu").image_features(pixels), clip.image_features(pixels))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path):
    make_open_clip_folder(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    torch.save({"visual.proj": Path("anything")}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"cannot read .*open_clip_pytorch_model.bin"):
        load_clip(tmp_path, device="cpu")


def test_half_precision_weights_are_computed_with_in_full(tmp_path: Path, pixels: torch.Tensor):
    model = make_open_clip_folder(tmp_path)
    save_file({name: tensor.half() for name, tensor in load_file(tmp_path / WEIGHTS).items()}, tmp_path / WEIGHTS)
    features = load_clip(tmp_path, device="cpu").image_features(pixels)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, features_of(model, pixels), rtol=0.02, atol=0.05)


def test_bioclip_2_5_has_heads_80_wide():
    vision = {"layers": 32, "width": 1280, "head_width": 80, "mlp_ratio": 4.0, "patch_size": 14, "image_size": 224}
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24, "mlp_ratio": 4.0}
    config = transformers_config({"embed_dim": 1024, "vision_cfg": vision, "text_cfg": text_cfg}, eos_id=49407)
    assert (config.vision_config.num_attention_heads, config.text_config.num_attention_heads) == (16, 16)
    assert (config.vision_config.intermediate_size, config.projection_dim) == (5120, 1024)
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "gelu"


# --- texts ---


@settings(max_examples=50, deadline=None)
@given(words=text(max_size=60))
def test_any_text_begins_and_ends_and_fits(clip: CLIP, words: str):
    tokenizer = make_tokenizer()
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    ids = clip.tokenize([words])[0].tolist()
    seen = min(clip.count_tokens(words), CONTEXT_LENGTH)
    assert len(ids) == CONTEXT_LENGTH
    assert ids[0] == start
    assert ids.index(end) == seen - 1
    assert ids[seen:] == [0] * (CONTEXT_LENGTH - seen)


def test_what_is_cut_off_changes_nothing(clip: CLIP):
    long = "dark wings " * 30
    assert [clip.count_tokens(text) > CONTEXT_LENGTH for text in (long, "dark wings")] == [True, False]
    torch.testing.assert_close(clip.embed_texts([long]), clip.embed_texts([long + "and a pale band"]))
    assert (clip.embed_texts([long]) - clip.embed_texts(["dark wings"])).abs().max() > 1e-3


def test_text_is_cleaned_as_open_clip_does():
    assert clean_text("  a &amp;amp; b\n\t“c” d’s ") == 'a & b "c" d\'s'


def test_a_vocabulary_with_merges_in_a_subfolder_is_read_as_clip_does(tmp_path: Path, open_clip_folder: Path):
    for file in (WEIGHTS, CONFIG):
        (tmp_path / file).write_bytes((open_clip_folder / file).read_bytes())
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "mo", "th</w>"]
    tokens += [f"unused{n}" for n in range(320 - len(tokens))] + [START, END]
    ids = {token: index for index, token in enumerate(tokens)}
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\nm o\nt h</w>\n")
    clip = load_clip(tmp_path, device="cpu")
    expected = [ids[token] for token in (START, "a</w>", "mo", "th</w>", END)]
    assert clip.tokenize(["A moth"])[0, :6].tolist() == [*expected, 0]


# --- the layout of transformers ---


def test_a_clip_of_transformers_is_taken_as_it_is(tmp_path: Path, pixels: torch.Tensor):
    model = make_transformers_clip_folder(tmp_path)
    clip = load_clip(tmp_path, device="cpu")
    torch.testing.assert_close(clip.image_features(pixels), features_of(model, pixels))
    torch.testing.assert_close(clip.text_features(TEXTS), text_features_of(model, clip.tokenize(TEXTS)))
    assert (clip.info.layout, clip.info.embed_dim, clip.info.context_length) == ("transformers", 16, CONTEXT_LENGTH)
    assert clip.info.framing.mode == "crop"


def test_both_layouts_of_one_model_give_the_same(tmp_path: Path, clip: CLIP, pixels: torch.Tensor):
    make_transformers_clip_folder(tmp_path)
    other = load_clip(tmp_path, device="cpu")
    torch.testing.assert_close(other.embed_images(pixels), clip.embed_images(pixels))
    torch.testing.assert_close(other.embed_texts(TEXTS), clip.embed_texts(TEXTS))


def test_siglip_2_reads_small_letters_whatever_its_tokenizer_keeps(tmp_path: Path):
    make_siglip_folder(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text()) | {"normalizer": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    files, text_config = ModelFiles.find(str(tmp_path)), hf.SiglipTextConfig(pad_token_id=0)
    kept = transformers_tokenizer(files, text_config)
    assert kept.encode("Uria aalge") != kept.encode("uria aalge")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"do_lower_case": True}))
    lowered = transformers_tokenizer(files, text_config)
    assert lowered.encode("Uria aalge") == lowered.encode("uria aalge")
    assert wants_small_letters({"tokenizer_class": "GemmaTokenizerFast"}, "siglip_text_model")
    assert not wants_small_letters({"tokenizer_class": "GemmaTokenizer"}, "gemma")


def test_siglip_sees_its_texts_padded_to_the_whole_length(tmp_path: Path, pixels: torch.Tensor):
    model = make_siglip_folder(tmp_path)
    clip = load_clip(tmp_path, device="cpu")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path, pad_token=END)
    tokenizer.pad_token_id = 0
    # Short texts, since a long one among them would be reason enough to pad.
    ids = tokenizer(TEXTS[:3], padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    torch.testing.assert_close(clip.image_features(pixels), features_of(model, pixels))
    torch.testing.assert_close(clip.text_features(TEXTS[:3]), text_features_of(model, ids))
    assert (clip.info.framing.mode, clip.info.hidden_act) == ("squash", "gelu_pytorch_tanh")


# --- what cannot be used ---


def copied(source: Path, folder: Path) -> Path:
    """A copy of a model's folder, to be spoilt."""
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def spoil_weights(folder: Path, change: Any) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def test_a_missing_tensor_is_named(open_clip_folder: Path, tmp_path: Path):
    folder = copied(open_clip_folder, tmp_path)
    spoil_weights(folder, lambda weights: weights.pop("visual.transformer.resblocks.1.attn.in_proj_weight"))
    with pytest.raises(BackboneError, match=r"lacks the tensor visual.transformer.resblocks.1.attn.in_proj_weight"):
        load_clip(folder, device="cpu")


def test_a_tensor_left_over_is_named(open_clip_folder: Path, tmp_path: Path):
    folder = copied(open_clip_folder, tmp_path)
    spoil_weights(folder, lambda weights: weights.update({"visual.attn_pool.query": torch.zeros(2)}))
    with pytest.raises(BackboneError, match=r"1 tensors that its config knows nothing of, such as visual.attn_pool"):
        load_clip(folder, device="cpu")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("vision_cfg", "image_size"), 64, r"visual.positional_embedding is \[5, 32\], and .* says \[17, 32\]"),
        (("embed_dim",), 8, r"visual.proj is \[32, 16\], and .* says \[32, 8\]"),
        (("text_cfg", "width"), 32, r"is \[\d+, 24\], and .* says \[\d+, 32\]"),
        (("vision_cfg", "layers"), 3, "lacks the tensor visual.transformer.resblocks.2."),
        (
            ("vision_cfg", "layers"),
            1,
            "tensors that its config knows nothing of, such as visual.transformer.resblocks.1",
        ),
        (("vision_cfg", "layers"), [3, 4, 6, 3], "is of a ResNet"),
        (("vision_cfg", "timm_model_name"), "vit_base", "timm_model_name 'vit_base', which is not supported"),
        (("vision_cfg", "pool_type"), "avg", "pool_type 'avg', which is not supported"),
        (("vision_cfg", "patch_size"), [16, 14], "only squares are supported"),
        (("vision_cfg", "head_width"), 10, "makes no model"),
        (("text_cfg", "vocab_size"), 100, r"token_embedding.weight is \[322, 24\]"),
    ],
)
def test_a_checkpoint_of_another_config_is_refused(
    open_clip_folder: Path, tmp_path: Path, keys: tuple[str, ...], value: Any, message: str
):
    folder = copied(open_clip_folder, tmp_path)
    edit_json(folder / CONFIG, "model_cfg", *keys, value=value)
    with pytest.raises(BackboneError, match=message) as caught:
        load_clip(folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resize_mode", "stretch", "resize_mode 'stretch'"),
        ("interpolation", "random", "interpolation 'random'"),
        ("size", 48, "prepares images of 48 pixels for a model of 32"),
        ("mean", [0.5], "three numbers"),
    ],
)
def test_preprocessing_that_is_not_understood_is_refused(
    open_clip_folder: Path, tmp_path: Path, key: str, value: Any, message: str
):
    folder = copied(open_clip_folder, tmp_path)
    edit_json(folder / CONFIG, "preprocess_cfg", key, value=value)
    with pytest.raises(BackboneError, match=message):
        load_clip(folder, device="cpu")


def test_a_missing_tokenizer_says_what_was_looked_for(open_clip_folder: Path, tmp_path: Path):
    folder = copied(open_clip_folder, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match=r"neither tokenizer.json, nor vocab.json and merges.txt"):
        load_clip(folder, device="cpu")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(BackboneError, match="cannot be read"):
        load_clip(folder, device="cpu")


def test_a_tokenizer_whose_end_is_not_where_features_are_taken_is_refused(open_clip_folder: Path, tmp_path: Path):
    folder = copied(open_clip_folder, tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(["<|late|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(BackboneError, match="the end being the highest id"):
        load_clip(folder, device="cpu")


def test_a_transformers_folder_must_be_complete_and_of_one_model(tmp_path: Path):
    make_transformers_clip_folder(tmp_path / "clip")

    def spoilt(name: str, file: str, *keys: str, value: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        copied(tmp_path / "clip", folder)
        edit_json(folder / file, *keys, value=value)
        return folder

    mismatched = spoilt("a", "config.json", "projection_dim", value=8)
    with pytest.raises(BackboneError, match=r"projection.weight is \[16, \d+\], and config.json says \[8, \d+\]"):
        load_clip(mismatched, device="cpu")
    deeper = spoilt("b", "config.json", "vision_config", "num_hidden_layers", value=3)
    with pytest.raises(BackboneError, match=r"lack 16 tensors, such as vision_model.encoder.layers.2"):
        load_clip(deeper, device="cpu")
    shallower = spoilt("c", "config.json", "text_config", "num_hidden_layers", value=1)
    with pytest.raises(BackboneError, match=r"have left over 16 tensors, such as text_model.encoder.layers.1"):
        load_clip(shallower, device="cpu")
    other_size = spoilt("d", "preprocessor_config.json", "crop_size", value=16)
    with pytest.raises(BackboneError, match="16 x 16 pixels for a model of 32 x 32"):
        load_clip(other_size, device="cpu")
    other_end = spoilt("e", "config.json", "text_config", "eos_token_id", value=7)
    with pytest.raises(BackboneError, match=r"ends texts with the id 321, and the model takes their features at 7"):
        load_clip(other_end, device="cpu")
    few_tokens = spoilt("f", "config.json", "text_config", "vocab_size", value=300)
    with pytest.raises(BackboneError, match=r"ids up to 321, and the model knows 300 tokens"):
        load_clip(few_tokens, device="cpu")
    impossible = spoilt("g", "config.json", "vision_config", "num_attention_heads", value=5)
    with pytest.raises(BackboneError, match=r"config.json of .* is not of a model that transformers knows"):
        load_clip(impossible, device="cpu")
    for file, message in (("preprocessor_config.json", "no preprocessor_config"), ("tokenizer.json", "no tokenizer")):
        (other_end / file).unlink()
        with pytest.raises(BackboneError, match=message):
            load_clip(other_end, device="cpu")
        (other_end / file).write_bytes((tmp_path / "clip" / file).read_bytes())


def test_what_is_no_clip_is_refused(tmp_path: Path, open_clip_folder: Path):
    with pytest.raises(BackboneError, match="does not exist"):
        load_clip(tmp_path / "nowhere", device="cpu")
    with pytest.raises(BackboneError, match=r"neither open_clip_config.json nor config.json"):
        load_clip(tmp_path, device="cpu")
    hf.ViTConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"\(vit\) is not a CLIP"):
        load_clip(tmp_path, device="cpu")
    (tmp_path / CONFIG).write_text('{"model_cfg": {}}')
    with pytest.raises(BackboneError, match="no weights"):
        load_clip(tmp_path, device="cpu")
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(BackboneError, match="needs embed_dim, vision_cfg and text_cfg"):
        load_clip(tmp_path, device="cpu")
    for file in (CONFIG, "tokenizer.json"):
        (tmp_path / file).write_bytes((open_clip_folder / file).read_bytes())
    with pytest.raises(BackboneError, match=r"cannot read .*get the file again"):
        load_clip(tmp_path, device="cpu")
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(BackboneError, match="is not JSON"):
        load_clip(tmp_path, device="cpu")


def test_siglip_without_sentencepiece_is_refused_where_it_needs_it(tmp_path: Path):
    make_siglip_folder(tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", "tokenizer_class", value="SiglipTokenizer")
    with pytest.raises(BackboneError, match=r"pip install sentencepiece|cannot load the tokenizer"):
        load_clip(tmp_path, device="cpu")


# --- the Hub ---

LOAD = """
import sys
from sae_traits.errors import BackboneError
from sae_traits.models.clip.model import load_clip
for name, revision in (("museum/open", None), ("museum/plain", "v1"), ("museum/none", None), ("museum/open", "v9")):
    try:
        clip = load_clip(name, revision=revision, device="cpu")
        print(clip.info.revision, clip.info.layout, clip.embed_texts(["a moth"]).shape[1])
    except BackboneError as error:
        print(error)
"""


def load_in_a_process(environment: dict[str, str]) -> list[str]:
    """What LOAD prints, a line a model: huggingface_hub reads its environment only once a process."""
    run = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_models_are_loaded_from_the_hub_at_one_commit_and_then_without_network(
    hub: Hub, hub_environment: dict[str, str], open_clip_folder: Path, tmp_path: Path
):
    make_transformers_clip_folder(tmp_path / "clip")
    api = HfApi(endpoint=hub.url, token=hub.token)
    for name, folder in (("museum/open", open_clip_folder), ("museum/plain", tmp_path / "clip")):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=folder)
    api.create_tag("museum/plain", tag="v1")
    api.upload_file(path_or_fileobj=b"# Later", path_in_repo="README.md", repo_id="museum/plain")
    tagged = api.model_info("museum/plain", revision="v1").sha
    found = load_in_a_process(hub_environment)
    assert found[0] == f"{api.model_info('museum/open').sha} open_clip 16"
    assert found[1] == f"{tagged} transformers 16"
    assert "there is no folder museum/none" in found[2]
    assert "v9" in found[3]
    assert len(found) == 4
    hub.requests.clear()
    assert load_in_a_process(hub_environment | {"HF_HUB_OFFLINE": "1"})[:2] == found[:2]
    assert not hub.requests
