import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers.window_attention import (
    WindowAttention,
    merge_windows,
    relative_position_index,
    shifted_regions,
    split_windows,
)


def pixels(height, width):
    """Row and column of every pixel, `[H * W]` each."""
    return np.divmod(np.arange(height * width), width)


def together(height, width, window, shift, circular=False):
    """Whether two pixels share a window of the shifted grid, `[H * W, H * W]`."""
    rows, columns = ((p - shift) // window for p in pixels(height, width))
    if circular:  # pixels before the first window belong to the last
        rows, columns = rows % (height // window), columns % (width // window)
    return (rows[:, None] == rows) & (columns[:, None] == columns)


def attention_among_all_pixels(x, params, *, heads, window, shift, circular=False):
    """The same in NumPy without windows: attention among all pixels, masked."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, -1, channels)
    projected = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q, k, v = (p.reshape(batch, height * width, heads, -1) for p in np.split(projected, 3, -1))
    logits = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(channels // heads)
    table = params["relative_bias"].reshape(2 * window - 1, 2 * window - 1, heads)
    places = ((p - shift) % window for p in pixels(height, width))  # in the pixel's window
    rows, columns = (p[:, None] - p + window - 1 for p in places)
    inside = together(height, width, window, shift, circular)
    logits = logits + np.moveaxis(table[rows, columns], 2, 0)
    weights = np.where(inside, np.exp(logits), 0)
    weights = weights / weights.sum(-1, keepdims=True)
    out = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
    out = out @ params["projection"]["kernel"] + params["projection"]["bias"]
    return out.reshape(batch, height, width, channels)


def test_windows_are_blocks_of_the_image_and_merge_back():
    x = np.arange(2 * 6 * 9 * 2).reshape(2, 6, 9, 2)
    tokens = split_windows(jnp.asarray(x), 3)
    np.testing.assert_array_equal(tokens[1, 4].reshape(3, 3, 2), x[1, 3:6, 3:6])
    np.testing.assert_array_equal(merge_windows(tokens, x.shape), x)


@pytest.mark.parametrize("window", [1, 2, 7, 8])
def test_pairs_of_tokens_have_equal_numbers_if_their_displacements_are_equal(window):
    rows, columns = pixels(window, window)
    down, right = np.divmod(relative_position_index(window), 2 * window - 1)
    np.testing.assert_array_equal(down - (window - 1), rows[:, None] - rows)
    np.testing.assert_array_equal(right - (window - 1), columns[:, None] - columns)


@pytest.mark.parametrize("window, shift", [(4, 2), (4, 1), (5, 2), (4, 0), (1, 0)])
@pytest.mark.parametrize("windows", [(1, 1), (1, 3), (3, 2)])
def test_regions_are_equal_for_pixels_in_the_same_shifted_window(window, shift, windows):
    height, width = window * windows[0], window * windows[1]
    regions = shifted_regions(height, width, window=window, shift=shift)
    origin = np.roll(np.arange(height * width).reshape(height, width), (-shift, -shift), (0, 1))
    origin = split_windows(jnp.asarray(origin[None, :, :, None]), window)[0, :, :, 0]
    expected = together(height, width, window, shift)[origin[:, :, None], origin[:, None, :]]
    np.testing.assert_array_equal(regions[:, :, None] == regions[:, None, :], expected)


def test_only_the_last_row_and_column_of_windows_have_several_regions():
    regions = shifted_regions(12, 16, window=4, shift=2).reshape(3, 4, -1)
    mixed = np.ptp(regions, axis=-1) > 0
    assert mixed[-1].all() and mixed[:, -1].all() and not mixed[:-1, :-1].any()


@pytest.mark.parametrize(
    ("shift", "circular"), [(0, False), (2, False), (1, False), (2, True), (1, True)]
)
@pytest.mark.parametrize("shape", [(2, 8, 12, 6), (1, 4, 4, 6)])
def test_window_attention_equals_masked_attention_among_all_pixels(shape, shift, circular):
    rng = np.random.default_rng(0)
    options = {"heads": 3, "window": 4, "shift": shift, "circular": circular}
    with jax.enable_x64(True):
        net = WindowAttention(**options, param_dtype=jnp.float64)
        x = rng.normal(size=shape)
        regions = None if circular else shifted_regions(*shape[1:3], window=4, shift=shift)
        params = jax.eval_shape(net.init, jax.random.key(0), x, regions)["params"]
        params = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        result = np.asarray(jax.jit(net.apply)({"params": params}, x, regions))
    expected = attention_among_all_pixels(x, params, **options)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.ptp(expected))


def test_indivisible_channels_and_missing_regions_are_rejected(key):
    x = jnp.ones((1, 8, 8, 6))
    with pytest.raises(ValueError, match="6 channels, 4 heads"):
        WindowAttention(heads=4).init(key, x)
    with pytest.raises(ValueError, match="needs regions"):
        WindowAttention(heads=3, shift=4).init(key, x)
