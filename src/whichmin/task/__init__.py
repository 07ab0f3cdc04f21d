"""A task: what the network is trained on and where its predictions are looked at."""

from whichmin.task.task import Task, Until

__all__ = ["Task", "Until"]
