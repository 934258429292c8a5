r"""Iterations with a blind denoiser as prior, for images of which an orthogonal projection is known.

The known part of an image x is $x_c = P x$ with a linear $P = P^2 = P^\top$: some pixels, low frequencies,
block averages, or nothing. From a noisy start, a denoiser D and new noise z lead to an image that contains
$x_c$ and is noise-free according to D:

$$u = (I - P)(D(y) - y) + x_c - P y, \qquad s = \|u\| / \sqrt d, \qquad y \leftarrow y + h\,u + \gamma\,z,$$

until $s \le s_L$. The result is $x_c + (I - P)\,y$. D must be blind: s, which decreases from step to step, is
the noise level of its input. With $P = 0$ the iteration samples; with $P = 0$ and $\beta = 1$ it adds no
noise and denoises in small steps.

If D commutes with $y \mapsto a y + b$, so does the whole iteration. With $a y_0 + b$, $a x + b$ and $a s_L$
in place of $y_0$, x and $s_L$, it takes the same number of steps, and y, s and the result become $a y + b$,
$a s$ and $a x + b$, for every P, $\beta$ and noise. Hence such a D can be used far from its training level.

References:
    Kadkhodaie & Simoncelli, "Stochastic solutions for linear inverse problems using the prior implicit in a
    denoiser", NeurIPS 2021; Saied & Fleuret 2026, appendix N, algorithm 1.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax._internal.dtypes import at_least_float32
from wne_jax.images import metrics
from wne_jax.layers import spectra


class Projector:
    """A linear map P of images `[B, H, W, C]` with P = P^2 = P^T: the projection onto the known part.

    The projectors of this module are pytrees, so one compiled step works for all of the same kind and shape.
    Any other function can be used, too, if `check_projector` accepts it.
    """

    def __call__(self, y: Array) -> Array:
        """P y, of the shape of `y`."""
        raise TypeError("Projector is a base class: use Nothing, Pixels, LowFrequencies, ...")


@struct.dataclass
class Nothing(Projector):
    """P = 0: nothing is known."""

    def __call__(self, y: Array) -> Array:
        """Zeros."""
        return jnp.zeros_like(y)


@struct.dataclass
class Pixels(Projector):
    """Some pixels are known: inpainting.

    Attributes:
        mask: Boolean, True where a pixel is known; broadcastable to `[B, H, W, C]`, of rank 4. See
            `random_mask`.
    """

    mask: Array | np.ndarray

    def __call__(self, y: Array) -> Array:
        """Set pixels to zero where the mask is False, including NaN."""
        if self.mask.dtype != bool or self.mask.ndim != y.ndim:
            raise ValueError(
                f"mask must be boolean and of rank {y.ndim} as the images (one [H, W] is "
                f"mask[None, ..., None]), not {self.mask.dtype} {self.mask.shape}"
            )
        return jnp.where(self.mask, y, 0)


@struct.dataclass
class LowFrequencies(Projector):
    """The frequencies up to a radius are known: sharpening, super-resolution of periodic images.

    Attributes:
        cutoff: Radius in cycles per pixel, as in `wne_jax.layers.spectra.low_pass`.
    """

    cutoff: float = struct.field(pytree_node=False)

    def __call__(self, y: Array) -> Array:
        """The low frequencies of `y`."""
        return spectra.low_pass(y, self.cutoff)


@struct.dataclass
class BlockMeans(Projector):
    """The mean of every square block is known: super-resolution for a coarser sensor.

    Attributes:
        factor: Side of the blocks in pixels, a divisor of height and width.
    """

    factor: int = struct.field(pytree_node=False)

    def __call__(self, y: Array) -> Array:
        """Replace every pixel by the mean of its block."""
        batch, height, width, channels = y.shape
        n = self.factor
        if n < 1 or height % n or width % n:
            raise ValueError(f"factor must divide height and width, {height} and {width}, not {n}")
        blocks = y.reshape(batch, height // n, n, width // n, n, channels)
        means = jnp.mean(blocks, axis=(2, 4), keepdims=True)
        return jnp.broadcast_to(means, blocks.shape).reshape(y.shape)


def random_mask(key: Array, shape: tuple[int, ...], *, share: float) -> Array:
    """A random mask of known pixels, with equal probability; it is the same for all channels.

    Args:
        key: Random key; or keys `[B]`, one per image.
        shape: `(B, H, W, C)`.
        share: Expected share of known pixels, from 0 to 1.

    Returns:
        bool[B, H, W, 1], for `Pixels`.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, not {share}")
    draw = jax.vmap(lambda key: jax.random.uniform(key, (*shape[1:-1], 1)))
    return draw(_keys(key, shape[0])) < share


def check_projector(
    projector: Callable[[Array], Array], key: Array, shape: tuple[int, ...]
) -> None:
    """Check on random images that a function is an orthogonal projector.

    It checks the shape, linearity, P P u = P u, and symmetry, <P u, v> = <u, P v>.

    Args:
        projector: The function P.
        key: Random key.
        shape: `(B, H, W, C)`.

    Raises:
        AssertionError: A clause fails; the message has the clause and the error.

    Example:
        >>> check_projector(BlockMeans(2), jax.random.key(0), (1, 4, 6, 1))
        >>> check_projector(lambda y: y / 2, jax.random.key(0), (1, 4, 6, 1))
        Traceback (most recent call last):
          ...
        AssertionError: ... P P u differs from P u by ...
    """
    u, v = jax.random.normal(key, (2, *shape))
    name = getattr(projector, "__name__", repr(projector))
    apply = jax.jit(lambda y: projector(y))
    p_u, p_v = apply(u), apply(v)
    if p_u.shape != u.shape:
        raise AssertionError(f"{name}: P u has shape {p_u.shape}, which must be {u.shape}")
    inner = [jnp.sum(p_u * v), jnp.sum(u * p_v)]
    size = jnp.sqrt(jnp.asarray(u.size, u.dtype))
    for left, right, actual, expected in (
        ("P (2 u - 3 v)", "2 P u - 3 P v", apply(2 * u - 3 * v), 2 * p_u - 3 * p_v),
        ("P P u", "P u", apply(p_u), p_u),
        ("<P u, v>", "<u, P v>", inner[0] / size, inner[1] / size),
    ):
        difference = float(jnp.max(jnp.abs(actual - expected)))
        if not difference <= 256 * float(jnp.finfo(u.dtype).eps):
            raise AssertionError(f"{name}: {left} differs from {right} by {difference:.3g}")


def start(
    key: Array,
    observed: ArrayLike,
    projector: Callable[[Array], Array],
    *,
    sigma: float = 1.0,
    level: float = 0.5,
) -> Array:
    r"""The start of the iteration: $x_c + c\,(I - P)\,\mathbf 1 + s_0 z$.

    Args:
        key: Random key; or keys `[B]`, one per image.
        observed: Images x `[B, H, W, C]`, of which only P x is used.
        projector: P.
        sigma: $s_0$, the standard deviation of the noise, in the units of `observed`.
        level: c, the value of the unknown part, in the same units.

    Returns:
        $y_0$, of the shape of `observed`.
    """
    x = _floating(observed, "observed")
    scales = (jnp.asarray(value, x.dtype) for value in (sigma, level))
    return _start(_pytree(projector), _keys(key, len(x)), x, *scales)


def schedule(t: int, *, h0: float, beta: float) -> tuple[float, float]:
    r"""The constants of step t = 1, 2, ...: $h = h_0 t / (1 + h_0 (t - 1))$ and $\gamma / s$.

    Without new noise, a step would reduce the level by the share h. With noise
    $\gamma = s \sqrt{(1 - \beta h)^2 - (1 - h)^2}$, it reduces the level by the share $\beta h$.

    Args:
        t: Number of the step, from 1.
        h0: The first h, in (0, 1].
        beta: In (0, 1]; 1 means no noise.

    Example:
        >>> schedule(1, h0=0.5, beta=1.0), schedule(2, h0=0.5, beta=1.0)
        ((0.5, 0.0), (0.6666666666666666, 0.0))
    """
    h = h0 * t / (1 + h0 * (t - 1))
    return h, float(
        np.sqrt((1 - beta) * h * (2 - (1 + beta) * h))
    )  # the same, without cancellation


class Solution(NamedTuple):
    r"""The result of `iterate`, for every image of the batch.

    Attributes:
        estimate: $x_c + (I - P)\,y$, `[B, H, W, C]`, not clipped.
        steps: Steps made, `[B]`.
        converged: Whether the level reached `stop_sigma`, `[B]`; an image also ends if its level is not
            finite.
        sigma: The level s after 0, 1, ... steps, `[T + 1, B]`, NaN after an image has ended.
        psnr: PSNR (dB) of the estimates, clipped to [0, 1], of the shape of `sigma`; None without a
            reference.
        frames: Estimates by number of steps.
    """

    estimate: Array
    steps: np.ndarray
    converged: np.ndarray
    sigma: np.ndarray
    psnr: np.ndarray | None
    frames: dict[int, np.ndarray]


def iterate(
    denoise: Callable[[Array], Array],
    y: ArrayLike,
    key: Array | None = None,
    *,
    projector: Callable[[Array], Array] = Nothing(),  # noqa: B008 (an immutable pytree)
    observed: ArrayLike | None = None,
    h0: float = 0.01,
    beta: float = 0.01,
    stop_sigma: float = 0.01,
    max_steps: int = 1000,
    reference: ArrayLike | None = None,
    keep: Collection[int] = (),
) -> Solution:
    """Iterate until the level is at most `stop_sigma`, separately for every image.

    A finished image is not changed while others of its batch continue, but it is still computed. Its noise
    depends only on its own key and the step.

    Args:
        denoise: The blind denoiser D, a compiled map of `[B, H, W, C]`, such as `Denoiser.function`. The loop
            runs in Python, because on CPUs a convolution in a loop of XLA uses only one thread.
        y: The start `[B, H, W, C]`: the result of `start`, or a noisy image.
        key: Random key, different from that of `start`; or keys `[B]`, one per image. Not needed if `beta`
            is 1.
        projector: P.
        observed: Images x `[B, H, W, C]`, of which only P x is used.
        h0: Size of the first step; see `schedule`.
        beta: From almost 0 (much noise, slow) to 1 (no noise).
        stop_sigma: $s_L$, in the units of `y`.
        max_steps: Maximum number of steps.
        reference: Clean images in unit range, for the PSNR of every step.
        keep: Numbers of steps after which estimates are kept.

    Returns:
        The results and their history.

    Raises:
        ValueError: An option is out of range, the denoiser is not blind, or `key` or `observed` is missing.

    Example:
        If D returns constant images, two known pixels determine the others:

        >>> x = jnp.array([2.0, 2.0, 7.0, 7.0]).reshape(1, 2, 2, 1)
        >>> mask = jnp.array([True, True, False, False]).reshape(1, 2, 2, 1)
        >>> constant = lambda y: jnp.full_like(y, jnp.mean(y))
        >>> found = iterate(constant, 0 * x, projector=Pixels(mask), observed=x, beta=1.0, stop_sigma=1e-4)
        >>> print(found.estimate.ravel().round(2), found.converged)
        [2. 2. 2. 2.] [ True]
    """
    _check(denoise, projector, observed, key, h0, beta, stop_sigma, max_steps)
    now = _floating(y, "y")
    p = _pytree(projector)
    known = jnp.zeros_like(now) if observed is None else p(_floating(observed, "observed"))
    if known.shape != now.shape:
        raise ValueError(f"observed must have the shape of y, {now.shape}, not {known.shape}")
    keys = None if beta == 1 or key is None else _keys(key, len(now))
    active, steps = np.ones(len(now), bool), np.zeros(len(now), int)
    sigmas, psnrs, frames = [], [], {}
    for t in range(max_steps + 1):
        estimate, u, sigma = _look(p, known, now, denoise(now))
        level = np.asarray(sigma, np.float64)
        sigmas.append(np.where(active, level, np.nan))
        if reference is not None:
            quality = np.asarray(_psnr(estimate, jnp.asarray(reference)))
            psnrs.append(np.where(active, quality, np.nan))
        if t in keep:
            frames[t] = np.asarray(estimate)
        active = active & (level > stop_sigma) & np.isfinite(level)
        if t == max_steps or not active.any():
            break
        h, noise = (jnp.asarray(v, now.dtype) for v in schedule(t + 1, h0=h0, beta=beta))
        now = _advance(now, u, sigma, keys, jnp.asarray(active), t + 1, h, noise)
        steps += active
    return Solution(
        estimate,
        steps,
        np.take_along_axis(np.array(sigmas), steps[None], axis=0)[0] <= stop_sigma,
        np.array(sigmas),
        np.array(psnrs) if psnrs else None,
        frames,
    )


@jax.jit
def _start(
    projector: Callable[[Array], Array], keys: Array, x: Array, sigma: Array, level: Array
) -> Array:
    """P x, plus a constant and noise in the unknown part."""
    flat = jnp.full_like(x, level)
    return projector(x) + (flat - projector(flat)) + sigma * _noise(keys, x)


@jax.jit
def _look(
    projector: Callable[[Array], Array], known: Array, y: Array, denoised: Array
) -> tuple[Array, Array, Array]:
    """The estimate $x_c + (I - P) y$, the direction u, and its level s `[B]`."""
    residual, p_y = denoised - y, projector(y)
    u = (residual - projector(residual)) + (known - p_y)
    return known + (y - p_y), u, jnp.sqrt(jnp.mean(jnp.square(u), axis=(1, 2, 3)))


@jax.jit
def _advance(
    y: Array,
    u: Array,
    sigma: Array,
    keys: Array | None,
    active: Array,
    t: int,
    h: Array,
    noise: Array,
) -> Array:
    """One step for the images that have not ended."""
    moved = y + h * u
    if keys is not None:
        z = _noise(jax.vmap(jax.random.fold_in, (0, None))(keys, t), y)
        moved = moved + noise * sigma[:, None, None, None] * z
    return jnp.where(active[:, None, None, None], moved, y)


@jax.jit
def _psnr(estimate: Array, reference: Array) -> Array:
    return metrics.psnr(jnp.clip(estimate, 0, 1), reference)


def _pytree(projector: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The projector as a pytree, for arguments of compiled functions."""
    is_leaf = any(leaf is projector for leaf in jax.tree.leaves(projector))
    return Partial(projector) if is_leaf else projector


def _noise(keys: Array, like: Array) -> Array:
    """White noise of variance 1, with one key per image."""
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)


def _keys(key: Array, batch: int) -> Array:
    """One key per image."""
    keys = jax.random.split(key, batch) if key.ndim == 0 else key
    if keys.shape != (batch,):
        raise ValueError(f"key must be one key, or [B] = [{batch}], not {keys.shape}")
    return keys


def _floating(x: ArrayLike, name: str) -> Array:
    """A batch of images in float32, or float64 for float64."""
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"{name} must be [B, H, W, C] (one image is x[None]), not {x.shape}")
    return x.astype(at_least_float32(x.dtype))


def _check(denoise, projector, observed, key, h0, beta, stop_sigma, max_steps) -> None:
    """Check the arguments of `iterate`."""
    if protocol.needs_sigma(denoise):
        raise ValueError(
            "denoise must be blind, but this one takes the level, which is unknown here"
        )
    for name, value in (("h0", h0), ("beta", beta)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be more than 0 and at most 1, not {value}")
    if not stop_sigma >= 0 or max_steps < 0:
        raise ValueError(
            f"stop_sigma and max_steps must be 0 or more, not {stop_sigma} and {max_steps}"
        )
    if key is None and beta != 1:
        raise ValueError(f"key is needed for the noise of beta = {beta}; beta = 1 needs none")
    if observed is None and not isinstance(projector, Nothing):
        raise ValueError("observed is needed: the projector keeps a part of these images")
