"""Inputs of a model: one tensor, or several by name or by position, with rows along axis 0 of each.

A single tensor stays a plain ``Tensor``. Several, or one whose output is picked, are :class:`Inputs`, which is indexed,
counted, copied and moved like a tensor, so that only what is here knows the difference.
"""

from whichmin.inputs.call import accepted, called
from whichmin.inputs.inputs import (
    AnyInputs,
    Inputs,
    InputsIfKnown,
    InputsLike,
    argument_names,
    described,
    from_tree,
    in_types_of,
    is_floating,
    mapped,
    moved,
    named_tensors,
    only_tensor,
    output_of,
    single_tensor,
    tensors_of,
    tree_of,
)
from whichmin.inputs.output import Output, picked
from whichmin.inputs.read import as_inputs, check_inputs, pair_of_inputs
from whichmin.inputs.rows import concatenated, of_batch, row_bytes, row_groups

__all__ = [
    "AnyInputs",
    "Inputs",
    "InputsIfKnown",
    "InputsLike",
    "Output",
    "accepted",
    "argument_names",
    "as_inputs",
    "called",
    "check_inputs",
    "concatenated",
    "described",
    "from_tree",
    "in_types_of",
    "is_floating",
    "mapped",
    "moved",
    "named_tensors",
    "of_batch",
    "only_tensor",
    "output_of",
    "pair_of_inputs",
    "picked",
    "row_bytes",
    "row_groups",
    "single_tensor",
    "tensors_of",
    "tree_of",
]
