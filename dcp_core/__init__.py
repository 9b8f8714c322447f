"""Model stealing of image classifiers: attacks, defenses, and measurements of both.

    from dcp_core import Deception, answer, load_victim

    victim = load_victim("signs-resnet8")
    answers = answer(victim, pixels, Deception(beta=0.9, gamma=0.2))

Everything that the dashboard and the command line do can be done with this package. It does not import Streamlit.
"""

import os

# torch reads this variable when it is loaded: its threads then sleep instead of spin while they wait. See docs/speed.md.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dcp_core import plugins

if TYPE_CHECKING:
    from dcp_core.answers import answer, defend
    from dcp_core.attacks import (
        ATTACKS,
        DFME,
        JBDA,
        MAZE,
        Attack,
        DisGUIDE,
        Event,
        KnockoffNets,
        Oracle,
        Theft,
        make_attack,
    )
    from dcp_core.data.datasets import load as load_dataset
    from dcp_core.data.images import read_image
    from dcp_core.data.tensors import to_tensor
    from dcp_core.defenses import (
        DEFENSES,
        MAD,
        AdaptiveMisinformation,
        Deception,
        Defense,
        GradientRedirection,
        LabelOnly,
        ModelGuardS,
        ModelGuardW,
        NoDefense,
        RandomNoise,
        ReverseSigmoid,
        Rounding,
        TopK,
        make_defense,
    )
    from dcp_core.evaluation.curves import tradeoff_curve
    from dcp_core.making import finish, make_onnx, make_quantized, make_second_network, make_victim
    from dcp_core.models.architectures import build as build_network
    from dcp_core.models.auxiliary import arm
    from dcp_core.models.zoo import Card, Victim
    from dcp_core.models.zoo import load as load_victim
    from dcp_core.models.zoo import names as victim_names
    from dcp_core.results.decision import Needs, measured_cases
    from dcp_core.results.rows import load_results, thief_points
    from dcp_core.results.verdict import decide
    from dcp_core.runs.direct import BenchSpec, RunSpec, result, run

_PLACES = {  # the module of each public name, imported at its first use: serving an exported file needs no torch
    "answers": "answer defend",
    "attacks": "ATTACKS DFME JBDA MAZE Attack DisGUIDE Event KnockoffNets Oracle Theft make_attack",
    "data.images": "read_image",
    "data.tensors": "to_tensor",
    "defenses": "DEFENSES MAD AdaptiveMisinformation Deception Defense GradientRedirection LabelOnly ModelGuardS "
    "ModelGuardW NoDefense RandomNoise ReverseSigmoid Rounding TopK make_defense",
    "evaluation.curves": "tradeoff_curve",
    "making": "finish make_onnx make_quantized make_second_network make_victim",
    "models.auxiliary": "arm",
    "models.zoo": "Card Victim",
    "results.decision": "Needs measured_cases",
    "results.rows": "load_results thief_points",
    "results.verdict": "decide",
    "runs.direct": "BenchSpec RunSpec result run",
}
_PLACE = {name: (module, name) for module, names in _PLACES.items() for name in names.split()} | {
    "build_network": ("models.architectures", "build"),
    "load_dataset": ("data.datasets", "load"),
    "load_victim": ("models.zoo", "load"),
    "victim_names": ("models.zoo", "names"),
}

__version__ = "0.1.0"

__all__ = [
    "ATTACKS",  # the attacks by name
    "DEFENSES",  # the defenses by name
    "DFME",  # attack: data-free model extraction
    "JBDA",  # attack: a few pictures, and new ones made with the gradient of the clone
    "MAD",  # defense: maximising angular deviation
    "MAZE",  # attack: zeroth-order data-free extraction
    "AdaptiveMisinformation",  # defense: AM, answers uncertain queries with a network that was trained to be wrong
    "Attack",  # base class of attacks
    "BenchSpec",  # a measurement of what every defense costs, for `run`
    "Card",  # description of a victim
    "Deception",  # defense: DCP, the defense of the paper
    "Defense",  # base class of defenses
    "DisGUIDE",  # attack: data-free, with two clones that disagree; labels are enough
    "Event",  # progress of an attack
    "GradientRedirection",  # defense: GRAD²
    "KnockoffNets",  # attack: queries with a pool of pictures
    "LabelOnly",  # defense: sends only the top class
    "ModelGuardS",  # defense: replaces each answer by an entry of a fixed codebook
    "ModelGuardW",  # defense: the answer with the least information for a thief within an l1 budget
    "Needs",  # limits and requirements of an owner, for `decide`
    "NoDefense",  # the victim's answers, unchanged
    "Oracle",  # a victim behind a defense and a query budget; an attack has no other access to the victim
    "RandomNoise",  # defense: random noise on the posteriors
    "ReverseSigmoid",  # defense: RS
    "Rounding",  # defense: posteriors with few decimals
    "RunSpec",  # one attack on one defended victim, for `run`
    "Theft",  # the input of an attack: oracle, clone and pool
    "TopK",  # defense: sends only the k largest posteriors
    "Victim",  # a card and its model
    "answer",  # clean and defended posteriors of pictures
    "arm",  # a defense with the second network or stored answers that it needs for a victim
    "build_network",  # a freshly initialised network by name, for a clone
    "decide",  # recommends a defense for a measured case
    "defend",  # clean and defended posteriors of logits
    "finish",  # runs a generator of a `make_...` function and returns the card
    "load_dataset",  # a data set by name or path
    "load_results",  # all result rows, measured and of the paper
    "load_victim",  # a victim by name
    "make_attack",  # an attack by name
    "make_defense",  # a defense by name
    "make_onnx",  # makes the ONNX file of a victim, for CPUs
    "make_quantized",  # makes an eight-bit version of a victim
    "make_second_network",  # trains the second network that AM, MAD and GRAD² need for a victim
    "make_victim",  # trains a victim
    "measured_cases",  # groups the points of `thief_points` by victim and attack, for `decide`
    "read_image",  # a picture from a file or bytes
    "result",  # the result of a finished run
    "run",  # runs an attack or a cost measurement, and yields its events
    "thief_points",  # result rows with a thief's error, averaged over seeds
    "to_tensor",  # a picture as a tensor for a victim
    "tradeoff_curve",  # error and l1 distance of a defended test set, for each strength
    "victim_names",  # the victims on this machine
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module 'dcp_core' has no attribute '{name}'")
    module, there = _PLACE[name]
    return getattr(import_module(f"dcp_core.{module}"), there)


plugins.load()
