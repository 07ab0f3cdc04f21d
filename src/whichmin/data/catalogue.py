"""The data sets that are known by name: their files with published hashes, where to fetch them, and where they lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: The environment variable that says where the folders of the named data sets are.
FOLDER = "WHICHMIN_DATA"


@dataclass(frozen=True)
class PublishedFile:
    """A file as its authors published it.

    Attributes:
        name: such as ``train-images-idx3-ubyte.gz``.
        sha256: its hash, hexadecimal.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """A data set that is known by name.

    Attributes:
        name: what the command line and :func:`whichmin.data.load` call it.
        about: a line on what it is.
        folders: the names that its folder may have; a new one gets the first.
        files: what is fetched.
        mirrors: the places to fetch from, in order, each ending in a slash.
        unpacked: what the files hold, where they are archives.
    """

    name: str
    about: str
    folders: tuple[str, ...]
    files: tuple[PublishedFile, ...]
    mirrors: tuple[str, ...]
    unpacked: tuple[str, ...] = ()

    @property
    def contents(self) -> tuple[str, ...]:
        """The names of the files that its folder should hold."""
        return self.unpacked or tuple(file.name for file in self.files)


def _idx(train_images: str, train_labels: str, images: str, labels: str) -> tuple[PublishedFile, ...]:
    """The four files of a data set of the shape of MNIST, by their hashes."""
    hashes = {"train-images-idx3": train_images, "train-labels-idx1": train_labels}
    hashes |= {"t10k-images-idx3": images, "t10k-labels-idx1": labels}
    return tuple(PublishedFile(f"{name}-ubyte.gz", sha256) for name, sha256 in hashes.items())


#: All of them, by name. scikit-learn's digits need no files.
CATALOGUE = {
    known.name: known
    for known in (
        DataSet(
            "mnist",
            "handwritten digits, 60,000 + 10,000 images of 28×28",
            ("mnist", "MNIST"),
            _idx(
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
        DataSet(
            "fashion-mnist",
            "articles of clothing, 60,000 + 10,000 images of 28×28",
            ("fashion-mnist", "FashionMNIST"),
            _idx(
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
        ),
        DataSet(
            "cifar-10",
            "photographs, 50,000 + 10,000 images of 3×32×32",
            ("cifar-10-batches-bin", "cifar-10"),
            (
                PublishedFile(
                    "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
                ),
            ),
            (
                "https://www.cs.toronto.edu/~kriz/",
                "https://cave.cs.toronto.edu/kriz/",
                "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            ),
            (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin", "batches.meta.txt"),
        ),
    )
}


def data_folder() -> Path:
    """Where the folders of data sets are: what WHICHMIN_DATA says, or else ``whichmin`` in the user's cache."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "whichmin"


def find(known: DataSet, root: Path | None = None) -> Path | None:
    """The folder of a data set within ``root``, which is :func:`data_folder` unless told; None where there is none."""
    root = data_folder() if root is None else root
    return next((root / folder for folder in known.folders if (root / folder).is_dir()), None)


def by_hand(known: DataSet, folder: Path) -> str:
    """How to get a data set where there is no network."""
    names, into = ", ".join(file.name for file in known.files), str(folder)
    if known.unpacked:
        into = f"{folder.parent}, unpack it there (tar xf {known.files[0].name}), so that {folder} holds its files"
    return f"put {names} into {into}; from {known.mirrors[0]}"
