"""Where denoisers lose translation equivariance, layer by layer, and which statistics of the wrapper keep it.

(a) Each step of the library's backbones is measured separately (`wne_jax.symmetry.layerwise`), with the
published padding and on a torus (padding="circular"), under a shift by whole pixels and a translation by a
fraction. The backbones are small and their weights random and nonzero: the layers determine which steps
commute, the weights determine the size of the other errors. `--weights FILE` measures a trained network
instead.

(b) A translation-equivariant backbone is wrapped, with statistics of the whole image and of its tiles.

    python -m experiments.aliasing
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import wne_jax as wne
from experiments.harness import (
    Folder,
    Levels,
    Measured,
    Photographs,
    Seed,
    one_of,
    results_folder,
    run,
    set_name,
)
from wne_jax import protocol
from wne_jax._internal.files import write_atomically
from wne_jax.config import ModelConfig
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import plotting
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import Record, read_records, split_by, write_records
from wne_jax.evaluation.tables import View, markdown, markdown_table
from wne_jax.images.units import to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers.spectra import without_nyquist
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry.actions import Translation
from wne_jax.symmetry.equivariance import defect
from wne_jax.symmetry.layerwise import LayerDefect, layer_defects

THRESHOLD = 1e-5
"""A step with a smaller relative L2 error commutes: float32 rounds at 1e-7, and normalizations amplify it."""

PLAIN = {"depth": 4, "features": 8}
MODELS = {
    "DnCNN": ModelConfig("dncnn", PLAIN),
    "DnCNN, polynomial": ModelConfig("dncnn", PLAIN | {"activation": "polynomial"}),
    "FDnCNN": ModelConfig("fdncnn", PLAIN),
    "FDnCNN, normalization-equivariant": ModelConfig(
        "fdncnn", PLAIN | {"mode": "normalization-equivariant"}
    ),
    "DRUNet": ModelConfig("drunet", {"features": (8, 8), "blocks": 1}),
    "SwinIR": ModelConfig(
        "swinir", {"groups": 1, "blocks": 2, "features": 8, "heads": 2, "window": 8}
    ),
    "Restormer": ModelConfig(
        "restormer", {"dim": 4, "blocks": (1, 1), "heads": (1, 2), "refinement_blocks": 0}
    ),
}

NAMES = {
    "dncnn": {
        "into conv_0": "Nyquist bins removed", r"into conv_\d+": "ReLU",
        "into the result": "image minus noise",
    },
    "fdncnn": {r"into conv_\d+": "ReLU"},
    "drunet": {"into .*/conv_1": "ReLU", "into .*": "sum"},
    "swinir": {
        "into conv_first": "image minus mean", "into .*/mlp_out": "GELU", "into .*": "sum",
    },
    "restormer": {
        "into .*/attention/out": "channel attention",
        "into .*/feed_forward/out": "GELU gate",
        r"into (latent|encoder_\d+)_0": "pixel_unshuffle",
        r"into (decoder|reduce)_\d+(_0)?": "pixel_shuffle",
        "into .*": "sum",
        "Normalization": "LayerNorm",
    },
}  # fmt: skip
"""Names of the functions between layers, by the layer that follows; the first matching pattern is used."""

LAYERS, WRAPPER = "layer_defect", "wrapper_defect"
"""The metrics of (a) and (b): the relative L2 difference between applying T before and after."""

VIEWS = (
    View(
        rows=("arm",), columns=("pixels", "size"), tables=("metric",), only={"metric": (WRAPPER,)},
    ),
    View(
        rows=("layer", "kind"), columns=("transformation", "padding"), tables=("metric", "model"),
        only={"metric": (LAYERS,)},
    ),
)  # fmt: skip

TILES = 3
"""Tiles along each side, for statistics per tile."""


@dataclass(frozen=True, kw_only=True)
class Options(Photographs, Levels, Seed, Measured):
    """Options of the command line."""

    NAME = "aliasing"

    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ... (default: random ones)."""
    test: tuple[str, ...] | None = ("embedded",)
    images: int = 2
    """Maximum number of images."""
    size: int = 64
    """Side of the square images, in pixels."""
    shift: tuple[int, int] = (1, 1)
    """Rows and columns of the shift, in whole pixels of the image."""
    translation: tuple[float, float] = (0.5, 0.5)
    """Rows and columns of the translation."""
    test_sigmas_255: tuple[float, ...] | None = (25.0,)
    draws: int = 8
    """Random translations of each photograph, for (b)."""

    @property
    def source(self) -> str:
        """The source of the photographs: one set."""
        return one_of(self.test, "--test")

    @property
    def sigma_255(self) -> float:
        """The noise level of the noisy photographs of (b)."""
        return one_of(self.test_sigmas_255, "--test-sigmas-255")


def drawn(model: nn.Module, shape: tuple[int, ...], seed: int) -> Any:
    """Random nonzero variables: kernels have the variance 1 / fan-in."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> Array:
        noise = rng.normal(size=leaf.shape)
        if path[-1].key == "coefficients":  # a moderate quadratic, as it is after training
            value = np.array([[0.1], [0.75], [0.1]]) + 0.05 * noise
        elif len(leaf.shape) > 1:
            value = noise / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            value = 0.1 * noise if path[-1].key in ("bias", "mean") else 1 + 0.1 * np.abs(noise)
        return jnp.asarray(value, leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def layer_records(
    name: str, config: ModelConfig, variables: Any, y: Array, options: Options
) -> list[Record]:
    """The largest defect of each step over the images, for both paddings and both transformations."""
    moves = {
        f"{word} ({dy:g}, {dx:g})": (dy, dx)
        for word, (dy, dx) in (("shift", options.shift), ("translation", options.translation))
    }
    count = len(y)
    own = "as published" if options.weights is None else "as trained"
    dy, dx = (jnp.repeat(jnp.array([move[i] for move in moves.values()]), count) for i in (0, 1))
    records = []
    for padding, changes in ((own, {}), ("circular", {"padding": "circular"})):
        model = config.build(**changes)
        steps = layer_defects(model, variables, jnp.concatenate([y] * len(moves)), dy=dy, dx=dx)
        for i, transformation in enumerate(moves):
            for step in steps:
                settings = {
                    "layer": step.layer, "kind": describe(step, config, variables, options.size),
                    "padding": padding, "transformation": transformation,
                }  # fmt: skip
                worst = float(step.defect[i * count : (i + 1) * count].max())
                records.append(
                    Record(experiment=Options.NAME, metric=LAYERS, dataset=set_name(options.source),
                           model=name, value=worst, settings=settings)
                )  # fmt: skip
    return records


def describe(step: LayerDefect, config: ModelConfig, variables: Any, height: int) -> str:
    """The kind of a step, with its kernel size and the scale of its map if that is smaller than the image."""
    names = {r"into [A-Z]\w*": "normalization"} | NAMES.get(config.backbone, {})
    kind = next(
        (name for pattern, name in names.items() if re.fullmatch(pattern, step.kind)), step.kind
    )
    if kind == "ReLU" and config.options.get("mode") == "normalization-equivariant":
        kind = "sort_pool"
    elif kind == "ReLU" and config.options.get("activation") == "filtered-relu":
        kind = "filtered ReLU"
    if step.layer == "result" and config.wrapper is not None:
        kind += ", denormalization"
    if kind == step.kind:  # a layer
        here = variables["params"]
        for part in step.layer.split("/"):
            here = here.get(part, {})
        kernel = here.get("kernel")
        if kernel is not None and kernel.ndim == 4:
            kind += f" {kernel.shape[0]}x{kernel.shape[1]}"
    ratio = round(height / step.size[0]) if step.size else 1
    return kind if ratio == 1 else f"{kind}, at 1/{ratio}"


class Gated(nn.Module):
    """A translation-equivariant network: circular convolutions with channel gates and a residual."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map `[B, H, W, C]` to the same shape; gates depend on a channel's mean square."""
        h = wne.layers.Conv(8, padding="circular")(x)
        h = h * nn.sigmoid(jnp.mean(jnp.square(h), axis=(1, 2), keepdims=True))
        return x - wne.layers.Conv(x.shape[-1], padding="circular")(h)


def wrapper_records(photographs: Sequence[NamedImage], options: Options) -> list[Record]:
    """The defect of a wrapped translation-equivariant backbone, by the wrapper's statistic."""
    model = Gated()
    variables = drawn(model, (1, 9, 9, 1), options.seed)

    def backbone(z: Array) -> Array:
        return model.apply(variables, z)

    def measure(f: Callable[[Array], Array]) -> Callable[..., Array]:
        return jax.jit(lambda y, dy, dx: defect(f, Translation(dy, dx), y))

    measures = {
        name: measure(wne.wrap(backbone, statistics=pair)) for name, pair in STATISTICS.items()
    }
    measures[f"mean_std of {TILES}x{TILES} tiles"] = measure(by_tiles(backbone, TILES))
    odd, even = 33 * TILES, 32 * TILES
    sizes = {f"{odd}x{odd}": odd, f"{even}x{even}": even, f"{even}x{even}, no Nyquist bins": even}
    records = []
    for size, side in sizes.items():
        rng = np.random.default_rng(options.seed)
        clean = jnp.stack([middle(image.pixels, side) for image in photographs])
        noise = jnp.asarray(rng.normal(0, options.sigma_255 / 255, clean.shape), jnp.float32)
        moves = jnp.asarray(rng.uniform(0, side, (options.draws, 2, len(clean))), jnp.float32)
        for pixels, y in (("clean", clean), ("noisy", clean + noise)):
            y = without_nyquist(y) if "no Nyquist" in size else y
            for statistics, measured in measures.items():
                values = np.mean([measured(y, *move) for move in moves], axis=0)
                settings = {"pixels": pixels, "size": size}
                records += [
                    Record(experiment=Options.NAME, metric=WRAPPER, dataset=set_name(options.source),
                           image=image.name, arm=statistics, value=value, settings=settings)
                    for image, value in zip(photographs, values)
                ]  # fmt: skip
    return records


def by_tiles(backbone: Callable[[Array], Array], tiles: int) -> Callable[[Array], Array]:
    """The wrapper with mean and standard deviation of each tile instead of the whole image."""

    def f(y: Array) -> Array:
        batch, height, width, channels = y.shape
        cut = (batch, tiles, height // tiles, tiles, width // tiles, channels)
        z, stats = wne.normalize(y.reshape(cut), axes=(2, 4, 5))
        h = wne.process(backbone, z.reshape(y.shape))
        return wne.denormalize(h.reshape(cut), stats).reshape(y.shape)

    return f


def middle(pixels: np.ndarray, side: int) -> Array:
    """The middle of a photograph, f32[side, side, C] in unit range."""
    top, left = ((size - side) // 2 for size in pixels.shape[:2])
    return jnp.asarray(to_unit(pixels[top : top + side, left : left + side]))


def verdict(value: float) -> str:
    """The table cell that says whether a step commutes."""
    return f"{'yes' if value < THRESHOLD else '**no**'} {value:.0e}"


def layer_table(records: Sequence[Record]) -> str:
    """A table with a row for each step and a column for each transformation and padding."""
    columns = split_by(records, ["transformation", "padding"])
    header = ["layer", "step", *map(", ".join, columns)]
    body = [
        [f"`{row[0]['layer']}`", row[0]["kind"], *(verdict(r.value) for r in row)]
        for row in zip(*columns.values(), strict=True)
    ]
    return markdown_table(header, body)


def kind_table(records: Sequence[Record]) -> str:
    """A table with, for each kind of step, the number of places where it commutes, and the models."""
    columns = list(split_by(records, ["transformation", "padding"]))
    found = split_by(records, ["kind", "transformation", "padding"])

    def cell(kind: str, column: tuple[str, str]) -> str:
        commutes = [r.value < THRESHOLD for r in found[kind, *column]]
        if all(commutes):
            return "yes"
        return f"{sum(commutes)} of {len(commutes)}" if any(commutes) else "**no**"

    body = []
    kinds = {kind: of for (kind,), of in split_by(records, ["kind"]).items()}
    for kind in sorted(kinds, key=lambda kind: ("at 1/" in kind, kind.lower())):
        models = dict.fromkeys(r.model for r in kinds[kind])
        body.append([kind, *(cell(kind, column) for column in columns), "; ".join(models)])
    return markdown_table(["step", *map(", ".join, columns), "found in"], body)


def main(options: Options) -> None:
    """Measure, or read earlier records; report."""
    if options.stage == "report":
        with results_folder(options) as folder:
            report(read_records(folder.path / "records.csv"), folder)
        return
    if options.images < 1 or options.size < 8 or options.draws < 1:
        raise ValueError("images and draws must be 1 or more, and size 8 or more")
    if not (np.isfinite(options.translation).all() and 0 <= options.sigma_255 < np.inf):
        raise ValueError("translation must be finite, and the noise level finite and 0 or more")
    networks: dict[str, tuple[ModelConfig, Any]] = {
        name: (config, drawn(config.build(), (1, options.size, options.size, 1), options.seed))
        for name, config in MODELS.items()
    }
    channels = 1
    if options.weights is not None:
        denoiser = Denoiser.load(options.weights)
        if denoiser.conditioned or denoiser.config is None:
            raise ValueError(f"{options.weights} takes the noise level: use a blind network")
        networks = {options.weights.stem: (denoiser.config, denoiser.variables)}
        channels = denoiser.channels
    multiple = math.lcm(*(protocol.multiple(config.build()) for config, _ in networks.values()))
    if options.size % multiple:
        raise ValueError(f"size must be a multiple of {multiple}, not {options.size}")

    def load(channels: int) -> list[NamedImage]:
        needed = max(options.size, 33 * TILES)
        return load_images(
            options.source,
            split="test",
            channels=channels,
            min_size=needed,
            data_dir=options.data_dir,
        )[: options.images]

    photographs, gray = load(channels), load(1)
    with results_folder(options) as folder:
        y = jnp.stack([middle(image.pixels, options.size) for image in photographs])
        records = []
        for name, (config, variables) in networks.items():
            records += layer_records(name, config, variables, y, options)
        records += wrapper_records(gray, options)
        write_records(records, folder.path / "records.csv")
        report(records, folder)


def report(records: Sequence[Record], folder: Folder) -> None:
    """Write the tables and the figure."""
    config = folder.source["config"]
    weights = "random, none zero" if config["weights"] is None else Path(config["weights"]).name
    what = f"{config['size']}x{config['size']} photographs; weights: {weights}"
    layers = [r for r in records if r.metric == LAYERS]
    sections = [
        "# Where denoisers lose translation equivariance",
        f"Relative L2 difference between T before and after each single step, on {what}. Yes: below "
        f"{THRESHOLD:g}. On smaller maps the same displacement is a fraction of a pixel, so that a shift is "
        "not by whole pixels. Padding is that of the network, which loses what crosses the border, or "
        "circular, without borders.",
        "## By kind of step",
        kind_table(layers),
    ]
    for (model,), of_model in split_by(layers, ["model"]).items():
        sections += [f"## {model}", layer_table(of_model)]
    (wrapper,) = VIEWS[0].pivot(records).values()
    sections += [
        "## The wrapper's statistics",
        "Relative L2 difference under random translations, for a wrapped translation-equivariant backbone; "
        f"photographs, clean and with noise of {config['test_sigmas_255'][0]:g} (of 255).",
        markdown(wrapper, corner="statistics", form=".0e"),
        footer(folder.source),
    ]
    text = "\n\n".join(sections) + "\n"
    write_atomically(folder.path / "table.md", text)
    figure = plotting.layer_bars(
        layers, threshold=THRESHOLD, title=f"What each step loses by itself (relative L2); {what}"
    )
    plotting.save(figure, folder.path / "layers.png", folder.source)
    print("\n" + text + f"\nTables, figure and records are in {folder.workdir}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
