"""TIFFs that lack what they claim, and TIFFs whose pages and samples say something of their own."""

import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wne_jax.images.files import ImageError, creating, fitted, open_image
from wne_jax.images.reading import ImageError as ReadError
from wne_jax.images.reading import read_image

RNG = np.random.default_rng(0)
STACK = RNG.integers(1, 256, (5, 64, 48), dtype=np.uint8)
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{root}><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYZCT" SizeX="48" SizeY="64" SizeZ="5" SizeC="1" SizeT="1" Type="uint8">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
)


def copy(source, target, **options):
    """Through the package and out again, without a change."""
    image = fitted(target, open_image(source, **options))
    with creating(target, image) as out:
        out[...] = image.pixels
    return image


def refusal(path, **options):
    with pytest.raises(ImageError) as caught:
        open_image(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def write_pages(path, planes, description=None, **options):
    """Planes as pages that do not lie in one piece, the first with a description."""
    with tifffile.TiffWriter(path) as tif:
        for number, plane in enumerate(planes):
            said = None if number else description
            tif.write(plane, description=said, metadata=None, contiguous=False, **options)


def ome(planes="<TiffData/>", root=""):
    return OME.format(planes=planes, root=root)


def test_planes_that_an_ome_description_claims_and_the_file_lacks_are_named(tmp_path):
    path = tmp_path / "x.ome.tif"
    write_pages(path, STACK[:2], ome())
    assert "lacks 3 of the 5 planes of its OME description: Z2, Z3, Z4" in refusal(path)
    some = "".join(f'<TiffData FirstZ="{z}" IFD="{z}" PlaneCount="1"/>' for z in (0, 1, 3))
    write_pages(path, STACK[:4], ome(some))
    assert "lacks 2 of the 5 planes of its OME description: Z2, Z4" in refusal(path)
    write_pages(path, STACK, ome())
    np.testing.assert_array_equal(open_image(path).pixels, STACK)


@pytest.mark.parametrize("there", [False, True])
def test_no_other_file_is_opened_whatever_a_description_names(tmp_path, there):
    secret, path = tmp_path / "secret.tif", tmp_path / "a" / "b" / "x.ome.tif"
    path.parent.mkdir(parents=True)
    if there:
        tifffile.imwrite(secret, STACK, metadata=None)
    named = '<TiffData><UUID FileName="../../secret.tif">urn:uuid:1</UUID></TiffData>'
    write_pages(path, STACK[:1], ome(named))
    assert "set of OME files, with '../../secret.tif'" in refusal(path)
    own = '<TiffData><UUID FileName="before.tif">urn:uuid:1</UUID></TiffData>'  # the file has a new name
    write_pages(path, STACK, ome(own, ' UUID="urn:uuid:1"'))
    np.testing.assert_array_equal(open_image(path).pixels, STACK)
    binary = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="x.companion.ome" UUID="urn:uuid:2"/></OME>'
    )
    write_pages(path, STACK[:2], binary)
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, STACK[:2])
    assert any("x.companion.ome" in note for note in image.notes)


@pytest.mark.parametrize(
    "description",
    [
        ome('<TiffData IFD="0" PlaneCount="3"/>').replace('SizeZ="5"', 'SizeZ="3"'),
        ome("".join(f'<TiffData FirstZ="{z}" IFD="{z // 2}" PlaneCount="1"/>' for z in range(5))),
        ome(""),
    ],
)
def test_pages_that_an_ome_description_leaves_out_come_back(tmp_path, description):
    path = tmp_path / "x.ome.tif"
    write_pages(path, STACK, description)
    image = copy(path, tmp_path / "y.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.ome.tif"), STACK)
    assert any("of other images than the 5 that there are" in note for note in image.notes)


@pytest.mark.parametrize(
    "before, after",
    [
        ('SizeZ="5"', 'SizeZ="1000000000"'),
        ('SizeC="1" SizeT="1"', 'SizeC="1000000" SizeT="1000000"'),
        ("<TiffData/>", '<TiffData PlaneCount="1000000000"/>'),
        ("<TiffData/>", '<ModuloAlongZ Start="0" End="9" Step="1e-9"/>'),
    ],
)
def test_numbers_in_a_description_cost_no_memory(tmp_path, before, after):
    path = tmp_path / "x.ome.tif"
    write_pages(path, STACK[:1], ome().replace(before, after))
    assert "planes in its OME description, and has 1" in refusal(path)
    with pytest.raises(ReadError, match="planes in its OME description, and has 1"):
        read_image(path)


@pytest.mark.parametrize("claimed", [2, 9])
def test_an_imagej_description_of_other_pages_neither_adds_nor_drops_planes(
    tmp_path, caplog, capfd, claimed
):
    path = tmp_path / "x.tif"
    write_pages(path, STACK, f"ImageJ=1.54f\nimages={claimed}\nslices={claimed}\n")
    image = copy(path, tmp_path / "y.tif")
    np.testing.assert_array_equal(image.pixels, STACK)
    assert any("of other images than the 5 that there are" in note for note in image.notes)
    assert not caplog.records and capfd.readouterr().err == ""
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), STACK)


def test_planes_that_a_shape_claims_are_not_read_from_what_lies_behind(tmp_path):
    path = tmp_path / "x.tif"
    write_pages(path, STACK[:2], '{"shape": [3, 64, 48]}')
    with path.open("ab") as file:
        file.write(bytes(9 * STACK[0].nbytes))
    assert "claims 3 planes, and has 2" in refusal(path)


def unfinish(path, first, *, counts):
    """Take the data of all segments from one on away, as a writer that was stopped leaves them."""
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages[0].tags
        tag = tags.get(325 if counts else 324) or tags[279 if counts else 273]
    raw = bytearray(path.read_bytes())
    form = {3: "<H", 4: "<I"}[int(tag.dtype)]
    for i in range(first, tag.count):
        struct.pack_into(form, raw, tag.valueoffset + i * struct.calcsize(form), 0)
    path.write_bytes(raw)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    "options", [{"tile": (16, 16)}, {"rowsperstrip": 16, "compression": "zlib"}]
)
def test_segments_without_data_are_noted_and_pages_without_any_refused(tmp_path, options, counts):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK[0], metadata=None, **options)
    number, kind = (12, "tiles") if "tile" in options else (4, "strips")
    unfinish(path, 2, counts=counts)
    image = open_image(path)
    assert f"{number - 2} of its {number} {kind} have no data: their pixels are 0" in image.notes
    np.testing.assert_array_equal(image.pixels[:16, :32], STACK[0, :16, :32])
    with pytest.raises(ReadError, match="have no data"):  # images to train from are whole
        read_image(path)
    unfinish(path, 0, counts=counts)
    assert "page 1 has no data" in refusal(path)


@pytest.mark.parametrize("counts", [True, False])
def test_a_page_of_one_strip_without_data_is_refused(tmp_path, counts):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK[0], metadata=None)
    unfinish(path, 0, counts=counts)
    assert "page 1 has no data" in refusal(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_data_beyond_the_end_are_refused(tmp_path, compression):
    path = tmp_path / "x.tif"
    write_pages(path, STACK, compression=compression)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[4].aspage().tags[273].valueoffset
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, place, len(raw) - 9)
    path.write_bytes(raw)
    assert "is cut off: page 5 lacks data" in refusal(path)


@pytest.mark.parametrize("tables", [True, False])
def test_a_jpeg_inside_that_ends_early_is_refused(tmp_path, tables):
    path = tmp_path / "x.tif"
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8) * 2 + STACK[0] // 8
    if tables:  # libtiff's
        Image.fromarray(smooth).save(path, compression="jpeg")
    else:
        tifffile.imwrite(path, smooth, compression="jpeg", metadata=None)
    assert open_image(path).pixels.shape == (64, 48)
    with tifffile.TiffFile(path) as tif:
        counts = tif.pages[0].tags[279]
        assert tables == (tif.pages[0].jpegtables is not None)
    raw = bytearray(path.read_bytes())
    form = {3: "<H", 4: "<I"}[int(counts.dtype)]
    (size,) = struct.unpack_from(form, raw, counts.valueoffset)
    struct.pack_into(form, raw, counts.valueoffset, size - 100)
    path.write_bytes(raw)
    assert "is cut off: page 1 lacks data" in refusal(path)


SAID = {  # number of the tag: its type and what it says
    270: ("s", "frame {i}, {long} µm"),
    285: ("s", "channel {i}"),
    306: ("s", "2024:05:01 12:00:0{i}"),
    315: ("s", "artist {i}"),
}


def write_own_pages(path, *, own=range(5), **options):
    long = "a description that fits into no entry of a directory, " * 9
    with tifffile.TiffWriter(
        path, **{k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}
    ) as tif:
        for i in range(5):
            tags = [
                (code, kind, 0, text.format(i=i, long=long).encode(), True)
                for code, (kind, text) in SAID.items()
            ]
            tags.append((274, "H", 1, (1, 6)[i % 2], True))
            tif.write(
                STACK[i].astype(np.uint16) * 9, metadata=None, contiguous=False, photometric="minisblack",
                resolution=((300, 600)[i % 2],) * 2, resolutionunit="INCH",
                extratags=tags if i in own else [], **options,
            )  # fmt: skip


def said_by(path):
    """What each page says of itself."""
    with tifffile.TiffFile(path) as tif:
        pages = [page.aspage().tags for page in tif.pages]
        codes = (*SAID, 274, 282, 283, 296)
        return [{c: tags.valueof(c, 1 if c == 274 else None) for c in codes} for tags in pages]


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}]
)
@pytest.mark.parametrize("own", [range(5), (0, 3), (2,)])
def test_every_page_keeps_what_it_says(tmp_path, options, own):
    source, target = tmp_path / "x.tif", tmp_path / "y.tif"
    write_own_pages(source, own=own, **options)
    image = copy(source, target)
    assert not image.notes and image.number == 5
    np.testing.assert_array_equal(tifffile.imread(target), tifffile.imread(source))
    before = said_by(source)
    assert said_by(target) == before and before[2 if 2 in own else 3][285] is not None
    copy(target, tmp_path / "z.tif")
    assert said_by(tmp_path / "z.tif") == before
    notes = fitted(tmp_path / "z.npy", image).notes
    assert "its TIFF description and tags are not kept" in notes


def test_pages_that_say_nothing_of_their_own_are_left_alone(tmp_path):
    tifffile.imwrite(
        tmp_path / "x.tif", STACK, resolution=(300, 300), description="one", metadata=None
    )
    assert open_image(tmp_path / "x.tif").metadata.pages == ()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_keep_orientation_resolution_profile_and_xmp_as_their_own(tmp_path, compression):
    profile, other = b"one profile.", b"another one."
    pages = [
        {"resolution": (300, 300), "iccprofile": profile, "extratags": [(274, "H", 1, 6, True)]},
        {"resolution": (300, 300), "iccprofile": profile, "extratags": [(274, "H", 1, 6, True)]},
        {"iccprofile": other, "extratags": [(700, "B", 4, b"<x/>", True)]},
    ]
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        for plane, said in zip(STACK, pages):
            tif.write(plane, metadata=None, contiguous=False, compression=compression, **said)
    copy(tmp_path / "x.tif", tmp_path / "y.tif")
    codes, found = (274, 282, 296, 700, 34675), []
    for name in ("x.tif", "y.tif"):
        with tifffile.TiffFile(tmp_path / name) as tif:
            found.append([[p.aspage().tags.valueof(c) for c in codes] for p in tif.pages])
    assert found[0] == found[1] and found[1][1][0] == 6 and found[1][2][4] == other


def test_tags_that_are_not_kept_are_noted(tmp_path):
    private = [
        (65001, "s", 0, b"{}", True),
        (65000, "I", 1, 7, True),
        (42113, "s", 0, b"-9999", True),
        (318, "2I", 2, (1, 3, 1, 3), True),
    ]
    tifffile.imwrite(tmp_path / "x.tif", STACK[0], extratags=private, metadata=None)
    image = open_image(tmp_path / "x.tif")
    assert image.notes == ("its tags are not kept: 318, 65000, 65001",)


@pytest.mark.parametrize("kinds", [["unspecified"], ["unspecified", "unassalpha"]])
def test_a_sample_that_is_not_said_to_be_alpha_is_a_band(tmp_path, kinds):
    bands = RNG.integers(0, 256, (12, 17, 3 + len(kinds)), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", bands, photometric="rgb", extrasamples=kinds)
    image = copy(tmp_path / "x.tif", tmp_path / "y.tif")
    assert not image.alpha and image.number == 3 + len(kinds) and len(image.notes) == 1
    np.testing.assert_array_equal(list(image.planes()), np.moveaxis(bands, -1, 0))
    with (
        tifffile.TiffFile(tmp_path / "x.tif") as before,
        tifffile.TiffFile(tmp_path / "y.tif") as after,
    ):
        np.testing.assert_array_equal(after.asarray(), bands)
        for name in ("photometric", "extrasamples", "planarconfig", "axes"):
            assert getattr(after.pages[0], name) == getattr(before.pages[0], name)
    with pytest.raises(ImageError, match="stack of"):  # where a fourth sample is alpha
        fitted(tmp_path / "y.png", image)


@pytest.mark.parametrize("shape", [(40, 30, 2), (2, 40, 30, 5), (40, 30, 7)])
def test_channels_without_a_name_are_no_columns(tmp_path, shape):
    array = RNG.integers(0, 9, shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", array)
    assert "use --axes" in refusal(tmp_path / "x.tif")
    axes = "ZYXC"[-len(shape) :]
    image = copy(tmp_path / "x.tif", tmp_path / "y.tif", axes=axes)
    assert image.plane_shape[:2] == (40, 30)
    again = open_image(tmp_path / "y.tif")  # which says now what it was told
    assert again.axes == axes
    np.testing.assert_array_equal(again.pixels, array)
    with (
        tifffile.TiffFile(tmp_path / "x.tif") as before,
        tifffile.TiffFile(tmp_path / "y.tif") as after,
    ):
        assert [page.shape for page in after.pages] == [page.shape for page in before.pages]


def test_what_tifffile_says_of_long_stacks_of_imagej_stays_inside(tmp_path, monkeypatch, recwarn):
    source, memmap = tmp_path / "x.tif", tifffile.memmap
    tifffile.imwrite(source, STACK, imagej=True)

    def warning(*args, **options):
        warnings.warn("<tifffile.TiffWriter 'y.tif'> truncating ImageJ file", stacklevel=2)
        return memmap(*args, **options)

    monkeypatch.setattr(tifffile, "memmap", warning)
    copy(source, tmp_path / "y.tif")
    assert not recwarn.list


CODECS = [  # what Pillow decodes, and what it does not
    ("lzw", np.uint8, True),
    ("lzw", np.uint16, True),
    ("lzw", np.float32, False),
    ("zstd", np.uint16, False),
    ("lzma", np.float32, False),
]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """Files by codec and dtype, and the pixels."""
    pytest.importorskip("imagecodecs")
    folder = tmp_path_factory.mktemp("compressed")
    for codec, dtype, _ in CODECS:
        name = folder / f"{codec}-{np.dtype(dtype)}.tif"
        tifffile.imwrite(name, STACK[0].astype(dtype), compression=codec, metadata=None)
    return folder


@pytest.mark.parametrize(("codec", "dtype", "_"), CODECS)
def test_compressions_are_read_by_imagecodecs(tmp_path, compressed, codec, dtype, _):
    copy(compressed / f"{codec}-{np.dtype(dtype)}.tif", tmp_path / "y.tif")
    back = tifffile.imread(tmp_path / "y.tif")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, STACK[0])


@pytest.mark.parametrize(("codec", "dtype", "decoded"), CODECS)
def test_compressions_without_imagecodecs_name_it(compressed, codec, dtype, decoded):
    path = compressed / f"{codec}-{np.dtype(dtype)}.tif"
    child = subprocess.run(
        [sys.executable, "-c", BLOCKED, path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    said = child.stdout.strip()
    assert said == str(STACK[0].sum()) or (not decoded and "pip install imagecodecs" in said), said
    assert "\n" not in said and "'compression'" not in said


BLOCKED = """
import sys
sys.modules["imagecodecs"] = None
from wne_jax.images.files import ImageError, open_image
try:
    print(open_image(sys.argv[1]).pixels.astype(int).sum())
except ImageError as error:
    print(error)
"""
