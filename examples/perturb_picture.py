"""Answer one picture with and without a defense: python -m examples.perturb_picture [PICTURE]

Without PICTURE it draws a road sign.
"""

import sys

from dcp_core import Deception, answer, load_dataset, load_victim, read_image, to_tensor

victim = load_victim("signs-resnet8")
if len(sys.argv) > 1:
    pixels = to_tensor(read_image(sys.argv[1]), victim.card.size)[None]
else:
    pixels = load_dataset("signs_pool_small", "train").images[:1] / 255  # uint8 to [0, 1]

answers = answer(victim, pixels, Deception(beta=1.2, gamma=0.2))

print(f"{'class':20}{'clean':>8}{'defended':>10}")
for name, clean, defended in zip(victim.card.classes, answers.clean[0], answers.defended[0], strict=True):
    print(f"{name:20}{clean:8.3f}{defended:10.3f}")
print(f"l1 distance {float((answers.defended - answers.clean).abs().sum()):.3f} of at most 2")
