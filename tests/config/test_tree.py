import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_traits.config.benchmark import BenchmarkConfig
from sae_traits.config.describer import Measured, Server
from sae_traits.config.features import Texture, VisionModel
from sae_traits.config.finetune import FinetuneConfig
from sae_traits.config.layers import read_config, to_yaml
from sae_traits.config.regions import (
    PaperContrast,
    PCARegions,
    ReleasedLatents,
    SAERegions,
    SpecimenContrast,
    WholeImage,
)
from sae_traits.config.run import RunConfig
from sae_traits.config.train import AdoptedSAE, JumpReLU, ReLU, TopK, TrainConfig
from sae_traits.config.tree import (
    as_dict,
    branches_of,
    build,
    leaves_of,
    nest,
    options_of,
    with_absolute_paths,
    with_public_names,
)
from sae_traits.errors import ConfigError


def test_nothing_said_gives_the_defaults():
    assert build(RunConfig) == build(RunConfig, {}) == RunConfig()


def test_later_layers_win_and_text_becomes_the_fields_type():
    config = build(
        RunConfig,
        {"train": {"architecture": {"k": 3}, "n_latents": 8}},
        {"train": {"architecture": {"k": "5"}}},
        {"features": {"backbone": {"layer": "-2"}, "stream": "true"}},
    )
    assert config.train == TrainConfig(architecture=TopK(k=5), n_latents=8)
    assert config.features.backbone == VisionModel(layer=-2)
    assert config.features.stream is True


def test_yaml_python_and_the_command_line_build_the_same(tmp_path):
    config = RunConfig(
        regions=SAERegions(contrast=PaperContrast(firing_threshold=0.5), box_margin=0.25),
        describer=Server(model="Ünï/model", in_flight=8),
    )
    (tmp_path / "run.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert build(RunConfig, read_config(tmp_path / "run.yaml")) == config
    flags = {"contrast": "paper", "firing-threshold": "0.5", "box-margin": "0.25"}
    flags |= {"describer": "server", "describer-model": "Ünï/model", "in-flight": "8"}
    assert build(RunConfig, nest(RunConfig, flags)) == config
    assert build(RunConfig, as_dict(config)) == config


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    assert build(RunConfig, read_config(tmp_path / "run.yaml")) == RunConfig()


def test_a_variant_is_chosen_by_its_kind_by_a_text_or_by_an_option_that_only_it_requires():
    assert build(RunConfig, {"train": {"architecture": "relu"}}).train.architecture == ReLU()
    assert build(RunConfig, {"features": {"backbone": "texture"}}).features.backbone == Texture()
    assert build(RunConfig, {"features": {"backbone": "ORG/m"}}).features.backbone == VisionModel(model="ORG/m")
    assert build(RunConfig, {"train": {"sae": "ORG/sae"}}).train == AdoptedSAE(sae="ORG/sae")
    assert build(RunConfig, {"regions": {"contrast": {"latents": "d"}}}).regions.contrast == ReleasedLatents(
        latents="d"
    )
    assert build(RunConfig, {"zero_shot": {"clip": "ORG/clip"}}).zero_shot.clip == "ORG/clip"


def test_another_variant_forgets_what_was_said_of_the_former_and_keeps_what_they_share():
    server = {"describer": {"kind": "server", "model": "m", "in_flight": 3, "use_masks": True}}
    assert build(RunConfig, server, {"describer": "measured"}).describer == Measured(use_masks=True)
    assert build(RunConfig, server, {"describer": {"kind": "vllm"}}).describer.in_flight == 3
    assert build(RunConfig, {"train": {"sae": "a"}}, {"train": {"sae": "none"}}).train == TrainConfig()
    assert build(RunConfig, {"zero_shot": {"clip": "a", "templates": "openai"}}, {"zero_shot": None}).zero_shot is None
    narrow = {"regions": {"contrast": {"firing_quantile": 0.5}, "max_overlap": 0.1}}
    assert build(RunConfig, narrow, {"regions": "pca"}).regions == PCARegions(
        contrast=SpecimenContrast(firing_quantile=0.5), max_overlap=0.1
    )
    assert build(RunConfig, narrow, {"regions": "whole"}).regions == WholeImage()


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [{"describer": {"base_url": "x"}}],
            "--base-url is an option of --describer server, not of --describer measured",
        ),
        ([{"train": {"architecture": {"kind": "relu", "k": 3}}}], "--k is an option of --architecture topk"),
        ([{"train": {"sae": "a", "n_latents": 3}}], "--n-latents is an option of --train new, not of --train adopted"),
        ([{"train": {"sae": "a"}}, {"train": {"seed": 3}}], "--seed is an option of --train new"),
        (
            [{"features": {"backbone": {"kind": "texture", "layer": 3}}}],
            "--layer is an option of --backbone vision_model",
        ),
        ([{"regions": {"kind": "whole", "box_margin": 1}}], "--box-margin is an option of --regions sae"),
        ([{"regions": {"kind": "pca", "contrast": {"latents": "a"}}}], "there is no option 'latents' in .*contrast"),
        ([{"zero_shot": {"templates": "one"}}], "--templates needs --clip"),
        ([{"describer": "server"}], "--describer server needs --describer-model"),
        (
            [{"describer": "serve"}],
            "must be one of measured, server, .*not 'serve'; did you mean server",
        ),
        ([{"train": {"n_latent": 3}}], "no option 'n_latent' in the section `train`; did you mean n_latents"),
        ([{"train": 3}], "`train` must hold options"),
        ([{"train": {"n_latents": "many"}}], "train.n_latents: must be a whole number, not 'many'"),
        ([{"train": {"architecture": {"k": "x"}}}], "train.architecture.k: must be a whole number, not 'x'"),
        ([{"collection": {"validation_share": 0.6, "test_share": 0.4}}], "together < 1"),
        ([{"collection": {"test_share": -0.1}}], "must be 0 or more"),
        ([{"features": {"workers": -1}}], "workers must be 0 or more, not -1"),
        ([{"features": {"image_batch_size": 0}}], "image_batch_size must be 1 or more, not 0"),
        ([{"train": {"architecture": {"k": 9}, "n_latents": 8}}], r"k \(9\) cannot exceed n_latents \(8\)"),
        ([{"train": {"architecture": {"k": 0}}}], "k must be 1 or more, not 0"),
        ([{"train": {"learning_rate": 0}}], "learning_rate must be positive, not 0"),
        ([{"train": {"seed": -1}}], "seed must be a whole number from 0"),
        ([{"regions": {"max_overlap": 0}}], "max_overlap"),
        ([{"regions": {"traits_per_image": 0}}], "traits_per_image"),
        ([{"regions": {"contrast": {"firing_quantile": 1}}}], "firing_quantile"),
        ([{"describer": {"workers": 0}}], "workers must be 1 or more"),
        ([{"release": {"longest_side": 3}}], "longest_side must be 32 or more, not 3"),
        ([{"collection": {"labels": False}}], "--latents"),
        (
            [
                {
                    "regions": {"label_free": True},
                    "describer": {"kind": "vllm", "model": "m", "name_species": 1},
                }
            ],
            "--name-species would tell",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_that_says_what_to_do(layers, words):
    with pytest.raises(ConfigError, match=words) as caught:
        build(RunConfig, *layers)
    assert "\n" not in str(caught.value)


def test_a_flag_names_one_option():
    flags: dict[str, tuple[str, ...]] = {}
    for option in options_of(RunConfig):
        assert flags.setdefault(option.flag, option.path) == option.path, option.flag


def test_variants_agree_on_the_options_that_they_share():
    seen = {}
    for option in options_of(RunConfig):
        about = option.hint, option.field.metadata["metavar"]
        assert seen.setdefault(option.flag, about) == about, option.flag


def test_every_option_and_every_variant_says_what_it_is():
    for option in options_of(RunConfig):
        assert option.field.metadata["help"].endswith("."), option.flag
    for section in all_sections(RunConfig):
        assert section.__doc__.strip().endswith("."), section
        assert not section.__doc__.startswith(section.__name__), section


def all_sections(section):
    yield section
    for variants in branches_of(section).values():
        for variant in variants.values():
            yield from all_sections(variant)


def test_a_section_is_frozen():
    for section in all_sections(RunConfig):
        assert section.__dataclass_params__.frozen, section
        assert all(field.kw_only for field in dataclasses.fields(section))


def test_paths_that_are_here_become_absolute_and_are_shown_by_name(tmp_path, monkeypatch):
    (tmp_path / "moths").mkdir()
    monkeypatch.chdir(tmp_path)
    given = nest(RunConfig, {"source": "moths", "backbone": "ORG/model", "sae": "moths", "image-cache": "new"})
    config = with_absolute_paths(build(RunConfig, given))
    assert config.collection.source == config.train.sae == str(tmp_path / "moths")
    assert config.features.backbone.model == "ORG/model"
    assert config.collection.image_cache == str(tmp_path / "new"), "it will be made"
    shown = with_public_names(config)
    assert (shown.collection.source, shown.train.sae, shown.features.backbone.model) == ("moths", "moths", "ORG/model")
    assert str(tmp_path) not in to_yaml(shown)


def test_recipes_are_configurations():
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        build(RunConfig, read_config(recipe))


values = {
    "k": st.integers(1, 64),
    "n-latents": st.integers(64, 9000),
    "l0-coefficient": st.floats(0, 10),
    "max-overlap": st.floats(0.01, 1),
    "architecture": st.sampled_from(["topk", "batch_topk", "jump_relu"]),
    "regions": st.sampled_from(["sae", "pca", "random"]),
    "contrast": st.sampled_from(["specimen", "paper"]),
    "label-free": st.booleans(),
}


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries({}, optional=values))
def test_a_configuration_survives_its_own_yaml_whatever_was_said(options):
    import yaml

    if options.get("architecture") != "jump_relu":
        options.pop("l0-coefficient", None)
    config = build(RunConfig, nest(RunConfig, options))
    assert build(RunConfig, yaml.safe_load(to_yaml(config))) == config
    if "k" in options:
        assert config.train.architecture.k == options["k"]
    assert isinstance(config.train.architecture, JumpReLU) == (options.get("architecture") == "jump_relu")
    assert set(leaves_of(type(config.train.architecture))) >= {"k"}


@pytest.mark.parametrize(
    "said",
    [
        {"train": {8: 9}},
        {8: {"k": 9}},
        {"train": {"architecture": ["topk"]}},
        {"train": {"architecture": {"kind": ["topk"]}}},
        {"train": {"architecture": {"kind": 5}}},
        {"features": {"backbone": {"kind": ["texture"]}}},
    ],
)
def test_names_and_kinds_that_are_no_text_are_refused(said):
    with pytest.raises(ConfigError):
        build(RunConfig, said)


def test_none_unsets_what_has_a_default_where_it_can_be_nothing():
    of_all = {"data": "x", "model": "y"}
    assert build(FinetuneConfig, nest(FinetuneConfig, of_all)).optimiser.max_logit_scale == 100
    unset = nest(FinetuneConfig, of_all | {"max-logit-scale": "none"})
    assert build(FinetuneConfig, unset).optimiser.max_logit_scale is None
    with pytest.raises(ConfigError, match="learning_rate: must be a number, not 'none'"):
        build(FinetuneConfig, nest(FinetuneConfig, of_all | {"learning-rate": "none"}))


def test_none_is_a_value_of_an_option_that_has_it_as_one_and_unsets_others():
    assert build(BenchmarkConfig, {"templates": "none", "text_type": "none"}) == BenchmarkConfig(templates="none")
