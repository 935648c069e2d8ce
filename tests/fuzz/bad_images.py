"""Image files that are whole and yet not what a camera gives; the content tells the format, whatever the name says."""

import io
import zlib

import numpy as np
from numpy.random import Generator
from PIL import Image

LONG = (20_000, 10)


def one_pixel(content: bytes, random: Generator) -> bytes:
    return _png(Image.new("RGB", (1, 1), tuple(int(v) for v in random.integers(0, 256, 3))))


def long(content: bytes, random: Generator) -> bytes:
    """Give 20,000 x 10 pixels, or 10 x 20,000."""
    width, height = LONG if random.random() < 0.5 else LONG[::-1]
    return _png(Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)))


def other_size(content: bytes, random: Generator) -> bytes:
    """Keep the picture, in a size of 5 to 99 pixels a side."""
    width, height = (int(side) for side in random.integers(5, 100, 2))
    return _png(_image(content).convert("RGB").resize((width, height)))


def deep(content: bytes, random: Generator) -> bytes:
    """Give 16 bits of grey."""
    grey = np.asarray(_image(content).convert("L")).astype(np.uint16)
    return _png(Image.fromarray(grey * 257))


def floating(content: bytes, random: Generator) -> bytes:
    """Give a TIFF of 32-bit floating-point numbers, with one that is none."""
    values = np.asarray(_image(content).convert("L")).astype(np.float32) / 255
    values[0, 0] = np.nan
    return _saved(Image.fromarray(values), "TIFF")


def cmyk(content: bytes, random: Generator) -> bytes:
    """Give the four inks of print, as JPEG or TIFF."""
    return _saved(_image(content).convert("CMYK"), "JPEG" if random.random() < 0.5 else "TIFF")


def animated(content: bytes, random: Generator) -> bytes:
    """Give three frames, the later ones inverted, as PNG, GIF or TIFF."""
    first = _image(content).convert("RGB")
    other = Image.fromarray(255 - np.asarray(first))
    form = ("PNG", "GIF", "TIFF")[int(random.integers(3))]
    return _saved(first, form, save_all=True, append_images=[other, first.rotate(90)])


def transparent(content: bytes, random: Generator) -> bytes:
    """Make all pixels but a few transparent, with white below them."""
    picture = np.full((*_image(content).size[::-1], 4), 255, np.uint8)
    picture[..., 3] = 0
    picture[:3, :3, 3] = 255
    return _png(Image.fromarray(picture))


def palette(content: bytes, random: Generator) -> bytes:
    return _png(_image(content).convert("RGB").quantize(int(random.integers(2, 9))))


def one_bit(content: bytes, random: Generator) -> bytes:
    return _png(_image(content).convert("1"))


def black(content: bytes, random: Generator) -> bytes:
    """Keep the size alone: a mask that marks nothing, a photograph with the lid on."""
    return _png(Image.new("L", _image(content).size, 0))


def white(content: bytes, random: Generator) -> bytes:
    """Keep the size alone: a mask that marks everything."""
    return _png(Image.new("L", _image(content).size, 255))


def huge_claim(content: bytes, random: Generator) -> bytes:
    """Give a PNG whose header claims 60,000 x 60,000 pixels and whose data end after a few bytes."""
    made = bytearray(_png(Image.new("RGB", (4, 4))))
    made[16:24] = (60_000).to_bytes(4, "big") * 2
    made[29:33] = zlib.crc32(made[12:29]).to_bytes(4, "big")
    return bytes(made)


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _png(image: Image.Image) -> bytes:
    return _saved(image, "PNG")


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
