"""Versions as tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from, tuples

from sae_traits.errors import ConfigError
from sae_traits.release.versions import FIRST_VERSION, check_version, highest_version, next_version

NUMBERS = tuples(integers(0, 30), integers(0, 30), integers(0, 30))
OTHER_TAGS = sampled_from(["latest", "v1", "v1.2", "1.2.3", "v1.2.3-rc1", "v01.2.3", "v99.99.99.99"])


@given(versions=lists(NUMBERS, min_size=1), others=lists(OTHER_TAGS))
def test_the_next_version_is_higher_than_all_and_a_version_itself(versions, others):
    tags = [*others, *(f"v{major}.{minor}.{patch}" for major, minor, patch in versions)]
    major, minor, patch = max(versions)
    assert highest_version(tags) == f"v{major}.{minor}.{patch}"
    assert next_version(tags) == f"v{major}.{minor}.{patch + 1}"
    check_version(next_version(tags))


@given(others=lists(OTHER_TAGS))
def test_without_a_version_the_next_one_is_the_first(others):
    assert highest_version(others) is None
    assert next_version(others) == FIRST_VERSION


@pytest.mark.parametrize("tag", ["", "1.0.0", "v1.0", "v1.0.0 ", "v01.0.0", "v1.0.0-rc1", "latest", "v1.0.٣"])
def test_a_tag_that_is_no_version_is_refused(tag):
    with pytest.raises(ConfigError, match=r"write it as vX\.Y\.Z"):
        check_version(tag)
