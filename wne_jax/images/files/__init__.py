"""People's own image files: pixels as they are stored, with what else a file says, in and out again.

`wne_jax.images.reading` reads data sets, into one form; this package keeps the form. A file becomes an
`ImageFile`: an array of any rank (a memory map where the file allows it), the names of its axes and its
metadata. `ImageFile.planes` walks through its images, and `creating` writes a file of the same kind from
their results.
"""

from wne_jax.images._errors import ImageError
from wne_jax.images.files._files import SUFFIXES, creating, fitted, open_image
from wne_jax.images.files._image import ImageFile, Metadata

__all__ = ["SUFFIXES", "ImageError", "ImageFile", "Metadata", "creating", "fitted", "open_image"]
