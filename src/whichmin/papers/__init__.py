"""The figures of the papers behind whichmin, made again, with a verdict on each of their claims.

A module a paper, a function a figure; what a figure claims (:mod:`whichmin.papers.claims`) was written down before it
was measured, apart from how it is drawn. :func:`whichmin.papers.reproduce.reproduce` runs them.
"""
