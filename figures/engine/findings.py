"""What is known of claims about networks that these networks do not bear out: who looked, how closely, and why not.

*Not reproduced*: the experiment of the source was run, with so many starts that an effect of the size looked for would
have been seen, and it is not there. *Not comparable*: the setting here differs in a way that decides the matter.
Nothing else may be either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtr

# The least probability with which an experiment must see an effect before its absence counts.
LEAST_POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a claim about networks does not hold here.

    Attributes
    ----------
    verdict : str
        "not reproduced" or "not comparable".
    experiment : str
        What was run, in its full version.
    starts : int
        Independent starts (or draws) of it.
    sentence : str
        What came out, for a reader who knows nothing of it.
    effect : float or None
        The size of the effect that is looked for, in the units of the check: from it and the check's standard error
        follows the power. Needed for "not reproduced", unless ``power`` is given.
    power : float or None
        The probability of seeing it, where the check has no standard error.
    """

    verdict: Literal["not reproduced", "not comparable"]
    experiment: str
    starts: int
    sentence: str
    effect: float | None = None
    power: float | None = None

    def power_at(self, standard_error: float | None, flagged_from: float) -> float:
        """The probability that the effect, were it there, would be ``flagged_from`` standard errors from zero."""
        if self.power is not None:
            return self.power
        if self.effect is None or standard_error is None:
            return math.nan
        return float(ndtr(abs(self.effect) / standard_error - flagged_from))


FINDINGS: dict[str, Finding] = {
    "Nudged-SGD with factor 0.1 generalises better than SGD at equal training loss": Finding(
        verdict="not reproduced",
        experiment="pairs of runs with the same start and batches on four splits of the digits, each compared at the "
        "training loss with which the slower of the two ends",
        starts=200,
        effect=0.0025,
        sentence="It ends a fifth of a point better because it is ahead: stopped at the same training loss, both "
        "recognise the test images equally well.",
    ),
    "with noise in the pre-activations Q stays at chance in the network of large weights too": Finding(
        verdict="not comparable",
        experiment="the network of 100 000 units that see Q, its weights of deviation 3",
        starts=1,
        sentence="The theory leaves out what random weights say by themselves, which is as large as their deviation. "
        "It asks for a small one; here it is 3, and the random output hides what is learnt.",
    ),
    "from a start of the usual size, too, the sharpness comes to 2 over the learning rate (true labels)": Finding(
        verdict="not comparable",
        experiment="9000 steps of a tanh network of four layers on 256 digits with their true labels",
        starts=3,
        sentence="So few and easy images are fitted before the sharpness has risen, and with the loss the rise ends. "
        "With random labels among them, which take long to fit, it goes on to 2 over the learning rate.",
    ),
    "digits: the gradient covariance is better conditioned at the larger learning rate": Finding(
        verdict="not reproduced",
        experiment="the exact covariance of the gradients of 1024 images, trace over largest eigenvalue, along runs of "
        "equal time at two rates and two batch sizes",
        starts=10,
        effect=0.29,
        sentence="At the larger rate it is worse conditioned: the largest eigenvalue falls less than the others.",
    ),
    "largest gradient covariance along a run rises with the batch size": Finding(
        verdict="not reproduced",
        experiment="runs with cross-entropy, a fifth of the labels random, on batches of 8 and on all 1024 images",
        starts=8,
        effect=0.3,
        sentence="It is no smaller on small batches: at the larger rate the weights fluctuate there and meet larger "
        "gradients. Only at one training loss has the run on small batches the smaller covariance.",
    ),
    "largest gradient covariance along a run falls with the learning rate": Finding(
        verdict="not reproduced",
        experiment="runs with cross-entropy, a fifth of the labels random, on all 1024 images at the rates 0.1 and 0.4",
        starts=8,
        effect=0.3,
        sentence="It is the same at both: while the loss falls from 1.05 to 0.6 the covariance rises to its maximum, "
        "along the same way at either rate.",
    ),
    "at least five of six final losses of digits runs lie within their 90% intervals": Finding(
        verdict="not reproduced",
        experiment="a law fitted to two runs of a network on the digits, six other runs foretold",
        starts=6,
        power=0.89,
        sentence="Three of six are inside: the intervals are of the law, which is not quite the network's; decays from "
        "a plateau are foretold 0.015 to 0.018 too high.",
    ),
}
