"""Pictures: reading a user's photo safely, writing pictures whole or not at all, and the two array forms in use.

A photo is (H, W, 3) uint8 RGB, a network picture is (3, H, W) in [-1, 1]; positions in a picture are continuous pixels
with pixel centres at i + 0.5.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from agile3d_cli.errors import OutputError, PhotoError

MAX_MEGAPIXELS = 80.0
"""Largest photo that is decoded, megapixels; checked from the header."""


def read_photo(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Reads a photo upright, whatever its colour mode, with transparency laid over white.

    Args:
        path: an image file of any format Pillow reads; of an animation the first picture is taken.
        max_megapixels: larger photos are refused before they are decoded.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        PhotoError: there is no such file, or it is not a whole, reasonably sized picture.
    """
    path = Path(path)
    if not path.exists():
        raise PhotoError(f"There is no file {path}; check the path.")
    if path.is_dir():
        raise PhotoError(f"{path} is a folder; give the photo files in it instead.")
    try:
        if path.stat().st_size == 0:
            raise PhotoError(f"{path} is empty (0 bytes); copy the photo again.")
        with warnings.catch_warnings():
            # Our own limit below decides on the size, with a message of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > max_megapixels * 1e6:
                    raise PhotoError(
                        f"{path} is {width} x {height} pixels, more than the {max_megapixels:g} megapixels that are "
                        "read; make it smaller first."
                    )
                return _upright_rgb(picture)
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{path} claims an enormous size; make it smaller or save it again.") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{path} is not a picture in a known format; use JPEG, PNG or WebP.") from error
    except PermissionError as error:
        raise PhotoError(f"{path} may not be read; change its permissions.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:
        # Pillow's decoders raise any of these on cut or damaged data.
        raise PhotoError(f"{path} is damaged or cut off; copy or save the photo again.") from error


def _upright_rgb(picture: Image.Image) -> np.ndarray:
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return np.repeat(_eight_bit(np.asarray(picture))[..., None], 3, axis=2)
    if picture.mode in ("LA", "PA", "La", "RGBa", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB")).copy()


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 or 32 bits or floats to uint8, by the range that their type and largest value suggest."""
    largest = float(np.nan_to_num(values).max())
    if np.issubdtype(values.dtype, np.floating) and largest <= 1:
        full = 1.0
    else:
        full = 255.0 if largest <= 255 else max(largest, 65535.0)
    return np.clip(np.rint(np.nan_to_num(values) * (255.0 / full)), 0, 255).astype(np.uint8)


def to_tensor(photo: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 127.5 - 1


def to_array(image: Tensor) -> np.ndarray:
    """(3, H, W) or (1, H, W) in [-1, 1] to (H, W, 3) uint8; values outside are clipped."""
    values = ((image.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def save_png(path: str | os.PathLike[str], image: np.ndarray | Tensor) -> Path:
    """Writes a PNG of a uint8 array (H, W, 3), or of a tensor (3, H, W) in [-1, 1]; returns the path."""
    return _save(path, image, "PNG")


def save_jpg(path: str | os.PathLike[str], image: np.ndarray | Tensor, quality: int = 95) -> Path:
    """Writes a JPEG of a uint8 array (H, W, 3), or of a tensor (3, H, W) in [-1, 1]; returns the path."""
    return _save(path, image, "JPEG", quality=quality)


def _save(path: str | os.PathLike[str], image: np.ndarray | Tensor, kind: str, **options: int) -> Path:
    picture = Image.fromarray(to_array(image) if isinstance(image, Tensor) else image)
    return write_whole(path, lambda stream: picture.save(stream, kind, **options))


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> Path:
    """Lets ``write`` fill a temporary file beside ``path`` and renames it, so no half-written file is ever seen.

    Raises:
        OutputError: the place cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            write(stream)
        # A temporary file is private by default; the result follows the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}); choose another place.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path
