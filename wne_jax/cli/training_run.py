"""From the options of `python -m wne_jax train` to a trained model."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax.cli.train_options import Network, Options
from wne_jax.config import InsideConfig, ModelConfig, SmoothBase, WrapperConfig
from wne_jax.data import Corpus, kind_of, parse_mixture, stream_crops
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import build, check_denoiser, option_defaults
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
from wne_jax.transforms import normalize


def train(options: Options) -> None:
    """From the options to the last checkpoint.

    Raises:
        ValueError: Options that exclude each other, or values out of their range.
        Diverged: The loss or the parameters are not finite any more.
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
    make_train_step(config)  # refuses unknown names before any image is read
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
        level = " --sigma-255 LEVEL" if config.model.takes_sigma else ""
        level += " --allow-imports" if config.model.imports else ""
        print(f"trained: {options.out}")
        print(
            f"use it: python -m wne_jax denoise --weights {shlex.quote(str(options.out))}"
            f"{level} IN... -o OUT"
        )


def train_config(options: Options, start: Denoiser | None) -> TrainConfig:
    """The run, its anchor still to be measured.

    Args:
        options: The options.
        start: The denoiser of `--init`, or None.

    Raises:
        ValueError: Options that exclude each other, or values out of their range.
    """
    examples, updates = dataclasses.asdict(options.examples), dataclasses.asdict(options.updates)
    kinds = {kind_of(part.spec) for part in parse_mixture(options.data)}
    examples["sigma_255"] = examples.pop("train_sigmas_255")
    if kinds != {"clean"} and (examples["noise"] or examples["sigma_255"]):
        raise ValueError(
            f"--noise and --train-sigmas-255 are for clean images; {options.data} has the camera's own "
            "noise: leave them out"
        )
    if start is not None and (examples["channels"] or start.channels) != start.channels:
        raise ValueError(
            f"--channels is {examples['channels']}, but the network of --init takes {start.channels}"
        )
    if start is not None:
        examples["channels"] = start.channels
    optimizer = OptimizerConfig(
        name=updates.pop("optimizer"),
        **{name: updates.pop(name) for name in ("learning_rate", "schedule", "clip", "ema")},
    )
    return TrainConfig(
        model=model_config(options.network, None if start is None else start.config),
        optimizer=optimizer,
        init=None if start is None else str(options.network.init),
        data=options.data,
        log_every=options.log_every,
        save_every=options.save_every,
        **{name: value for name, value in examples.items() if value is not None},
        **updates,
    )


def model_config(network: Network, given: ModelConfig | None) -> ModelConfig:
    """The model, its anchor still to be measured where a network is wrapped anew.

    Args:
        network: The options.
        given: The model of `--init`, or None.

    Raises:
        ValueError: Options that exclude each other, or a value that the backbone cannot take.
    """
    if given is None and (network.mode or network.key or network.allow_namespace):
        raise ValueError(
            "--mode, --key and --allow-namespace say how --init is read, and there is none; "
            "a new backbone has --option mode=..."
        )
    if given is not None and (network.backbone or network.option):
        raise ValueError("--backbone and --option: with --init they are those of its network")
    if given is None:
        backbone = network.backbone or ModelConfig.backbone
        given = ModelConfig(backbone, _parse_options(backbone, sum(network.option, start=())))
    wrapper: Any = given.wrapper
    return dataclasses.replace(
        given, wrapper=_wrapper(network, wrapper), inside=_inside(network, given)
    )


def _wrapper(network: Network, given: WrapperConfig | None) -> WrapperConfig | None:
    """The wrapper that the options ask for, in place of that of `--init`."""
    kind: Any = network.wrapper
    if kind == "auto":
        kind = "wne" if given is None else given.kind
    if kind in ("none", "scale") and network.statistics:
        raise ValueError(f"--statistics: the wrapper {kind!r} takes none; leave it out")
    if kind == "none":
        if network.anchor is not None:
            raise ValueError("--anchor is that of a wrapper, and --wrapper is none: leave it out")
        return None
    known = None if given is None or "scale" in (kind, given.kind) else given.statistic
    return WrapperConfig(
        kind,
        network.statistics or known,
        network.anchor or (WrapperConfig.anchor if given is None else given.anchor),
    )


def _inside(network: Network, given: ModelConfig) -> InsideConfig | None:
    """What the options put inside of the wrapper, in place of what `--init` has there."""
    if network.smooth_base is not None:
        return SmoothBase(network.smooth_base, network.wiener_cap)
    if network.wiener_cap is None:
        return None if network.wrapper == "none" else given.inside
    if not isinstance(given.inside, SmoothBase):
        raise ValueError("--wiener-cap needs --smooth-base")
    return dataclasses.replace(given.inside, wiener_cap=network.wiener_cap)


def anchored(options: Options, config: TrainConfig, corpus: Corpus, start: Denoiser) -> TrainConfig:
    """The run, its anchor measured where the network comes behind statistics that are new to it."""
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
    """The location and the scale that a run's statistics have on what its backbone was trained to see.

    A bare network saw images in unit range; a wrapped one saw them normalized.

    Args:
        config: The run, of a wrapped model.
        corpus: Its images, on the host.
        given: The model that the backbone comes from.

    Returns:
        The mean location and the median scale of the first batch of the run, noise included, to three digits.
    """
    before: Any = given.build()
    after: Any = config.model.build()

    @jax.jit
    def measure(crops: Array) -> tuple[Array, Array]:
        seen = draw_batch(config, crops, jnp.int32(0)).noisy
        if given.wrapper is not None:
            z, _ = normalize(seen, statistics=before.statistics)
            seen = before.anchor.scale * z + before.anchor.location
        found = after.statistics(seen)
        return jnp.mean(found.location), jnp.median(found.scale)

    everyone = np.arange(config.batch)
    stream = stream_crops(data_key(config), corpus, everyone, size=config.patch, start=0, stop=1)
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
            raise ValueError(f"--option is {text!r}; expected NAME=VALUE, such as depth=8")
        try:
            value = json.loads(word)
        except json.JSONDecodeError:  # a word needs no quotes
            value = word
        default = defaults.get(name)
        kinds = {float: (int, float), tuple: (list,)}.get(type(default), (type(default),))
        if isinstance(default, bool | int | float | str | tuple) and type(value) not in kinds:
            raise ValueError(f"--option {text}: expected a value like {json.dumps(default)}")
        options[name] = value
    build(backbone, **options)  # names what the backbone has
    return options
