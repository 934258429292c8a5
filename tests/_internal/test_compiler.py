"""How functions are compiled on CPU."""

import jax
import numpy as np
import pytest

from wne_jax._internal import compiler


@pytest.fixture
def unknown_option(monkeypatch):
    monkeypatch.setattr(compiler, "OPTIONS", {"xla_of_another_version": "1"})
    compiler.accepted.cache_clear()
    yield
    compiler.accepted.cache_clear()


def test_the_installed_jax_accepts_the_option():
    """If this fails, run `experiments.throughput` to see whether convolutions need another option."""
    assert compiler.accepted()


def test_a_jax_without_the_option_compiles_without_it(unknown_option):
    assert not compiler.accepted()
    assert compiler.jit(lambda x: x + 1)(1) == 2


def test_a_convolution_is_computed_without_the_option():
    x, kernel = (
        jax.random.normal(jax.random.key(k), s) for k, s in ((0, (2, 9, 9, 3)), (1, (3, 3, 3, 5)))
    )

    def convolve(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    np.testing.assert_allclose(
        compiler.jit(convolve)(x), jax.jit(convolve)(x), rtol=1e-5, atol=1e-5
    )
