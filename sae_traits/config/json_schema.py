"""The JSON schema of a configuration file, from the same tree that reads it, for editors and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from sae_traits.config.tree import (
    Variants,
    as_dict,
    branches_of,
    default_of,
    fields_of,
    hints,
    is_required,
    kind_of,
    leaves_of,
    requiring,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(root: type, title: str) -> dict[str, Any]:
    """The schema of the YAML of a configuration; nothing is required, since the command line may say the rest."""
    return {"$schema": DIALECT, "title": title, **_section(root)}


def _section(section: type) -> dict[str, Any]:
    """A dataclass that stands at a place, alone or as one of several variants."""
    kind = kind_of(section)
    properties: dict[str, Any] = {} if kind is None else {"kind": {"const": kind}}
    properties |= {name: _leaf(section, name, field) for name, field in leaves_of(section).items()}
    properties |= {name: _branch(fields_of(section)[name], inner) for name, inner in branches_of(section).items()}
    description = str(section.__doc__).partition("\n")[0]
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _branch(field: Field[Any], variants: Variants) -> dict[str, Any]:
    """A place where a section stands, or one of several variants: by its options, or by a text that chooses it."""
    value = None if is_required(field) else default_of(field)
    if len(variants) == 1 and (value is not None or is_required(field)):
        return _section(next(iter(variants.values())))
    default = None if value is None else type(value)
    sections = [_section(each) | ({} if each is default else _needed(variants, each)) for each in variants.values()]
    is_open = any(hasattr(variant, "open_field") for variant in variants.values())
    kinds = [kind for kind in variants if kind is not None]
    texts = [{"type": "string"}] if is_open else [{"enum": kinds}] if kinds else []
    return {"description": field.metadata["help"], "anyOf": [*texts, *sections, {"type": "null"}]}


def _needed(variants: Variants, variant: type) -> dict[str, Any]:
    """By what a variant is chosen that is not the default: its kind, or an option that only it requires."""
    kind = kind_of(variant)
    ways = [] if kind is None else ["kind"]
    ways += [name for name in leaves_of(variant) if requiring(variants, name) == [kind]]
    return {"anyOf": [{"required": [way]} for way in ways]}


def _leaf(section: type, name: str, field: Field[Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter

    schema: Mapping[str, Any] = TypeAdapter(hints(section)[name]).json_schema()
    about = {"description": field.metadata["help"]} if field.metadata.get("help") else {}
    value = {} if is_required(field) else {"default": as_dict(default_of(field))}
    return {**schema, **about, **value}
