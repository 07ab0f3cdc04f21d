"""The kinds of data that are told apart by their name; importing this does not import torch, as reading them does."""

#: The endings of files that are tables with named columns.
TABLES = (".csv", ".parquet")

#: What a table of OpenML begins with: ``openml:61`` is the one of number 61.
OPENML = "openml:"


def is_table(name: str) -> bool:
    """Whether data of that name are a table with named columns."""
    return name.lower().endswith(TABLES) or name.lower().startswith(OPENML)
