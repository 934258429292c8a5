"""Layouts of published checkpoints: names and shapes of tensors, and the variables that they fill."""

from wne_jax.weights.layouts._table import Entry as Entry
from wne_jax.weights.layouts._table import Layout as Layout
from wne_jax.weights.layouts._table import Plan as Plan
from wne_jax.weights.layouts._table import Shapes as Shapes
from wne_jax.weights.layouts.drunet import herbreteau_drunet, kair_drunet
from wne_jax.weights.layouts.matconvnet import (
    matconvnet_dncnn,
    matconvnet_fdncnn,
    matconvnet_ffdnet,
)
from wne_jax.weights.layouts.plain import (
    dncnn_with_batch_norm,
    fdncnn,
    fdncnn_normalization_equivariant,
    fdncnn_scale_equivariant,
    kair_dncnn,
    kair_fdncnn,
    kair_ffdnet,
    scico_dncnn,
    sequential_dncnn,
)
from wne_jax.weights.layouts.resnet import torchvision_resnet
from wne_jax.weights.layouts.restormer import restormer
from wne_jax.weights.layouts.swinir import swinir

LAYOUTS: tuple[Layout, ...] = (
    kair_dncnn,
    kair_fdncnn,
    kair_ffdnet,
    fdncnn,
    fdncnn_scale_equivariant,
    fdncnn_normalization_equivariant,
    dncnn_with_batch_norm,
    sequential_dncnn,
    matconvnet_dncnn,
    matconvnet_fdncnn,
    matconvnet_ffdnet,
    scico_dncnn,
    kair_drunet,
    herbreteau_drunet,
    swinir,
    restormer,
    torchvision_resnet,
)
"""All layouts that are tried on a checkpoint."""
