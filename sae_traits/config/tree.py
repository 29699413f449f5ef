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
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from sae_traits.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_ABSOLUTE = re.compile(r"""(?<![^\s"'=,\[{])/[^\s"',\]}]+""")
"""Paths of this machine in a text, up to a blank, a quotation mark or what ends a list."""
_NAMES = re.compile(r"^[a-z]+\b(?!_)|(?<![\w.-])[a-z]+(?:_[a-z0-9]+)+\b")
"""What may be the name of an option in the message of a check."""
UNSET = "none"
"""The text that unsets an option without a default, or goes back to the default variant."""
_WANTED = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}
"""What pydantic's kinds of errors ask for, in words."""


Variants = Mapping[str | None, type]
"""Kind -> dataclass, of all that may stand at a place; the only kind of a plain section is None."""
_NOTHING: Any = object()
"""The kind that is chosen where nothing stands at a place."""


class OptionError(ConfigError):
    """The value of an option cannot be used: the message names it as a file and Python do, `flags` say its flag."""

    def __init__(self, message: str, flags: Mapping[str, str]) -> None:
        super().__init__(message)
        self.flags = flags

    def in_flags(self) -> str:
        """The message as the command line writes options."""
        names = sorted(self.flags, key=len, reverse=True)
        named = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?!\w)")
        return named.sub(lambda found: f"--{self.flags[found[0]]}", str(self))


@dataclass(frozen=True)
class Option:
    """A leaf of the tree, as the command line shows it."""

    path: tuple[str, ...]
    """Names from the root, for example ("describer", "base_url")."""
    flag: str
    """Without dashes."""
    hint: Any
    field: Field[Any]


@cache
def hints(section: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(section)


@cache
def variants_of(hint: Any) -> Variants:
    """What may stand at a place of this type; nothing for the type of an option."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return {kind_of(member): member for member in members if isinstance(member, type) and is_dataclass(member)}


def requiring(variants: Variants, name: str) -> list[str | None]:
    """The kind of the variant that requires an option of this name, if it is the only one that has it."""
    having = [kind for kind, variant in variants.items() if name in leaves_of(variant)]
    return having if len(having) == 1 and is_required(leaves_of(variants[having[0]])[name]) else []


def kind_of(section: type) -> str | None:
    """What a variant is called; None for a section that is no variant."""
    return getattr(section, "kind", None)


@cache
def branches_of(section: type) -> dict[str, Variants]:
    """The fields of a dataclass that are branches."""
    return {name: variants for name in fields_of(section) if (variants := variants_of(hints(section)[name]))}


@cache
def leaves_of(section: type) -> dict[str, Field[Any]]:
    """The fields of a dataclass that are options."""
    branches = branches_of(section)
    return {name: field for name, field in fields_of(section).items() if name not in branches and name != "kind"}


def fields_of(section: type) -> dict[str, Field[Any]]:
    """The fields of a dataclass by name."""
    return {field.name: field for field in dataclasses.fields(section)}


def default_of(field: Field[Any]) -> Any:
    """What stands in a field where nothing is said."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def is_required(field: Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def flag_of(field: Field[Any]) -> str:
    """The flag of a field on the command line, without dashes."""
    return field.metadata.get("flag") or field.name.replace("_", "-")


def options_of(section: type, path: tuple[str, ...] = ()) -> Iterator[Option]:
    """All options of a section and of every variant below it; one that several variants have comes once for each."""
    for name, field in leaves_of(section).items():
        if name == getattr(section, "open_field", None):
            continue  # said by the text that chooses the variant
        yield Option((*path, name), flag_of(field), hints(section)[name], field)
    for name, variants in branches_of(section).items():
        for variant in variants.values():
            yield from options_of(variant, (*path, name))


def as_dict(config: Any) -> Any:
    """A configuration as plain nested values, as YAML has them; a variant says its kind first."""
    if is_dataclass(config):
        values = {field.name: as_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"kind": values.pop("kind"), **values} if "kind" in values else values
    return list(config) if isinstance(config, tuple) else config


def build(section: Any, *layers: Mapping[str, Any]) -> Any:
    """An instance of a dataclass, or of one of a union's variants, from layers of plain values, later ones winning.

    Raises:
        ConfigError: an option does not exist, is missing or belongs to another variant; an OptionError where a value
            cannot be used.
    """
    variants = variants_of(section)
    return _build(variants, next(iter(variants)), layers, ())


def _build(variants: Variants, default: str | None, layers: Sequence[Any], path: tuple[str, ...]) -> Any:
    """What stands at a place; `default` is the kind that is chosen where no layer says anything."""
    chosen, kept = _choose(variants, default, layers, path)
    if chosen is _NOTHING:
        return None
    variant = variants[chosen]
    values: dict[str, Any] = {}
    for name in leaves_of(variant):
        given = [layer[name] for layer in kept if name in layer]
        if given:
            values[name] = given[-1]
        elif is_required(leaves_of(variant)[name]):
            raise ConfigError(f"{_where(path, chosen)} needs --{flag_of(leaves_of(variant)[name])}")
    for name, branch in branches_of(variant).items():
        given = [layer[name] for layer in kept if name in layer]
        standard = default_of(fields_of(variant)[name])
        values[name] = _build(branch, _NOTHING if standard is None else kind_of(type(standard)), given, (*path, name))
    return _validated(variant, values, path)


def _choose(
    variants: Variants, kind: str | None, layers: Sequence[Any], path: tuple[str, ...]
) -> tuple[Any, list[Mapping[str, Any]]]:
    """The kind that the layers choose, and of each layer what it says of that kind."""
    default = kind
    kept: list[Mapping[str, Any]] = []
    for given in layers:
        layer = _spelled_out(variants, given, path)
        before = kind
        if layer is None:
            kind, kept = default, []
            continue
        layer = dict(layer)
        if "kind" in layer:
            kind = layer.pop("kind")
        else:
            for name, value in list(layer.items()):
                for required_by in requiring(variants, name):
                    if value not in (None, UNSET):
                        kind = required_by
                    else:
                        kind = default if kind == required_by else kind
                        del layer[name]
        if kind != before:  # of what was said of another variant stays what the two share
            known = _known(variants, kind)
            kept = [{name: value for name, value in earlier.items() if name in known} for earlier in kept]
        if kind is _NOTHING and not layer:
            continue
        _refuse_unknown(variants, kind, layer, path)
        kept.append(layer)
    return kind, kept


def _spelled_out(variants: Variants, given: Any, path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """A text as the kind, or as the value of the variant that takes any text; None unsets what was chosen before."""
    if given is None or given == UNSET:
        return None
    if isinstance(given, Mapping):
        return dict(given) | _chosen_by(variants, given["kind"], path) if "kind" in given else given
    if is_dataclass(given):
        return as_dict(given)
    if isinstance(given, str):
        return _chosen_by(variants, given, path)
    raise ConfigError(f"{_words(path)} must hold options, for example `kind: …` or `name: value`, not {given!r}")


def _chosen_by(variants: Variants, text: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The variant of that kind, or the one that takes any text, with that text."""
    if text in list(variants):  # a YAML file may hold a list there
        return {"kind": text}
    kinds = [str(kind) for kind, variant in variants.items() if not hasattr(variant, "open_field")]
    near = get_close_matches(str(text), kinds, n=1)
    for kind, variant in variants.items():
        if (name := getattr(variant, "open_field", None)) is not None:
            if near and "/" not in str(text) and not Path(str(text)).expanduser().is_dir():
                raise ConfigError(f"--{_flag(path)}: there is no folder {text!r} here; did you mean {near[0]}?")
            return {"kind": kind, name: text}
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"--{_flag(path)} must be one of {', '.join(kinds)}, not {text!r}{hint}")


def _known(variants: Variants, kind: Any) -> list[str]:
    """What may be said of a variant."""
    return [] if kind is _NOTHING else [*leaves_of(variants[kind]), *branches_of(variants[kind])]


def _refuse_unknown(variants: Variants, kind: Any, layer: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Raise a ConfigError for an option that the chosen variant does not have."""
    names = _known(variants, kind)
    for name in layer:
        if name in names:
            continue
        if others := {other: variant for other, variant in variants.items() if name in fields_of(variant)}:
            flag = _given_flag(next(iter(others.values())), name, layer[name])
            if kind is _NOTHING:
                needed = [flag_of(f) for v in others.values() for f in leaves_of(v).values() if is_required(f)]
                raise ConfigError(f"--{flag} needs --{needed[0]}")
            theirs = " or ".join(f"--{_flag(path)} {other}" for other in others)
            raise ConfigError(f"--{flag} is an option of {theirs}, not of {_where(path, kind)}; leave it out")
        near = get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"there is no option {name!r} in {_words(path)}; {hint}")


def _given_flag(section: type, name: str, value: Any) -> str:
    """The flag by which a value was given; for an option of one of a branch's variants, that option's."""
    if name in branches_of(section) and isinstance(value, Mapping):
        for variant in branches_of(section)[name].values():
            for option in value:
                if option in leaves_of(variant):
                    return flag_of(leaves_of(variant)[option])
    return flag_of(fields_of(section)[name])


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The fixed values of an option, besides none at all; empty where it takes others, too."""
    return next((get_args(kind) for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal), ())


def can_be_unset(field: Field[Any], hint: Any) -> bool:
    """Whether UNSET is no value of an option, but says that it has none."""
    return (field.default is None or type(None) in get_args(hint)) and UNSET not in choices_of(hint)


def _validated(variant: type, values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The dataclass with its values, converted and checked."""
    from pydantic import ValidationError

    leaves, kinds = leaves_of(variant), hints(variant)
    values = {
        name: None if value == UNSET and can_be_unset(leaves[name], kinds[name]) else value
        for name, value in values.items()
    }
    try:
        return _adapter(variant).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        place = ".".join((*path, name))
        wanted = _WANTED.get(first["type"]) or first["msg"][:1].lower() + first["msg"][1:]
        raise OptionError(f"{place}: {wanted}, not {first['input']!r}", {place: flag_of(leaves[name])}) from error
    except ConfigError as error:  # of a check of its own, which begins with the option, or names it with underscores
        flags = {option.path[-1]: option.flag for option in options_of(variant)}
        named = {name: flags[name] for name in _NAMES.findall(str(error)) if name in flags}
        raise OptionError(str(error), named) from error


@cache
def _adapter(variant: type) -> TypeAdapter[Any]:
    """What checks the values of a dataclass; made once, as making it takes much longer than checking."""
    from pydantic import TypeAdapter

    return TypeAdapter(variant)


def nest(section: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by flag or name, wherever they stand below a section, as one nested layer."""
    paths = {option.path[-1]: option.path for option in options_of(section)}
    paths |= {name: path for path, field in _branch_paths(section) for name in (path[-1], flag_of(field))}
    paths |= {option.flag: option.path for option in options_of(section)}
    layer: dict[str, Any] = {}
    for name, value in options.items():
        if name not in paths:
            near = get_close_matches(str(name), paths, n=1)
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
    for name, variants in branches_of(section).items():
        if len(variants) > 1:
            yield (*path, name), fields_of(section)[name]
        for variant in variants.values():
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
    return Path(name).name if Path(name).is_absolute() else name.rstrip("/")


def with_public_names(config: Any) -> Any:
    """The configuration with files and folders by their names, also those of a server: what a card may show."""

    def change(field: Field[Any], value: Any) -> Any:
        if isinstance(value, tuple):  # of texts, such as NAME=VALUE
            return tuple(_with_public_value(part) if isinstance(part, str) else part for part in value)
        is_path = isinstance(value, str) and (field.metadata["is_path"] or Path(value).is_absolute())
        return public_name(value) if is_path else value

    return map_options(config, change)


def _with_public_value(text: str) -> str:
    """NAME=VALUE with the last part of each path of this machine in the value; other texts as they are."""
    name, equals, value = text.partition("=")
    return f"{name}{equals}{_ABSOLUTE.sub(lambda path: public_name(path[0]), value)}" if equals else text


def _words(path: tuple[str, ...]) -> str:
    return f"the section `{'.'.join(path)}`" if path else "the configuration"


def _flag(path: tuple[str, ...]) -> str:
    return path[-1].replace("_", "-") if path else ""


def _where(path: tuple[str, ...], kind: Any) -> str:
    return f"--{_flag(path)} {kind}" if path and isinstance(kind, str) else _words(path)
