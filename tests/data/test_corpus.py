import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.data import build_corpus, draw_crop, draw_examples
from wne_jax.data import corpus as corpus_module


def numbered_images(dtype=np.uint16, channels=1):
    """Images whose every entry is unique, so that a crop tells where it came from."""
    sizes, start, images = [(9, 7), (6, 6), (8, 13)], 1, []
    for height, width in sizes:
        count = height * width * channels
        images.append(np.arange(start, start + count, dtype=dtype).reshape(height, width, channels))
        start += count
    return images


def dihedral(crop):
    """The eight flips and rotations."""
    return [np.rot90(side, k) for side in (crop, crop[:, ::-1]) for k in range(4)]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_crop_is_a_window_of_an_image_up_to_flips_and_rotations(channels):
    images = numbered_images(channels=channels)
    corpus = build_corpus(images)
    windows = {
        np.ascontiguousarray(turned).tobytes(): (number, orientation)
        for number, image in enumerate(images)
        for top in range(image.shape[0] - 4)
        for left in range(image.shape[1] - 4)
        for orientation, turned in enumerate(dihedral(image[top : top + 5, left : left + 5]))
    }
    keys = jax.random.split(jax.random.key(0), 400)
    crops = jax.jit(jax.vmap(lambda key: draw_crop(key, corpus, size=5)))(keys)
    assert crops.dtype == jnp.float32
    exact = np.rint(np.asarray(crops, np.float64) * 65535).astype(np.uint16)
    origins = {windows[crop.tobytes()] for crop in exact}
    assert origins == {(number, turn) for number in range(3) for turn in range(8)}


def test_positions_are_uniform():
    corpus = build_corpus([np.arange(36, dtype=np.uint8).reshape(6, 6, 1)])
    keys = jax.random.split(jax.random.key(1), 20_000)
    crops = jax.vmap(lambda key: draw_crop(key, corpus, size=3))(keys) * 255
    corners = np.asarray(jnp.min(crops, axis=(1, 2, 3))).round().astype(int)
    counts = np.bincount(corners, minlength=36)[[6 * i + j for i in range(4) for j in range(4)]]
    assert counts.sum() == 20_000
    np.testing.assert_allclose(counts, 20_000 / 16, rtol=0.15)  # five standard errors


def test_examples_are_keyed_by_their_global_index():
    corpus = build_corpus(numbered_images())

    def corrupt(key, clean):
        return clean + jax.random.normal(key, clean.shape), jnp.float32(1)

    draw = jax.jit(lambda key, i: draw_examples(key, corpus, i, size=4, corrupt=corrupt))
    key = jax.random.key(3)
    whole, share = draw(key, jnp.arange(6)), draw(key, jnp.arange(3, 6))
    np.testing.assert_array_equal(whole.noisy[3:], share.noisy)
    np.testing.assert_array_equal(whole.clean[3:], share.clean)
    assert len({crop.tobytes() for crop in np.asarray(whole.noisy - whole.clean)}) == 6
    assert not np.array_equal(whole.noisy, draw(jax.random.key(4), jnp.arange(6)).noisy)


@pytest.mark.parametrize("dtype, white", [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_the_dtype_of_the_images_is_kept_and_crops_are_in_unit_range(dtype, white):
    corpus = build_corpus([np.full((4, 4, 1), white, dtype)])
    assert corpus.pixels.dtype == dtype
    np.testing.assert_array_equal(draw_crop(jax.random.key(0), corpus, size=2), 1)


def test_a_mixture_of_dtypes_becomes_float():
    corpus = build_corpus([np.full((4, 4, 1), 255, np.uint8), np.full((4, 4, 1), 65535, np.uint16)])
    assert corpus.pixels.dtype == np.float32 and np.all(corpus.pixels == 1)


def test_what_cannot_be_a_corpus_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="at least one"):
        build_corpus([])
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        build_corpus([np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint8)])
    monkeypatch.setattr(corpus_module, "MAX_ELEMENTS", 31)
    with pytest.raises(ValueError, match="32 elements"):
        build_corpus([np.zeros((4, 4, 1), np.uint8)] * 2)
