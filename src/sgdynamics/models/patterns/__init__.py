r"""The two-pattern model of Li, Wei and Ma: why a large initial learning rate can generalise better.

Every example carries a pattern :math:`P`, a pattern :math:`Q`, or both. :math:`P` (two half-Gaussians) is fitted by a
linear rule but needs many examples to generalise; :math:`Q` (three rays) needs few examples but a kink of the network
between two nearby directions. A small learning rate learns :math:`Q` first and then has only the few P-only examples
left to learn :math:`P` from; a large one moves the activation pattern so much that the kink cannot form, learns
:math:`P` from all examples, and learns :math:`Q` after annealing.

===========================  =======================================================================================
:class:`TwoPatternData`      the distribution, and samples of it
:class:`TwoPatternSample`    examples: first pattern as an array, second pattern as ray and amplitude
:class:`TwoPatternTraining`  both learning rates, weight decay, noise, and the three ``ALGORITHMS``
:class:`TwoPatternSetting`   data, training and number of examples: the configurations that are studied
:class:`TwoBlockNetwork`     the ReLU network whose units see one pattern each: output, loss, gradient, step
===========================  =======================================================================================
"""

from sgdynamics.models.patterns.data import TwoPatternData, TwoPatternSample
from sgdynamics.models.patterns.network import TwoBlockNetwork
from sgdynamics.models.patterns.setting import TwoPatternSetting
from sgdynamics.models.patterns.training import ALGORITHMS, TwoPatternTraining

__all__ = [
    "ALGORITHMS",
    "SOURCES",
    "TwoBlockNetwork",
    "TwoPatternData",
    "TwoPatternSample",
    "TwoPatternSetting",
    "TwoPatternTraining",
]

SOURCES = ("li2019",)
