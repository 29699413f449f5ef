"""The command `finetune`: recipes, estimates, and one line for what cannot be."""

import json
from dataclasses import replace

import pytest
from clip_folders import make_tokenizer
from release.small_releases import many_images, release, traits_of
from small_pairs import make_model, make_shard, make_table

from sae_traits.cli import main
from sae_traits.cli.training import RECIPES
from sae_traits.config.finetune import FinetuneConfig, PairsConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import build
from sae_traits.contrastive.samples import read_samples
from sae_traits.errors import ConfigError
from sae_traits.release.exports import export

NEEDED = {"pairs": {"data": "DATA"}, "base": {"model": "MODEL"}}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    data = str(make_table(folder / "squares"))
    return ["finetune", "--data", data, "--model", str(make_model(folder / "model")), "--workers", "0"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_and_says_where_its_values_are_from(name):
    recipe = recipe_file(f"finetune/{name}.yaml")
    config = build(FinetuneConfig, read_config(recipe, FinetuneConfig), NEEDED)
    assert (config.optimiser.beta2, config.optimiser.epsilon, config.optimiser.weight_decay) == (0.98, 1e-6, 0.2)
    assert "#" in recipe.read_text()
    published = {"bioclip-traits": None, "bioclip2-hierarchical": (90112, 1875), "biocap-captions": (32768, 500)}[name]
    if published is not None:
        assert (config.schedule.batch_size, config.optimiser.warmup_steps) == published
        assert config.pairs.text_per == "batch"
        assert config.optimiser.learning_rate == 1e-4


def test_an_estimate_counts_steps_images_operations_and_memory(words, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--batch-size", "6", "--epochs", "3", "--out", str(out), "--estimate", "--format", "json"]
    assert main([*words, *options]) == 0
    estimated = json.loads(capsys.readouterr().out)
    assert (estimated["n_images"], estimated["n_steps"], estimated["n_pairs_seen"]) == (24, 12, 72)
    assert not out.exists()
    assert main([*words, *options, "--chunk-size", "2"]) == 0
    chunked = json.loads(capsys.readouterr().out)
    assert chunked["flop"] * 3 == estimated["flop"] * 4
    assert chunked["memory_bytes"] < estimated["memory_bytes"]


def test_a_training_from_the_command_line(words, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--batch-size", "8", "--epochs", "1", "--text-types", "sci,com", "--text-weights", "1,3"]
    assert main([*words, *options, "--out", str(out)]) == 0
    assert "3 steps on 24 images" in capsys.readouterr().out
    assert (out / "model" / "config.json").is_file()


def test_a_finished_training_is_not_done_again_nor_replaced_by_another(words, tmp_path, capsys):
    out = tmp_path / "out"
    again = [*words, "--batch-size", "8", "--epochs", "1", "--out", str(out)]
    assert main(again) == 0
    said, made = capsys.readouterr().out, {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(again) == 0
    second = capsys.readouterr()
    assert second.out == said
    assert "complete and its inputs have not changed, skipped" in second.err
    assert main([*again, "--epochs", "2"]) == 1
    assert "has a finished training of other settings, data or model" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == made
    weights = out / "model" / "model.safetensors"
    trained = weights.read_bytes()
    weights.write_bytes(trained[:-4])
    assert main(again) == 0
    why = "model.safetensors of the model is not as training wrote it, so the model is trained again"
    assert why in capsys.readouterr().err
    assert weights.read_bytes() == trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "biocap-captions"], "a step of 32768 pairs is larger than the data, which have 24"),
        (["--recipe", "bioclip-traits"], "has a text of the type trait"),
        (["--text-types", "sci,fur"], "--text-types has 'fur'"),
        (["--text-types", "caption", "--caption-head", "own", "--text-per", "batch"], "has no caption head of its own"),
        (["--text-types", "sci,caption", "--caption-head", "new"], "choose --text-per batch"),
        (["--replay", "x"], "--replay and --replay-batch-size go together"),
        (["--batch-size", "25"], "choose a --batch-size of at most 24"),
        (["--batch-size", "8", "--replay", "DATA", "--replay-batch-size", "32"], "--replay-batch-size of at most 24"),
        (["--data", "SOME", "--text-types", "sci,caption", "--text-per", "batch"], "4 of 24 images of "),
        (["--data", "SOME", "--text-types", "caption", "--without-text", "refuse"], "4 of 24 images of "),
        (["--data", "KEYS"], "its shards must have these keys"),
        (["--model", "FOREIGN"], "has 302 tokens, and the model knows 322; they must be of the same model"),
        (["--freeze", "vision,text"], "nothing is left to train"),
    ],
)
def test_what_cannot_be_is_one_line(words, options, message, tmp_path, capsys):
    foreign = make_model(tmp_path / "foreign")
    make_tokenizer(300).save(str(foreign / "tokenizer.json"))
    some = make_table(tmp_path / "squares", without_caption=(0,))
    image = (tmp_path / "squares" / "red-0.png").read_bytes()
    places = {
        "DATA": words[2],
        "SOME": some,
        "KEYS": make_shard(tmp_path / "keys.tar", {"0": {"png": image, "cls": "3"}}),
        "FOREIGN": foreign,
    }
    options = [str(places.get(word, word)) for word in options]
    assert main([*words, *options, "--out", str(tmp_path / "out")]) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("sae-traits finetune: ")
    assert not (tmp_path / "out").exists()


def test_names_without_a_common_one_are_said_to_be_without(words, caplog):
    config = PairsConfig(data=words[2], text_types=("sci", "com", "taxon_com"), workers=0)
    read_samples(config)
    assert "has a common name, so com, taxon_com are the text without one; give them with --common-names" in caplog.text


def test_an_unknown_section_of_a_file_is_named(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("train: {}\n")
    with pytest.raises(ConfigError, match="there are pairs, base, schedule, optimiser"):
        read_config(file, FinetuneConfig)


def test_a_released_dataset_gives_traits_and_names(tmp_path):
    collection = many_images(tmp_path / "photographs", 12)
    release(tmp_path / "dataset", collection, traits_of(collection, 2))
    config = PairsConfig(data=str(tmp_path / "dataset"), text_types=("trait",), without_text="drop")
    samples = read_samples(config)
    assert samples
    for sample in samples:
        assert sample.texts["trait"] == (f"A photo of {sample.species} with a small area",) * 2
        assert sample.texts["sci"] == (f"a photo of {sample.species}.",)
        assert sample.open().mode == "RGB"


def test_an_image_of_a_run_that_has_a_name_and_no_trait_is_trained_on_its_name(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    collection = many_images(tmp_path / "photographs", 12)
    release(tmp_path / "dataset", collection, traits_of(collection, 2))
    config = PairsConfig(data=str(tmp_path / "dataset"), text_types=("sci", "trait"))
    with_trait = read_samples(replace(config, without_text="drop"))
    caplog.clear()
    samples = read_samples(config)
    alone = [sample for sample in samples if "trait" not in sample.texts]
    assert len(samples) == len(with_trait) + len(alone) > len(with_trait)
    of = f"{len(alone)} of {len(samples)} images of {config.data}"
    assert f"{of} have no text of the type trait, the first {alone[0].name}" in caplog.text
    assert "left out" not in caplog.text


def test_shards_that_were_exported_say_what_the_dataset_says_captions_included(tmp_path):
    collection = many_images(tmp_path / "photographs", 24)
    release(tmp_path / "dataset", collection, traits_of(collection, 2))
    exported = export(str(tmp_path / "dataset"), "webdataset", tmp_path / "shards")
    assert exported.counts["captions"] + exported.counts["captions of images without a trait left out"] == 16
    wanted = {"text_types": ("trait", "sci", "caption"), "without_text": "drop"}
    whole = read_samples(PairsConfig(data=str(tmp_path / "dataset"), **wanted))
    samples = read_samples(PairsConfig(data=str(tmp_path / "shards"), **wanted))
    assert {sample.name.split("/")[0] for sample in samples} == {"train-000000.tar"}, "and none of the split test"
    assert len(samples) == 2 * len(whole) > 0, "a sample per trait"
    by_caption = {sample.texts["caption"]: sample for sample in whole}
    for sample in samples:
        expected = by_caption[sample.texts["caption"]]
        assert (sample.species, sample.license) == (expected.species, expected.license)
        assert sample.license is not None
        assert sample.texts == {**expected.texts, "trait": expected.texts["trait"][:1]}
        assert sample.open().size[0] == 256


def test_a_run_gives_its_dataset_and_nothing_is_said_of_its_other_files(tmp_path, caplog):
    collection = many_images(tmp_path / "photographs", 12)
    release(tmp_path / "run" / "dataset", collection, traits_of(collection, 2))
    for name in ("config.yaml", "images.parquet", "problems.csv"):
        (tmp_path / "run" / name).touch()
    samples = read_samples(PairsConfig(data=str(tmp_path / "run"), text_types=("trait",), without_text="drop"))
    assert samples
    assert samples[0].texts["trait"] == (f"A photo of {samples[0].species} with a small area",) * 2
    assert "is not read" not in caplog.text
