"""Reads PyTorch checkpoints; only tensors and plain containers are unpickled."""

import argparse
import itertools
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from wne_jax._internal.limits import MAX_INSTRUCTIONS, MAX_NESTING, excess
from wne_jax.weights._errors import WeightsError, abbreviate, reading


def read_torch(path: Path, *, key: str | None, allow_namespace: bool) -> dict[str, np.ndarray]:
    """The only state dict of a file, or that at `key`; see `read_tensors`."""
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f'{path}: reading it needs PyTorch: pip install "wne-jax[torch]"'
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise WeightsError(
            f"{path}: in PyTorch {torch.__version__} a file can run code: use 2.6 or later"
        )
    _check_archive(path)
    _check_pickles(path)
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with reading(path, "PyTorch"), allowed if allow_namespace else nullcontext():
        try:
            tree = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            _reject_foreign_object(path, str(error))
            raise
    with reading(path, "PyTorch"):
        found = dict(_state_dicts(tree, torch.Tensor, set()))
    if not found:
        raise WeightsError(f"{path}: contains no state dict, a dict of tensors by name")
    if key is None and len(found) > 1:
        raise WeightsError(
            f"{path}: contains {len(found)} state dicts; choose one with key=: {abbreviate(found, 8)}"
        )
    key = next(iter(found)) if key is None else key
    if key not in found:
        raise WeightsError(
            f"{path}: there is no state dict {key!r}; there is {abbreviate(found, 8)}"
        )
    # A view can repeat a few bytes without limit.
    if reason := excess(
        sum(t.numel() * max(t.element_size(), 4) for t in found[key].values()), path
    ):
        raise WeightsError(f"{path}: {reason}")
    with reading(path, "PyTorch"):
        return {name: _as_numpy(tensor) for name, tensor in found[key].items()}


def _check_archive(path: Path) -> None:
    """Reject an archive whose unpacked entries would exceed the limits."""
    with reading(path, "PyTorch"):
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            if reason := excess(sum(entry.file_size for entry in archive.infolist()), path):
                raise WeightsError(f"{path}: {reason}")


def _check_pickles(path: Path) -> None:
    """Reject a file whose pickles would take too long to read."""
    instructions = itertools.chain.from_iterable(map(pickletools.genops, _pickles(path)))
    number = 0
    # PyTorch says what is wrong with a damaged pickle.
    with suppress(ValueError, OverflowError, MemoryError, zipfile.BadZipFile):
        for _ in itertools.islice(instructions, MAX_INSTRUCTIONS + 1):
            number += 1
    if number > MAX_INSTRUCTIONS:
        raise WeightsError(f"{path}: has more than {MAX_INSTRUCTIONS:,} pickle instructions")


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickles of an archive; those of an older file, which follow one another before the numbers."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as pickle:
                        yield pickle
        return
    with path.open("rb") as pickles:
        for _ in range(5):  # format, version, byte order, contents, names of the tensors' numbers
            yield pickles


def _reject_foreign_object(path: Path, message: str) -> None:
    """Name the class or function that a file pickles, without PyTorch's advice to allow it."""
    if "weights" not in message.lower():  # only damaged
        return
    name = re.search(r"GLOBAL ([\w.]+)", message)
    if name is None:  # TorchScript, the old tar format, or invalid pickle instructions
        raise WeightsError(
            f"{path}: damaged, or contains more than tensors; only tensors are unpickled"
        )
    hint = ""
    if name[1] == "argparse.Namespace":
        hint = "; settings are harmless: accept them with allow_namespace=True (--allow-namespace)"
    raise WeightsError(
        f"{path}: rejected: it pickles {name[1]}, but only tensors are unpickled{hint}"
    )


def _state_dicts(
    node: Any, tensor: type, seen: set[int], *where: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every dict of tensors by name, once, with its path; optimizers are skipped."""
    if id(node) in seen:  # a list can contain itself
        return
    if len(where) > MAX_NESTING:
        raise ValueError(f"containers are nested more than {MAX_NESTING} deep")
    seen.add(id(node))
    if isinstance(node, Mapping):
        if {"state", "param_groups"} <= set(node):  # an optimizer's own state dict
            return
        values = list(node.values())
        if all(isinstance(name, str) for name in node) and all(
            isinstance(value, tensor) for value in values
        ):
            if any(value.ndim > 1 for value in values):  # counters and averages are not weights
                yield "/".join(where), node
            return
        children = [(str(name), child) for name, child in node.items()]
    elif isinstance(node, list | tuple):
        children = [(str(i), child) for i, child in enumerate(node)]
    else:
        return
    for name, child in children:
        if "optim" not in name.lower():
            yield from _state_dicts(child, tensor, seen, *where, name)


def _as_numpy(tensor: Any) -> np.ndarray:
    """Convert to NumPy, which has neither bfloat16 nor float8 types."""
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.detach().resolve_conj().resolve_neg().numpy()
