"""Trains a model from the options of `python -m wne_jax train`."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax._internal.importing import is_import_path
from wne_jax.cli.commands import print_line
from wne_jax.cli.train_options import Network, Options
from wne_jax.config import InsideConfig, ModelConfig, SmoothBase, WrapperConfig
from wne_jax.data import Corpus, kind_of, parse_mixture, stream_crops
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import build, check_denoiser, option_defaults
from wne_jax.statistics import named
from wne_jax.statistics.contract import check_contract
from wne_jax.training import (
    OptimizerConfig,
    TrainConfig,
    draw_batch,
    fit,
    is_lead,
    load_config,
    load_corpus,
    make_train_step,
)
from wne_jax.training.step import data_key
from wne_jax.training.tasks import Task
from wne_jax.transforms import normalize


def train(options: Options) -> None:
    """Train with the given options.

    Raises:
        ValueError: Options exclude each other, or values are out of range.
        Diverged: The loss or the parameters are no longer finite.
    """
    network, start = options.network, None
    if network.init is not None:
        start = Denoiser.load(
            network.init,
            mode=network.mode,
            key=network.key,
            allow_namespace=network.allow_namespace,
            allow_imports=network.allow_imports,
        )
    config = train_config(options, start)
    make_train_step(config)  # rejects unknown names before any image is read
    check_own_statistic(config.model)
    corpus = load_corpus(config, data_dir=options.data_dir)
    read: dict[str, Any] = {}
    if start is not None:
        config = anchored(options, config, corpus, start)
        if (
            network.mode or network.key or network.allow_namespace
        ):  # of which `config.init` says nothing
            read["variables"] = start.variables
    compute = options.machine.compute
    fit(config, options.out, resume=options.resume, corpus=corpus, compute=compute, **read)
    if is_lead():
        print(f"trained: {options.out}")
        if Task.parse(config.task).name not in ("denoise", "deblur"):
            print(
                f"use it: wne_jax.Denoiser.load({str(options.out)!r})(image), docs/restoration.md"
            )
            return
        level = " --sigma-255 LEVEL" if config.model.takes_sigma else ""
        level += " --allow-imports" if config.model.imports else ""
        print(
            f"use it: python -m wne_jax denoise --weights {shlex.quote(str(options.out))}"
            f"{level} IN... -o OUT"
        )


def check_own_statistic(model: ModelConfig) -> None:
    """Print a note if a statistic of the user's own does not follow y -> a y + b."""
    statistic = model.wrapper.statistic if isinstance(model.wrapper, WrapperConfig) else None
    if statistic is None or not is_import_path(statistic):
        return
    y = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    try:
        check_contract(named(statistic), y)
    except AssertionError as error:
        print_line("note", f"the network will not be equivariant: {str(error).splitlines()[0]}")


def train_config(options: Options, start: Denoiser | None) -> TrainConfig:
    """The configuration of the run; its anchor is measured later.

    Args:
        options: The options.
        start: The denoiser of `--init`, or None.

    Raises:
        ValueError: Options exclude each other, or values are out of range.
    """
    examples, updates = dataclasses.asdict(options.examples), dataclasses.asdict(options.updates)
    kinds = {kind_of(part.spec) for part in parse_mixture(options.data)}
    examples["sigma_255"] = examples.pop("train_sigmas_255")
    if kinds != {"clean"} and (examples["noise"] or examples["sigma_255"]):
        raise ValueError(
            f"--noise and --train-sigmas-255 are for clean images, but {options.data} already has noise: "
            "leave them out"
        )
    task = Task.parse(examples["task"])
    if task.name == "demosaic":
        examples["channels"] = examples["channels"] or 3
    elif start is not None and (examples["channels"] or start.channels) != start.channels:
        raise ValueError(
            f"--channels is {examples['channels']}, but the network of --init takes {start.channels}"
        )
    elif start is not None:
        examples["channels"] = start.channels
    model = model_config(options.network, None if start is None else start.config)
    optimizer = OptimizerConfig(
        name=updates.pop("optimizer"),
        **{name: updates.pop(name) for name in ("learning_rate", "schedule", "clip", "ema")},
    )
    return TrainConfig(
        model=task.fitted(model) if start is None else model,
        optimizer=optimizer,
        init=None if start is None else str(options.network.init),
        data=options.data,
        log_every=options.log_every,
        save_every=options.save_every,
        **{name: value for name, value in examples.items() if value is not None},
        **updates,
    )


def model_config(network: Network, given: ModelConfig | None) -> ModelConfig:
    """The configuration of the model; the anchor of a new wrapper is measured later.

    Args:
        network: The options.
        given: The model of `--init`, or None.

    Raises:
        ValueError: Options exclude each other, or the backbone does not accept a value.
    """
    if given is None and (network.mode or network.key or network.allow_namespace):
        raise ValueError(
            "--mode, --key and --allow-namespace need --init; "
            "set the mode of a new backbone with --option mode=..."
        )
    if given is not None and (network.backbone or network.option):
        raise ValueError("--backbone and --option: --init sets them; leave them out")
    if given is None:
        backbone = network.backbone or ModelConfig.backbone
        given = ModelConfig(backbone, _parse_options(backbone, sum(network.option, start=())))
    wrapper: Any = given.wrapper
    return dataclasses.replace(
        given, wrapper=_wrapper(network, wrapper), inside=_inside(network, given)
    )


def _wrapper(network: Network, given: WrapperConfig | None) -> WrapperConfig | None:
    """The wrapper that the options select, else that of `--init`."""
    kind: Any = network.wrapper
    if kind == "auto":
        kind = "wne" if given is None else given.kind
    if kind in ("none", "scale") and network.statistics:
        raise ValueError(f"--statistics: the wrapper {kind!r} has no statistic; leave it out")
    if kind == "none":
        if network.anchor is not None:
            raise ValueError("--anchor needs a wrapper, but --wrapper is none: leave it out")
        return None
    known = None if given is None or "scale" in (kind, given.kind) else given.statistic
    return WrapperConfig(
        kind,
        network.statistics or known,
        network.anchor or (WrapperConfig.anchor if given is None else given.anchor),
    )


def _inside(network: Network, given: ModelConfig) -> InsideConfig | None:
    """The smooth base that the options select, else that of `--init`."""
    if network.smooth_base is not None:
        return SmoothBase(network.smooth_base, network.wiener_cap)
    if network.wiener_cap is None:
        return None if network.wrapper == "none" else given.inside
    if not isinstance(given.inside, SmoothBase):
        raise ValueError("--wiener-cap needs --smooth-base")
    return dataclasses.replace(given.inside, wiener_cap=network.wiener_cap)


def anchored(options: Options, config: TrainConfig, corpus: Corpus, start: Denoiser) -> TrainConfig:
    """The configuration, with a measured anchor if the network gets a new statistic."""
    given = start.config or ModelConfig()
    model: Any = config.model
    known = getattr(given.build(), "statistics", None)
    if options.network.anchor or getattr(model.build(), "statistics", known) is known:
        return config
    if options.resume and (options.out / "config.json").is_file():
        wrapper: Any = load_config(options.out / "config.json").model.wrapper
    else:
        anchor = measure_anchor(config, corpus, given)
        wrapper = dataclasses.replace(model.wrapper, anchor=anchor)
    return dataclasses.replace(config, model=dataclasses.replace(model, wrapper=wrapper))


def measure_anchor(config: TrainConfig, corpus: Corpus, given: ModelConfig) -> tuple[float, float]:
    """The location and scale, by the new statistic, of the inputs that the backbone was trained on.

    A bare network was trained on images in unit range; a wrapped one on normalized images.

    Args:
        config: The run of a wrapped model.
        corpus: Its images, on the host.
        given: The model that the backbone comes from.

    Returns:
        The mean location and the median scale of the first batch of the run, noise included, to three digits.
    """
    before: Any = given.build()
    after: Any = config.model.build()

    @jax.jit
    def measure(crops: Array) -> tuple[Array, Array]:
        batch = draw_batch(config, crops, jnp.int32(0))
        seen = batch.noisy
        if given.wrapper is not None:
            z, _ = normalize(seen, statistics=before.statistics, where=batch.where)
            seen = before.anchor.scale * z + before.anchor.location
        found = after.statistics(seen, where=batch.where)
        return jnp.mean(found.location), jnp.median(found.scale)

    everyone = np.arange(config.batch)
    stream = stream_crops(
        data_key(config), corpus, everyone,
        size=config.patch, start=0, stop=1, factor=config.factor,
    )  # fmt: skip
    location, scale = measure(jnp.asarray(next(stream)))
    return round(float(location), 3), float(f"{scale:.3g}")


def _parse_options(backbone: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a backbone from `name=value`, checked by the type of its default."""
    check_denoiser(backbone)
    defaults = option_defaults(backbone)
    options = {} if backbone not in ("dncnn", "fdncnn") else dict(ModelConfig().options)
    for text in texts:
        name, equals, word = text.partition("=")
        if not equals:
            raise ValueError(f"--option must be NAME=VALUE, such as depth=8, not {text!r}")
        try:
            value = json.loads(word)
        except json.JSONDecodeError:  # a word needs no quotes
            value = word
        default = defaults.get(name)
        kinds = {float: (int, float), tuple: (list,)}.get(type(default), (type(default),))
        if isinstance(default, bool | int | float | str | tuple) and type(value) not in kinds:
            raise ValueError(f"--option {text}: expected a value like {json.dumps(default)}")
        options[name] = value
    build(backbone, **options)  # an error lists the options of the backbone
    return options
