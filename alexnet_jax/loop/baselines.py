"""What guessing comes to, by the numbers of pictures in the classes, and when a run does no better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

ALIKE = 5  # validations in a row, after which an error that is that of always giving one answer is said


@dataclass
class OneAnswer:
    """Hears of each validation, and knows when the network gives one answer to everything."""

    counts: Int64[np.ndarray, " classes"]  # pictures of each class that are validated on
    classes: Sequence[str]
    times: int = 0

    def sentence(self, top1_error: float) -> str:
        """What is to be said after this validation; mostly nothing."""
        total = int(self.counts.sum())
        wrong = total - round((1 - top1_error) * total)
        self.times = self.times + 1 if wrong == total - int(self.counts.max()) else 0
        if self.times != ALIKE or len(self.counts) < 2:
            return ""
        largest = self.classes[int(self.counts.argmax())]
        return (
            f"WARNING: for {ALIKE} validations the error has been {top1_error:.2%}, that of always answering "
            f"'{largest}', the largest class ({self.counts.max()} of {total} pictures): the network may do no more. "
            "Give the others more pictures, or compare with an equal number of each"
        )


def entropy(counts: Int64[np.ndarray, " classes"]) -> float:
    """The loss of guessing in nats, when nothing but the classes' sizes is known; ln(classes) where these are equal."""
    shares = counts[counts > 0] / counts.sum()
    return -math.fsum(share * math.log(share) for share in shares)
