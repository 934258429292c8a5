"""Deconvolution by scikit-image, for `experiments.plug_and_play` and `experiments.restoration`."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from skimage import restoration

from wne_jax.operators import Blur


def deconvolved(y: Array, blur: Blur) -> dict[str, Array]:
    """The filters of Wiener and of Richardson and Lucy, for a gray image `[1, H, W, 1]`.

    scikit-image's Wiener filter is circular, and its Richardson-Lucy filter pads with zeros. So images are
    first extended as the blur extends them, where the filter does not do so by itself.
    """
    image, kernel = np.asarray(y[0, ..., 0], np.float64), np.asarray(blur.kernel, np.float64)
    circular, margin = blur.boundary == "circular", len(kernel)
    extended = np.pad(image, margin, mode="wrap" if circular else "reflect")
    wiener = restoration.unsupervised_wiener(
        image if circular else extended, kernel, clip=False, rng=0
    )[0]
    lucy = restoration.richardson_lucy(extended.clip(1e-3), kernel, clip=False)
    inside = np.s_[margin:-margin, margin:-margin]
    found = {
        "Wiener": wiener if circular else wiener[inside],
        "Richardson-Lucy": lucy[inside],
    }
    return {name: jnp.asarray(x, y.dtype)[None, ..., None] for name, x in found.items()}
