"""Models that nobody here wrote: wrapped, each is equivariant, exactly under powers of two, and trains.

The table has models of other packages, where these are installed, and networks with the signatures of
well-known ones in a few lines each: several sizes, logits beside features, latents, conditioning.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax import Array

import wne_jax as wne
from wne_jax.symmetry import assert_exact_under_powers_of_two, assert_normalization_equivariant
from wne_jax.testing import random_variables


@pytest.fixture(autouse=True, scope="module")
def promotion_as_others_expect_it():
    """Other packages were not written for a session that refuses promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Case(NamedTuple):
    """A model, bare and wrapped, as functions of its parameters and y."""

    bare: Callable[[Any, Array], Any]
    wrapped: Callable[[Any, Array], Any]
    params: Any
    y: Array
    output: Any = "value"
    gain: float = 1.0


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def of_function(apply, params, y, *, output="value", gain=1.0, over=lambda f: f, **options):
    """`over` brings a batch to a model of one instance."""

    def bare(params, y):
        return over(partial(apply, params))(y)

    def wrapped(params, y):
        return over(wne.wrap(partial(apply, params), output=output, **options))(y)

    return Case(bare, wrapped, params, y, output, gain)


def of_linen(net, y, *args, told=lambda y: {}, output="value", gain=1.0, **options):
    """`told(y)` are further keyword arguments."""
    rest = dict(random_variables(net, y, *args, **told(y)))
    params = rest.pop("params")

    def of(module):
        return lambda p, y: module.apply({"params": p, **rest}, y, *args, **told(y))

    return Case(of(net), of(wne.WNE(net, output=output, **options)), params, y, output, gain)


def of_nnx(net, y, *, output="value", gain=1.0, **options):
    graph, params, rest = nnx.split(net, nnx.Param, ...)

    def wrapped(params, y):
        return wne.NNXWNE(nnx.merge(graph, params, rest, copy=True), output=output, **options)(y)

    return Case(
        lambda p, y: nnx.merge(graph, p, rest, copy=True)(y), wrapped, params, y, output, gain
    )


# Models of other packages.


def scico(name, **options):
    package = pytest.importorskip("scico.flax", reason="scico is not installed (it pins JAX)")
    net = getattr(package, name)(channels=1, num_filters=4, **options)
    return of_linen(net, random(2, 8, 8, 1), told=lambda y: {"train": False}, gain=4.0)


def equinox(make, *shape, **options):
    """Models of Equinox take one instance, channels first."""
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    params, static = eqx.partition(make(eqx, jax.random.key(0)), eqx.is_inexact_array)

    def apply(params, x):
        return eqx.combine(params, static)(x)

    return of_function(
        apply, params, random(*shape), over=jax.vmap, batch_axes=(), channel_axis=0, **options
    )


def equinox_convolutions(eqx, key):
    first, last = jax.random.split(key)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 4, 3, padding=1, key=first),
            eqx.nn.Lambda(jax.nn.gelu),
            eqx.nn.Conv2d(4, 3, 3, padding=1, key=last),
        ]
    )


def haiku(make, *shape, mode=None, **options):
    """Models of Haiku are functions of their parameters once they are transformed."""
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")
    net = hk.without_apply_rng(hk.transform_with_state(lambda y, **told: make(hk)(y, **told)))
    training, told = ({mode: train} if mode else {} for train in (True, False))

    @jax.jit
    def begin(z):
        params, state = net.init(jax.random.key(0), z, **training)
        return params, net.apply(params, state, z, **training)[1]  # with averages of this batch

    y = random(*shape)
    params, state = begin(wne.normalize(random(8, *shape[1:], seed=1))[0])
    return of_function(lambda p, y: net.apply(p, state, y, **told)[0], params, y, **options)


def haiku_resnet(hk):
    return hk.nets.ResNet((1, 1, 1, 1), 5, bottleneck=False, channels_per_group=(4, 4, 8, 8))


def nnx_convolutions():
    rngs = nnx.Rngs(0)
    conv = partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
    return nnx.Sequential(conv(1, 4), nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
                          nnx.gelu, conv(4, 1))  # fmt: skip


# Signatures of well-known models.


class Maxim(nn.Module):
    """A list for each stage, of an image for each scale, coarse first."""

    @nn.compact
    def __call__(self, x, *, train=False):
        stages = []
        for _ in range(2):
            h = jnp.tanh(nn.Conv(4, (3, 3))(x))
            half = nn.Conv(x.shape[-1], (3, 3))(nn.avg_pool(h, (2, 2), (2, 2)))
            x = x + nn.Conv(x.shape[-1], (3, 3))(h)
            stages.append([half, x])
        return stages


class Classifier(nn.Module):
    """ViT and MLP-Mixer as in big_vision: logits, and a dictionary of all that led to them."""

    attention: bool

    @nn.compact
    def __call__(self, image, *, train=False):
        out: dict[str, Any] = {}
        x = out["stem"] = nn.Conv(8, (4, 4), strides=4, padding="VALID")(image)
        x = x.reshape(x.shape[0], -1, 8)
        if self.attention:
            mixed = nn.MultiHeadDotProductAttention(num_heads=2)(x, x)
        else:
            mixed = nn.Dense(x.shape[1])(x.swapaxes(1, 2)).swapaxes(1, 2)
        out["encoder"] = {"block00": {"mixed": mixed, "+mixed": x + mixed}}
        x = out["pre_logits"] = jnp.tanh(x + mixed).mean(1)
        out["logits"] = nn.Dense(5)(x)
        return out["logits"], out


class VAE(nn.Module):
    """Reconstruction, mean and log-variance of the latents; a key of random numbers comes along."""

    @nn.compact
    def __call__(self, x, z_rng):
        h = jnp.tanh(nn.Dense(8)(x))
        mean, logvar = nn.Dense(3, name="mean")(h), nn.Dense(3, name="logvar")(h)
        latents = mean + jnp.exp(logvar / 2) * jax.random.normal(z_rng, mean.shape)
        return nn.Dense(x.shape[-1])(jnp.tanh(nn.Dense(8)(latents))), mean, logvar


class VDM(nn.Module):
    """The noise in z at a log-SNR g_t, from Fourier features of z."""

    @nn.compact
    def __call__(self, z, g_t, conditioning, deterministic=True):
        waves = [f(2.0**n * 2 * jnp.pi * z) for n in (6, 7) for f in (jnp.sin, jnp.cos)]
        about = jnp.stack([g_t, conditioning], -1)
        h = nn.Conv(8, (3, 3))(jnp.concatenate([z, *waves], -1))
        h = jnp.tanh(h + nn.Dense(8)(about)[:, None, None])
        return z + nn.Conv(z.shape[-1], (3, 3))(h)


class EDM(nn.Module):
    """A preconditioned denoiser: what it is given is a noise level in the units of its input."""

    @nn.compact
    def __call__(self, x, noise_std):
        noise_std = jnp.reshape(noise_std, (-1, 1, 1, 1))
        total = jnp.sqrt(1 + jnp.square(noise_std))
        level = jnp.broadcast_to(jnp.log(noise_std) / 4, x.shape)
        h = jnp.tanh(nn.Conv(8, (3, 3))(jnp.concatenate([x / total, level], -1)))
        return x / total**2 + noise_std / total * nn.Conv(x.shape[-1], (3, 3))(h)


def a_quarter_of_the_range(y):
    """A noise level that follows y."""
    return {"noise_std": (jnp.max(y, (1, 2, 3)) - jnp.min(y, (1, 2, 3))) / 4}


MODELS = {
    "scico UNet": lambda: scico("UNet", depth=2),
    "scico DnCNN": lambda: scico("DnCNNNet", depth=4),
    "scico ResNet": lambda: scico("ResNet", depth=3),
    "Equinox MLP": lambda: equinox(lambda eqx, key: eqx.nn.MLP(6, 6, 8, 2, key=key), 2, 6),
    "Equinox convolutions": lambda: equinox(equinox_convolutions, 2, 3, 8, 8),
    "Haiku MLP": lambda: haiku(lambda hk: hk.nets.MLP([8, 6]), 2, 6),
    "Haiku ResNet": lambda: haiku(
        haiku_resnet, 2, 16, 16, 1, mode="is_training", output="invariant", gain=4.0
    ),
    "NNX convolutions": lambda: of_nnx(nnx_convolutions(), random(2, 8, 8, 1)),
    "NNX attention": lambda: of_nnx(
        nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)), random(2, 6, 4)
    ),
    "NNX RNN": lambda: of_nnx(nnx.RNN(nnx.GRUCell(3, 3, rngs=nnx.Rngs(0))), random(2, 6, 3)),
    "Linen RNN": lambda: of_linen(nn.RNN(nn.LSTMCell(3)), random(2, 6, 3)),
    "MAXIM": lambda: of_linen(Maxim(), random(2, 10, 6, 3), multiple=4),
    "ViT": lambda: of_linen(Classifier(True), random(2, 8, 8, 3), output="invariant"),
    "MLP-Mixer": lambda: of_linen(Classifier(False), random(2, 8, 8, 3), output="invariant"),
    "VAE": lambda: of_linen(
        VAE(), random(2, 12), jax.random.key(1), output=("value", "invariant", "invariant")
    ),
    "VDM": lambda: of_linen(
        VDM(), random(2, 8, 8, 1), jnp.array([-3.0, 2.0]), jnp.zeros(2),
        output="difference", gain=20.0,
    ),
    "EDM": lambda: of_linen(
        EDM(), random(2, 8, 8, 1), told=a_quarter_of_the_range, noise_argument="noise_std"
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """A model whose parameters are not zeros, as those of last layers often are."""
    case = MODELS[request.param]()
    params = jax.tree.map(
        lambda p: jnp.where(jnp.any(p), p, 0.2 * random(*p.shape, seed=3)), case.params
    )
    return case._replace(bare=jax.jit(case.bare), wrapped=jax.jit(case.wrapped), params=params)


def require_equivariance(f, case):
    assert_normalization_equivariant(
        f, case.y, jax.random.key(2), output=case.output, gain=case.gain
    )


def test_wrapped_it_is_equivariant_and_bare_it_is_not(case):
    require_equivariance(partial(case.wrapped, case.params), case)
    with pytest.raises(AssertionError, match="is not equivariant to Affine"):
        require_equivariance(partial(case.bare, case.params), case)


def test_powers_of_two_pass_bit_for_bit(case):
    f = partial(case.wrapped, case.params)
    assert_exact_under_powers_of_two(f, case.y, exponents=(-20, 3, 13), output=case.output)


def test_it_trains_and_stays_equivariant(case):
    optimizer = optax.adam(3e-4)
    start = case.wrapped(case.params, case.y)
    aim = jax.tree.map(lambda h: h + 0.3 * random(*h.shape, seed=1), start)

    def loss(params):
        errors = jax.tree.map(
            lambda h, t: jnp.mean(jnp.square(h - t)), case.wrapped(params, case.y), aim
        )
        return sum(jax.tree.leaves(errors))

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, state, values = case.params, optimizer.init(case.params), []
    for _ in range(5):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < values[0]
    require_equivariance(partial(case.wrapped, params), case)
