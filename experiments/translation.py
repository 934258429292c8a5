"""Which normalization layers commute with shifts and translations, on the feature maps of a ResNet-18.

The inputs of its 20 normalization layers pass through five kinds of layers. The error of each is
1 - cosine similarity over channels between f(T x) and T f(x), averaged over pixels (Scanvic, Barthelemy &
Tachella 2025, tables 1 to 3 and figure 1).

    python -m experiments.translation                                  # embedded photographs, random weights
    python -m experiments.translation --weights resnet18.pth --test tfds:imagenette
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from tqdm import tqdm

from experiments.harness import (
    Folder,
    Measured,
    Photographs,
    Seed,
    one_of,
    results_folder,
    run,
    set_name,
)
from experiments.parts import translation_tables
from experiments.parts.translation_tables import KEPT, METRIC, ZEROED
from wne_jax._internal.files import write_atomically
from wne_jax.data import NamedImage, iterate_images, kind_of
from wne_jax.evaluation import plotting
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import INPUT, Record, read_records, write_records
from wne_jax.evaluation.tables import View
from wne_jax.images.units import to_unit
from wne_jax.layers import PRESETS, Normalization
from wne_jax.layers.normalization import statistics_over
from wne_jax.layers.spectra import low_pass, radial_power, without_nyquist
from wne_jax.models import ResNet
from wne_jax.models.resnet import norm_inputs, norm_names
from wne_jax.symmetry.actions import Action, Shift, Translation
from wne_jax.symmetry.equivariance import cosine_error
from wne_jax.weights import load_model

VIEWS = (
    View(
        rows=("arm", "mode"), columns=("transformation",), tables=("metric", "nyquist_bins"),
        only={"metric": (METRIC,)},
    ),
)  # fmt: skip

CUTOFF = np.sqrt(2) / 4
"""Cut-off of the band-limited maps of Figure 1, in cycles per pixel."""

SPECTRUM_BINS = 20
"""Bins of radial frequency; the cut-off lies on a boundary between two of them."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Options(Photographs, Seed, Measured):
    """Options of the command line."""

    NAME = "translation"

    test: tuple[str, ...] | None = ("embedded",)
    images: int = 8
    """Maximum number of images."""
    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ... (default: random ones)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of layers and errors; the feature maps are float32."""

    @property
    def source(self) -> str:
        """The source of the images: one set."""
        return one_of(self.test, "--test")


class Maps(NamedTuple):
    """The inputs of one normalization layer, and its running averages."""

    name: str
    x: Array
    mean: Array
    variance: Array


class Case(NamedTuple):
    """One layer to measure."""

    layer: str
    mode: str | None
    module: Normalization
    init: str
    variables: dict[str, Any]


def network_images(options: Options) -> list[NamedImage]:
    """Images preprocessed for an ImageNet classifier: short side 256, central 224 x 224, standardized."""
    if (kind := kind_of(options.source)) != "clean":
        raise ValueError(f"--test must be clean images; {options.source!r} holds {kind}")
    source = iterate_images(
        options.source, split="test", channels=3, min_size=64, data_dir=options.data_dir
    )
    more: Iterable[NamedImage] = ()
    if options.source == "embedded":
        more = iterate_images(options.source, split="train", channels=3, min_size=64)
    taken = itertools.islice(itertools.chain(source, more), options.images)
    mean, std = (np.float32(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return [
        image._replace(pixels=(_resize_and_crop(to_unit(image.pixels)) - mean) / std)
        for image in taken
    ]


def _resize_and_crop(pixels: np.ndarray, shorter: int = 256, size: int = 224) -> np.ndarray:
    """The central square after resizing the shorter side."""
    height, width, channels = pixels.shape
    scale = shorter / min(height, width)
    shape = (round(height * scale), round(width * scale), channels)
    resized = np.asarray(jax.image.resize(pixels, shape, "linear"))  # antialiased
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def load_network(options: Options) -> tuple[ResNet, Any]:
    """The network and its variables; without weights they are random, as initialized by torchvision.

    Raises:
        ValueError: The weights are not those of a ResNet.
    """
    if options.weights is None:
        model = ResNet(depth=18)
        image = jnp.zeros((1, 224, 224, 3))
        return model, jax.jit(model.init)(jax.random.key(options.seed), image)
    config, variables = load_model(options.weights)
    model = config.build()
    if not isinstance(model, ResNet):
        raise ValueError(f"{options.weights} must be a ResNet, not {config.backbone}")
    return model, variables


def network(options: Options, model: ResNet) -> str:
    """The description of the network that every output contains."""
    if options.weights is None:
        return (
            f"a ResNet-{model.depth} with RANDOM weights (He's initialization, seed {options.seed})"
        )
    return f"a ResNet-{model.depth} with the weights of {options.weights.name}"


def feature_maps(
    model: ResNet, variables: Any, images: list[NamedImage], *, random: bool
) -> Iterator[Maps]:
    """The inputs of the network's normalization layers, in its order.

    Args:
        model: The network.
        variables: Its variables.
        images: What `network_images` returns.
        random: Whether the network is untrained. Its layers then normalize with the statistics of these
            images and use them as running averages.
    """
    x = jnp.stack([jnp.asarray(image.pixels) for image in images])
    found = jax.jit(partial(norm_inputs, model, train=random))(variables, x)
    for name in norm_names(model.depth):
        mean, variance = statistics_over(found[name], centring="BHW", scaling="BHW")
        if not random:
            running = variables["batch_stats"]
            for part in name.split("/"):
                running = running[part]
            mean, variance = running["mean"], running["var"]
        yield Maps(name, np.asarray(found[name]), np.ravel(mean), np.ravel(variance))


def cases(maps: Maps, key: Array, dtype: np.dtype) -> Iterator[Case]:
    """The five layers, BatchNorm in both modes, with default and with Gaussian affine parameters.

    Random numbers are drawn in float32, so that a seed gives the same experiment at every precision.
    """
    running = {"batch_stats": {"mean": maps.mean, "var": maps.variance}}
    for number, (name, preset) in enumerate(PRESETS.items()):
        modes: dict[str | None, tuple[dict[str, Any], dict[str, Any]]]
        modes = {None: ({"momentum": None}, {})}
        if name == "BatchNorm":
            evaluation = ({"use_running_average": True}, running)
            modes = {"training": modes[None], "evaluation": evaluation}
        for mode, (options, averages) in modes.items():
            layer = preset(param_dtype=dtype, **options)
            shapes = jax.eval_shape(layer.init, key, maps.x).get("params", {})
            default = {n: np.full(s.shape, n == "scale") for n, s in shapes.items()}
            keys = jax.random.split(jax.random.fold_in(key, number), 2)
            gaussian = {
                n: jax.random.normal(k, s.shape, jnp.float32)
                for k, (n, s) in zip(keys, shapes.items())
            }
            for init, params in (("default", default), ("gaussian", gaussian)):
                variables = {"params": params} | averages
                variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
                yield Case(name, mode, layer, init, variables)


@partial(jax.jit, static_argnames="layer")
def errors(
    layer: nn.Module, variables: Any, x: Array, actions: dict[str, Action]
) -> dict[str, Array]:
    """1 - cosine similarity between f(T x) and T f(x), `[B]` for every T."""
    value = layer.apply(variables, x)
    return {
        name: cosine_error(layer.apply(variables, action(x)), action(value))
        for name, action in actions.items()
    }


def measure(options: Options, images: list[NamedImage], maps: Maps, key: Array) -> Iterator[Record]:
    """Records of one feature map, with and without its Nyquist bins."""
    dtype = jnp.dtype(options.dtype)
    x = jnp.asarray(maps.x, dtype)
    key_shift, key_translation, key_affine = jax.random.split(key, 3)
    ends = jnp.asarray(x.shape[1:3], jnp.int32)
    shift = jax.random.randint(key_shift, (2,), 0, ends, jnp.int32)
    distance = jax.random.uniform(key_translation, (2,), jnp.float32) * ends.astype(jnp.float32)
    actions: dict[str, Action] = {
        "shift": Shift(*shift),
        "translation": Translation(*distance.astype(dtype)),
    }
    place = {"feature_map": maps.name, "size": f"{x.shape[1]} x {x.shape[2]}"}
    inputs = {KEPT: x, ZEROED: without_nyquist(x)}
    for case, (bins, y) in itertools.product(cases(maps, key_affine, dtype), inputs.items()):
        settings = place | {"init": case.init, "mode": case.mode, "nyquist_bins": bins}
        for transformation, values in errors(case.module, case.variables, y, actions).items():
            for image, value in zip(images, values):
                yield Record(
                    experiment=Options.NAME, metric=METRIC, dataset=set_name(options.source),
                    image=image.name, arm=case.layer, value=_short(value),
                    settings=settings | {"transformation": transformation},
                )  # fmt: skip


def spectra(options: Options, maps: Maps, key: Array) -> Iterator[Record]:
    """Radial power spectral density of a band-limited map and of the output of every layer.

    Affine parameters are Gaussian. The input is divided by its standard deviation, for comparison.
    """
    dtype = jnp.dtype(options.dtype)
    below = CUTOFF * (1 - 1e-6)  # the spectrum counts the cut-off itself as above it
    x = low_pass(jnp.asarray(maps.x, dtype), below)
    outputs = {INPUT: x / jnp.std(x)} | {
        case.layer: case.module.apply(case.variables, x)
        for case in cases(maps, key, dtype)
        if case.init == "gaussian" and case.mode != "evaluation"
    }
    for layer, output in outputs.items():
        frequency, power = radial_power(output, bins=SPECTRUM_BINS)
        for f, p in zip(np.asarray(frequency), np.asarray(power)):
            yield Record(
                experiment=Options.NAME, metric="power", dataset=set_name(options.source), arm=layer,
                value=_short(p), settings={"feature_map": maps.name, "frequency": _short(f)},
            )  # fmt: skip


def _short(value: ArrayLike) -> float:
    """Round to four significant digits."""
    return float(f"{float(value):.3e}")


def main(options: Options) -> None:
    """Measure each map, or read earlier records; report."""
    if options.stage == "report":
        with results_folder(options) as folder:
            report(read_records(folder.path / "records.csv"), folder)
        return
    images = network_images(options)
    if len(images) < 2:
        raise ValueError(
            f"a standard error needs 2 images or more, but {options.source} has {len(images)}"
        )
    model, variables = load_network(options)
    with results_folder(options, network=network(options, model)) as folder:
        records = translation_tables.published()
        maps = list(feature_maps(model, variables, images, random=options.weights is None))
        wide = options.dtype == "float64"
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            for number, one in enumerate(tqdm(maps, desc="feature maps", unit="map")):
                key = jax.random.fold_in(jax.random.key(options.seed), number)
                records += measure(options, images, one, key)
                if min(one.x.shape[1:3]) >= SPECTRUM_BINS:  # smaller ones leave bins empty
                    records += spectra(options, one, key)
        write_records(records, folder.path / "records.csv")
        report(records, folder)


def report(records: list[Record], folder: Folder) -> None:
    """Write the tables and the figure."""
    config = folder.source["config"]
    name, number = config["network"], len({r.image for r in records} - {None})
    setting = f"{name}; {number} images of {config['test'][0]}, 224 x 224; {config['dtype']}"
    text, shown = translation_tables.tables(records, setting)
    write_atomically(folder.path / "table.md", f"{text}\n\n{footer(folder.source)}\n")
    title = f"Normalized band-limited maps\n{name}"
    spectrum = [record for record in records if record.metric == "power"]
    figure = plotting.spectrum_curves(spectrum, cutoff=float(CUTOFF), title=title)
    plotting.save(figure, folder.path / "spectrum.png", folder.source)
    print(f"\n{shown}\nNetwork: {name}. Tables, figure and records are in {folder.workdir}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
