"""Random inputs: damaged files end in one line or in what they hold, and the identity holds for any image.

They run only with `-m fuzz`, as in `.ci/run`: for thirty seconds, from a fixed seed. This takes ten minutes:

    WNE_FUZZ_SECONDS=150 WNE_FUZZ_SEED=1 python -m pytest -m fuzz

A failure names the number of its input: `draws` and `random_bytes` make it again from that and the seed.
"""

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from flax.serialization import msgpack_serialize
from PIL import Image

import wne_jax as wne
from wne_jax.config import ModelConfig
from wne_jax.images.files import ImageError, creating, fitted, open_image
from wne_jax.images.reading import read_image
from wne_jax.statistics import STATISTICS, symmetry_of
from wne_jax.symmetry import assert_exact_under_powers_of_two, assert_normalization_equivariant
from wne_jax.testing import random_variables, tiny
from wne_jax.training import TrainConfig, load_config
from wne_jax.training.log import Log
from wne_jax.weights import WeightsError, load_model, read_tensors, save

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("WNE_FUZZ_SECONDS", 7.5))
SEED = int(os.environ.get("WNE_FUZZ_SEED", 0))
HANG = 60
"""Seconds that no input may take, on a loaded machine."""


def draws(stream: int) -> Iterator[tuple[int, np.random.Generator]]:
    """Numbers of inputs and their random numbers, until the time is over; at least ten."""
    began, number = time.monotonic(), 0
    while number < 10 or time.monotonic() - began < SECONDS:
        yield number, np.random.default_rng([SEED, stream, number])
        number += 1
    print(f"{number} inputs")


def random_bytes(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A file with some of the damage that files get."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = len(data)
        at = int(rng.integers(0, max(size, 1)))
        end = min(size, at + int(rng.geometric(1 / 20)))
        kind = rng.integers(0, 7)
        if kind == 0 and size:  # a bit
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:  # some bytes
            data[at:end] = rng.bytes(end - at)
        elif kind == 2:  # cut off
            del data[at:]
        elif kind == 3:  # left out
            del data[at:end]
        elif kind == 4:  # twice
            data[at:at] = data[at:end]
        elif kind == 5:  # zeros, or ones
            data[at:end] = bytes([int(rng.choice([0, 255]))]) * (end - at)
        else:  # a part of another file
            other = others[rng.integers(0, len(others))]
            start = int(rng.integers(0, len(other)))
            data[at:end] = other[start : start + int(rng.geometric(1 / 200))]
    return bytes(data)


def images(folder) -> dict[str, bytes]:
    """Whole files of every kind, small."""
    rng = np.random.default_rng(0)
    gray, colour = (
        rng.integers(0, 256, (13, 11), np.uint8),
        rng.integers(0, 256, (13, 11, 4), np.uint8),
    )
    stack = rng.integers(0, 4096, (5, 16, 32), np.uint16)
    exif = Image.Exif()
    exif[274], exif[315] = 6, "somebody"
    for name, pixels, options in [
        ("gray.png", gray, {"exif": exif}),
        ("alpha.png", colour, {"dpi": (300, 150)}),
        ("gray.jpg", gray, {"exif": exif}),
        ("colour.jpg", colour[..., :3], {"comment": b"hello"}),
        ("gray.bmp", gray, {}),
        ("lzw.tif", gray, {"compression": "tiff_lzw"}),
    ]:
        Image.fromarray(pixels).save(folder / name, **options)
    Image.fromarray(gray).convert("P").save(folder / "palette.png", transparency=3)
    Image.fromarray(stack[0]).save(folder / "deep.png", transparency=700)
    for name, pixels, options in [
        ("plain.tif", stack, {"metadata": None}),
        ("imagej.tif", stack, {"imagej": True}),
        ("stack.ome.tif", stack, {"metadata": {"axes": "ZYX"}}),
        ("deflate.tif", stack, {"compression": "zlib"}),
        ("tiles.tif", stack[0], {"tile": (16, 16), "byteorder": ">"}),
        ("bands.tif", colour, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        ("big.tif", stack.astype(np.float32), {"bigtiff": True}),
    ]:
        tifffile.imwrite(folder / name, pixels, **options)
    with tifffile.TiffWriter(folder / "pages.tif") as tif:
        for number, page in enumerate(stack):
            tif.write(page, contiguous=False, metadata=None, description=f"page {number}")
    np.save(folder / "gray.npy", gray)
    np.save(folder / "stack.npy", stack[..., :3].astype(">f4"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def one_line(error: Exception, path) -> None:
    message = str(error)
    assert message.startswith(f"{path}") and "\n" not in message and len(message) < 2000, message


def test_damaged_images_are_refused_or_come_back_as_they_are_read(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = images(tmp_path / "whole")
    names, refused, read = list(whole), 0, 0
    for number, rng in draws(1):
        name = names[number % len(names)]
        path, out = tmp_path / f"x-{name}", tmp_path / f"y-{name}"
        path.write_bytes(random_bytes(whole[name], list(whole.values()), rng))
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = read_image(path) if name[-3:] != "npy" else None
                assert pixels is None or (pixels.ndim == 3 and pixels.shape[-1] in (1, 3))
            except ImageError as error:
                one_line(error, path)
            try:
                image = fitted(out, open_image(path))
                with creating(out, image) as copy:
                    copy[...] = image.pixels
                read += 1
            except ImageError as error:
                one_line(error, path if str(error).startswith(f"{path}") else out)
                refused += 1
                continue
            finally:
                assert time.monotonic() - began < HANG, number
            if name[-3:] == "jpg":
                continue
            again = open_image(out, axes=image.axes if name[-3:] == "npy" else None)
        assert again.pixels.shape == image.pixels.shape, (number, name)
        np.testing.assert_array_equal(again.pixels, image.pixels, err_msg=f"{number} {name}")
    assert refused and read


def test_damaged_weights_are_refused_or_are_weights(tmp_path):
    config = ModelConfig("dncnn", {"depth": 3, "features": 4}, wrapper="wne")
    variables = random_variables(config.build(), jnp.ones((1, 8, 8, 1)))
    save(tmp_path / "whole.safetensors", config, variables)
    tree = jax.tree.map(np.asarray, variables)
    whole = {
        ".safetensors": (tmp_path / "whole.safetensors").read_bytes(),
        ".mpk": msgpack_serialize(tree),
    }
    suffixes, refused = list(whole), 0
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    for number, rng in draws(2):
        suffix = suffixes[number % len(suffixes)]
        path = tmp_path / f"x{suffix}"
        path.write_bytes(random_bytes(whole[suffix], list(whole.values()), rng))
        began = time.monotonic()
        try:
            if suffix == ".mpk":
                assert all(isinstance(t, np.ndarray) for t in read_tensors(path).values())
                continue
            found, read = load_model(path)
            own = config.options | {"residual": True}
            if found.options | {"residual": True} == own:
                assert [leaf.shape for leaf in jax.tree.leaves(read)] == shapes
        except WeightsError as error:
            one_line(error, path)
            refused += 1
        finally:
            assert time.monotonic() - began < HANG, number
    assert refused


def test_damaged_settings_and_logs_are_named(tmp_path):
    path, log = tmp_path / "config.json", tmp_path / "metrics.jsonl"
    config = json.dumps(dataclasses.asdict(TrainConfig())).encode()
    lines = b"".join(b'{"step": %d, "loss": 0.5}\n' % step for step in range(20))
    refused = 0
    for number, rng in draws(3):
        path.write_bytes(random_bytes(config, [config, lines], rng))
        try:
            assert isinstance(load_config(path), TrainConfig), number
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        if number % 10 == 0:  # each try leaves a file of TensorBoard's
            log.write_bytes(random_bytes(lines, [config, lines], rng))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Log(tmp_path, start=12):
                    steps = [json.loads(line)["step"] for line in log.open()]
            assert all(step <= 12 for step in steps), number
    assert refused


def any_image(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise, plateaus, outliers, whole numbers and single pixels, of any contrast and brightness."""
    y = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3)
    kind = rng.integers(0, 6)
    if kind == 1:
        y[:, : rng.integers(1, shape[1])] = rng.normal()
    elif kind == 2:
        y.flat[rng.integers(0, y.size, 3)] *= 1e3
    elif kind == 3:
        y = np.rint(y)
    elif kind == 4:
        y = np.zeros(shape)
        y.flat[rng.integers(0, y.size)] = rng.normal()
    elif kind == 5:
        y = np.cumsum(y, axis=1)
    return (y + rng.choice([0.0, 1.0, 100.0]) * rng.normal()).astype(np.float32)


def test_the_identity_holds_for_any_image():
    statistics = sorted(n for n, s in STATISTICS.items() if symmetry_of(s) == "normalization")
    backbones = [tiny("dncnn"), tiny("fdncnn", mode="normalization-equivariant"), tiny("drunet")]
    functions = []
    for number, name in enumerate(statistics):
        model = wne.WNE(backbones[number % len(backbones)], STATISTICS[name])
        variables = random_variables(model, jnp.ones((1, 12, 12, 1)), seed=number, spread=0.5)
        functions.append((name, jax.jit(lambda y, m=model, v=variables: m.apply(v, y))))
    for number, rng in draws(4):
        name, f = functions[number % len(functions)]
        y = any_image(rng, (2, 12, 12, 1))
        try:
            assert np.isfinite(f(y)).all()
            assert_exact_under_powers_of_two(f, y, exponents=rng.integers(-15, 15, 2).tolist())
            key = jax.random.key(number)
            assert_normalization_equivariant(f, y, key, samples=1, gain=10.0)
        except AssertionError as error:
            raise AssertionError(f"input {number} of {name}: {error}") from error
