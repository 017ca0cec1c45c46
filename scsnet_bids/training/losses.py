"""What the training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

DICE_WEIGHT = 0.05


def soft_target_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compare predicted class probabilities p with area fractions t.

    Cross-entropy leads, so that p is a calibrated area fraction; a light soft Dice over the eight
    regions and the cord c (the sum of the eight) keeps the small classes alive::

        loss = 8 * mean over pixels of ( - sum_c t_c log p_c )
             + 0.05 * mean over the regions and the cord of ( 1 - 2 sum(p t) / sum(p^2 + t^2) )

    The sums of the Dice run over all pixels of the batch. This form of Dice (with squares) is at
    its best exactly where p = t, also for fractions; the one without squares is not.

    Parameters
    ----------
    logits : (n, 9, rows, columns)
    target : (n, 9, rows, columns) area fractions, sum 1 over the channels

    Returns
    -------
    () loss
    """
    log_probability = functional.log_softmax(logits, dim=1)
    cross_entropy = -(target * log_probability).sum(dim=1).mean()
    probability = log_probability.exp()[:, 1:]
    regions = soft_dice(probability, target[:, 1:])
    cord = soft_dice(probability.sum(1, keepdim=True), target[:, 1:].sum(1, keepdim=True))
    dice = (regions.sum() + cord.sum()) / (len(regions) + 1)
    return 8 * cross_entropy + DICE_WEIGHT * (1 - dice)


def soft_dice(first: Tensor, second: Tensor) -> Tensor:
    """Measure the overlap of soft masks per channel, over batch and pixels.

    Parameters
    ----------
    first, second : (n, c, rows, columns) in [0, 1]

    Returns
    -------
    (c,) in [0, 1]
    """
    overlap = (first * second).sum(dim=(0, 2, 3))
    return (2 * overlap + 1) / ((first**2 + second**2).sum(dim=(0, 2, 3)) + 1)
