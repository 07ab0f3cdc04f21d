"""What training minimizes: the mean square error, cross-entropy, and any other loss of torch. One file a kind."""

from whichmin.losses.loss import Array, Loss, Objective, mean_square, root_mean_square
from whichmin.losses.recognize import loss_of
from whichmin.losses.squared_error import MeanSquaredError

__all__ = ["Array", "Loss", "MeanSquaredError", "Objective", "loss_of", "mean_square", "root_mean_square"]
