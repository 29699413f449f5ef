"""The JSON schema says of a configuration what `build` says of it."""

import json

import pytest

from sae_traits.cli import main
from sae_traits.config import RunConfig
from sae_traits.config.finetune import FinetuneConfig
from sae_traits.config.json_schema import json_schema
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import as_dict, build, options_of
from sae_traits.errors import ConfigError

TYPES = {"object": dict, "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}
SCHEMA = json_schema(RunConfig, "run")


def fits(schema, value):
    """Whether a value is as the schema says, by the keywords that ours has."""
    known = {"$schema", "title", "description", "default", "type", "properties", "required", "additionalProperties"}
    assert schema.keys() <= known | {"anyOf", "enum", "const", "items", "minItems", "maxItems", "prefixItems"}
    if "anyOf" in schema and not any(fits(one, value) for one in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if schema.get("type") == "null":
        return value is None
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(fits(schema["items"], one) for one in value)
    if schema.get("type") == "object":
        of = schema["properties"]
        assert schema["additionalProperties"] is False
        return value.keys() <= of.keys() and all(fits(of[name], one) for name, one in value.items())
    return not isinstance(value, dict) or set(schema.get("required", ())) <= value.keys()


def test_recipes_and_what_a_run_writes_fit():
    assert fits(SCHEMA, as_dict(RunConfig()))
    assert fits(SCHEMA, read_config(recipe_file("demo.yaml")))
    assert fits(SCHEMA, read_config(recipe_file("bioscan-traits.yaml")))
    finetune = json_schema(FinetuneConfig, "finetune")
    recipes = sorted(recipe_file("finetune").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert fits(finetune, read_config(recipe, FinetuneConfig)), recipe


@pytest.mark.parametrize(
    ("values", "is_right"),
    [
        ({"features": {"backbone": "facebook/dinov2-small"}}, True),
        ({"features": {"backbone": "texture"}}, True),
        ({"features": {"backbone": {"kind": "texture", "layer": 3}}}, False),
        ({"train": {"architecture": "relu"}}, True),
        ({"train": {"architecture": {"kind": "relu", "k": 3}}}, False),
        ({"train": {"architecture": "rely"}}, False),
        ({"train": {"sae": "org/sae"}}, True),
        ({"train": {"n_latent": 3}}, False),
        ({"train": {"n_latents": "many"}}, False),
        ({"describer": "measured"}, True),
        ({"describer": {"kind": "server", "model": "m", "in_flight": 8}}, True),
        ({"describer": {"kind": "measured", "in_flight": 8}}, False),
        ({"describer": {"in_flight": 8}}, False),
        ({"zero_shot": {"clip": "imageomics/bioclip"}}, True),
        ({"zero_shot": None}, True),
        ({"zero_shot": {"text_type": "taxon"}}, False),
        ({"sections": {}}, False),
    ],
)
def test_it_takes_and_refuses_what_the_program_takes_and_refuses(values, is_right):
    assert fits(SCHEMA, values) == is_right
    if is_right:
        assert build(RunConfig, values)
    else:
        with pytest.raises(ConfigError):
            build(RunConfig, values)


def test_every_option_of_every_variant_is_in_it_with_its_help(capsys):
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["properties"] == SCHEMA["properties"]
    for option in options_of(RunConfig):
        assert f'"{option.path[-1]}": {{' in printed
        assert json.dumps(option.field.metadata["help"], ensure_ascii=False) in printed
