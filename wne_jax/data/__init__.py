"""Sources of images, and training crops from them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wne_jax.data.corpus import (
        Batch,
        Corpus,
        build_corpus,
        draw_crop,
        draw_examples,
        fingerprint,
    )
    from wne_jax.data.listing import NamedImage
    from wne_jax.data.mixtures import Part, parse_mixture
    from wne_jax.data.sources import Kind, iterate_images, kind_of, load_images
    from wne_jax.data.stream import stream_crops
else:
    from wne_jax._internal.lazy import on_demand

    __getattr__, __dir__ = on_demand(__name__)
    del on_demand

__all__ = [
    "Batch",
    "Corpus",
    "Kind",
    "NamedImage",
    "Part",
    "build_corpus",
    "draw_crop",
    "draw_examples",
    "fingerprint",
    "iterate_images",
    "kind_of",
    "load_images",
    "parse_mixture",
    "stream_crops",
]
