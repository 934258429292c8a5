import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wne_jax import statistics as S
from wne_jax.inference.streaming import find_peak, stream_statistics
from wne_jax.statistics.blocks import release_pages

ALL = {**S.STATISTICS, "root_mean_square": S.root_mean_square}
STREAMED = {name: statistic for name, statistic in ALL.items() if hasattr(statistic, "over_blocks")}
IN_MEMORY = {name: jax.jit(statistic) for name, statistic in STREAMED.items()}
each_statistic = pytest.mark.parametrize("name", sorted(STREAMED))
DTYPES = ("uint8", "uint16", "int16", "int64", "float16", "float32", "float64")


def image(shape=(23, 17, 1), dtype="uint16", seed=0):
    y = np.random.default_rng(seed).normal(120, 30, shape)
    return np.clip(y, 0, 255).astype(dtype)


def near_zero(y):
    """A map like the Denoiser's, from values far from 0 to float32."""
    return lambda block: np.float32((block.astype(np.float64) - float(y[0, 0, 0])) / 64)


def assert_same_statistics(streamed, expected):
    magnitude = float(jnp.abs(expected.location).max() + expected.scale.max())
    for actual, part in zip(*map(jax.tree.leaves, (streamed, expected)), strict=True):
        assert actual.shape == (1, 1, 1, 1) and actual.dtype == jnp.float32
        np.testing.assert_allclose(actual, part, rtol=2e-6, atol=1e-7 * magnitude)


SHAPES = ((1, 1, 1), (1, 9, 1), (9, 1, 3), (2, 2, 1), (23, 18, 3))


@hypothesis.settings(max_examples=60)
@given(
    st.sampled_from(sorted(STREAMED)), st.sampled_from(SHAPES), st.sampled_from(DTYPES),
    st.integers(1, 25), st.integers(0, 99),
)  # fmt: skip
def test_a_stream_has_the_statistics_of_the_whole(name, shape, dtype, rows, seed):
    y = image(shape, dtype, seed)
    streamed = stream_statistics(STREAMED[name], y, prepare=near_zero(y), rows=rows)
    if name == "high_pass" and shape[:2] == (
        1,
        1,
    ):  # one pixel has no detail: what is left is the floor
        expected = IN_MEMORY["mean_std"](near_zero(y)(y)[None])
        expected = expected._replace(scale=S.FLOOR * expected.scale)
    else:
        expected = IN_MEMORY[name](near_zero(y)(y)[None])
    assert_same_statistics(streamed, expected)


def test_statistics_far_from_zero_equal_those_of_double_precision():
    y = image((64, 50, 1), "float64") * 1e-3 + 40000
    mad = np.median(np.abs(y - np.median(y))) / 0.6744897501960817
    for name, expected in (
        ("mean_std", (y.mean(), y.std())),
        ("median_mad", (np.median(y), mad)),
        ("min_max", (y.min(), np.ptp(y))),
    ):
        found = stream_statistics(name, y, prepare=near_zero(y), rows=7)
        location, spread = (float(part.item()) * 64 for part in found[:2])
        location += y[0, 0, 0]
        np.testing.assert_allclose(location, expected[0], rtol=0, atol=1e-6 * y.std())
        np.testing.assert_allclose(spread, expected[1], rtol=1e-6)


@pytest.mark.parametrize("shape", [(8, 9, 1), (7, 9, 1), (1, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("spread", [1, 3, 1000])
def test_medians_are_exact_with_ties_and_for_even_and_odd_numbers(shape, spread):
    rng = np.random.default_rng(1)
    for scale in (1, -1, 1e-30):
        y = (scale * rng.integers(-spread, spread + 1, shape) / 3).astype(np.float32)
        location, *_ = stream_statistics("median_mad", y, prepare=np.asarray, rows=1)
        assert location.item() == np.median(y)
        # The scale, where it is above its floor, is another exact median over a constant.
        deviation = np.median(np.abs(y - np.median(y)))
        if deviation > 0.1 * y.std():
            expected = np.float32(deviation / 0.6744897501960817)
            scale_found = stream_statistics("median_mad", y, prepare=np.asarray).scale.item()
            assert scale_found == pytest.approx(expected, rel=2e-7)


@each_statistic
@pytest.mark.parametrize("rows", [1, 5, None])
@pytest.mark.parametrize("c", [0.1, -12345.678, 1e-12])
def test_constants_have_their_own_value_and_no_scale(name, rows, c):
    y = np.full((13, 11, 1), c, np.float32)
    location, scale, *_ = stream_statistics(STREAMED[name], y, prepare=np.asarray, rows=rows)
    if name == "root_mean_square":
        assert location.item() == 0 and scale.item() == pytest.approx(abs(c), rel=1e-7)
    else:
        assert location.item() == np.float32(c) and scale.item() == 0


@each_statistic
def test_statistics_do_not_depend_on_the_size_of_the_blocks(name):
    y = image((40, 31, 3))
    prepare = near_zero(y)
    results = [
        stream_statistics(STREAMED[name], y, prepare=prepare, rows=r) for r in (1, 2, 13, 40, None)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(
            *(np.ravel(jax.tree.leaves(each)) for each in (other, results[0])), rtol=2e-7
        )


@each_statistic
def test_powers_of_two_pass_bit_for_bit(name):
    y = image(dtype="float32")
    location, scale, *_ = stream_statistics(STREAMED[name], y, prepare=np.asarray, rows=4)
    moved = stream_statistics(
        STREAMED[name], y, prepare=lambda block: block * np.float32(2**-9), rows=4
    )
    assert moved.location == location * 2**-9 and moved.scale == scale * 2**-9


def test_a_file_is_read_as_an_array_is_and_its_pages_are_let_go(tmp_path):
    y = image((300, 200, 1))
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    assert find_peak(mapped) == find_peak(y)
    prepare = near_zero(y)
    for statistic in STREAMED.values():
        of_file = stream_statistics(statistic, mapped, prepare=prepare)
        assert of_file == stream_statistics(statistic, y, prepare=prepare)

    writable = np.load(tmp_path / "y.npy", mmap_mode="r+")
    writable[5] = 7
    release_pages(writable)
    assert (writable[5] == 7).all() and (np.load(tmp_path / "y.npy")[5] == 7).all()
    private = np.load(tmp_path / "y.npy", mmap_mode="c")
    private[6] = 9
    release_pages(private)
    assert (private[6] == 9).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, None])
def test_the_peak_is_the_largest_distance_from_the_first_pixel(dtype, rows):
    y = image((30, 20, 1), dtype)
    assert find_peak(y, rows=rows) == np.abs(y.astype(np.float64) - float(y[0, 0, 0])).max()
    assert find_peak(np.full_like(y, 7)) == 0


@pytest.mark.parametrize("rows", [1, None])
def test_broken_pixels_are_counted_and_refused(rows):
    y = image(dtype="float32")
    y[0, 0], y[4, 4], y[9, 3] = np.nan, np.inf, -np.inf
    with pytest.raises(ValueError, match="image has 3 NaN or infinite pixels"):
        find_peak(y, rows=rows)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"image": np.zeros((3, 3))}, ValueError, r"\[H, W, C\]"),
        ({"image": np.zeros((0, 3, 1))}, ValueError, "empty"),
        ({"image": np.zeros((3, 3, 1), complex)}, TypeError, "complex"),
        ({"image": np.zeros((3, 3, 1), bool)}, TypeError, "bool"),
        ({"rows": 0}, ValueError, "rows must be 1 or more"),
        ({"statistic": "median"}, ValueError, "one of mean_std, noise_level, .*, not 'median'"),
    ],
)
def test_what_cannot_be_streamed_is_refused(arguments, error, message):
    given = {"statistic": S.mean_std, "image": image(), "prepare": np.float32} | arguments
    with pytest.raises(error, match=message):
        stream_statistics(given.pop("statistic"), given.pop("image"), **given)


def test_a_plain_function_is_computed_on_the_whole_image_with_a_note():
    def mean_and_range(y, *, axes=None, where=None):
        return S.Statistics(S.mean_std(y, axes=axes, where=where).location, S.min_max(y).scale)

    y = image((40, 30, 1))
    with pytest.warns(UserWarning, match="^mean_and_range has no passes .* 40 x 30 pixels"):
        found = stream_statistics(mean_and_range, y, prepare=near_zero(y), rows=7)
    assert_same_statistics(found, mean_and_range(near_zero(y)(y)[None]))
