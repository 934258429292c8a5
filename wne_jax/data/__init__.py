"""Where images come from, and how training crops are cut from them."""

from wne_jax.data.corpus import Batch, Corpus, build_corpus, draw_crop, draw_examples
from wne_jax.data.sources import NamedImage, load_images

__all__ = [
    "Batch",
    "Corpus",
    "NamedImage",
    "build_corpus",
    "draw_crop",
    "draw_examples",
    "load_images",
]
