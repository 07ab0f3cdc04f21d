"""Dense layers whose inputs no parameter moves: along a path their outputs are followed in place of their weights.

A first layer W sees the same inputs A, (n, in), wherever the other parameters are. Moving W by −Δᵀ A, as training
does, moves what it returns on inputs B by −B Aᵀ Δ: a product of size n in place of one of size in; the weight itself is
needed only when somebody asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from whichmin.tangent.products import product


@dataclass(eq=False)
class Seen:
    """What a layer returns on one set of inputs.

    Attributes:
        input: B, (m, in); None before the layer was called.
        output: B Wᵀ, (m, out); None where it is not known.
        gram: B Aᵀ, (m, n), A the training inputs; None before it is needed.
        refused: whether it was called with other inputs since.
    """

    input: Tensor | None = None
    output: Tensor | None = None
    gram: Tensor | None = None
    refused: bool = False

    def call(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """What the layer returns, a leaf of the graph but for the bias; None if it sees other inputs than before."""
        if self.input is None:
            self.input = input.detach()
        elif input.shape != self.input.shape or not torch.equal(input, self.input):
            self.refused = True
            return None
        if self.output is None:
            self.output = product(self.input, weight.detach())
        if not torch.is_grad_enabled():
            return self.output if bias is None else self.output + bias
        leaf = self.output.detach().requires_grad_()
        # A node of its own, so that the edge at the output is not that of a leaf.
        return leaf.view_as(leaf) if bias is None else leaf + bias


@dataclass(eq=False)
class Held:
    """A layer W whose outputs are followed.

    Attributes:
        train: on the training inputs A.
        test: on the inputs where outputs are looked at.
        pending: Δ, (n, out), by which the weight has still to move: W − Δᵀ A; None if it stands where it should.
    """

    train: Seen = field(default_factory=Seen)
    test: Seen = field(default_factory=Seen)
    pending: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """A, (n, in)."""
        assert self.train.input is not None
        return self.train.input

    def gram(self, seen: Seen) -> Tensor:
        """B Aᵀ, (m, n)."""
        if seen.gram is None:
            assert seen.input is not None
            seen.gram = product(seen.input, self.inputs)
        return seen.gram

    def move(self, step: Tensor, by: float) -> None:
        """W ← W + by·stepᵀ A, step (n, out)."""
        self.pending = step * -by if self.pending is None else torch.sub(self.pending, step, alpha=by)
        for seen in (self.train, self.test):
            if seen.output is not None:
                seen.output = torch.addmm(seen.output, self.gram(seen), step, alpha=by)

    def forget(self) -> None:
        """The weight, which stood where it should, was moved by somebody else."""
        self.train.output = self.test.output = None

    def settle(self, stored: Tensor) -> None:
        """Bring the weight, (out, in), to where it should stand."""
        if self.pending is not None:
            stored.sub_(product(self.pending.T, self.inputs.T))
            self.pending = None

    def memory(self) -> tuple[Tensor | None, ...]:
        """What :meth:`recall` puts back; tensors in it are never written into."""
        return self.pending, self.train.output, self.test.output

    def recall(self, memory: tuple[Tensor | None, ...]) -> None:
        """Back to where :meth:`memory` was taken."""
        self.pending, self.train.output, self.test.output = memory
