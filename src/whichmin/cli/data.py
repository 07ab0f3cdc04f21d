"""``whichmin data``: which data sets are known, fetching them, and whether what is there is what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from whichmin.cli.tables import print_json

app = App(name="data", help="Which data sets are known and there; fetch and check them.")

Folder = Annotated[
    Path | None,
    Parameter(
        help="Where the data sets' folders are. [default: what WHICHMIN_DATA says, or the user's cache]",
        show_default=False,
    ),
]
Json = Annotated[bool, Parameter(help="One JSON object instead of the table.", negative="", show_default=False)]


@app.command(name="list")
def list_(*, folder: Folder = None, json: Json = False) -> int:
    """The data sets that are known by name, and where they are."""
    from whichmin.data.catalogue import CATALOGUE, data_folder, find

    root = data_folder() if folder is None else folder
    places = {name: find(known, root) for name, known in CATALOGUE.items()}
    if json:
        print_json({"folder": str(root), "sets": {name: place and str(place) for name, place in places.items()}})
        return 0
    print("digits: handwritten digits, 1,797 images of 8×8; they come with scikit-learn")
    for name, known in CATALOGUE.items():
        print(f"{name}: {known.about}; {places[name] or f'not there: whichmin data fetch {name}'}")
    print("openml:ID: the table of that number of openml.org, such as openml:61")
    return 0


@app.command
def fetch(
    name: Annotated[str, Parameter(help="mnist, fashion-mnist or cifar-10; or openml: and a number.")],
    *,
    folder: Folder = None,
    mirror: Annotated[
        tuple[str, ...], Parameter(help="An address to ask before the known ones.", negative="", show_default=False)
    ] = (),
) -> int:
    """Fetch a data set; what is there is not fetched again, and what was cut off is gone on from."""
    from whichmin.errors import ConfigError
    from whichmin.formats import OPENML

    if name.lower().startswith(OPENML):
        from whichmin.data.openml import read_openml

        if folder is not None or mirror:
            raise ConfigError("tables come from openml.org into WHICHMIN_DATA: leave --folder and --mirror out.")
        frame, target = read_openml(name)
        print(f"{name}: {len(frame)} rows, the columns {', '.join(map(str, frame.columns))}; target {target}")
        return 0
    from whichmin.data.fetch import fetch as fetch_set

    print(fetch_set(name, folder, mirrors=mirror, progress=True))
    return 0


@app.command
def check(*names: str, folder: Folder = None, json: Json = False) -> int:
    """Hash and read every file of the named data sets, or of all that are there.

    Exit code 1 if a file is damaged, or one of a named set is missing.
    """
    from whichmin.data.catalogue import CATALOGUE, data_folder, find
    from whichmin.data.check import check as look_at
    from whichmin.data.fetch import named

    root = data_folder() if folder is None else folder
    asked = [named(name) for name in names] or [known for known in CATALOGUE.values() if find(known, root)]
    states = {known.name: look_at(known, root) for known in asked}
    found = [state for files in states.values() for state in files]
    if json:
        print_json(
            {"folder": str(root), "sets": {n: [vars(s) | {"path": str(s.path)} for s in f] for n, f in states.items()}}
        )
    elif found:
        rows = [[s.state, f"{name}: {s.path.name}", s.note] for name, files in states.items() for s in files]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        for state, file, note in rows:
            print(f"{state.ljust(widths[0])}  {file.ljust(widths[1])}  {note}".rstrip())
    else:
        print(f"no data sets in {root}; whichmin data list says which there are.")
    missing = bool(names) and any(state.state == "missing" for state in found)
    return int(missing or any(state.state == "damaged" for state in found))
