"""Pictures of pages that are compared with stored ones.

A picture is grey and has a value for each square of 8 x 8 pixels, so stored pictures are small, and other smoothing of
letters changes little. Streamlit brings its own fonts, so lines break in the same way on all machines. A page moves by a few
pixels when a browser measures text differently: what is in one picture must be in the other too, but only near its place.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

FOLDER = Path(__file__).parent / "looks"
SQUARE = 8  # pixels
FAINT = 16  # of 255: differences that nobody sees
NEAR = (3, 2)  # squares up and down, and to the left and right
MOST = 0.004  # share of squares that may differ; other smoothing of letters: at most 0.0004, a small chart less: from 0.005


def looks(png: bytes) -> np.ndarray:
    """A screenshot as grey values (rows, columns) of squares, 0 to 255."""
    picture = Image.open(io.BytesIO(png)).convert("L")
    return np.asarray(picture.resize((picture.width // SQUARE, picture.height // SQUARE), Image.Resampling.BOX))


def differing(seen: np.ndarray, stored: np.ndarray) -> float:
    """The share of squares with something that the other picture does not have near this place, 0 to 1.

    A chart of thin lines is mostly background. Therefore what a picture shows is compared, not its squares.
    """
    if seen.shape != stored.shape:
        return 1.0
    return float((_missing(seen, stored) | _missing(stored, seen)).mean())


def _missing(shown: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squares in which a picture shows something, and the other one nothing as strong near them."""
    nearby = maximum_filter(_strength(other), [2 * near + 1 for near in NEAR])
    return _strength(shown) > nearby + FAINT


def _strength(picture: np.ndarray) -> np.ndarray:
    """The differences of the squares from the background, which is their most frequent value."""
    return np.abs(picture.astype(int) - np.bincount(picture.ravel()).argmax())


def path_of(name: str) -> Path:
    """The stored picture of a page."""
    return FOLDER / f"{name}.png"


def load(name: str) -> np.ndarray:
    """The stored picture of a page."""
    return np.asarray(Image.open(path_of(name)))


def save(seen: np.ndarray, path: Path) -> None:
    """Write a picture."""
    Image.fromarray(seen).save(path, optimize=True)
