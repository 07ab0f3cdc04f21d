"""Folders of images, a folder for each class, as Pillow reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from whichmin.data.pool import Examples, Pool
from whichmin.errors import DataError

#: The endings of image files.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_GRAY = ("1", "L")


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds folders of images, or ``train`` and ``test`` that do."""
    return any(_files(folder) for folder in (*_folders(path), *_folders(path / "train")))


def image_pool(path: Path, source: str) -> Pool:
    """The examples of a folder of images.

    Args:
        path: ``PATH/CLASS/IMAGE.png``, or ``PATH/train/CLASS/IMAGE.png`` with perhaps ``PATH/test/CLASS/…``; all images
            of one size.
        source: what messages call it.

    Returns:
        The pool: gray images (n, 1, height, width), or (n, 3, …) if any has colours, uint8. Classes are numbered in the
        order of their folders' names, and have these as names; where all names are numbers these are the labels.

    Raises:
        DataError: an image that cannot be read, or of another size; test classes that are not trained on.
    """
    split = path / "train"
    root = split if split.is_dir() else path
    names = tuple(folder.name for folder in _folders(root) if _files(folder))
    numbered = all(name.isdecimal() for name in names)
    labels = {name: int(name) if numbered else k for k, name in enumerate(names)}
    train = _read(root, labels)
    test = None
    if split.is_dir() and _folders(path / "test"):
        unknown = [f.name for f in _folders(path / "test") if _files(f) and f.name not in labels]
        if unknown:
            raise DataError(f"{path / 'test'} has the class {unknown[0]!r}, which {root} has not: add it, or drop it.")
        test = _read(path / "test", labels)
        if train.X.shape[1:] != test.X.shape[1:]:
            shapes = [" × ".join(map(str, part.X.shape[1:])) for part in (train, test)]
            raise DataError(f"{path}: training images are {shapes[0]} and test images {shapes[1]}: make them alike.")
    return Pool(source, train, test, names=() if numbered else names)


def _read(root: Path, labels: dict[str, int]) -> Examples:
    found = [(file, label) for name, label in labels.items() for file in _files(root / name)]
    if not found:
        raise DataError(f"{root} holds no images in folders {', '.join(labels)}.")
    images = [_pixels(file) for file, _ in found]
    size = images[0].shape[:2]
    for (file, _), image in zip(found, images, strict=True):
        if image.shape[:2] != size:
            raise DataError(
                f"{file} is {_size(image)} and {found[0][0]} is {_size(images[0])}: make all images of one size first."
            )
    channels = max(image.shape[2] for image in images)
    stacked = np.stack([np.broadcast_to(image, (*size, channels)) for image in images])
    X = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
    return Examples(X, torch.tensor([label for _, label in found]))


def _pixels(file: Path) -> np.ndarray:
    """(height, width, channels), channels 1 or 3."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if image.mode in _GRAY else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}.") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} × {image.shape[0]} pixels"


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.is_file())
