"""Configurations as a tree: sections and variants are its branches, options its leaves.

A place in the tree is a dataclass, or a union of dataclasses of which one is chosen: its `kind` says which, or an
option that only this one requires (`--sae` adopts an SAE), or a text (`--backbone texture`, `--backbone ORG/MODEL`).
YAML, the command line and Python build the same objects:

    build(RunConfig, {"describer": {"kind": "server", "model": "qwen"}}, {"describer": {"in_flight": 8}})

Later layers win. Where a layer chooses another variant, what earlier layers said of the former one is forgotten; an
option that the chosen variant does not have is refused.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from sae_traits.errors import ConfigError

UNSET = "none"
"""The text that unsets an option without a default, or goes back to the default variant."""
_WANTED = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}
"""What pydantic's kinds of errors ask for, in words."""


@dataclass(frozen=True)
class Place:
    """A branch of the tree: what may stand there."""

    variants: Mapping[str | None, type]
    """Kind -> dataclass; the only kind of a plain section is None."""
    is_optional: bool
    """Whether nothing may stand there, too."""

    def variants_requiring(self, name: str) -> list[str | None]:
        """The kind of the variant that requires an option of this name, if it is the only one that has it."""
        having = [kind for kind, variant in self.variants.items() if name in leaves_of(variant)]
        return having if len(having) == 1 and is_required(leaves_of(self.variants[having[0]])[name]) else []


@dataclass(frozen=True)
class Option:
    """A leaf of the tree, as the command line shows it."""

    path: tuple[str, ...]
    """Names from the root, for example ("describer", "base_url")."""
    flag: str
    """Without dashes."""
    hint: Any
    field: Field[Any]
    kinds: tuple[tuple[str, ...], ...]
    """For each variant that has it, the kinds that must be chosen on the way to it, outermost first."""


@cache
def hints(section: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(section)


@cache
def place_of(hint: Any) -> Place | None:
    """The branch that a type is; None for the type of an option."""
    if is_dataclass(hint):
        return Place({kind_of(hint): hint}, False)  # pyright: ignore[reportArgumentType]
    if get_origin(hint) in (Union, types.UnionType):
        members = get_args(hint)
        classes = [member for member in members if is_dataclass(member)]
        if classes:
            return Place({kind_of(member): member for member in classes}, type(None) in members)  # pyright: ignore
    return None


def kind_of(section: type) -> str | None:
    """What a variant is called; None for a section that is no variant."""
    return getattr(section, "kind", None)


@cache
def branches_of(section: type) -> dict[str, Place]:
    """The fields of a dataclass that are branches."""
    return {
        name: place for name, hint in hints(section).items() if (place := place_of(hint)) and name in _fields(section)
    }


@cache
def leaves_of(section: type) -> dict[str, Field[Any]]:
    """The fields of a dataclass that are options."""
    branches = branches_of(section)
    return {name: field for name, field in _fields(section).items() if name not in branches and name != "kind"}


def _fields(section: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in dataclasses.fields(section)}


def is_required(field: Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def flag_of(field: Field[Any]) -> str:
    """The flag of a field on the command line, without dashes."""
    return field.metadata.get("flag") or field.name.replace("_", "-")


def options_of(section: type, path: tuple[str, ...] = (), kinds: tuple[str, ...] = ()) -> Iterator[Option]:
    """All options of a section and of every variant below it; one that several variants have comes once for each."""
    for name, field in leaves_of(section).items():
        if name == getattr(section, "open_field", None):
            continue  # said by the text that chooses the variant
        yield Option((*path, name), flag_of(field), hints(section)[name], field, (kinds,))
    for name, place in branches_of(section).items():
        for kind, variant in place.variants.items():
            yield from options_of(variant, (*path, name), kinds if kind is None else (*kinds, kind))


def as_dict(config: Any) -> Any:
    """A configuration as plain nested values, as YAML has them; a variant says its kind first."""
    if is_dataclass(config):
        values = {field.name: as_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"kind": values.pop("kind"), **values} if "kind" in values else values
    return list(config) if isinstance(config, tuple) else config


def build(section: Any, *layers: Mapping[str, Any]) -> Any:
    """An instance of a dataclass, or of one of a union's variants, from layers of plain values, later ones winning.

    Args:
        section: the dataclass, or the union.
        layers: nested values, of which text is converted.

    Raises:
        ConfigError: an option does not exist, is missing or belongs to another variant, or a value cannot be used.
    """
    place = place_of(section)
    assert place is not None
    return _build(place, next(iter(place.variants)), layers, ())


def _build(place: Place, default: str | None, layers: Sequence[Any], path: tuple[str, ...]) -> Any:
    """What stands at a place; `default` is the kind that is chosen where no layer says anything."""
    chosen, kept = _choose(place, default, [layer for layer in layers if layer is not MISSING], path)
    if chosen is _NOTHING:
        return None
    variant = place.variants[chosen]
    values: dict[str, Any] = {}
    for name in leaves_of(variant):
        given = [layer[name] for layer in kept if name in layer]
        if given:
            values[name] = given[-1]
        elif is_required(leaves_of(variant)[name]):
            raise ConfigError(f"{_where(path, chosen)} needs --{flag_of(leaves_of(variant)[name])}")
    for name, branch in branches_of(variant).items():
        given = [layer[name] for layer in kept if name in layer]
        values[name] = _build(branch, _default_kind(variant, name), given, (*path, name))
    return _validated(variant, values, path)


class _Nothing:
    """Nothing stands at an optional place."""


_NOTHING: Any = _Nothing()


def _choose(
    place: Place, kind: str | None, layers: Sequence[Any], path: tuple[str, ...]
) -> tuple[Any, list[Mapping[str, Any]]]:
    """The kind that the layers choose, and of each layer what it says of that kind."""
    default = kind
    kept: list[Mapping[str, Any]] = []
    for given in layers:
        layer = _spelled_out(place, given, path)
        before = kind
        if layer is None:
            kind, kept = default, []
            continue
        layer = dict(layer)
        if "kind" in layer:
            kind = layer.pop("kind")
        else:
            for name, value in layer.items():
                for required_by in place.variants_requiring(name):
                    if value not in (None, UNSET):
                        kind = required_by
                    elif kind == required_by:
                        kind = default
            unset = {name for name, value in layer.items() if value in (None, UNSET) and place.variants_requiring(name)}
            layer = {name: value for name, value in layer.items() if name not in unset}
        if kind != before:
            kept = [_known(place, kind, earlier) for earlier in kept]
        if kind is _NOTHING and not layer:
            continue
        _refuse_unknown(place, kind, layer, path)
        kept.append(layer)
    return kind, kept


def _spelled_out(place: Place, given: Any, path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """A text as the kind, or as the value of the variant that takes any text; None unsets what was chosen before."""
    if given is None or given == UNSET:
        return None
    if isinstance(given, Mapping):
        return dict(given) | _chosen_by(place, given["kind"], path) if "kind" in given else given
    if is_dataclass(given):
        return as_dict(given)
    if isinstance(given, str):
        return _chosen_by(place, given, path)
    raise ConfigError(f"{_words(path)} must hold options, for example `kind: …` or `name: value`, not {given!r}")


def _chosen_by(place: Place, text: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The variant of that kind, or the one that takes any text, with that text."""
    if text in place.variants:
        return {"kind": text}
    for kind, variant in place.variants.items():
        if (name := getattr(variant, "open_field", None)) is not None:
            return {"kind": kind, name: text}
    kinds = [str(kind) for kind in place.variants]
    near = get_close_matches(str(text), kinds, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"--{_flag(path)} must be one of {', '.join(kinds)}, not {text!r}{hint}")


def _known(place: Place, kind: Any, layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a layer that was written for another variant what the chosen one shares with it."""
    if kind is _NOTHING:
        return {}
    variant = place.variants[kind]
    return {name: value for name, value in layer.items() if name in leaves_of(variant) or name in branches_of(variant)}


def _refuse_unknown(place: Place, kind: Any, layer: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Raise a ConfigError for an option that the chosen variant does not have."""
    chosen = None if kind is _NOTHING else place.variants[kind]
    names = {} if chosen is None else leaves_of(chosen) | branches_of(chosen)
    for name in layer:
        if name in names:
            continue
        others = {other: variant for other, variant in place.variants.items() if name in _fields(variant)}
        if others:
            flag = _given_flag(next(iter(others.values())), name, layer[name])
            if kind is _NOTHING:
                needed = [flag_of(f) for v in others.values() for f in leaves_of(v).values() if is_required(f)]
                raise ConfigError(f"--{flag} needs --{needed[0]}")
            theirs = " or ".join(f"--{_flag(path)} {other}" for other in others)
            raise ConfigError(f"--{flag} is an option of {theirs}, not of {_where(path, kind)}; leave it out")
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"there is no option {name!r} in {_words(path)}; {hint}")


def _given_flag(section: type, name: str, value: Any) -> str:
    """The flag by which a value was given; for an option of one of a branch's variants, that option's."""
    if name in branches_of(section) and isinstance(value, Mapping):
        for variant in branches_of(section)[name].variants.values():
            for option in value:
                if option in leaves_of(variant):
                    return flag_of(leaves_of(variant)[option])
    return flag_of(_fields(section)[name])


def _default_kind(section: type, name: str) -> Any:
    """The kind of a field's default."""
    field = _fields(section)[name]
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return _NOTHING if value is None else kind_of(type(value))


def _validated(variant: type, values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The dataclass with its values, converted and checked."""
    from pydantic import TypeAdapter, ValidationError

    leaves = leaves_of(variant)
    values = {
        name: None if name in leaves and value == UNSET and leaves[name].default is None else value
        for name, value in values.items()
    }
    try:
        return TypeAdapter(variant).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        wanted = _WANTED.get(first["type"]) or first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{'.'.join((*path, name))}: {wanted}, not {first['input']!r}") from error


def nest(section: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by flag or name, wherever they stand below a section, as one nested layer.

    Raises:
        ConfigError: there is no such option.
    """
    paths = {name: option.path for option in options_of(section) for name in (option.path[-1], option.flag)}
    paths |= {name: path for path, field in _branch_paths(section) for name in (path[-1], flag_of(field))}
    paths |= {option.flag: option.path for option in options_of(section)}
    layer: dict[str, Any] = {}
    for name, value in options.items():
        if name not in paths:
            near = get_close_matches(name, paths, n=1)
            raise ConfigError(f"there is no option {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
        *parents, last = paths[name]
        where = layer
        for parent in parents:
            inner = where.setdefault(parent, {})
            if not isinstance(inner, dict):  # the variant was chosen by a text
                inner = where[parent] = {"kind": inner}
            where = inner
        if isinstance(where.get(last), dict) and not isinstance(value, dict):
            where[last] = {"kind": value, **where[last]}
        else:
            where[last] = value
    return layer


def _branch_paths(section: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field[Any]]]:
    """The places below a section where one of several variants is chosen."""
    for name, place in branches_of(section).items():
        if len(place.variants) > 1:
            yield (*path, name), _fields(section)[name]
        for variant in place.variants.values():
            yield from _branch_paths(variant, (*path, name))


def map_options(config: Any, change: Any) -> Any:
    """The configuration with `change(field, value)` in the place of every option's value."""
    values = {name: change(field, getattr(config, name)) for name, field in leaves_of(type(config)).items()}
    inner = {name: getattr(config, name) for name in branches_of(type(config))}
    values |= {name: value and map_options(value, change) for name, value in inner.items()}
    return dataclasses.replace(config, **values)


def with_absolute_paths(config: Any) -> Any:
    """The configuration with the paths that exist here as absolute ones, so that a run goes on from another folder."""

    def change(field: Field[Any], value: Any) -> Any:
        if not isinstance(value, str) or not field.metadata["is_path"]:
            return value
        path = Path(value).expanduser()
        return str(path.resolve()) if path.exists() or field.metadata["is_made"] else value

    return map_options(config, change)


def public_name(name: str) -> str:
    """A Hub id as it is, a file or folder of this machine by its name."""
    return Path(name).name if Path(name).is_absolute() else name


def with_public_names(config: Any) -> Any:
    """The configuration with files and folders by their names: what a card may show."""
    return map_options(
        config,
        lambda field, value: public_name(value) if isinstance(value, str) and field.metadata["is_path"] else value,
    )


def _words(path: tuple[str, ...]) -> str:
    return f"the section `{'.'.join(path)}`" if path else "the configuration"


def _flag(path: tuple[str, ...]) -> str:
    return path[-1].replace("_", "-") if path else ""


def _where(path: tuple[str, ...], kind: Any) -> str:
    return f"--{_flag(path)} {kind}" if path and isinstance(kind, str) else _words(path)
