"""The commands, with models of a few features."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image
from safetensors.numpy import save_file

from wne_jax.cli import denoise_files
from wne_jax.cli import main as commands
from wne_jax.cli.check import Check
from wne_jax.config import ModelConfig, OneLevel, WrapperConfig
from wne_jax.images.files import ImageFile, creating
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry import report as identities
from wne_jax.wrappers.one_level import ANCHOR

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


class Unchanged:
    """A fake Denoiser that returns every image unchanged and records its arguments."""

    channels, ndim, conditioned, takes_sigma, symmetry = 1, 2, False, True, "normalization"
    receptive_radius, model, task, resizes, fills = 3, None, "denoise", False, False

    def __init__(self):
        self.asked = []

    def __call__(self, image, sigma=None, *, tile=None, out=None, progress=None, **options):
        if not np.isfinite(image).all():
            raise ValueError(f"image has {np.sum(~np.isfinite(image))} NaN or infinite pixels")
        self.asked.append({"shape": image.shape, "sigma": sigma, "tile": tile, **options})
        result = np.empty_like(image) if out is None else out
        result[...] = image
        for done in range(1, 5) if progress else ():
            progress(done, 4)
        return result


@pytest.fixture
def unchanged(monkeypatch):
    model = Unchanged()
    monkeypatch.setattr(Denoiser, "default", lambda name="gray": model)
    return model


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_a_signal_leaves_no_partial_files(tmp_path, monkeypatch, unchanged, number, suffix):
    source, out = tmp_path / f"x{suffix}", tmp_path / "out"
    with creating(source, ImageFile(source, GRAY8, "YX")) as pixels:
        pixels[...] = GRAY8
    left = []

    def killed(self, image, *args, **kwargs):
        left.extend(path.suffix for path in out.iterdir())
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Unchanged, "__call__", killed)
    with pytest.raises(SystemExit) as ended:
        commands.main(["denoise", str(source), "-o", f"{out}/"])
    assert ended.value.code == 128 + number and left == [".tmp"]
    assert list(out.iterdir()) == [] and signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.parametrize("symmetry", ["none", "scale", "normalization"])
def test_values_far_from_full_scale_are_noted_if_the_model_depends_on_it(
    tmp_path, monkeypatch, unchanged, capsys, symmetry
):
    monkeypatch.setattr(Unchanged, "symmetry", symmetry)
    for number, (values, far) in enumerate(
        [
            (GRAY8.astype(np.float32), True),
            (GRAY8 / np.float32(255), False),
            (GRAY8.astype(np.uint16) * 16, True),
            (GRAY8.astype(np.uint16) * 256, False),
            (GRAY8 // 16, False),
        ]
    ):
        source = tmp_path / f"{number}.npy"
        np.save(source, values)
        command = ["denoise", str(source), "-o", str(tmp_path / "y.npy"), "--overwrite"]
        assert commands.main(command) == 0
        assert ("set it with --white" in capsys.readouterr().err) == (far and symmetry == "none")
        white = ["--white", "4095", "--sigma-255", "51"]
        assert commands.main(command + white) == 0 and "--white" not in capsys.readouterr().err
        assert unchanged.asked[-1]["white"] == 4095
        assert unchanged.asked[-1]["sigma"] == pytest.approx(4095 / 5)
    for white in ("-1", "inf", "1e40", "1e-40"):  # the last two are none in single precision
        assert commands.main([*command, "--white", white]) == 2
        assert "white must be positive" in capsys.readouterr().err


def test_a_signal_during_computation_gives_its_exit_code(tmp_path):
    """Otherwise Python would end before the threads of XLA, and crash."""
    np.save(tmp_path / "x.npy", RNG.integers(0, 4096, (1500, 1500), dtype=np.uint16))
    (tmp_path / "y.npy").write_bytes(b"before")
    child = subprocess.Popen(
        [sys.executable, "-m", "wne_jax", "denoise", "x.npy", "-o", "y.npy", "--tile", "256", "--overwrite"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline and not list(tmp_path.glob(".*")):
        time.sleep(0.01)
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "y.npy"]
    assert (tmp_path / "y.npy").read_bytes() == b"before"


@pytest.fixture(scope="module")
def tiny():
    config = ModelConfig("dncnn", {"depth": 3, "features": 4}, wrapper="wne")
    variables = jax.jit(config.build().init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda v: v + 0.2 * np.abs(rng.normal(size=v.shape)).astype(v.dtype), variables
    )
    return Denoiser(config.build(), variables, config)


def run(*arguments):
    return commands.main([str(argument) for argument in arguments])


def mistake(capsys, *arguments) -> str:
    """Run a command that must exit with code 2, and return its single line on stderr."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_16_bit_image_times_an_integer_plus_an_offset_commutes(tmp_path, tiny, monkeypatch):
    """Up to rounding: a / 2 from f(y), which is multiplied by a, and 1 / 2 from f(a y + b)."""
    monkeypatch.setattr(Denoiser, "default", lambda: tiny)
    small = np.rint(RNG.normal(4000, 60, (24, 20))).astype(np.uint16)
    for a, b, suffix in ((3, 0, ".png"), (7, 1234, ".tif"), (1, 60_000 - 4000, ".npy")):
        for name, pixels in (("y", small), ("ay", small * np.uint16(a) + np.uint16(b))):
            path = tmp_path / f"{name}{suffix}"
            if suffix == ".npy":
                np.save(path, pixels)
            else:
                (Image.fromarray(pixels).save if suffix == ".png" else
                 lambda p, pixels=pixels: tifffile.imwrite(p, pixels))(path)  # fmt: skip
        out = tmp_path / suffix[1:]
        assert run("denoise", tmp_path / f"y{suffix}", tmp_path / f"ay{suffix}", "-o", out) == 0
        y, ay = (load(out / f"{name}{suffix}").astype(np.int64) for name in ("y", "ay"))
        assert np.abs(y - small).max() > 20  # the image was changed
        assert min(y.min(), ay.min()) > 0 and max(y.max(), ay.max()) < 65535
        assert np.abs(ay - (a * y + b)).max() <= (a + 1) / 2 + 0.01


def load(path):
    if path.suffix == ".npy":
        return np.load(path)
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


def test_rows_are_divided_among_the_devices(tmp_path, tiny, monkeypatch, capsys):
    divided = []
    sharded = Denoiser.sharded
    monkeypatch.setattr(Denoiser, "default", lambda: tiny)
    monkeypatch.setattr(Denoiser, "sharded", lambda self, d: divided.append(d) or sharded(self, d))
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    for name, options in (("b.png", ()), ("c.png", ("--devices", 0))):
        assert run("denoise", tmp_path / "a.png", "-o", tmp_path / name, *options) == 0
    assert divided == [jax.local_devices()]
    np.testing.assert_array_equal(load(tmp_path / "b.png"), load(tmp_path / "c.png"))
    for number in (-1, 1000):
        said = mistake(capsys, "denoise", tmp_path / "a.png", "-o", tmp_path, "--devices", number)
        assert f"--devices is {number}, but" in said


def test_images_of_many_sizes_share_programs_with_unchanged_results(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(Denoiser, "default", lambda: tiny)
    (tmp_path / "in").mkdir()
    for name, shape in (("a", (18, 20)), ("b", (20, 25)), ("c", (30, 32))):
        image = RNG.normal(size=shape).astype(np.float32)
        np.save(tmp_path / "in" / f"{name}.npy", image)
    fresh = Denoiser(tiny.model, tiny.variables)
    monkeypatch.setattr(tiny, "function", fresh.function)
    assert run("denoise", tmp_path / "in", "-o", tmp_path / "out") == 0
    assert tiny.function._apply._cache_size() == 1
    for path in (tmp_path / "in").iterdir():
        together, image = np.load(tmp_path / "out" / path.name), np.load(path)
        np.testing.assert_allclose(together, fresh(image), atol=1e-5 * np.abs(together).max())


def test_planes_of_a_stack_have_their_own_statistics(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(Denoiser, "default", lambda: tiny)
    stack = RNG.normal(1, 0.1, (2, 3, 24, 20)).astype(np.float32) * np.float32(10.0) ** np.arange(
        3, dtype=np.float32
    ).reshape(3, 1, 1)
    tifffile.imwrite(tmp_path / "x.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    assert run("denoise", tmp_path / "x.tif", "-o", tmp_path / "y.tif") == 0
    result = tifffile.imread(tmp_path / "y.tif")
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(result[index], tiny(stack[index]))


def test_options_reach_the_denoiser_in_the_units_of_the_image(tmp_path, unchanged):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", GRAY8.astype(np.uint16))
    np.save(tmp_path / "c.npy", np.ones((3, 4, 5), np.float32))
    options = ("--sigma-255", 51, "--strength", 0.5, "--self-ensemble", "--axes", "zyx")
    assert run("denoise", tmp_path / "c.npy", "-o", tmp_path / "d.npy", *options, "--tile", 64) == 0
    assert run("denoise", tmp_path / "a.png", "-o", tmp_path / "d.png", *options) == 0
    assert run("denoise", tmp_path / "b.tif", "-o", tmp_path / "d.tif", *options[:2]) == 0
    assert run("denoise", tmp_path / "b.tif", "-o", tmp_path / "e.tif", "--sigma", 0.25) == 0
    *planes, gray, deep, counts = unchanged.asked
    assert counts["sigma"] == 0.25
    assert len(planes) == 3
    for asked in planes:
        assert asked == {"shape": (4, 5), "sigma": pytest.approx(0.2), "tile": 64,
                         "strength": 0.5, "self_ensemble": True, "white": None}  # fmt: skip
    assert gray["sigma"] == pytest.approx(51) and gray["tile"] is None
    assert deep["sigma"] == pytest.approx(0.2 * 65535) and not deep["self_ensemble"]


def test_a_given_level_far_from_the_measured_one_is_noted(tmp_path, unchanged, capsys):
    counts = RNG.normal(1000, 40, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", counts)
    for number, (option, level, noted) in enumerate(
        [
            ("--sigma", 40, False),
            ("--sigma", 100, False),
            ("--sigma-255", 40, True),
            ("--sigma", 4, True),
        ]
    ):
        assert (
            run("denoise", tmp_path / "a.tif", "-o", tmp_path / f"{number}.tif", option, level) == 0
        )
        said = "".join(capsys.readouterr())
        assert ("the noise level is given as" in said) == noted, (option, level, said)


def test_colours_have_a_denoiser_of_their_own(tmp_path, monkeypatch):
    """RGB of different channels has; channels of a stack, and gray that is stored as RGB, do not."""
    models = {"gray": Unchanged(), "color": Unchanged()}
    monkeypatch.setattr(Denoiser, "default", lambda name="gray": models[name])
    Image.fromarray(RGB8).save(tmp_path / "colour.png")
    Image.fromarray(np.stack([GRAY8] * 3, -1)).save(tmp_path / "gray.png")
    tifffile.imwrite(
        tmp_path / "channels.tif", np.moveaxis(RGB8, -1, 0), imagej=True, metadata={"axes": "CYX"}
    )
    for name, used in (("colour.png", "color"), ("gray.png", "gray"), ("channels.tif", "gray")):
        for model in models.values():
            model.asked.clear()
        assert (
            commands.main(["denoise", str(tmp_path / name), "-o", str(tmp_path / f"x_{name}")]) == 0
        )
        assert [kind for kind, model in models.items() if model.asked] == [used]


def test_large_planes_are_tiled_automatically(unchanged):
    def side(height, width, tile=None):
        return denoise_files._tile(unchanged, (height, width, 3), tile)

    assert side(1000, 2000) is None and side(1001, 2000) == 512
    assert side(5000, 5000, tile=0) is None and side(10, 10, tile=64) == 64
    unchanged.receptive_radius = None
    assert side(2000, 2000) is None and side(2001, 2000) == 512


def test_memory_maps_are_passed_on(tmp_path, unchanged, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", np.ones((2, 12, 17), np.float32), byteorder=">")
    kinds = []
    call = Unchanged.__call__

    def look(self, image, *args, out=None, **options):
        kinds.append((type(image), type(out), out.dtype == image.dtype))
        return call(self, image, *args, out=out, **options)

    monkeypatch.setattr(Unchanged, "__call__", look)
    assert run("denoise", tmp_path / "x.tif", "-o", tmp_path / "y.tif", "--tile", 64) == 0
    assert kinds == [(np.memmap, np.memmap, True)] * 2


def test_a_folder_is_denoised_to_a_folder_despite_failures(tmp_path, unchanged, capsys):
    source, out = tmp_path / "in", tmp_path / "deep" / "out"
    (source / "inner").mkdir(parents=True)
    Image.fromarray(RGB8).save(source / "b.png")
    Image.fromarray(GRAY8).save(source / "a.jpg")
    tifffile.imwrite(source / "nan.tif", np.full((3, 3), np.nan))
    (source / "broken.png").write_text("not an image")
    (source / "notes.txt").touch()
    (source / ".hidden.png").touch()
    assert run("denoise", source, "-o", out) == 2
    said = capsys.readouterr()
    assert files(out) == ["a.jpg", "b.png"]
    np.testing.assert_array_equal(Image.open(out / "b.png"), RGB8)
    errors = said.err.splitlines()
    assert len(errors) == 2 and all(line.startswith(f"error: {source}") for line in errors)
    assert "not PNG" in errors[0] and "9 NaN" in errors[1]
    assert "2 of 4 images denoised" in said.out and "1 other files skipped" in said.out
    assert f"failed: {source / 'broken.png'}, {source / 'nan.tif'}" in said.out
    assert run("denoise", source / "a.jpg", source / "b.png", "-o", out, "--overwrite") == 0


def test_an_empty_folder_among_others_is_noted(tmp_path, unchanged, capsys):
    (tmp_path / "empty").mkdir()
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    assert run("denoise", tmp_path / "empty", tmp_path / "a.png", "-o", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert files(tmp_path / "out") == ["a.png"] and "1 of 1 images denoised" in said.out
    assert said.err == f"note: {tmp_path / 'empty'}: holds no image files\n"


def test_an_error_of_an_encoder_is_one_line(tmp_path, unchanged, monkeypatch, capsys):
    def overflow(*args, **options):
        raise OverflowError("too large to convert")

    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "save", overflow)
    said = mistake(capsys, "denoise", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert "b.png: cannot be written: too large to convert" in said and files(tmp_path) == ["a.png"]


def test_a_tile_must_be_a_multiple_of_the_padding(unchanged):
    class Padded:
        multiple = 8

    unchanged.model, unchanged.receptive_radius = Padded(), None
    for tile, fits in ((0, True), (16, True), (64, True), (60, False), (8, False)):
        settings = denoise_files.Settings(tile=tile)
        if fits:
            denoise_files.check_settings(unchanged, settings)
        else:
            with pytest.raises(ValueError, match="tile must be a multiple of 8"):
                denoise_files.check_settings(unchanged, settings)


def test_results_have_the_expected_paths(tmp_path, unchanged):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    (tmp_path / "there").mkdir()
    for out, expected in [
        ("b.tif", "b.tif"),
        ("there", "there/a.png"),
        ("new/", "new/a.png"),
        ("newer/c.png", "newer/c.png"),
    ]:
        assert run("denoise", tmp_path / "a.png", "-o", f"{tmp_path}/{out}") == 0
        assert (tmp_path / expected).is_file()


def test_files_are_overwritten_only_with_the_option(tmp_path, unchanged, capsys):
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(GRAY8).save(path)
    other.write_bytes(b"precious")
    assert "b.png: already exists; replace it with --overwrite" in mistake(
        capsys, "denoise", path, "-o", other
    )
    assert "is the input itself" in mistake(capsys, "denoise", path, "-o", tmp_path)
    assert other.read_bytes() == b"precious" and not unchanged.asked
    assert run("denoise", path, "-o", other, "--overwrite") == 0
    assert run("denoise", path, "-o", path, "--overwrite") == 0
    for result in (path, other):
        np.testing.assert_array_equal(Image.open(result), GRAY8)
    assert files(tmp_path) == ["a.png", "b.png"]


def test_invalid_commands_give_one_line(tmp_path, unchanged, capsys):
    path, twin = tmp_path / "a.png", tmp_path / "twin" / "a.png"
    twin.parent.mkdir()
    Image.fromarray(GRAY8).save(path)
    Image.fromarray(GRAY8).save(twin)
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for arguments, reason in [
        ((path, twin, "-o", out), "would both be written to"),
        ((path, twin, "-o", path), "2 images need a folder"),
        (("-o", out), "IN is missing"),
        ((tmp_path / "empty", "-o", out), f".tiff) in {tmp_path / 'empty'}"),
        ((tmp_path / "absent.png", "-o", out / "x.png"), "no such file"),
        ((path, "-o", out / "x.gif"), "x.gif is not a folder, and its suffix is not one of"),
        ((path, "-o", path / "x.png"), "a.png: cannot be written"),
        ((path, path.parent / "twin", "-o", path / "deeper"), "would both be written"),
        ((twin.parent, "-o", path / "deeper"), "deeper: cannot be written"),
        ((path, "-o", f"{out}/", "--sigma-255", -1), "sigma_255 must be finite and not negative"),
        ((path, "-o", f"{out}/", "--tile", -1), "tile must be"),
        ((path, "-o", f"{out}/", "--tile", 6), "7 or more, not 6"),
        ((path, "-o", f"{out}/", "--strength", 3), "strength must be from 0 to 1, not 3"),
        ((path, "-o", f"{out}/", "--strength", "nan"), "strength must be from 0 to 1"),
        (
            (path, twin, "-o", out / "x.png"),
            "x.png names one file, but there may be several images",
        ),
        ((path, "-o", out / "new"), f"for a new folder write {out}/new/"),
        ((path, "-o", f"{out}/", "--sigma", 3, "--sigma-255", 3), "give only one"),
        ((path, "-o", f"{out}/", "--sigma", 3, "--noise", "white"), "are a known level"),
        ((path, "-o", f"{out}/", "--weights", tmp_path / "none.safetensors"), "none.safetensors"),
    ]:
        assert reason in mistake(capsys, "denoise", *arguments)
    (tmp_path / "x.gif").touch()
    assert "unknown suffix '.gif'" in mistake(
        capsys, "denoise", tmp_path / "x.gif", "-o", f"{out}/"
    )
    options = ("-o", tmp_path / "j.npy", "--sigma-255", 25)
    for dtype in (np.int16, np.dtype(">u4")):
        np.save(tmp_path / "i.npy", np.ones((3, 3), dtype))
        said = mistake(capsys, "denoise", tmp_path / "i.npy", *options)
        assert f"a full scale, but {np.dtype(dtype).name} has none: add --white" in said
    unchanged.takes_sigma = False
    assert "is blind and takes no noise level" in mistake(
        capsys, "denoise", path, "-o", out / "x.png", *options[2:]
    )
    unchanged.conditioned = True
    assert "give --sigma-255" in mistake(capsys, "denoise", path, "-o", out / "x.png")
    with pytest.raises(SystemExit) as stopped:
        run("denoise", path, "--out-of-this-world")
    assert stopped.value.code == 2
    assert not unchanged.asked and not list(out.glob("*")) and not (tmp_path / "j.npy").exists()


def test_broken_weights_give_one_line(tmp_path, capsys):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(b"no weights at all")
        arguments = ("denoise", tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights")
        assert name in mistake(capsys, *arguments, tmp_path / name)
    (tmp_path / "run").mkdir()
    assert "holds no denoiser.safetensors" in mistake(capsys, *arguments, tmp_path / "run")
    assert not (tmp_path / "b.png").exists()


def test_an_interruption_leaves_no_files(tmp_path, unchanged, monkeypatch):
    def interrupt(self, image, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Unchanged, "__call__", interrupt)
    for suffix, save in ((".npy", np.save), (".tif", tifffile.imwrite)):
        save(tmp_path / f"x{suffix}", GRAY8)
        before = files(tmp_path)
        assert run("denoise", tmp_path / f"x{suffix}", "-o", tmp_path / f"y{suffix}") == 130
        assert files(tmp_path) == before


def test_an_image_of_one_pixel_is_unchanged(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(Denoiser, "default", lambda: tiny)
    np.save(tmp_path / "x.npy", np.full((1, 1), -0.7, np.float32))
    assert run("denoise", tmp_path / "x.npy", "-o", tmp_path / "y.npy") == 0
    assert np.load(tmp_path / "y.npy") == np.float32(-0.7)
    for suffix in (".png", ".tif", ".bmp"):
        Image.fromarray(np.full((1, 1), 77, np.uint8)).save(tmp_path / f"x{suffix}")
        assert run("denoise", tmp_path / f"x{suffix}", "-o", tmp_path / f"y{suffix}") == 0
        assert np.asarray(Image.open(tmp_path / f"y{suffix}")) == 77


def test_running_out_of_memory_does_not_stop_other_images(tmp_path, unchanged, monkeypatch, capsys):
    call = Unchanged.__call__

    def short(self, image, *args, **options):
        if image.shape[0] > 100:
            raise MemoryError
        return call(self, image, *args, **options)

    monkeypatch.setattr(Unchanged, "__call__", short)
    np.save(tmp_path / "a.npy", np.ones((200, 3)))
    np.save(tmp_path / "b.npy", np.ones((20, 3)))
    assert "MemoryError" in mistake(capsys, "denoise", tmp_path, "-o", tmp_path / "out")
    assert files(tmp_path / "out") == ["b.npy"]


@pytest.mark.parametrize("result", [np.nan, np.inf, 7e4])
def test_a_result_that_is_not_finite_is_not_written(
    tmp_path, unchanged, monkeypatch, capsys, result
):
    def broken(self, image, *args, **options):
        with np.errstate(over="ignore"):
            return np.where(np.arange(image.shape[1]) == 2, result, image).astype(image.dtype)

    monkeypatch.setattr(Unchanged, "__call__", broken)
    np.save(tmp_path / "a.npy", np.ones((20, 30), np.float16))
    error = mistake(capsys, "denoise", tmp_path / "a.npy", "-o", tmp_path / "out.npy")
    assert "a.npy: the result of plane 0" in error and files(tmp_path) == ["a.npy"]
    masked = np.ones((20, 30), np.float16)
    masked[:, 2] = np.nan
    np.save(tmp_path / "a.npy", masked)
    assert run("denoise", tmp_path / "a.npy", "-o", tmp_path / "out.npy", "--mask-nan") == 0


def test_check_prints_the_identities_and_returns_whether_they_hold(
    tmp_path, tiny, capsys, monkeypatch
):
    tiny.save(tmp_path / "w.safetensors")
    assert run("check", "--weights", tmp_path / "w.safetensors", "--size", 16) == 0
    table = capsys.readouterr().out
    assert "claims normalization, measured normalization: kept" in table
    assert re.search(r"f\(a y \+ b\) = a f\(y\) \+ b +\S+e-0[5678]", table)
    backbone = Denoiser(tiny.model.backbone, tiny.variables)
    backbone.symmetry = "scale"  # violated by its biases
    bias = jax.tree.map(lambda leaf: leaf + 0.1, tiny.variables)
    backbone.function = Denoiser(tiny.model.backbone, bias).function
    monkeypatch.setattr(Denoiser, "default", lambda: backbone)
    assert run("check", "--size", 16) == 1
    assert "claims scale, measured none: broken" in capsys.readouterr().out
    assert "size must be 1" in mistake(capsys, "check", "--size", 0)


def test_check_uses_the_precision_of_the_model(tiny, monkeypatch, standard_promotion):
    judged = []
    measure = identities.measure

    def look(f, *, compute_dtype, **options):
        judged.append(jnp.dtype(compute_dtype))
        return measure(f, compute_dtype=compute_dtype, **options)

    monkeypatch.setattr(identities, "measure", look)
    config = dataclasses.replace(tiny.config, options=tiny.config.options | {"dtype": "bfloat16"})
    for model in (Denoiser(config.build(), tiny.variables, config),
                  Denoiser(tiny.model, tiny.variables)):  # fmt: skip
        monkeypatch.setattr(Denoiser, "default", lambda model=model: model)
        assert run("check", "--size", 8) == 0
    assert judged == [jnp.bfloat16, jnp.float32]


def test_a_network_of_one_level_gets_a_suitable_statistic(tmp_path, tiny, monkeypatch):
    """The statistic of the file is replaced, because one_level cannot use the noise level."""
    config = dataclasses.replace(tiny.config, wrapper=WrapperConfig("wne", "haar_mad"))
    Denoiser(config.build(), tiny.variables, config).save(tmp_path / "w.safetensors")
    model = Check(weights=tmp_path / "w.safetensors", trained_sigma_255=25).load()
    assert model.config.wrapper == WrapperConfig("wne", "mean_std", anchor=ANCHOR)
    assert model.config.inside == OneLevel(25)


def test_an_assumed_wrapper_is_noted_and_can_be_replaced(tmp_path, capsys):
    kernels = {0: (4, 1, 3, 3), 2: (1, 4, 3, 3)}
    tensors = {
        f"model.fdncnn.{i}.weight": RNG.normal(size=s, scale=0.2) for i, s in kernels.items()
    }
    tensors = {name: t.astype(np.float32) for name, t in tensors.items()}
    tensors["model.fdncnn.0.bias"] = np.full(4, 0.3, np.float32)
    save_file(tensors, tmp_path / "x.safetensors")
    weights = ("--weights", tmp_path / "x.safetensors", "--size", 8)
    assert run("check", *weights) == 0
    found = capsys.readouterr()
    assert "inside WNE" in found.err and "--wrapper none" in found.err
    outputs = {}
    for wrapper in ("none", "wne"):
        assert run("check", *weights, "--wrapper", wrapper) == 0
        outputs[wrapper] = capsys.readouterr()
        assert not outputs[wrapper].err
    assert outputs["wne"].out == found.out and outputs["none"].out != found.out
    assert "--wrapper needs --weights" in mistake(capsys, "check", "--wrapper", "none")
    both = ("--wrapper", "wne", "--trained-sigma-255", 25)
    assert "leave out --wrapper" in mistake(capsys, "check", *weights, *both)


def test_a_missing_extra_gives_one_line(monkeypatch, capsys):
    def missing():
        raise ImportError("reading .mat files needs h5py: pip install wne-jax[weights]")

    monkeypatch.setattr(Denoiser, "default", missing)
    assert "needs h5py" in mistake(capsys, "check")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "wne_jax", "denoise", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "--sigma-255" in done.stdout and "IN..." in done.stdout
