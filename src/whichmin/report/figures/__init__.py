"""The figures of reports, one file each."""
