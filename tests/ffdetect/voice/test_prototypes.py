"""Likeness to prototypes, against scikit-learn's kernel on scikit-learn's axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel

from ffdetect.voice.prototypes import Prototypes, PrototypeSettings

SETTINGS = PrototypeSettings(block=20, block_axes=6, axes=8, count=30)


@pytest.fixture(scope="module")
def statistics() -> torch.Tensor:
    """300 x 40, in which a few directions hold most of the variance of each block."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 40))
    return torch.from_numpy((few + 0.1 * rng.normal(size=(300, 40)) + 3).astype(np.float32))


@pytest.fixture(scope="module")
def prototypes(statistics) -> Prototypes:
    return Prototypes.fit(statistics, torch.arange(0, 300, 10), SETTINGS, reach=0.7)


def test_it_is_a_gaussian_kernel_on_principal_axes(statistics, prototypes):
    z = ((statistics - statistics.mean(0)) / statistics.std(0)).clamp(-6, 6).numpy()
    blocks = [PCA(6).fit_transform(z[:, block]) for block in (slice(20), slice(20, 40))]
    reduced = PCA(8).fit_transform(np.hstack(blocks))
    spread = np.square(reduced).sum(1).mean()
    expected = rbf_kernel(reduced, reduced[::10], gamma=0.7 / spread)
    found = prototypes(statistics).numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)  # int8 on both sides
    assert found.shape == (300, 30) and found.std() > 0.1


def test_outliers_stay_in_bounds(statistics, prototypes):
    far = statistics[:1].clone()
    far[0, 3] = 1e6
    bound = far.clone()
    bound[0, 3] = prototypes.centre[3] + 6 * prototypes.scale[3]
    torch.testing.assert_close(prototypes(far), prototypes(bound))
    assert prototypes(far).max() > 0.01


def test_what_is_kept_is_int8(prototypes):
    kept = {name: tensor.dtype for name, tensor in prototypes.state_dict().items()}
    assert {t for name, t in kept.items() if name.endswith("values")} == {torch.int8}
    again = Prototypes(40, SETTINGS)
    again.load_state_dict(prototypes.state_dict())
    x = torch.ones(2, 40)
    torch.testing.assert_close(again(x), prototypes(x))


@pytest.mark.parametrize("sizes", [(30, 6, 5), (20, 21, 5), (20, 6, 13), (20, 0, 5), (20, 6, 0)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="expected blocks that divide 40 features"):
        Prototypes(40, PrototypeSettings(*sizes, 5))
