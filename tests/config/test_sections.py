import dataclasses
from pathlib import Path

import pytest

from sae_traits.config import SECTIONS, RunConfig, section_of
from sae_traits.config.layers import read_config, resolve
from sae_traits.errors import ConfigError


def test_later_layers_win_and_values_become_the_fields_types():
    config = resolve({"train": {"k": 3, "n_latents": 8}}, {"train": {"k": "5"}}, {"features": {"layer": "-2"}})
    assert (config.train.k, config.train.n_latents, config.features.layer) == (5, 8, -2)


def test_yaml_round_trip(tmp_path):
    config = resolve({"collection": {"source": "photographs/Ünï"}, "contrast": {"contrast": "paper"}})
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert resolve(read_config(tmp_path / "run.yaml")) == config


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    assert resolve(read_config(tmp_path / "run.yaml")) == RunConfig()


def test_option_names_are_unique_so_that_they_need_no_prefix():
    names = [name for section in SECTIONS.values() for name in section.__dataclass_fields__]
    assert len(names) == len(set(names))
    assert section_of("layer") == "features"


def test_every_option_has_a_help_text():
    for section in SECTIONS.values():
        for field in dataclasses.fields(section):
            assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize(
    "values",
    [
        {"collection": {"validation_share": 0.6, "test_share": 0.4}},
        {"collection": {"test_share": -0.1}},
        {"features": {"workers": -1}},
        {"features": {"image_batch_size": 0}},
        {"train": {"k": 9, "n_latents": 8}},
        {"train": {"learning_rate": 0}},
        {"contrast": {"overlap": 0}},
        {"contrast": {"traits_per_image": 0}},
        {"contrast": {"contrast": "other"}},
        {"describe": {"describe_workers": 0}},
        {"release": {"longest_side": 3}},
        {"train": {"unknown": 1}},
    ],
)
def test_values_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        resolve(values)


def test_recipes_are_configurations():
    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        resolve(read_config(recipe))
