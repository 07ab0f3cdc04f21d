"""The version, read by the build and by ``whichmin --version`` without importing anything else."""

__version__ = "0.1.0"
