"""Command lines made from the configuration's dataclasses; help shows the options of the chosen variants only.

A variant is chosen by its flag (`--describer server`) or by an option that only it requires (`--sae ORG/SAE`). The
options of all variants are known, so that one of another variant is refused with the reason (`tree.build`).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import (
    UNSET,
    OptionError,
    Variants,
    branches_of,
    can_be_unset,
    choices_of,
    default_of,
    fields_of,
    flag_of,
    hints,
    kind_of,
    leaves_of,
    nest,
    requiring,
    with_public_names,
)
from sae_traits.errors import ConfigError

USAGE = 2
"""Exit code of a command line that cannot be used."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        self.exit(USAGE, f"{self.prog}: {message.removeprefix('argument ')}{see} {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"there is no {value!r}{hint}")

    def format_usage(self) -> str:
        """The usage without all the options, of which the help has a list."""
        return f"usage: {self.usage_line()}\n"

    def format_help(self) -> str:
        """The help, with the short usage, without sections that have no options; a description lists commands."""
        self.usage = self.usage_line().replace("%", "%%")
        self._action_groups = [
            group for group in self._action_groups if group._group_actions and group is not self._subparsers
        ]
        return super().format_help()

    def usage_line(self) -> str:
        """The command with what it needs."""
        words = [self.prog, "[OPTIONS]"]
        for action in self._actions:
            metavar = str(action.metavar or action.dest)
            if action.option_strings:
                words += [action.option_strings[0], metavar] if action.required else []
            else:
                words.append({"?": f"[{metavar}]", "*": f"[{metavar} …]"}.get(str(action.nargs), metavar))
        return " ".join(words)


def file_name(text: str) -> str:
    """The type of arguments that may name a file or folder, which shells complete."""
    return text


def add_options(
    parser: argparse.ArgumentParser,
    words: Sequence[str],
    *sections: str,
    root: type = RunConfig,
    pinned: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
) -> None:
    """Add the options of some sections of a configuration; `given_options` reads what was given.

    Args:
        words: the command line; the variants that it chooses have their options in the help.
        sections: names of fields of the configuration.
        root: the configuration's class; a run's, unless a command has one of its own.
        pinned: place -> the kind that this command is about, which cannot be chosen.
        without: flags that this command does not have.
    """
    parser.set_defaults(sections=sections)
    for name in sections:
        _Options(parser, words, pinned or {}, {"source", *without}).add_section(root, name)


@dataclass
class _Options:
    """Adds the options of one section, each flag once."""

    parser: argparse.ArgumentParser
    words: Sequence[str]
    pinned: Mapping[str, str]
    taken: set[str]

    def add_section(self, parent: type, name: str) -> None:
        """One group per section, and one per variant that was chosen inside it."""
        variants, field = branches_of(parent)[name], fields_of(parent)[name]
        chosen = self._chosen(name, variants, field)
        if len(variants) > 1 and name not in self.pinned:
            self._add_choice(self.parser.add_argument_group(name, field.metadata["help"]), variants, field)
        variant = variants[chosen]
        group = self.parser.add_argument_group(name if chosen is None else f"{name} {chosen}", _first_line(variant))
        for option in leaves_of(variant):
            self._add_option(group, variant, option)
        for inner in branches_of(variant):
            self.add_section(variant, inner)
        if name not in self.pinned:
            for kind, other in variants.items():
                if kind != chosen:
                    self._add_hidden(other)

    def _add_hidden(self, variant: type) -> None:
        for name in leaves_of(variant):
            self._add_option(self.parser, variant, name, is_shown=False)
        for name, variants in branches_of(variant).items():
            self._add(self.parser, flag_of(fields_of(variant)[name]), help=argparse.SUPPRESS)
            for other in variants.values():
                self._add_hidden(other)

    def _add_choice(self, group: Any, variants: Variants, field: Field[Any]) -> None:
        kinds = [kind for kind, variant in variants.items() if kind and not hasattr(variant, "open_field")]
        is_open = len(kinds) < len(variants)
        meanings = "; ".join(f"{kind}: {_first_line(variants[kind])[:-1]}" for kind in kinds)
        default = default_of(field)
        shown = getattr(default, getattr(default, "open_field", "kind"))
        self._add(
            group,
            flag_of(field),
            choices=None if is_open else [*kinds, UNSET],
            type=file_name if is_open else str,
            metavar="MODEL" if is_open else "{" + ",".join(kinds) + "}",
            help=f"{meanings}. Default: {shown}.".replace("%", "%%"),
        )

    def _add_option(self, group: Any, section: type, name: str, *, is_shown: bool = True) -> None:
        if name == getattr(section, "open_field", None):
            return
        hint, field = hints(section)[name], fields_of(section)[name]
        has_default = not isinstance(field.default, bool) and field.default not in (None, (), "", MISSING)
        default = f" Default: {shlex.quote(_word_of(field.default))}." if has_default else ""
        text = (field.metadata["help"] + default).replace("%", "%%") if is_shown else argparse.SUPPRESS
        if hint is bool:
            self._add(group, flag_of(field), action=argparse.BooleanOptionalAction, help=text)
            return
        choices = choices_of(hint)
        self._add(
            group,
            flag_of(field),
            action=_Extend if get_origin(hint) is tuple else "store",
            choices=[*choices, UNSET] if choices and can_be_unset(field, hint) else choices or None,
            type=comma_separated if get_origin(hint) is tuple else file_name if field.metadata["is_path"] else str,
            metavar=field.metadata["metavar"] or _metavar(hint, choices),
            help=text,
        )

    def _add(self, group: Any, flag: str, **arguments: Any) -> None:
        if flag not in self.taken:
            self.taken.add(flag)
            group.add_argument(f"--{flag}", dest=f"--{flag}", default=argparse.SUPPRESS, **arguments)

    def _chosen(self, name: str, variants: Variants, field: Field[Any]) -> str | None:
        """The kind that the command line chooses at a place, or that of the default."""
        if name in self.pinned:
            return self.pinned[name]
        text = _value_of(flag_of(field), self.words)
        if text in variants:
            return text
        for kind, variant in variants.items():
            for option, leaf in leaves_of(variant).items():
                if kind in requiring(variants, option) and _value_of(flag_of(leaf), self.words) is not None:
                    return kind
        default = default_of(field)
        return next(iter(variants)) if default is None else kind_of(type(default))


def _first_line(section: type) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """The value of a flag on a command line, before it is parsed."""
    for word, after in pairwise([*words, None]):
        assert word is not None
        if word == f"--{flag}":
            return after
        if word.startswith(f"--{flag}="):
            return word.partition("=")[2]
    return None


def _metavar(hint: Any, choices: Sequence[str]) -> str | None:
    if choices:
        return "{" + ",".join(choices) + "}"
    kinds = {int: "N", float: "X"}
    return next((kinds[kind] for kind in (hint, *get_args(hint)) if kind in kinds), None)


class _Extend(argparse.Action):
    """Adds what a flag is given to what it was given before."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *values))


def comma_separated(text: str) -> tuple[str, ...]:
    """Split at commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return tuple(filter(None, parts))


def refuse_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> int:
    """Say on stderr what a command line has that the command does not know, and what may have been meant."""
    known = [flag for action in parser._actions for flag in action.option_strings]
    near = get_close_matches(unknown[0].partition("=")[0], known, n=1)
    hint = f"did you mean {near[0]}? See" if near else "see"
    sys.stderr.write(f"{parser.prog}: there is no {unknown[0]} here; {hint} {parser.prog} --help\n")
    return USAGE


def given_options(arguments: argparse.Namespace, root: type = RunConfig) -> dict[str, Any]:
    """What the options on the command line say, as a layer of the configuration; `none` unsets an option."""
    return nest(root, {name[2:]: value for name, value in vars(arguments).items() if name.startswith("--")})


def message_of(error: ConfigError, arguments: argparse.Namespace) -> str:
    """What is wrong with options: by their flags where one of them was given so, else as a file has them."""
    if isinstance(error, OptionError) and any(f"--{flag}" in arguments for flag in error.flags.values()):
        return error.in_flags()
    return str(error)


def options_of_file(path: Path | None, root: type = RunConfig) -> dict[str, Any]:
    """What the file of --config says; the name of a recipe will do, where there is no file of that name."""
    if path is None:
        return {}
    recipe = recipe_file(path.name)
    is_recipe = not path.exists() and path == Path(path.name) and recipe.is_file()
    return read_config(recipe if is_recipe else path, root)


def command_of(config: RunConfig) -> str:
    """The command that makes a run: options that differ from their defaults, and files by name, not by path.

    What evaluates the run (the section `zero_shot`) changes nothing of it, and is left out.
    """
    source = config.collection.source or ""
    words = ["sae-traits", "run", source if source.startswith("hf://") else Path(source).name]
    shown = with_public_names(config)
    for name in branches_of(RunConfig):
        if name != "zero_shot":
            words += _words_of(getattr(shown, name), RunConfig, name, {"source"})
    return shlex.join(words)


def _words_of(section: Any, parent: type, name: str, without: set[str]) -> Iterator[str]:
    """The options of a section that differ from their defaults, with the flag that chooses its variant."""
    field, variants = fields_of(parent)[name], branches_of(parent)[name]
    default = default_of(field)
    open_field = getattr(section, "open_field", None)
    if open_field is not None:
        without = without | {open_field}
        if getattr(section, open_field) != getattr(default, open_field, None):
            yield from (f"--{flag_of(field)}", getattr(section, open_field))
    elif kind_of(type(section)) != kind_of(type(default)) and not any(
        requiring(variants, option) for option in leaves_of(type(section))
    ):
        yield from (f"--{flag_of(field)}", section.kind)
    for option, leaf in leaves_of(type(section)).items():
        value = getattr(section, option)
        if option in without or leaf.metadata["is_local"] or value == leaf.default:
            continue
        flag = flag_of(leaf)
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", _word_of(value))
    for inner in branches_of(type(section)):
        yield from _words_of(getattr(section, inner), type(section), inner, set())


def _word_of(value: Any) -> str:
    """A value as the command line has it, before the shell's quotes."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
