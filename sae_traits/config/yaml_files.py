"""YAML as people write it: a key that is there twice is a mistake, and messages name the file."""

from __future__ import annotations

from io import StringIO
from typing import Any

import yaml


def load_yaml(text: str, name: str) -> Any:
    """The values of a YAML document; `name` is what errors call it.

    Raises:
        yaml.YAMLError: it is not YAML, or a mapping has a key twice.
        ValueError: a value is not what it looks like, for example a date of a thirteenth month.
    """
    stream = StringIO(text)
    stream.name = name  # else it is a "<unicode string>"
    loader = _UniqueKeys(stream)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice, which YAML forbids; PyYAML takes the last value, without a word."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                keys.add((key.tag, key.value))
        return node
