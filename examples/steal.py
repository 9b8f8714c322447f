"""Steal the embedded victim with and without a defense: python -m examples.steal

It takes one to two minutes of one processor, including the time to draw the pictures at the first call. The runs are
stored in DCP_HOME: the page Attack lab shows them, and a second call prints the results at once.
"""

import argparse

from dcp_core import RunSpec, result, run

options = argparse.ArgumentParser()
options.add_argument("--budget", type=int, default=2000, help="pictures that the thief may send")
options.add_argument("--epochs", type=int, default=10, help="of the clone's training")
given = options.parse_args()

for defense, parameters in (("none", {}), ("dcp", {"beta": 1.2})):
    spec = RunSpec(
        victim="signs-resnet8",
        pool="signs_pool_small",  # 4,096 pictures of the victim's kind
        budget=given.budget,
        attack_parameters={"epochs": given.epochs},
        defense=defense,
        defense_parameters=parameters,
    )
    for event in run(spec):
        print(f"\r{defense}: {event.phase}, {event.fraction:.0%}, {event.queries:,} queries  ", end="", flush=True)
    (row,) = result(spec)["rows"]
    print(
        f"\r{defense}: the clone errs on {row['adversary_error']:.1f} % of the test pictures, the owner's answers on "
        f"{row['defender_error']:.1f} %; mean l1 distance {row['l1']:.2f}"
    )
