import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from wne_jax.images import degradations
from wne_jax.operators import (
    BayerMosaic,
    Blur,
    Downsample,
    Identity,
    Mask,
    Operator,
    check_operator,
    degrade,
    gaussian_kernel,
    motion_kernel,
)

KEEP = np.random.default_rng(0).random((1, 12, 8, 1)) < 0.5
UNEVEN = np.random.default_rng(1).random((3, 4)).astype(np.float32)
OPERATORS = {
    "identity": Identity(),
    "gaussian": Blur(gaussian_kernel(1.0)),
    "motion": Blur(motion_kernel(5.0, 30.0)),
    "uneven": Blur(UNEVEN),
    "reflect": Blur(gaussian_kernel(0.8), boundary="reflect"),
    "uneven, reflect": Blur(UNEVEN, boundary="reflect"),
    "downsample 2": Downsample(2),
    "downsample 4": Downsample(4),
    "bayer": BayerMosaic(),
    "mask": Mask(KEEP),
    "blur, then downsample": Downsample(2) @ Blur(gaussian_kernel(1.0)),
    "two blurs": Blur(motion_kernel(3.0, 90.0)) @ Blur(gaussian_kernel(1.0)),
}


def image(shape=(2, 12, 8, 3)):
    return jax.random.normal(jax.random.key(3), shape)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_its_declared_properties(name):
    check_operator(OPERATORS[name], jax.random.key(0), (2, 12, 8, 3))


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_that_keep_constants_commute_with_contrast_and_brightness(name):
    operator, x = OPERATORS[name], image()
    kept = np.allclose(operator(3 * x + 0.5), 3 * operator(x) + 0.5, atol=1e-4)
    assert kept == operator.keeps_constants == (name not in ("uneven", "uneven, reflect", "mask"))


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("reflect", "mirror")])
@pytest.mark.parametrize("kernel", [gaussian_kernel(0.7), motion_kernel(4.0, 20.0), UNEVEN])
def test_a_blur_equals_scipys_convolution(kernel, boundary, mode):
    x = image((1, 24, 21, 1))
    expected = ndimage.convolve(np.asarray(x[0, ..., 0]), kernel, mode=mode)
    np.testing.assert_allclose(Blur(kernel, boundary)(x)[0, ..., 0], expected, atol=1e-5)


def test_a_motion_kernel_has_its_length_and_direction():
    """Test its sum, its centre and the direction of its spread."""
    for degrees in (0, 30, 90, 135):
        kernel = motion_kernel(9.0, degrees)
        rows, columns = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1)
        assert abs((kernel * rows).sum()) + abs((kernel * columns).sum()) < 1e-5
        along = columns * np.cos(np.deg2rad(degrees)) - rows * np.sin(np.deg2rad(degrees))
        across = columns * np.sin(np.deg2rad(degrees)) + rows * np.cos(np.deg2rad(degrees))
        assert (kernel * along**2).sum() == pytest.approx(9**2 / 12, abs=0.4)
        assert (kernel * across**2).sum() < 0.5


def test_downsampling_does_not_alias():
    """Half the pixels represent half the frequencies: fine stripes become gray, coarse stripes are kept."""
    columns = jnp.arange(64.0)
    fine, coarse = (
        jnp.broadcast_to(jnp.cos(2 * jnp.pi * f * columns), (1, 64, 64))[..., None]
        for f in (0.45, 0.05)
    )
    inside = np.s_[:, 4:-4, 4:-4]
    assert jnp.std(Downsample(2)(fine)[inside]) < 0.15 * jnp.std(fine)
    assert jnp.std(Downsample(2)(coarse)[inside]) > 0.9 * jnp.std(coarse)


def test_a_degradation_combines_an_operator_and_noise():
    x, key = image(), jax.random.key(5)
    degraded = degrade(Downsample(2), degradations.gaussian)(key, x, 0.1)
    noise = degradations.gaussian(key, 0 * Downsample(2)(x), 0.1)
    np.testing.assert_allclose(degraded, Downsample(2)(x) + noise, atol=1e-6)


def test_one_compiled_function_works_for_all_blurs_of_a_shape():
    traced = []

    @jax.jit
    def apply(operator: Operator, x):
        traced.append(None)
        return operator(x)

    for degrees in (0.0, 45.0):
        apply(Blur(motion_kernel(5.0, degrees)[:7, :7]), image())
    assert len(traced) == 1


def test_powers_of_two_are_exact():
    x = image()
    for operator in OPERATORS.values():
        assert (operator(8 * x) == 8 * operator(x)).all()
        y = operator(x)
        assert (operator.adjoint(y / 4) == operator.adjoint(y) / 4).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Downsample(5)(image()), "factor must divide height and width, 12 and 8, not 5"),
        (lambda: BayerMosaic()(image((1, 4, 4, 1))), "colour images"),
        (lambda: Mask(np.ones((12, 8)))(image()), "keep must be boolean and of rank 4"),
        (lambda: Blur(UNEVEN, boundary="zeros")(image()), "boundary must be circular or reflect"),
        (lambda: gaussian_kernel(0), "sigma_px must be above 0"),
        (lambda: motion_kernel(-1, 0), "length must be above 0"),
    ],
)
def test_invalid_arguments_are_rejected_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_wrong_adjoint_is_found():
    class Wrong(Identity):
        def adjoint(self, y):
            return 2 * y

    with pytest.raises(AssertionError, match="adjoint"):
        check_operator(Wrong(), jax.random.key(0), (1, 4, 4, 1))
