r"""Where a network loses translation equivariance: the defect of each layer on its own input.

The defect of a network shows that it does not commute with a translation T, but not where. Here the pair
$(y, T y)$ passes through the network as one batch. Before each layer the pair has become $(x, x')$, and

- the functions between this layer and the previous ones (activations, shuffles, sums, padding) have the
  defect $\|x' - T x\| / \|T x\|$;
- the layer g itself has the defect $\|g(T P x) - T g(P x)\| / \|T g(P x)\|$.

Then the pair is made exact again: the next layer receives $(P g,\, T P g)$. So each step is measured
separately, and errors do not accumulate. (A value that no module receives, such as the statistics that a
wrapper removes and restores, keeps its error until it is used.) $P$ zeroes the Nyquist bins of axes of even
size, which no real translation preserves (`wne_jax.symmetry.actions.Translation`); otherwise their error
would dominate.

On a map of $h \times w$ pixels, T moves by $d_y h / H$ and $d_x w / W$, where $H \times W$ is the size of
the image. A whole pixel of the image is a fraction of a pixel of a smaller map, so a stride loses shifts. A
result without spatial axes, `[B, C]`, should not change.
"""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax._internal.dtypes import at_least_float32
from wne_jax.layers.spectra import without_nyquist
from wne_jax.symmetry.actions import Translation
from wne_jax.symmetry.equivariance import relative_l2
from wne_jax.wrappers.bridge import FromNNX, as_linen

_COLLECTION = "layer_defects"


class LayerDefect(NamedTuple):
    """The defect of one step of a network.

    Attributes:
        layer: Path of the module in the tree of variables, "encoder_0_0/conv_1".
        kind: Class of a layer, "Conv"; or "into encoder_0_0/conv_1" for the functions before a module, and
            "into the result" (with the layer "result") for those after the last.
        size: Height and width of the map that the step returns; () for a result without spatial axes.
        defect: Relative L2 error, one value per instance, `[B]`.
    """

    layer: str
    kind: str
    size: tuple[int, ...]
    defect: np.ndarray


def is_layer(module: Any) -> bool:
    """Whether a module counts as one layer despite its submodules: those of `wne_jax.layers`, and attention.

    Attention works on tokens, which cannot be translated like a map.
    """
    ours = type(module).__module__.startswith("wne_jax.layers.")
    return ours or isinstance(module, nn.MultiHeadDotProductAttention | nnx.MultiHeadAttention)


def layer_defects(
    model: Any,
    variables: Any,
    y: ArrayLike,
    *,
    dy: ArrayLike,
    dx: ArrayLike,
    leaves: Callable[[Any], bool] = is_layer,
    **kwargs: Any,
) -> list[LayerDefect]:
    """Measure the translation-equivariance defect of each step of a network, in order of computation.

    A step is a layer, or the functions between two layers. A layer is a module that `leaves` accepts, or that
    calls no other module; a function as `model` is one layer. Functions are measured where any module
    receives their result; steps that return their input unchanged have no entry. Layers inside `nn.scan` and
    `nn.vmap` count as functions. `nn.jit` may skip modules through its cache: measure the network without it.

    Args:
        model: Linen or NNX module of images, wrapped (`wne_jax.WNE`, `wne_jax.NNXWNE`) or not, or a function.
        variables: Its variables; None for an NNX module, which holds them, and for a function.
        y: Images `[B, H, W, C]`, of sides that the model does not pad. Their Nyquist bins are removed.
        dy: Number of rows to move by, a scalar or `[B]`.
        dx: Number of columns to move by, a scalar or `[B]`.
        leaves: Which modules count as one layer despite their submodules.
        **kwargs: Further arguments of the model, for example a scalar `sigma` or `train`, the same for all
            images. Use evaluation mode; variables do not change.

    Returns:
        One entry per step, with one defect per image.

    Raises:
        ValueError: `y` is not of rank 4, its sides are not multiples of the model's `multiple`, or a
            displacement has a wrong shape.

    Example:
        >>> from wne_jax.layers import Conv
        >>> model = nn.Sequential([Conv(4, padding="circular"), nn.relu, Conv(1)])
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> for step in layer_defects(model, variables, y, dy=0.5, dx=0.0):
        ...     print(step.kind, "commutes" if step.defect.max() < 1e-5 else "does not")
        Conv commutes
        into layers_2 does not
        Conv does not

    References:
        Scanvic, Barthélemy & Tachella 2025: theorems 1 and 2 predict which normalization layers commute.
    """
    y = jnp.asarray(y)
    model, variables = as_linen(model, variables)
    if y.ndim != 4:
        raise ValueError(f"y must be [B, H, W, C], of rank 4; its shape is {y.shape}")
    if any(size % protocol.multiple(model) for size in y.shape[1:3]):
        raise ValueError(
            f"the sides of y must be multiples of {protocol.multiple(model)}, or the model pads them; "
            f"its shape is {y.shape}"
        )
    y = y.astype(at_least_float32(y.dtype))
    walk_with = partial(_Walk, y.shape, dy, dx, leaves=leaves)
    walk, out = _walk(model, variables, y, walk_with, kwargs)
    if maps := walk.new_maps(out):
        walk.steps.append(
            _Step("result", "into the result", maps[0].shape[1:-1], walk.defect(maps))
        )
    return [LayerDefect(s.layer, s.kind, s.size, np.asarray(s.defect)) for s in walk.steps]


def _walk(
    model: nn.Module, variables: Any, y: Array, walk_with: Callable[..., "_Walk"], kwargs: dict
) -> tuple["_Walk", Any]:
    """Measure a module; defects are stored in its variables, since `nn.remat` blocks other ways."""
    counter = _Counter()
    with nn.intercept_methods(partial(_linen_call, counter)):
        jax.eval_shape(lambda variables, y: model.apply(variables, y, **kwargs), variables, y)
    walk = walk_with(outer=counter.outer)
    # Not under one jit: the network with all measurements takes far longer to compile, and without jit layers
    # of equal shape share their programs.
    with nn.intercept_methods(partial(_linen_call, walk)):
        out, sown = model.apply(variables, walk.start(y), mutable=[_COLLECTION], **kwargs)
    walk.steps = [
        step._replace(defect=_sown(step.defect, sown[_COLLECTION])) for step in walk.steps
    ]
    return walk, out


def _linen_call(
    visitor: Any, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> Any:
    """Pass a call of a Linen module to a visitor, with a function that stores defects in the variables."""
    module = context.module
    of_nnx = isinstance(module, FromNNX)
    if context.method_name != ("call_module" if of_nnx else "__call__"):
        return call(*args, **kwargs)

    def note(defect: Array, steps: list[_Step]) -> Any:
        number = sum(step.defect[0] == module.path for step in steps)
        module.sow(_COLLECTION, _COLLECTION, defect)
        return module.path, number

    sees = isinstance(visitor, _Counter) or module.is_mutable_collection(_COLLECTION)
    kept = note if sees else None
    if of_nnx:
        return _shown(args[0], visitor, kept, module.path)(*args[1:], **kwargs)
    return visitor.visit(module, "/".join(module.path), kept, call, args, kwargs)


def _shown(model: nnx.Module, visitor: Any, note: Any, prefix: tuple[str, ...]) -> Any:
    """A copy of an NNX module in which a visitor sees every call of it and of its submodules.

    Each module of the copy has a subclass of its original class, with a `__call__` that calls the visitor.
    """
    copy = nnx.clone(model)
    for path, module in nnx.iter_modules(copy):
        kind = type(module)
        if not callable(getattr(kind, "__call__", None)):  # noqa: B004 (of the class, not the instance)
            continue

        def call(
            self: Any, *args: Any, _inner: Callable = kind.__call__,
            _name: str = "/".join(map(str, (*prefix, *path))), **kwargs: Any,
        ) -> Any:  # fmt: skip
            return visitor.visit(self, _name, note, partial(_inner, self), args, kwargs)

        names = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
        meta: Any = type(kind)
        object.__setattr__(module, "__class__", meta(kind.__name__, (kind,), names))
    return copy


class _Step(NamedTuple):
    """An entry; its defect is first a position in the variables, (path, number)."""

    layer: str
    kind: str
    size: tuple[int, ...]
    defect: Any


class _Counter:
    """Finds which module calls, counted in order, call other modules."""

    def __init__(self) -> None:
        self.outer: set[int] = set()
        self.under_way: list[int] = []
        self.calls = 0

    def visit(
        self, module: Any, name: str, note: Any, call: Callable, args: tuple, kwargs: dict
    ) -> Any:
        """Count a call."""
        self.outer.update(self.under_way)
        self.under_way.append(self.calls)
        self.calls += 1
        out = call(*args, **kwargs)
        self.under_way.pop()
        return out


class _Walk:
    """Follows a pair (x, x') through one call of a network."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dy: ArrayLike,
        dx: ArrayLike,
        *,
        outer: Set[int],
        leaves: Callable[[Any], bool],
    ):
        self.shape, self.dy, self.dx = shape, jnp.asarray(dy), jnp.asarray(dx)
        self.outer, self.leaves = outer, leaves
        self.steps: list[_Step] = []
        self.calls = 0
        self.inside_a_layer = False
        self.known: list[Array] = []  # pairs that are exact by construction

    def visit(
        self,
        module: Any,
        name: str,
        note: Callable[[Array, list[_Step]], Any] | None,
        call: Callable,
        args: tuple,
        kwargs: dict,
    ) -> Any:
        """Measure the input of a module and, if it is a layer, its output.

        Args:
            module: The module.
            name: Its path.
            note: Stores a defect, and returns it or its position; None if it cannot be stored.
            call: The module's call.
            args: Arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        number, self.calls = self.calls, self.calls + 1
        if self.inside_a_layer or note is None:
            return call(*args, **kwargs)
        kind = type(module).__name__.lstrip("_")
        name = name or type(module).__name__
        args, kwargs = self._measured((args, kwargs), name, f"into {name}", note)
        if number in self.outer and not self.leaves(module):
            return call(*args, **kwargs)
        with self._inside():
            out = call(*args, **kwargs)
        return self._measured(out, name, kind, note)

    def start(self, y: Array) -> Array:
        """The pair for the image."""
        return self._exact(jnp.concatenate([y, y]))

    def defect(self, maps: list[Array]) -> Array:
        """The largest defect of several pairs, `[B]`."""
        defects = [_defect(x, self.dy, self.dx, image=self.shape[1:3]) for x in maps]
        return jnp.max(jnp.stack(defects), axis=0)

    def new_maps(self, values: Any) -> list[Array]:
        """The pairs among some values whose defect must be measured."""
        return [x for x in jax.tree.leaves(values) if self._is_new(x)]

    def _measured(
        self, values: Any, name: str, kind: str, note: Callable[[Array, list[_Step]], Any]
    ) -> Any:
        """Store the defect of the values, and return them with every pair made exact."""
        maps = self.new_maps(values)
        if not maps:
            return values
        kept = note(self.defect(maps), self.steps)
        self.steps.append(_Step(name, kind, maps[0].shape[1:-1], kept))
        return jax.tree.map(lambda x: self._exact(x) if self._is_new(x) else x, values)

    def _exact(self, pair: Array) -> Array:
        """The pair with its second half replaced by T of its first."""
        pair = _exact_pair(pair, self.dy, self.dx, image=self.shape[1:3])
        self.known.append(pair)
        return pair

    def _is_new(self, x: Any) -> bool:
        """Whether `x` is a pair of maps, or of vectors, that is not exact by construction."""
        return (
            isinstance(x, Array)
            and x.ndim in (2, 4)
            and x.shape[0] == 2 * self.shape[0]
            and jnp.issubdtype(x.dtype, jnp.floating)
            and not any(x is pair for pair in self.known)
        )

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self.inside_a_layer = True
        try:
            yield
        finally:
            self.inside_a_layer = False


@partial(jax.jit, static_argnames="image")
def _exact_pair(pair: Array, dy: Array, dx: Array, *, image: tuple[int, int]) -> Array:
    """(P x, T P x) from (x, x')."""
    x = pair[: pair.shape[0] // 2]
    x = without_nyquist(x) if x.ndim == 4 else x
    return jnp.concatenate([x, _moved(x, dy, dx, image)])


@partial(jax.jit, static_argnames="image")
def _defect(pair: Array, dy: Array, dx: Array, *, image: tuple[int, int]) -> Array:
    """The relative error of x' against T x, `[B]`."""
    x, other = jnp.split(pair.astype(at_least_float32(pair.dtype)), 2)
    return relative_l2(other, _moved(x, dy, dx, image))


def _moved(x: Array, dy: Array, dx: Array, image: tuple[int, int]) -> Array:
    """T x on a map of any size; a vector does not move."""
    if x.ndim != 4:
        return x
    dtype = at_least_float32(x.dtype)
    rows, columns = (size / full for size, full in zip(x.shape[1:3], image))
    return Translation(dy.astype(dtype) * rows, dx.astype(dtype) * columns)(x).astype(x.dtype)


def _sown(place: tuple[tuple[str, ...], int], collection: Any) -> Array:
    """The defect of a step, from the position where its module stored it."""
    path, number = place
    for name in path:
        collection = collection[name]
    return collection[_COLLECTION][number]
