"""Dense layers whose inputs no parameter moves: their outputs are followed in place of their weights.

A first layer W sees the same inputs A, (n, in), wherever the other parameters are. Moving W by −Δᵀ A, as training
does, moves what it returns on inputs B by −B Aᵀ Δ: a product of size n in place of one of size in; the weight itself is
needed only when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from whichmin.inputs import AnyInputs
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.products import product

#: What a layer remembers of where it stood: the pending move, the outputs on the training and on the test inputs.
Memory = tuple[Tensor | None, Tensor | None, Tensor | None]
#: That of a layer whose weight stands where it should and whose outputs there are not known.
NOTHING: Memory = (None, None, None)


@dataclass(eq=False)
class CachedCall:
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

    def only(self, rows: Tensor | slice, train: Tensor) -> CachedCall:
        """What is known of it on some rows of its inputs, and on some of the training inputs."""
        parts = [None if t is None else t[rows] for t in (self.input, self.output, self.gram)]
        return CachedCall(parts[0], parts[1], None if parts[2] is None else parts[2][:, train])

    def __call__(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
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
class CachedLayer:
    """A layer W whose outputs are followed.

    Attributes:
        train: on the training inputs A.
        test: on the inputs where test outputs are wanted.
        pending: Δ, (n, out), by which the weight has still to move: W − Δᵀ A; None if it stands where it should.
    """

    train: CachedCall = field(default_factory=CachedCall)
    test: CachedCall = field(default_factory=CachedCall)
    pending: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """A, (n, in)."""
        assert self.train.input is not None
        return self.train.input

    @property
    def is_followed(self) -> bool:
        """Whether its outputs are followed: of many rows that takes longer than to move the weight itself.

        A step is n² products of inner vectors in place of 2·n·in, the weight's and those of its outputs.
        """
        return len(self.inputs) <= 2 * self.inputs.shape[1]

    def only(self, rows: Tensor, n: int) -> CachedLayer:
        """The layer on some of n training rows, where it stood; of one that sees other rows nothing is known."""
        assert self.pending is None
        if self.train.input is None or len(self.train.input) != n:
            return CachedLayer()
        return CachedLayer(self.train.only(rows, rows), self.test.only(slice(None), rows))

    def gram(self, call: CachedCall) -> Tensor:
        """B Aᵀ, (m, n)."""
        if call.gram is None:
            assert call.input is not None
            call.gram = product(call.input, self.inputs)
        return call.gram

    def move(self, step: Tensor, by: float) -> None:
        """W ← W + by·stepᵀ A, step (n, out)."""
        self.pending = step * -by if self.pending is None else torch.sub(self.pending, step, alpha=by)
        for call in (self.train, self.test):
            if call.output is not None:
                call.output = torch.addmm(call.output, self.gram(call), step, alpha=by)

    def moved(self, step: Tensor) -> Tensor:
        """What :meth:`move` adds to the weight, stepᵀ A, (out, in)."""
        rows = step.any(1).nonzero()[:, 0]
        return product(step[rows].T, self.inputs[rows].T)

    def forget(self) -> None:
        """The weight, which stood where it should, was moved by somebody else."""
        self.train.output = self.test.output = None

    def settle(self, stored: Tensor) -> None:
        """Bring the weight, (out, in), to where it should stand."""
        if self.pending is not None:
            stored.sub_(product(self.pending.T, self.inputs.T))
            self.pending = None

    def memory(self) -> Memory:
        """What :meth:`recall` puts back; tensors in it are never written into."""
        return self.pending, self.train.output, self.test.output

    def recall(self, memory: Memory) -> None:
        """Back to where :meth:`memory` was taken."""
        self.pending, self.train.output, self.test.output = memory


class CachedLayers:
    """All cached layers of a network.

    Args:
        parameters: the network's trainable parameters; the weights of cached layers may lag behind.
        train: the training inputs.
        test: the inputs where test outputs are wanted; they may be the same object.
        names: the weights of the layers.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], train: AnyInputs, test: AnyInputs, names: Iterable[str] = ()
    ) -> None:
        self._parameters, self._train, self._test = parameters, train, test
        self._layers = {name: CachedLayer() for name in names}

    def __contains__(self, name: str) -> bool:
        return name in self._layers

    def __getitem__(self, name: str) -> CachedLayer:
        return self._layers[name]

    def calls(self, X: AnyInputs) -> dict[str, CachedCall]:
        """What the layers return on X by name; none for inputs of somebody else, for which weights are settled."""
        if X is not self._train and X is not self._test:
            self.settle()
            return {}
        calls = {n: layer.train if X is self._train else layer.test for n, layer in self._layers.items()}
        for name, call in calls.items():
            if call.output is None:
                self._settle(name)
        return calls

    def drop_refused(self, calls: Mapping[str, CachedCall]) -> bool:
        """Give up layers that met other inputs than before (they change behind autograd's back); whether there were."""
        refused = [name for name, call in calls.items() if call.refused]
        for name in refused:
            self._settle(name)
            del self._layers[name]
        return bool(refused)

    def share(self, grams: Grams) -> None:
        """Tell what is known of products of inputs."""
        for layer in self._layers.values():
            for call in (layer.train, layer.test):
                if call.input is not None:
                    grams.know(call.input, layer.inputs, layer.gram(call))

    def only(self, rows: Tensor, train: AnyInputs, test: AnyInputs) -> CachedLayers:
        """The layers on some rows of the training inputs, where they stand.

        Args:
            rows: their numbers.
            train: the training inputs of these rows.
            test: the inputs where test outputs are wanted, as they were.
        """
        self.settle()
        made = CachedLayers(self._parameters, train, test)
        made._layers = {name: layer.only(rows, len(self._train)) for name, layer in self._layers.items()}
        return made

    def settle(self) -> None:
        """Bring the weights to where they should stand."""
        for name in self._layers:
            self._settle(name)

    def hand_over(self, name: str) -> None:
        """Settle a parameter that is about to be moved by somebody else."""
        if name in self._layers:
            self._settle(name)
            self._layers[name].forget()

    def release(self) -> bool:
        """Follow no outputs any more; whether any were."""
        self.settle()
        any_followed = bool(self._layers)
        self._layers.clear()
        return any_followed

    def memory(self) -> dict[str, Memory]:
        """What :meth:`recall` puts back."""
        return {name: layer.memory() for name, layer in self._layers.items()}

    def nothing(self) -> dict[str, Memory]:
        """The memory of layers whose weights stand where they should and whose outputs there are not known."""
        return dict.fromkeys(self._layers, NOTHING)

    def recall(self, memory: Mapping[str, Memory]) -> None:
        """Back to where :meth:`memory` was taken; the weights are put back by the caller.

        Layers that were not cached there stand where their weights do.
        """
        for name, layer in self._layers.items():
            layer.recall(memory.get(name, NOTHING))

    def _settle(self, name: str) -> None:
        self._layers[name].settle(self._parameters[name].data)
