"""No secret is published: neither as a file's text nor as a cell of a table, whoever put it there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub.answers import Hub
from hub.publisher import publish_folder

from sae_traits.errors import ReleaseError
from sae_traits.release.publication import Terms, plan_lines

KEY = "sk-abc123-not-a-real-key"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsATokenThatIsNotOne")
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Traits\n")
    return tmp_path


def write_table(folder: Path, text: str) -> None:
    rows = [{"text": "red", "traits": [{"text": "blue"}]}] * 3000 + [{"text": "red", "traits": [{"text": text}]}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-0.parquet", compression="zstd")


@pytest.mark.parametrize("secret", [KEY, "hf_thisIsATokenThatIsNotOne"])
@pytest.mark.parametrize("place", ["card", "table"])
def test_a_secret_in_a_card_or_a_cell_is_refused_before_anything_is_uploaded(
    hub: Hub, folder: Path, secret: str, place: str
):
    write_table(folder, f"a {secret if place == 'table' else 'green'} wing")
    if place == "card":
        (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Traits of http://ann:{secret}@museum.org\n")
    with pytest.raises(ReleaseError, match="holds your token or key") as caught:
        publish_folder(folder, "museum/traits", repo_type="dataset", token=hub.token, endpoint=hub.url)
    assert secret not in str(caught.value)
    assert ("README.md" if place == "card" else "train-0.parquet") in str(caught.value)
    assert next(iter(hub.store.repositories.values())).find("main").files.keys() == {".gitattributes"}
    with pytest.raises(ReleaseError, match="holds your token or key"):
        plan_lines(Terms(model_repo="a/b", dataset_repo="a/c"), [("dataset", "a/c", folder)])


def test_nothing_on_the_hub_names_the_token_that_it_was_published_with(hub: Hub, folder: Path):
    write_table(folder, "green")
    publish_folder(folder, "museum/traits", repo_type="dataset", token=hub.token, endpoint=hub.url)
    published = [path.read_bytes() for path in hub.store.folder.rglob("*") if path.is_file()]
    assert len(published) > 3
    assert not any(hub.token.encode() in content for content in published)
