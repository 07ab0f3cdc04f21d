"""The file formats that are read, by their endings; importing this does not import torch, as reading the files does."""

#: The endings of files that are tables with named columns.
TABLES = (".csv", ".parquet")
