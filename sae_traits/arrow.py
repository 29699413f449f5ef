"""Arrow schemas and table columns derived from dataclasses, so that a field is stated once: where it is defined.

`column` gives a field the words that a dataset card says of it. `arrow_schema` is the nested schema of a dataclass with
all of its fields; `columns_of` is the flat table of those fields that have words.
"""

import dataclasses
import math
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.errors import StoreError, one_line

_WORDS = "column"
_PLAIN = {str: pa.string(), bool: pa.bool_(), int: pa.int32(), float: pa.float64(), bytes: pa.binary()}


def column(
    meaning: str, *, default: Any = dataclasses.MISSING, name: str | None = None, unit: str | None = None
) -> Any:
    """A dataclass field that is a column of released tables.

    Args:
        meaning: what the column holds, as one sentence for the dataset card, with its unit and when it is null.
        default, name: of the field, and of the column where it is not that of the field.
        unit: of a measure, in words for people of other fields; empty for a measure without one.
    """
    return dataclasses.field(default=default, metadata={_WORDS: (meaning, name, unit)})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a flat table."""

    name: str
    type: pa.DataType
    meaning: str
    path: tuple[str, ...] = ()
    """The fields that lead from an object to the value; empty where the value is no object's."""
    unit: str | None = None
    """Of a measure; None for what is none."""
    may_be_null: bool = False

    def of(self, instance: object) -> Any:
        """The value of an object: null where something on the way is missing, and for what is not a number."""
        value = reduce(lambda found, field: None if found is None else getattr(found, field), self.path, instance)
        if isinstance(value, float) and math.isnan(value):
            return None
        return _plain(value)


@cache
def columns_of(cls: type) -> tuple[Column, ...]:
    """The fields of a dataclass that have words, and those of the dataclasses in it, in their order."""
    return tuple(_columns(cls, ()))


@cache
def arrow_schema(cls: type) -> pa.Schema:
    """The schema of a dataclass's fields, other dataclasses being structs; as `dataclasses.asdict` gives them."""
    return pa.schema([(name, arrow_type(hint)) for name, hint in _fields(cls)])


def arrow_type(hint: Any) -> pa.DataType:
    """The Arrow type of a field: float64 and int32 for numbers, a list of fixed length for a tuple of such."""
    hint = _not_none(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return pa.string()
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return pa.list_(arrow_type(arguments[0]))
    if origin is tuple and len(set(arguments)) == 1:
        return pa.list_(arrow_type(arguments[0]), len(arguments))
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(hint)))  # pyright: ignore[reportArgumentType]
    raise TypeError(f"no Arrow type for {hint}")


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of a run, or some columns of it; a StoreError where it cannot be read."""
    with readable_or_store_error(path):
        return pq.read_table(path, columns=columns)


@contextmanager
def readable_or_store_error(path: Path) -> Iterator[None]:
    """Raise a StoreError that names a Parquet file and says what to do where it cannot be read."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "if it is damaged, remove it and run the command that wrote it"
        raise StoreError(f"{path} cannot be read ({one_line(error)[:200]}); {remedy}") from error


def single_precision(dtype: pa.DataType) -> pa.DataType:
    """A type with float32 in the place of float64, at any depth."""
    if pa.types.is_float64(dtype):
        return pa.float32()
    if pa.types.is_fixed_size_list(dtype):
        return pa.list_(single_precision(dtype.value_type), dtype.list_size)
    if pa.types.is_list(dtype):
        return pa.list_(single_precision(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, single_precision(field.type)) for field in dtype])
    return dtype


def _columns(cls: type, path: tuple[str, ...], *, may_be_null: bool = False) -> Iterator[Column]:
    words = {field.name: field.metadata[_WORDS] for field in dataclasses.fields(cls) if _WORDS in field.metadata}
    for name, hint in _fields(cls):
        inner = _not_none(hint)
        is_optional = may_be_null or inner != hint
        if name in words:
            meaning, other_name, unit = words[name]
            yield Column(other_name or name, arrow_type(hint), meaning, (*path, name), unit, is_optional)
        elif dataclasses.is_dataclass(inner):
            yield from _columns(inner, (*path, name), may_be_null=is_optional)  # pyright: ignore[reportArgumentType]


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(cls)
    return ((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _not_none(hint: Any) -> Any:
    """X of `X | None`."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (argument for argument in get_args(hint) if argument is not type(None))
    return hint


def _plain(value: Any) -> Any:
    """A value as Arrow takes it: dataclasses as dictionaries, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
