import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.data import build_corpus, draw_crop, draw_examples, fingerprint, stream_crops
from wne_jax.data import corpus as corpus_module
from wne_jax.data.corpus import Batch, cut, draw_windows
from wne_jax.images.units import to_unit


def numbered_images(dtype=np.uint16, channels=1):
    """Images whose entries are all different, so that a crop determines its position."""
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
    np.testing.assert_allclose(counts, 20_000 / 16, rtol=0.15)  # 5 standard errors


def test_an_example_depends_on_its_global_index_only():
    corpus = build_corpus(numbered_images())

    def corrupt(key, clean):
        return Batch(clean + jax.random.normal(key, clean.shape), clean, jnp.float32(1))

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


def test_float64_becomes_float32_at_any_position():
    double, single = np.full((2, 2, 1), 0.25), np.full((2, 2, 1), 0.5, np.float32)
    for images in ([double], [double, single], [single, double], [np.uint8([[[51]]]), double]):
        corpus = build_corpus(images)
        expected = np.concatenate([to_unit(image).ravel() for image in images])
        np.testing.assert_array_equal(corpus.pixels, expected)
        assert corpus.pixels.dtype == np.float32
    with pytest.raises(TypeError, match="int32"):
        build_corpus([np.zeros((2, 2, 1), np.int32)])


def test_invalid_images_are_rejected():
    for nothing in ([], [[]], [[np.zeros((4, 4, 1), np.uint8)], []]):
        with pytest.raises(ValueError, match="at least one"):
            build_corpus(*nothing)
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        build_corpus([np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint8)])


def test_images_are_written_one_by_one_to_an_unnamed_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    corpus = build_corpus(np.full((4, 4, 1), shade, np.uint8) for shade in range(3))
    assert isinstance(corpus.pixels, np.memmap) and not corpus.pixels.flags.writeable
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(corpus.pixels, np.repeat([0, 1, 2], 16))


def test_a_late_change_of_dtype_converts_earlier_images_to_float(monkeypatch):
    monkeypatch.setattr(corpus_module, "_CHUNK", 7)  # several pieces, the last shorter
    images = numbered_images(np.uint8)
    corpus = build_corpus([*images, np.full((3, 3, 1), 0.5, np.float32)])
    expected = np.concatenate([i.ravel() for i in images]).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(corpus.pixels, [*expected, *[0.5] * 9])


@pytest.mark.parametrize("kind, shots", [("clean", 1), ("pairs", 2), ("repeats", 4)])
def test_slices_on_the_host_equal_the_gather_on_the_device(kind, shots):
    scenes = [
        np.stack([image + 500 * shot for shot in range(shots)])
        for image in numbered_images(channels=3)
    ]
    corpus = build_corpus([s[0] for s in scenes] if kind == "clean" else scenes, kind=kind)
    key, indices = jax.random.key(5), np.arange(3, 67)
    stream = stream_crops(key, corpus, indices, size=5, start=2, stop=4, threads=2, ahead=1)
    for step, crops in zip((2, 3), stream, strict=True):
        windows = draw_windows(jax.random.fold_in(key, step), corpus, indices, size=5)
        gathered = jax.vmap(lambda window: cut(corpus, window, size=5))(windows)
        np.testing.assert_array_equal(crops, gathered)
        assert crops.dtype == np.uint16 and crops.shape == (64, min(shots, 2), 5, 5, 3)


def test_the_crops_of_a_pair_have_the_same_position():
    clean = np.arange(48, dtype=np.uint8).reshape(6, 8, 1)
    corpus = build_corpus([np.stack([clean + 100, clean])], kind="pairs")
    batch = draw_examples(jax.random.key(0), corpus, jnp.arange(9), size=4, corrupt=None)
    np.testing.assert_allclose(batch.noisy - batch.clean, 100 / 255, rtol=1e-5)
    assert np.isnan(batch.sigma).all()


def test_repeats_give_two_different_shots_uniformly_at_one_position():
    scene = np.stack([np.full((6, 6, 1), shot, np.uint8) for shot in range(3)])
    corpus = build_corpus([scene], kind="repeats")
    batch = draw_examples(jax.random.key(0), corpus, jnp.arange(600), size=4, corrupt=None)
    shots = np.rint(255 * np.stack([batch.noisy, batch.clean])[..., 0, 0, 0]).astype(int)
    counts = np.bincount(3 * shots[0] + shots[1], minlength=9).reshape(3, 3)
    assert np.trace(counts) == 0
    np.testing.assert_allclose(
        counts[~np.eye(3, dtype=bool)], 100, atol=40
    )  # over 4 standard errors


def test_sources_are_drawn_by_weight_independent_of_their_size():
    one, many = [np.zeros((4, 4, 1), np.uint8)], [np.full((4, 4, 1), 255, np.uint8)] * 9
    keys = jax.random.split(jax.random.key(0), 4000)
    share_of_many = []
    for weights in (None, (3, 1)):
        corpus = build_corpus(one, many, weights=weights)
        crops = jax.vmap(lambda key: draw_crop(key, corpus, size=2))(keys)  # noqa: B023
        share_of_many.append(float(crops.mean()))
    np.testing.assert_allclose(share_of_many, [0.9, 0.25], atol=0.03)  # over 4 standard errors


def test_a_fingerprint_depends_on_pixels_shapes_order_and_weights():
    a, b = (np.full((4, 6, 1), shade, np.uint8) for shade in (1, 2))
    same = fingerprint(build_corpus([a, b]))
    assert same == fingerprint(jax.device_put(build_corpus(x for x in (a, b))))
    others = [
        build_corpus([b, a]),
        build_corpus([a]),
        build_corpus([a, b.reshape(6, 4, 1)]),
        build_corpus([a], [b], weights=(1, 2)),
        build_corpus([np.stack([a, b])], kind="pairs"),
    ]
    assert len({same, *map(fingerprint, others)}) == 6


def test_an_offset_beyond_32_bits_is_cut_on_the_host(tmp_path):
    """The corpus is a sparse file that has only its last image."""
    size, start = 8 * 9, 2**32 + 5
    image = np.arange(size, dtype=np.uint8).reshape(8, 9, 1)
    with (tmp_path / "pixels").open("wb") as file:
        file.seek(start)
        file.write(image.tobytes())
    corpus = build_corpus([image])
    far = corpus.replace(
        pixels=np.memmap(tmp_path / "pixels", np.uint8, mode="r"), offsets=np.array([start])
    )
    draw = lambda corpus: next(  # noqa: E731
        stream_crops(jax.random.key(0), corpus, np.arange(4), size=5, start=0, stop=1)
    )
    np.testing.assert_array_equal(draw(far), draw(corpus))
