"""Converts models of every kind to a Linen module and its variables, `apply(variables, y, ...)`.

Training, weight files, inference and export work on Linen modules. `as_linen` converts NNX modules,
functions, and the results of `wne_jax.wrap` and `NNXWNE`; `fill` writes variables back into an NNX module.
Variables of an NNX module are named by collection and path, as in Linen: `params/first/kernel`,
`batch_stats/norm/mean`.

Flax's own `nnx.bridge` also works in both directions: `WNE(nnx.bridge.ToLinen(Net, args=...))` and
`NNXWNE(nnx.bridge.ToNNX(net, rngs=...).lazy_init(y))`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from flax.traverse_util import unflatten_dict
from jax import Array

from wne_jax import protocol
from wne_jax.wrappers.linen import WNE
from wne_jax.wrappers.nnx import NNXWNE

Path = tuple[str, ...]


class FromNNX(nn.Module):
    """The Linen module of an NNX module, which is constructed at every call and filled with the variables.

    The module is in `train()` mode if `train` is set, else in `eval()` mode; if its call has a parameter for
    the mode, that is set, too.

    Attributes:
        make: The class, or a function that makes the module; `rngs` is passed if it takes them.
        options: Arguments of `make`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = FromNNX(nnx.Linear, {"in_features": 2, "out_features": 3})
        >>> variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> jax.tree.map(jnp.shape, variables)
        {'params': {'bias': (3,), 'kernel': (2, 3)}}
    """

    make: Callable[..., nnx.Module]
    options: Mapping[str, Any] = FrozenDict()

    @property
    def forwards_to(self) -> Any:
        """The abstract NNX module, whose declarations `wne_jax.protocol` reads."""
        return nnx.eval_shape(lambda: self._made(nnx.Rngs(0)))

    @nn.nowrap
    def by_class(self) -> "FromNNX":
        """The same module constructed from its class, even if `make` copies an instance.

        The constructor's arguments are read from attributes of the same name, and the result is compared.

        Raises:
            ValueError: The arguments cannot be read from the instance.
        """
        if not isinstance(self.make, partial):
            return self
        kind = type(self.make.args[0])
        known = inspect.signature(kind.__init__).parameters.values()
        there = {p.name: getattr(self.make.args[0], p.name, p.default) for p in known}
        options = {p.name: there[p.name] for p in known
                   if p.name not in ("self", "rngs") and there[p.name] is not p.default}  # fmt: skip
        made = FromNNX(kind, options)
        try:
            same = _structure(made._made(nnx.Rngs(0))) == _structure(self.make.args[0])
        except (TypeError, ValueError):  # a required argument is not an attribute
            same = False
        if not same:
            raise ValueError(
                f"the arguments of this {kind.__name__} cannot be read from attributes of the same "
                f'name: give its configuration, ModelConfig("{kind.__module__}:{kind.__qualname__}", '
                "{argument: value})"
            )
        return made

    @nn.compact
    def __call__(self, *args: Any, train: bool = False, **kwargs: Any) -> Any:
        """Call the module; changed state, such as running means, is written back to the variables."""
        assert self.scope is not None
        streams = {name: self.make_rng(name) for name in self.scope.rngs}
        module = self._made(nnx.Rngs(0, **streams))
        module.train() if train else module.eval()
        kwargs |= protocol.mode(module, train=train)
        if self.is_initializing():
            self._keep(variables_of(module))  # before the call, which may change them
            return self.call_module(module, *args, **kwargs)
        _update(module, _flat(self.variables))
        out = self.call_module(module, *args, **kwargs)
        self._keep(variables_of(module))
        return out

    def call_module(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the constructed module; a separate method, so that it can be intercepted."""
        return module(*args, **kwargs)

    def _keep(self, variables: Mapping[str, Any]) -> None:
        """Write mutable values to the variables."""
        for collection, tree in variables.items():
            if self.is_mutable_collection(collection):
                for name, value in tree.items():
                    self.put_variable(collection, name, value)

    def _made(self, rngs: nnx.Rngs) -> nnx.Module:
        """The module with newly initialized values."""
        call = self.make.__init__ if inspect.isclass(self.make) else self.make
        takes = "rngs" in inspect.signature(call).parameters
        return self.make(**self.options, **({"rngs": rngs} if takes else {}))


class FromInitApply(nn.Module):
    """The Linen module of an init and an apply function, to train and save networks of Haiku and Equinox.

    Attributes:
        init_fn: `init_fn(key, y)` makes the parameters, a pytree of arrays.
        apply_fn: `apply_fn(parameters, y, ...)` applies them. Its attributes are declarations; see
            `wne_jax.protocol`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = FromInitApply(lambda key, y: {"gain": jnp.ones(())}, lambda p, y: p["gain"] * y)
        >>> model.init(jax.random.key(0), jnp.ones((1, 4)))
        {'params': {'gain': Array(1., dtype=float32)}}

        A network of Haiku, and one of Equinox that takes a single image `[C, H, W]`::

            FromInitApply(transformed.init, lambda p, y: transformed.apply(p, None, y))

            made, rest = eqx.partition(MyNet(key=jax.random.key(0)), eqx.is_array)
            FromInitApply(
                lambda key, y: eqx.filter(MyNet(key=key), eqx.is_array),
                lambda p, y: jnp.moveaxis(jax.vmap(eqx.combine(p, rest))(jnp.moveaxis(y, -1, 1)), 1, -1),
            )
    """

    init_fn: Callable[[Array, Array], Any]
    apply_fn: Callable[..., Any]

    @property
    def forwards_to(self) -> Any:
        """The function of y, whose declarations `wne_jax.protocol` reads."""
        function: Any = partial(self.apply_fn, None)
        vars(function).update(getattr(self.apply_fn, "__dict__", {}))
        return function

    @nn.compact
    def __call__(self, y: Array, *args: Any, **kwargs: Any) -> Any:
        """Apply the parameters."""
        shapes = jax.eval_shape(self.init_fn, jax.random.key(0), y)
        paths, structure = jax.tree.flatten_with_path(shapes)
        names = [tuple(jax.tree_util.keystr(path, simple=True, separator="/").split("/"))
                 for path, _ in paths]  # fmt: skip
        if self.is_initializing():
            leaves = jax.tree.leaves(self.init_fn(self.make_rng("params"), y))
            for name, tree in unflatten_dict(dict(zip(names, leaves))).items():
                self.put_variable("params", name, tree)
        given = _flat(self.variables.get("params", {}))
        parameters = jax.tree.unflatten(structure, [given[name] for name in names])
        return self.apply_fn(parameters, y, *args, **kwargs)


class FromFunction(nn.Module):
    """The Linen module of a function; it has no variables.

    Attributes:
        function: A function of `[B, ..., C]`.
    """

    function: Callable[..., Any]

    @property
    def forwards_to(self) -> Any:
        """The function, whose declarations `wne_jax.protocol` reads."""
        return self.function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


def as_linen(model: Any, variables: Any = None) -> tuple[nn.Module, Any]:
    """A model of any kind as a Linen module and its variables.

    Args:
        model: A Linen module, an NNX module or a function of `[B, ..., C]`, bare or wrapped. For networks of
            Equinox and Haiku, pass a function that closes over the parameters,
            `lambda y: transformed.apply(params, None, y)`, or a `FromInitApply` to train them.
        variables: Variables of an unbound Linen module. For an NNX module they replace its own.

    Returns:
        The module, wrapped if `model` is, and the variables.

    Raises:
        TypeError: `model` is not a model, a Linen module without variables, or a function with variables.

    Example:
        >>> import jax.numpy as jnp
        >>> model, variables = as_linen(NNXWNE(nnx.Linear(3, 3, rngs=nnx.Rngs(0))))
        >>> model.apply(variables, jnp.ones((1, 3))).shape, sorted(variables["params"])
        ((1, 3), ['bias', 'kernel'])
    """
    name = getattr(model, "__name__", type(model).__name__)
    if isinstance(model, type) or not callable(model):
        raise TypeError(f"model must be a module or a function, not {name}: pass an instance")
    if isinstance(model, NNXWNE):
        return _wrapped(model.backbone, model.options, variables)
    if isinstance(model, nnx.Module):
        own = variables_of(model) if variables is None else variables
        return FromNNX(partial(nnx.clone, model)), own
    if isinstance(model, nn.Module):
        if variables is None and model.scope is not None:
            return model.unbind()
        if variables is None:
            raise TypeError(f"{name} is a Linen module: its variables are missing")
        return model, variables
    made, backbone, options = getattr(model, "wraps", (None, None, {}))
    if made is model:  # not a function with copied attributes
        return _wrapped(backbone, options, variables)
    if variables:
        raise TypeError(
            f"{name} is a function and takes no variables: close over them, lambda y: {name}(variables, y)"
        )
    return FromFunction(model), {}


def variables_of(module: nnx.Module) -> dict[str, Any]:
    """The variables of an NNX module by collection and path, without the random number state.

    An `NNXWNE` has the variables of its backbone.

    Example:
        >>> variables_of(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))["batch_stats"]["var"].tolist()
        [1.0, 1.0]
    """
    found = {path: leaf.get_value() for path, leaf in _variables(module).items()}
    return unflatten_dict(found)


def fill(module: nnx.Module, variables: Mapping[str, Any]) -> None:
    """Write variables, for example from training or weight files, into an NNX module.

    Args:
        module: The module; its state is replaced, except the random number state.
        variables: Variables as returned by `variables_of`.

    Raises:
        ValueError: Variables are missing or left over, or shapes differ.

    Example:
        >>> module, other = (nnx.Linear(2, 2, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> fill(module, variables_of(other))
        >>> bool((module.kernel[...] == other.kernel[...]).all())
        True
    """
    given = _flat(variables)
    if over := ["/".join(path) for path in given if path not in _variables(module)]:
        raise ValueError(f"{type(module).__name__} has no variable {over[0]}")
    _update(module, given)


def _wrapped(backbone: Any, options: Mapping[str, Any], variables: Any) -> tuple[nn.Module, Any]:
    """`WNE` around a backbone of any kind."""
    if other := {"batch_axes", "channel_axis"} & options.keys():
        raise TypeError(
            f"the model must take a batch [B, ..., C]: leave out {' and '.join(sorted(other))}, and pass "
            "a backbone of batches to wrap, such as jax.vmap(backbone), or for channels first "
            "lambda z: jnp.moveaxis(jax.vmap(backbone)(jnp.moveaxis(z, -1, 1)), 1, -1)"
        )
    module, own = as_linen(backbone, variables)
    if options.get("multiple") == protocol.multiple(module):
        options = {
            **options,
            "multiple": None,
        }  # declared by the backbone, as a configuration has it
    return WNE(module, **options), own


def _variables(module: nnx.Module) -> dict[Path, nnx.Variable]:
    """The variables of a module by collection and path, except the random number state.

    Arrays that are plain attributes are not variables and are not changed.
    """
    module = module.backbone if isinstance(module, NNXWNE) else module
    state = nnx.state(module, nnx.All(nnx.Variable, nnx.Not(nnx.RngState)))
    found: dict[Path, nnx.Variable] = {}
    for path, leaf in nnx.to_flat_state(state):
        collection = nnx.variable_name_from_type(type(leaf), allow_register=True)
        found[collection, *map(str, path)] = leaf
    return found


def _structure(module: nnx.Module) -> Any:
    """The structure of a module, equal for modules that differ only in the values of their variables."""
    module = nnx.clone(module)
    module.eval()
    graph, state = nnx.split(module)
    return graph, {
        path: (leaf.shape, leaf.dtype)
        if isinstance(leaf, nnx.Variable)
        else np.asarray(leaf).tobytes()
        for path, leaf in nnx.to_flat_state(state)
    }


def _update(module: nnx.Module, given: Mapping[Path, Array]) -> None:
    """Set every variable of a module; further given variables belong to outer modules and are ignored."""
    own, name = _variables(module), type(module).__name__
    for path, leaf in own.items():
        if path not in given:
            raise ValueError(f"the variable {'/'.join(path)} of {name} is missing")
        if given[path].shape != (shape := leaf.get_value().shape):
            raise ValueError(f"{'/'.join(path)} of {name} must be {shape}, not {given[path].shape}")
        leaf.set_value(given[path])


def _flat(variables: Mapping[str, Any], path: Path = ()) -> dict[Path, Array]:
    """The leaves of nested mappings by path."""
    flat: dict[Path, Any] = {}
    for name, value in variables.items():
        inner = (*path, str(name))
        flat |= _flat(value, inner) if isinstance(value, Mapping) else {inner: value}
    return flat
