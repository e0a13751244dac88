"""head -> pictures: the front view, the view sheet and the turntable.

In: a head and cameras. Out: arrays (H, W, 3) uint8, and the files made of them. Last in the avatar flow, beside
``export.py``.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agile3d_cli.avatar.config import ViewsConfig
from agile3d_cli.avatar.head import Head
from agile3d_cli.camera import FOCAL, RADIUS, intrinsics, look_at, make_label
from agile3d_cli.errors import MissingError, UsageError
from agile3d_cli.image import to_array, write_whole

AXIS = (0.0, 0.0, 0.0)
"""What the cameras of sheet and turntable look at, so that the head turns on the spot, world units."""
ANIMATIONS = ("webp", "gif", "mp4")
"""File types of a turntable, as suffixes without the dot."""


def front_view(head: Head, label: Tensor, size: int, background: float = 1.0) -> np.ndarray:
    """The head through the camera of its photo, ``label`` (25,), as (size, size, 3) uint8."""
    with torch.inference_mode():
        return to_array(head.render(label[None], size, background).image[0])


def view_sheet(
    head: Head, size: int = 256, config: ViewsConfig | None = None, progress: Callable[[float], None] | None = None
) -> np.ndarray:
    """The head from left to right in one row, (size, size * views, 3) uint8."""
    return np.concatenate(sheet_views(head, size, config, progress), axis=1)


def sheet_views(
    head: Head, size: int = 256, config: ViewsConfig | None = None, progress: Callable[[float], None] | None = None
) -> list[np.ndarray]:
    """The pictures of the view sheet, from left to right, each (size, size, 3) uint8."""
    config = config or ViewsConfig()
    return _pictures(head, [math.radians(yaw) for yaw in config.sheet_yaws], size, config, progress)


def turntable(
    head: Head, config: ViewsConfig | None = None, progress: Callable[[float], None] | None = None
) -> list[np.ndarray]:
    """The pictures of one turn (or swing) that can be played in a loop, each (size, size, 3) uint8.

    Args:
        head: what is turned; at frame 0 it looks at the camera.
        config: number and size of the pictures, kind of movement, background.
        progress: called with the share done, 0 to 1.
    """
    config = config or ViewsConfig()
    phase = np.arange(config.frames) * (2 * math.pi / config.frames)
    yaws = math.radians(config.swing) * np.sin(phase) if config.swing else phase
    return _pictures(head, yaws.tolist(), config.frame_size, config, progress)


def save_turntable(path: Path, frames: Sequence[np.ndarray], fps: float = 12.0) -> Path:
    """Writes the frames as an endless animation; the suffix of ``path`` decides: .webp, .gif or .mp4.

    Raises:
        UsageError: another suffix.
        MissingError: MP4 without the package that brings the encoder.
        OutputError: the place cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ANIMATIONS:
        raise UsageError(f"{path.name} is no animation; its ending must be one of {', '.join(ANIMATIONS)}.")
    data = animation_bytes(frames, kind, fps)
    return write_whole(path, lambda stream: stream.write(data))


def animation_bytes(frames: Sequence[np.ndarray], kind: str, fps: float = 12.0) -> bytes:
    """The frames as an endless animation, as the bytes of a file; ``kind`` is one of ``ANIMATIONS``."""
    return {"webp": _webp, "gif": _gif, "mp4": _mp4}[kind](frames, fps)


def can_write_mp4() -> bool:
    """Whether the encoder of MP4 files is installed."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


def _pictures(
    head: Head, yaws: Sequence[float], size: int, config: ViewsConfig, progress: Callable[[float], None] | None
) -> list[np.ndarray]:
    pictures = []
    for number, yaw in enumerate(yaws):
        label = make_label(look_at(yaw, 0.0, RADIUS, AXIS), intrinsics(FOCAL * config.zoom))
        pictures.append(front_view(head, label, size, config.background))
        if progress is not None:
            progress((number + 1) / len(yaws))
    return pictures


def _webp(frames: Sequence[np.ndarray], fps: float) -> bytes:
    stream = io.BytesIO()
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=88,
        method=4,
    )
    return stream.getvalue()


def _gif(frames: Sequence[np.ndarray], fps: float) -> bytes:
    # One palette for all frames, from a few of them: palettes of their own would flicker.
    chosen = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(chosen, axis=1)).quantize(256, method=Image.Quantize.MEDIANCUT)
    pictures = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    stream = io.BytesIO()
    duration = round(100 / fps) * 10  # the format counts hundredths of a second
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, disposal=1)
    return stream.getvalue()


def _mp4(frames: Sequence[np.ndarray], fps: float) -> bytes:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingError(
            "MP4 needs an encoder: pip install 'agile3d[video]', or choose webp or gif instead."
        ) from error
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # the pixel format wants even sides
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "turntable.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file),
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            output_params=["-crf", "18", "-preset", "medium", "-movflags", "+faststart"],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
        return file.read_bytes()
