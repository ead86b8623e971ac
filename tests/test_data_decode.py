import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from wsx.data.decode import decode_images, stack_images
from wsx.errors import DataError

RED = (250, 10, 20)


def encode(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decode(data, size=None):
    return decode_images([data], ["row 7"], size)[0]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_lossless_pixels_come_back_exactly():
    rgb, gray = noise((5, 6, 3)), noise((5, 6))
    assert np.array_equal(decode(encode(Image.fromarray(rgb))), rgb)
    assert np.array_equal(decode(encode(Image.fromarray(gray))), gray)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (*RED, 3), RED),
        ("LA", (90, 5), 90),
        ("1", 1, 255),
        ("P", RED, RED),
    ],
)
def test_other_modes_become_gray_or_colour(mode, color, expected):
    image = Image.new(mode, (3, 2), color)
    assert np.array_equal(decode(encode(image)), np.full((2, 3, *np.shape(expected)), expected))


def test_palette_with_transparency_and_cmyk_decode_without_warning():
    palette = Image.new("P", (3, 2), RED)
    assert decode(encode(palette, transparency=bytes([0, 9]))).shape == (2, 3, 3)
    assert decode(encode(Image.new("CMYK", (3, 2)), "JPEG")).shape == (2, 3, 3)


def test_orientation_of_a_photo_is_applied():
    pixels = noise((2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decode(encode(Image.fromarray(pixels), exif=exif)), np.rot90(pixels, -1))


def test_sixteen_bits_are_refused_not_clipped():
    with pytest.raises(DataError, match="row 7: mode I;16"):
        decode(encode(Image.fromarray(np.full((2, 2), 999, np.uint16))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        encode(Image.fromarray(noise((40, 40, 3))))[:-900],
        encode(Image.fromarray(noise((40, 40, 3))), "JPEG")[:400],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "postscript"],
)
def test_unreadable_bytes_name_their_place(data):
    with pytest.raises(DataError, match="row 7: not a readable image"):
        decode(data)


@pytest.mark.parametrize("side", [9_000, 12_000, 40_000])
def test_decompression_bomb_is_refused_from_its_header(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(DataError, match=r"row 7: .*pixels"):
        decode(bomb)


def test_resize_and_centre_crop():
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = RED
    wide = encode(Image.fromarray(pixels))
    assert np.array_equal(decode(wide, (4, 4)), np.full((4, 4, 3), RED))
    resized_first = Image.fromarray(pixels).resize((6, 2), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(wide, (2, 2)), np.array(resized_first)[:, 2:4])
    assert decode(wide, (6, 3)).shape == (6, 3, 3)
    same = noise((4, 4, 3))
    assert np.array_equal(decode(encode(Image.fromarray(same)), (4, 4)), same)


def test_many_images_keep_their_order_in_threads(tmp_path):
    arrays = [noise((60, 60, 3), seed) for seed in range(150)]
    files = []
    for index, array in enumerate(arrays):
        files.append(tmp_path / f"{index}.png")
        files[-1].write_bytes(encode(Image.fromarray(array)))
    decoded = decode_images(files, [str(file) for file in files], None)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, arrays, strict=True))


def test_stack_spreads_gray_over_colour_and_keeps_one_channel_where_all_are_gray():
    gray, rgb = noise((4, 5)), noise((4, 5, 3))
    assert np.array_equal(stack_images([gray], ["a"]), gray[None, None])
    both = stack_images([gray, rgb], ["a", "b"])
    assert np.array_equal(both[0], np.stack([gray] * 3))
    assert np.array_equal(both[1], rgb.transpose(2, 0, 1))


def test_stack_names_two_differing_sizes():
    images = [np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8)]
    with pytest.raises(DataError, match="row 0 is 4x5, row 2 is 5x4; choose one with image_size"):
        stack_images(images, ["row 0", "row 1", "row 2"])
