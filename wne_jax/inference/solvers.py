r"""Iterations that reuse a blind denoiser as a prior, for whatever an orthogonal projector keeps of an image.

Known of an image x is $x_c = P x$ with a linear $P = P^2 = P^\top$: some of its pixels, its low frequencies,
averages over blocks, or nothing. From a noisy start, a denoiser D and fresh noise z lead to an image that has
$x_c$ and that D takes for clean:

$$u = (I - P)(D(y) - y) + x_c - P y, \qquad s = \|u\| / \sqrt d, \qquad y \leftarrow y + h\,u + \gamma\,z,$$

until $s \le s_L$. The result is $x_c + (I - P)\,y$. D must be blind: s, which falls from step to step, is the
level of noise that it meets. With $P = 0$ the iteration samples; with $P = 0$ and $\beta = 1$ it adds no
noise and denoises in small steps.

If D commutes with $y \mapsto a y + b$, so does all of the iteration: from $a y_0 + b$, with $a x + b$ for x
and $a s_L$ for $s_L$, it takes as many steps, and its y, its s and its result are $a y + b$, $a s$ and
$a x + b$, for every P, $\beta$ and noise. That is why such a D can be used far from the level of its
training.

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
    """A linear map P of images `[B, H, W, C]` with P = P^2 = P^T: what is known of an image.

    Those of this module are pytrees, so that one compiled step serves all of a kind and shape. Any other
    function will do, too, if `check_projector` accepts it.
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
    """Some pixels are known, the others are not: inpainting.

    Attributes:
        mask: Boolean, True where a pixel is known; broadcastable to `[B, H, W, C]`, of rank 4. See
            `random_mask`.
    """

    mask: Array | np.ndarray

    def __call__(self, y: Array) -> Array:
        """Zero where the mask is False, NaN included."""
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
        cutoff: In cycles a pixel, as in `wne_jax.layers.spectra.low_pass`.
    """

    cutoff: float = struct.field(pytree_node=False)

    def __call__(self, y: Array) -> Array:
        """The low frequencies of `y`."""
        return spectra.low_pass(y, self.cutoff)


@struct.dataclass
class BlockMeans(Projector):
    """The mean of every square block is known: super-resolution of what a coarser sensor sees.

    Attributes:
        factor: Side of the blocks in pixels, a divisor of height and width.
    """

    factor: int = struct.field(pytree_node=False)

    def __call__(self, y: Array) -> Array:
        """Every pixel replaced by the mean of its block."""
        batch, height, width, channels = y.shape
        n = self.factor
        if n < 1 or height % n or width % n:
            raise ValueError(f"factor must divide height and width, {height} and {width}, not {n}")
        blocks = y.reshape(batch, height // n, n, width // n, n, channels)
        means = jnp.mean(blocks, axis=(2, 4), keepdims=True)
        return jnp.broadcast_to(means, blocks.shape).reshape(y.shape)


def random_mask(key: Array, shape: tuple[int, ...], *, share: float) -> Array:
    """Pixels to know, each with the same chance; the channels of a pixel go together.

    Args:
        key: Random key; or keys `[B]`, one an image.
        shape: `(B, H, W, C)`.
        share: How many pixels are known on average, from 0 to 1.

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

    Checked are the shape, linearity, P P u = P u, and that P is symmetric: <P u, v> = <u, P v>.

    Args:
        projector: The function P.
        key: Random key.
        shape: `(B, H, W, C)`.

    Raises:
        AssertionError: Naming the clause that fails, and by how much.

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
    r"""Where the iteration begins: $x_c + c\,(I - P)\,\mathbf 1 + s_0 z$.

    Args:
        key: Random key; or keys `[B]`, one an image.
        observed: Images x `[B, H, W, C]`; of them only P x is used.
        projector: P.
        sigma: $s_0$, the standard deviation of the noise, in the units of `observed`.
        level: c, for what is not known, in the same units.

    Returns:
        $y_0$, of the shape of `observed`.
    """
    x = _floating(observed, "observed")
    scales = (jnp.asarray(value, x.dtype) for value in (sigma, level))
    return _start(_pytree(projector), _keys(key, len(x)), x, *scales)


def schedule(t: int, *, h0: float, beta: float) -> tuple[float, float]:
    r"""The constants of step t = 1, 2, ...: $h = h_0 t / (1 + h_0 (t - 1))$ and $\gamma / s$.

    Without new noise a step would take the share h of the level away. It takes $\beta h$, and
    $\gamma = s \sqrt{(1 - \beta h)^2 - (1 - h)^2}$ makes up the difference.

    Args:
        t: Number of the step, from 1.
        h0: The first h, in (0, 1].
        beta: In (0, 1]; at 1 there is no noise.

    Example:
        >>> schedule(1, h0=0.5, beta=1.0), schedule(2, h0=0.5, beta=1.0)
        ((0.5, 0.0), (0.6666666666666666, 0.0))
    """
    h = h0 * t / (1 + h0 * (t - 1))
    return h, float(
        np.sqrt((1 - beta) * h * (2 - (1 + beta) * h))
    )  # the same, without cancellation


class Solution(NamedTuple):
    r"""What `iterate` found, of every image of the batch.

    Attributes:
        estimate: $x_c + (I - P)\,y$, `[B, H, W, C]`, not clipped.
        steps: Steps made, `[B]`.
        converged: Whether the level fell to `stop_sigma`, `[B]`; a level that is not finite ends an image,
            too.
        sigma: The level s after 0, 1, ... steps, `[T + 1, B]`, NaN when an image has ended.
        psnr: Likewise of the estimates, clipped to [0, 1]; None without a reference.
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
    """Iterate from a start until the level has fallen, for every image by itself.

    An image that has ended stays as it is while others of its batch go on; it costs as much as they do. Its
    noise depends on its own key and the step alone.

    Args:
        denoise: The blind denoiser D, a map of `[B, H, W, C]` that is compiled already (`Denoiser.function`
            is): the loop is one of Python, since a convolution inside of XLA's runs on one thread on CPUs.
        y: The start `[B, H, W, C]`: of `start`, or a noisy image.
        key: Random key, another one than that of `start`; or keys `[B]`, one an image. Not needed where
            `beta` is 1.
        projector: P.
        observed: Images x of which P x is known, `[B, H, W, C]`; what P does not keep is not used.
        h0: Size of the first step; see `schedule`.
        beta: From nearly 0 (much noise, slow) to 1 (none).
        stop_sigma: $s_L$, in the units of `y`.
        max_steps: Steps after which to stop anyway.
        reference: Clean images in unit range, for the PSNR of every step.
        keep: Numbers of steps after which to keep the estimates.

    Returns:
        The results and their history.

    Raises:
        ValueError: An option out of its range, a denoiser that is not blind, no key, or nothing observed.

    Example:
        Of an image that D takes for a constant, two pixels tell the rest:

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
    """P x, and beyond it a level and noise."""
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
    """One step, of the images that have not ended."""
    moved = y + h * u
    if keys is not None:
        z = _noise(jax.vmap(jax.random.fold_in, (0, None))(keys, t), y)
        moved = moved + noise * sigma[:, None, None, None] * z
    return jnp.where(active[:, None, None, None], moved, y)


@jax.jit
def _psnr(estimate: Array, reference: Array) -> Array:
    return metrics.psnr(jnp.clip(estimate, 0, 1), reference)


def _pytree(projector: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """What compiled functions take as an argument."""
    is_leaf = any(leaf is projector for leaf in jax.tree.leaves(projector))
    return Partial(projector) if is_leaf else projector


def _noise(keys: Array, like: Array) -> Array:
    """White noise of variance 1, from one key an image."""
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)


def _keys(key: Array, batch: int) -> Array:
    """One key an image."""
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
    """Refuse what cannot be iterated."""
    if protocol.needs_sigma(denoise):
        raise ValueError("denoise must be blind: this one wants the level, which is not known here")
    for name, value in (("h0", h0), ("beta", beta)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be more than 0 and at most 1, not {value}")
    if not stop_sigma >= 0 or max_steps < 0:
        raise ValueError(
            f"stop_sigma and max_steps must be 0 or more, not {stop_sigma} and {max_steps}"
        )
    if key is None and beta != 1:
        raise ValueError(f"key is needed for the noise of beta = {beta}; only beta = 1 has none")
    if observed is None and not isinstance(projector, Nothing):
        raise ValueError("observed is needed: the images of which the projector keeps something")
