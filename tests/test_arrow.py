"""Arrow schemas and columns derived from dataclasses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pytest

from sae_traits.arrow import arrow_schema, arrow_type, column, columns_of, single_precision


@dataclass(frozen=True)
class Size:
    height: float = column("In centimetres.", unit="cm")
    secret: int = 0


@dataclass(frozen=True, kw_only=True)
class Tree:
    name: str = column("What it is called.")
    rank: Literal["shrub", "tree"] | None = column("Its kind.", name="kind", default=None)
    size: Size | None
    box: tuple[float, float] = (0.0, 1.0)
    rings: tuple[tuple[int, ...], ...] = column("Years.", default=())


def test_a_schema_has_every_field_with_dataclasses_as_structs():
    assert arrow_schema(Tree) == pa.schema(
        [
            ("name", pa.string()),
            ("rank", pa.string()),
            ("size", pa.struct([("height", pa.float64()), ("secret", pa.int32())])),
            ("box", pa.list_(pa.float64(), 2)),
            ("rings", pa.list_(pa.list_(pa.int32()))),
        ]
    )


def test_columns_are_the_fields_with_words_at_any_depth_under_their_released_names():
    assert [(c.name, c.meaning, c.unit) for c in columns_of(Tree)] == [
        ("name", "What it is called.", None),
        ("kind", "Its kind.", None),
        ("height", "In centimetres.", "cm"),
        ("rings", "Years.", None),
    ]


def test_values_are_found_by_the_path_and_what_is_unknown_is_null():
    values = [column.of(Tree(name="oak", size=Size(2.5), rings=((1, 2),))) for column in columns_of(Tree)]
    assert values == ["oak", None, 2.5, [[1, 2]]]
    assert columns_of(Tree)[2].of(Tree(name="oak", size=None)) is None
    assert columns_of(Tree)[2].of(Tree(name="oak", size=Size(math.nan))) is None


def test_single_precision_reaches_into_lists_and_structs():
    nested = pa.list_(pa.struct([("a", pa.list_(pa.float64(), 3)), ("b", pa.int32())]))
    assert single_precision(nested) == pa.list_(pa.struct([("a", pa.list_(pa.float32(), 3)), ("b", pa.int32())]))


def test_what_no_table_holds_is_refused():
    with pytest.raises(TypeError, match="no Arrow type for"):
        arrow_type(dict[str, int])
