"""Write what defenses cost on a whole test set to a CSV file: python -m examples.tradeoff_curve [FILE]

One row for each defense and strength: the owner's error, the mean l1 distance, and 95 % intervals.
"""

import sys

import pandas as pd

from dcp_core import MAD, Deception, RandomNoise, ReverseSigmoid, tradeoff_curve
from dcp_core.evaluation.guides import guide_of_test_set
from dcp_core.models.zoo import test_answers

VICTIM = "signs-resnet8"
logits, labels = test_answers(VICTIM)  # clean answers to 10,000 test pictures, stored with the victim

curves = [
    tradeoff_curve(Deception(), logits, labels, strengths=(0.3, 0.6, 0.9, 1.2)),
    tradeoff_curve(ReverseSigmoid(), logits, labels),  # without strengths: over the defense's own grid
    tradeoff_curve(RandomNoise(), logits, labels),
    tradeoff_curve(MAD(), logits, labels, guide=guide_of_test_set(VICTIM, MAD())),  # it looks at the pictures
]
table = pd.concat(curves, ignore_index=True)
path = sys.argv[1] if len(sys.argv) > 1 else "curves.csv"
table.to_csv(path, index=False)
print(table[["defense", "strength", "defender_error", "l1", "changed"]].round(3).to_string(index=False))
print(f"{len(table)} rows in {path}")
