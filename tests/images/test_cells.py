"""Tables as rows of text."""

from __future__ import annotations

from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_traits.errors import CollectionError
from sae_traits.images.cells import column_names, read_rows


def test_values_stay_text(tmp_path):
    (tmp_path / "a.csv").write_text("file,code,date\n001,1e5,2020-01-01\n")
    assert list(read_rows(tmp_path / "a.csv", ["date", "code", "file"])) == [
        {"date": "2020-01-01", "code": "1e5", "file": "001"}
    ]


def test_a_spreadsheets_csv_is_read(tmp_path):
    """With a byte order mark, Windows line ends, blanks, quotes and an empty line."""
    (tmp_path / "a.csv").write_bytes('file, species ,x\r\n a.jpg ,"Magnolia × ""a"", b",\r\n\r\n'.encode("utf-8-sig"))
    assert column_names(tmp_path / "a.csv") == ["file", "species", "x"]
    assert list(read_rows(tmp_path / "a.csv", ["file", "species", "x"])) == [
        {"file": "a.jpg", "species": 'Magnolia × "a", b', "x": None}
    ]


def test_a_tsv_is_split_at_tabs_only(tmp_path):
    (tmp_path / "a.tsv").write_text("file\tspecies\na,b.jpg\tDanaus plexippus\n")
    assert list(read_rows(tmp_path / "a.tsv", ["file"])) == [{"file": "a,b.jpg"}]


@pytest.mark.parametrize("missing", ["", " ", "NA", "N/A", "nan", "NaN", "null", "None", "<NA>"])
def test_missing_values_are_none(tmp_path, missing):
    (tmp_path / "a.csv").write_text(f"file,species\n{missing},Nanus\n")
    assert list(read_rows(tmp_path / "a.csv", ["file", "species"])) == [{"file": None, "species": "Nanus"}]


def test_a_short_row_lacks_its_last_values(tmp_path):
    (tmp_path / "a.csv").write_text("file,species,split\na.jpg\n")
    assert list(read_rows(tmp_path / "a.csv", ["file", "split"])) == [{"file": "a.jpg", "split": None}]


def test_a_row_with_too_many_cells_stops_the_reading(tmp_path):
    (tmp_path / "a.csv").write_text("file,species\na.jpg,Danaus plexippus\nb.jpg,Papilio machaon L., 1758\n")
    with pytest.raises(CollectionError, match=r"row 2 below the header has 3 cells, the header 2; .* double quotes"):
        list(read_rows(tmp_path / "a.csv", ["file"]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file,species\né,b\n".encode("latin-1"), "is not UTF-8"),
        (b'file,species\n"a,b\n', "is not a well-formed table"),
        (b"file,file,species\na,b,c\n", "has more than one column file"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(CollectionError, match=reason):
        list(read_rows(path, column_names(path)))


def test_a_parquet_file_of_pandas_is_read_as_text(tmp_path):
    frame = pd.DataFrame({"file": ["001", "b"], "species": ["Danaus plexippus", None], "mm": [0.05, float("nan")]})
    frame["order"] = pd.Categorical(["Lepidoptera", None])
    frame.to_parquet(tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet", ["file", "species", "mm", "order"])) == [
        {"file": "001", "species": "Danaus plexippus", "mm": "0.05", "order": "Lepidoptera"},
        {"file": "b", "species": None, "mm": None, "order": None},
    ]


def test_a_parquet_column_that_is_no_text_is_refused(tmp_path):
    images = pa.array([{"bytes": b"x", "path": "a.jpg"}])
    pq.write_table(pa.table({"file": images, "species": ["Danaus plexippus"]}), tmp_path / "a.parquet")
    with pytest.raises(CollectionError, match=r"column 'file' .* holds struct"):
        list(read_rows(tmp_path / "a.parquet", ["file", "species"]))


def test_a_broken_parquet_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("file,species\n")
    with pytest.raises(CollectionError, match="is not a Parquet file"):
        column_names(path)
    pq.write_table(pa.table({"file": [f"{i}.jpg" for i in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[50:20_000] = bytes(19_950)
    path.write_bytes(content)
    with pytest.raises(CollectionError, match="cannot be read to its end"):
        list(read_rows(path, ["file"]))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CollectionError, match=r"cannot read .*none\.csv: No such file"):
        column_names(tmp_path / "none.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".parquet"]))
def test_any_bytes_give_rows_or_a_reason(tmp_path, content, suffix):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    with suppress(CollectionError):
        columns = column_names(path)
        assert all(row.keys() == set(columns) for row in read_rows(path, columns))
