"""Tables of OpenML, by their number, through scikit-learn, which keeps them in the data folder."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from whichmin.data.catalogue import FOLDER, data_folder
from whichmin.errors import DataError, OutputError
from whichmin.formats import OPENML

if TYPE_CHECKING:
    import pandas as pd


def read_openml(name: str) -> tuple[pd.DataFrame, str | None]:
    """A table of OpenML, fetched once.

    Args:
        name: ``openml:61``, the table of number 61.

    Returns:
        The table, and the column that is its target unless told.

    Raises:
        DataError: no number, no such table, a sparse one, or no network; the message says where it would be kept.
        OutputError: that place cannot be written to.
    """
    from sklearn.datasets import fetch_openml

    number = re.fullmatch(r"\d+", name[len(OPENML) :])
    if number is None:
        raise DataError(f"data is {name!r}; expected the number of a data set of openml.org, such as {OPENML}61.")
    root = data_folder()
    kept = root / "openml"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each try again
            found: Any = fetch_openml(
                data_id=int(number.group()), as_frame=True, parser="pandas", data_home=str(kept.parent)
            )
    except PermissionError as error:
        raise OutputError(f"cannot write to {kept}: {error.strerror}. Set {FOLDER} to a folder of yours.") from error
    except OSError as error:
        raise DataError(
            f"cannot fetch {name} from openml.org ({getattr(error, 'reason', error)}). It is kept in {kept}: copy that "
            "folder from a machine with a network, or save the table as .csv and pass that file."
        ) from error
    except ValueError as error:
        raise DataError(f"{name} cannot be used: {' '.join(str(error).split())}") from error
    targets = found.target_names or []
    return found.frame, targets[0] if len(targets) == 1 else None
