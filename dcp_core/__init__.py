"""Model stealing and its price: defenses, attacks and their measurement.

    from dcp_core import Deception, load_victim, answer

    victim = load_victim("signs-resnet8")
    answers = answer(victim, pixels, Deception(beta=0.9, gamma=0.2))

Everything a page or a command can do, this package can do; it never imports Streamlit.
"""

from dcp_core import plugins
from dcp_core.answers import answer, defend
from dcp_core.data.datasets import load as load_dataset
from dcp_core.data.images import read_image, to_tensor
from dcp_core.defenses import (
    DEFENSES,
    Deception,
    Defense,
    LabelOnly,
    NoDefense,
    RandomNoise,
    ReverseSigmoid,
    Rounding,
    TopK,
    make_defense,
)
from dcp_core.models.zoo import Victim
from dcp_core.models.zoo import load as load_victim
from dcp_core.models.zoo import names as victim_names

__version__ = "0.1.0"

__all__ = [
    "DEFENSES",
    "Deception",
    "Defense",
    "LabelOnly",
    "NoDefense",
    "RandomNoise",
    "ReverseSigmoid",
    "Rounding",
    "TopK",
    "Victim",
    "answer",
    "defend",
    "load_dataset",
    "load_victim",
    "make_defense",
    "read_image",
    "to_tensor",
    "victim_names",
]

plugins.load()
