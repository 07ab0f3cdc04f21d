"""Data sets as tasks: scikit-learn's digits, IDX files (MNIST, Fashion-MNIST), CIFAR-10, ``.npz`` files, tables."""

from whichmin.data.cifar import read_cifar10
from whichmin.data.idx import read_idx
from whichmin.data.load import load

__all__ = ["load", "read_cifar10", "read_idx"]
