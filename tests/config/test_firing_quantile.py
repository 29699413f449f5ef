import pytest
from hypothesis import given
from hypothesis.strategies import integers

from sae_traits.config.regions import SpecimenContrast


@pytest.mark.parametrize(("n_patches", "quantile"), [(49, 0.7), (14 * 14, 0.7), (16 * 16, 0.7), (28 * 28, 0.902)])
def test_where_an_image_has_many_patches_the_quantile_is_higher(n_patches, quantile):
    assert SpecimenContrast().quantile_for(n_patches) == pytest.approx(quantile, abs=5e-4)
    assert SpecimenContrast(firing_quantile=0.6).quantile_for(n_patches) == 0.6


@given(integers(257, 10_000))
def test_a_latent_fires_at_as_many_patches_however_small_they_are(n_patches):
    assert (1 - SpecimenContrast().quantile_for(n_patches)) * n_patches == pytest.approx(0.3 * 256)
