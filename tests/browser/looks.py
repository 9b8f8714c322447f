"""Pictures of pages that are compared with stored ones.

A picture is grey and has a value for each square of 8 x 8 pixels, so stored pictures are small, and other smoothing of
letters changes little. Streamlit brings its own fonts, so lines break in the same way on all machines. A square is compared
with its neighbourhood in the stored picture, because a page moves by a few pixels when a browser measures text differently.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "looks"
SQUARE = 8  # pixels
GREY = 32  # of 255
NEAR = 2  # squares up and down, and one to the left and right
MOST = 0.02  # share of the squares that may differ


def looks(png: bytes) -> np.ndarray:
    """A screenshot as grey values (rows, columns) of squares, 0 to 255."""
    picture = Image.open(io.BytesIO(png)).convert("L")
    return np.asarray(picture.resize((picture.width // SQUARE, picture.height // SQUARE), Image.Resampling.BOX))


def differing(seen: np.ndarray, stored: np.ndarray) -> float:
    """The share of squares that look different from everything near them in the stored picture, 0 to 1."""
    if seen.shape != stored.shape:
        return 1.0
    padded = np.pad(stored.astype(int), ((NEAR, NEAR), (1, 1)), mode="edge")
    rows, columns = stored.shape
    nearby = [np.abs(seen - padded[y : y + rows, x : x + columns]) for y in range(2 * NEAR + 1) for x in range(3)]
    return float((np.min(nearby, axis=0) > GREY).mean())


def path_of(name: str) -> Path:
    """The stored picture of a page."""
    return FOLDER / f"{name}.png"


def load(name: str) -> np.ndarray:
    """The stored picture of a page."""
    return np.asarray(Image.open(path_of(name)))


def save(seen: np.ndarray, path: Path) -> None:
    """Write a picture."""
    Image.fromarray(seen).save(path, optimize=True)
