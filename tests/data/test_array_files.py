"""NumPy files and TIFF of many bands are pictures of 1 to 16 channels."""

import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from byol_bnfree import InputError, TrainConfig, two_views
from byol_bnfree.config import AugmentConfig, DataConfig, ViewConfig
from byol_bnfree.data.augment import of_channels
from byol_bnfree.data.channels import channel_moments, channel_notes
from byol_bnfree.data.crops import crop_box, random_crops
from byol_bnfree.data.decode import decode, read_header
from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.geometry import Planes, centre_crop, from_array, to_array
from byol_bnfree.data.one_view import draw_view
from byol_bnfree.data.reading import BadImage
from byol_bnfree.data.sources import find_data, open_source

H, W = 6, 9


def drawn(*shape: int, dtype=np.uint8) -> np.ndarray:
    draws = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return draws.uniform(0, 1, shape).astype(dtype)
    return draws.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write(path, array: np.ndarray) -> str:
    if path.suffix == ".npz":
        np.savez_compressed(path, array)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        tifffile = pytest.importorskip("tifffile")
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(path, array, **options)
    return str(path)


def read(file: str, channels: int, **how) -> np.ndarray:
    how = Conversion(channels=channels, **how)
    header = read_header(file, "it", how)
    image = to_array(decode(file, "it", channels, how))
    assert (header.height, header.width, header.channels) == image.shape
    return image


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16])
def test_a_numpy_file_is_a_picture_with_channels_first_or_last(
    tmp_path, ending, channels
):
    pixels = drawn(20, 25, channels)
    last = write(tmp_path / f"last.{ending}", pixels)
    first = write(tmp_path / f"first.{ending}", np.moveaxis(pixels, -1, 0))
    for file in (last, first):
        np.testing.assert_array_equal(read(file, channels), pixels)


def test_one_channel_needs_no_axis_and_the_wanted_number_decides(tmp_path):
    gray = write(tmp_path / "gray.npy", drawn(H, W))
    np.testing.assert_array_equal(read(gray, 1)[..., 0], drawn(H, W))
    both = write(tmp_path / "both.npy", drawn(4, 20, 7))
    assert read(both, 7).shape == (4, 20, 7) and read(both, 4).shape == (20, 7, 4)
    fortran = write(tmp_path / "f.npy", np.asfortranarray(drawn(20, 25, 5)))
    np.testing.assert_array_equal(read(fortran, 5), drawn(20, 25, 5))


def test_deep_values_are_scaled_as_those_of_other_files(tmp_path):
    deep = drawn(H, W, 4, dtype=np.uint16)
    file = write(tmp_path / "deep.npy", deep)
    np.testing.assert_array_equal(read(file, 4), np.rint(deep / 257))
    assert (read(file, 4, white=255.0) == np.minimum(deep, 255)).all()
    floats = write(tmp_path / "floats.npy", drawn(H, W, 4, dtype=np.float32))
    with pytest.raises(
        BadImage, match="floating-point pixels .* train with --data.white"
    ):
        read(floats, 4)
    expected = np.rint(drawn(H, W, 4, dtype=np.float32) * 255)
    np.testing.assert_array_equal(read(floats, 4, white=1.0), expected)
    truth = write(tmp_path / "truth.npy", drawn(H, W) > 100)
    assert set(np.unique(read(truth, 1))) == {0, 255}


def test_the_array_named_image_is_the_picture(tmp_path):
    np.savez(tmp_path / "a.npz", image=drawn(H, W), mask=drawn(H, W) > 3)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.npz", 1)[..., 0], drawn(H, W))
    np.savez(tmp_path / "b.npz", x=drawn(H, W), y=drawn(H, W))
    with pytest.raises(BadImage, match="2 arrays; keep one"):
        read(f"{tmp_path}/b.npz", 1)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[object()]]), "it holds object"),
        (np.zeros((2, 2), complex), "it holds complex128"),
        (np.zeros((20, 20, 17), np.uint8), r"shape \(20, 20, 17\), but a picture must"),
        (np.zeros((2, 3, 4, 5), np.uint8), "a picture must be"),
        (np.zeros((0, 3), np.uint8), "a picture must be"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.full((2, 2), -1), "negative pixels"),
        (np.zeros((2, 2, 5), np.uint8), "5 channels, and pictures of this run have 4"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path, array, said):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(BadImage, match=said):
        white = 1.0 if array.dtype.kind == "f" else None
        read(f"{tmp_path}/x.npy", 4 if array.shape[-1] == 5 else 1, white=white)


def test_nothing_larger_than_the_limit_is_allocated(tmp_path):
    np.save(tmp_path / "x.npy", drawn(H, W))
    header = (tmp_path / "x.npy").read_bytes()
    huge = header.replace(b"(6, 9), ", b"(900000, 900000), ", 1)[: len(header)]
    (tmp_path / "x.npy").write_bytes(huge)
    with pytest.raises(BadImage, match=r"more than|HEADER|header|EOF|pickled"):
        read(f"{tmp_path}/x.npy", 1)
    np.save(tmp_path / "y.npy", np.zeros((40, 40), np.uint8))
    with pytest.raises(BadImage, match="40 x 40 pixels are more than 1,000"):
        read(f"{tmp_path}/y.npy", 1, max_pixels=1000)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04"]
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_damaged_files_are_bad_pictures(tmp_path, ending, content):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    for use in (read_header, lambda f, n: decode(f, n, 1)):
        with pytest.raises(BadImage):
            use(str(path), "it")


def test_a_truncated_array_and_a_truncated_archive_are_bad(tmp_path):
    for ending in ("npy", "npz"):
        path = tmp_path / f"x.{ending}"
        write(path, drawn(30, 30, 5))
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(BadImage):
            decode(str(path), "it", 5, Conversion(channels=5))
    assert zipfile.is_zipfile(tmp_path / "x.npz") is False


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_of_many_bands_is_read_whole(tmp_path, dtype, planar):
    tifffile = pytest.importorskip("tifffile")
    pixels = drawn(20, 25, 5, dtype=dtype)
    array = np.moveaxis(pixels, -1, 0) if planar else pixels
    layout = "separate" if planar else "contig"
    path = tmp_path / "x.tif"
    options = {"photometric": "minisblack", "planarconfig": layout}
    tifffile.imwrite(path, array, compression="deflate", **options)
    expected = np.rint(pixels / 257) if dtype == np.uint16 else pixels
    np.testing.assert_array_equal(read(str(path), 5), expected)
    header = read_header(str(path), "it")  # without being told
    assert header[:3] == (20, 25, 5) and not header.bands


def test_pillow_says_nothing_of_bands_that_tifffile_reads(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "x.tif", drawn(20, 25, 7, dtype=np.uint16), **options)
    program = (
        "import logging, sys\n"
        "from byol_bnfree.data.decode import read_header\n"
        "from byol_bnfree.machine.own_process import quiet_libraries\n"
        "logging.basicConfig()\n"
        "quiet_libraries()\n"
        "print(read_header(sys.argv[1], 'it')[:3])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(20, 25, 7)\n", "")


def test_pages_are_channels_where_that_many_are_wanted(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pixels = drawn(4, 20, 25)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack")
    read_back = read(f"{tmp_path}/x.tif", 4)
    np.testing.assert_array_equal(read_back, np.moveaxis(pixels, 0, -1))
    with pytest.raises(BadImage, match="4 channels, .* have 5|data.channels=4"):
        read(f"{tmp_path}/x.tif", 5)


def test_all_bits_of_16_bit_colours_are_used_where_white_is_given(tmp_path):
    pixels = drawn(20, 25, 3, dtype=np.uint16) % 4096
    file = write(tmp_path / "x.tif", pixels)
    expected = np.rint(pixels * np.float32(255 / 4095))
    np.testing.assert_array_equal(read(file, 3, white=4095.0), expected)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8"])
def test_a_tiff_of_any_bands_and_numbers_is_read_without_being_told(
    tmp_path, dtype, bands
):
    pixels = (drawn(H, W, bands) // 3).astype(dtype)
    file = write(tmp_path / "x.tif", pixels[..., 0] if bands == 1 else pixels)
    how = Conversion(white=85.0)
    header = read_header(file, "it", how)
    assert header[:3] == (H, W, bands)
    image = to_array(decode(file, "it", bands, how))
    expected = pixels if dtype in ("u1", "i1") else 3 * pixels
    np.testing.assert_array_equal(image, np.rint(expected).astype(np.uint8))


@pytest.mark.parametrize("content", [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\0"])
@pytest.mark.parametrize("channels", [None, 5])
def test_a_tiff_without_a_picture_is_said_to_be_one(tmp_path, content, channels):
    (tmp_path / "x.tif").write_bytes(content + bytes(40))
    with pytest.raises(BadImage, match="it holds no picture|its axes are|has shape"):
        read_header(f"{tmp_path}/x.tif", "it", Conversion(channels=channels))


def test_negative_bytes_of_a_tiff_are_no_bright_pixels(tmp_path):
    file = write(tmp_path / "x.tif", np.int8([[-1, 2]]))
    with pytest.raises(BadImage, match="negative"):
        decode(file, "it", 1)


def test_white_is_zero_in_a_tiff_that_says_so(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for dtype in (np.uint8, np.uint16):
        whites = np.zeros((H, W), dtype)
        tifffile.imwrite(tmp_path / "x.tif", whites, photometric="miniswhite")
        assert (to_array(decode(f"{tmp_path}/x.tif", "it", 1)) == 255).all()
    whites = np.zeros((H, W))
    tifffile.imwrite(tmp_path / "x.tif", whites, photometric="miniswhite")
    with pytest.raises(BadImage, match="0 is white"):
        decode(f"{tmp_path}/x.tif", "it", 1, Conversion(white=1.0))


def test_a_tiff_of_many_bands_says_what_it_needs(tmp_path, monkeypatch):
    file = write(tmp_path / "x.tif", drawn(20, 25, 5))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"tifffile; pip install .\.\[tiff\]"):
        read_header(file, "it")


def test_a_transparent_png_is_a_picture_of_four_channels(tmp_path):
    Image.fromarray(drawn(H, W, 4)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read(f"{tmp_path}/x.png", 4), drawn(H, W, 4))
    with pytest.raises(BadImage, match="4 channels, and pictures of this run have 2"):
        read(f"{tmp_path}/x.png", 2)


def folder(root, **data) -> TrainConfig:
    return TrainConfig(dataset=f"folder:{root}", data=DataConfig(**data))


def test_arrays_beside_pictures_or_folders_are_not_pictures(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(drawn(H, W, 3)).save(tmp_path / name / f"{i}.png")
        np.save(tmp_path / name / "features.npy", drawn(9, 9))
    np.save(tmp_path / "labels.npy", drawn(9))
    found = find_data(folder(tmp_path))
    assert len(found) + len(found.found.test) == 6
    assert found.found.unused[".npy"]["files"] == 2 or ".npy" in found.found.unused


def test_other_numbers_of_channels_do_not_mix(tmp_path):
    np.save(tmp_path / "a.npy", drawn(H, W, 5))
    np.save(tmp_path / "b.npy", drawn(H, W, 3))
    with pytest.raises(InputError, match="3 and 5 channels; give --data.channels"):
        find_data(folder(tmp_path))


@pytest.mark.parametrize("gib", [4.0, 1e-9])
def test_a_set_of_arrays_is_held_or_streamed_alike(tmp_path, gib):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            np.save(tmp_path / name / f"{i}.npy", drawn(16, 24, 6) // (i + 1))
    config = folder(tmp_path, image_size=(8, 12), in_memory_gib=gib)
    source = open_source(config, "train")
    assert source.image_shape == (8, 12, 6) and source.in_memory == (gib == 4.0)
    images = source.images(np.arange(2))
    assert images.shape == (2, 8, 12, 6)
    if not source.in_memory:
        crops = source.crops(np.arange(2), np.arange(2), 0)["crops"]
        assert crops.shape == (2, 2, 8, 12, 6)


def test_the_centre_has_the_shape_of_the_input():
    picture = from_array(drawn(30, 80, 3))
    wide = to_array(centre_crop(picture, (10, 20), share=1.0))
    box = picture.crop((10, 0, 70, 30)).resize((20, 10), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(wide, np.asarray(box))
    planes = Planes(picture.split())
    np.testing.assert_array_equal(
        to_array(centre_crop(planes, (10, 20), share=1.0)), wide
    )


def test_crops_are_drawn_around_the_shape_of_the_input():
    """So that training sees the proportions that evaluation sees."""
    view = ViewConfig(crop_area=(0.1, 0.2))
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(rng, 400, 200, view, 2.0) for _ in range(300)])
    on_host = np.log((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
    keys = jax.random.split(jax.random.key(0), 300)
    draw = jax.vmap(lambda key: draw_view(key, (200, 400), view, 2.0).box)(keys)
    on_device = np.log(draw[:, 3] / draw[:, 2])
    for found in (on_host, on_device):
        assert abs(np.mean(found) - np.log(2)) < 0.05
        assert abs(np.max(found) - np.log(8 / 3)) < 0.05
    crops = random_crops(from_array(drawn(40, 60, 5)), (8, 12), [view, view], (0,))
    assert crops.shape == (2, 8, 12, 5)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_views_of_any_channels_and_shape(channels):
    images = drawn(2, 12, 20, channels)
    augment = AugmentConfig(view1=ViewConfig(blur=0), view2=ViewConfig(blur=0))
    first, second = two_views(jax.random.key(0), jnp.asarray(images), augment)
    assert first.shape == second.shape == (2, 12, 20, channels)
    sized, _ = two_views(jax.random.key(0), jnp.asarray(images), augment, size=(6, 10))
    assert sized.shape == (2, 6, 10, channels)


def test_operations_on_colours_are_left_out_where_there_are_none():
    colours, plain = AugmentConfig(), AugmentConfig(colours=False)
    assert of_channels(colours.view2, colours, 3) == colours.view2
    for augment, channels in ((plain, 3), (colours, 5)):
        view = of_channels(augment.view2, augment, channels)
        assert (view.saturation, view.hue, view.grayscale) == (0, 0, 0)
        assert view.jitter and view.brightness
    assert channel_notes(colours, 3, None) == []
    for notes in (channel_notes(plain, 3, None), channel_notes(colours, 5, None)):
        assert "not colours: saturation, hue and grayscale are left out" in notes[0]
    with pytest.raises(InputError, match="mean has 2 numbers .* 5 channels"):
        channel_notes(AugmentConfig(mean=(0.1, 0.2), std=(1.0, 1.0)), 5, None)


def test_given_moments_that_measured_ones_replace_are_named():
    moments = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    given = AugmentConfig(mean=(0.4,) * 3, std=(0.2,) * 3)
    assert "no effect" in channel_notes(given, 3, moments)[-1]
    for augment in (AugmentConfig(), AugmentConfig(mean=moments[0], std=moments[1])):
        assert not any(
            "no effect" in note for note in channel_notes(augment, 3, moments)
        )


def test_moments_are_those_of_all_pixels(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = drawn(16, 24, 5) // np.arange(1, 6, dtype=np.uint8)
            np.save(tmp_path / name / f"{i}.npy", pixels + np.uint8(i))
    source = open_source(folder(tmp_path, image_size=(16, 24)), "train")
    mean, deviation = channel_moments(source)
    pixels = source.pixels / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)), atol=1e-5)
    source.pixels[..., 2] = 7
    with pytest.raises(InputError, match="channel 2 has one value in all pictures"):
        channel_moments(source)
