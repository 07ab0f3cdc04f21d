"""Data sets as tasks: known by name and fetched, of OpenML, or files and folders of images, arrays and tables."""

from whichmin.data.cifar import read_cifar10
from whichmin.data.fetch import fetch
from whichmin.data.idx import read_idx
from whichmin.data.load import load

__all__ = ["fetch", "load", "read_cifar10", "read_idx"]
