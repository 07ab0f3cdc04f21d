"""Influences of training rows on test outputs by captum's TracInCP; run by ``benchmarks/leave_out.py --peer``.

    python influence.py FOLDER

FOLDER has ``asked.pt``: a model, X, y, X_test and states along its training. ``told.pt`` is written beside it: scores
(n_test, N) by method, ⟨∇f(x'), ∇ℓ_i⟩ summed over the states.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from captum.influence import TracInCP
from torch.utils.data import TensorDataset


class Squares(torch.nn.MSELoss):
    """The square error of each row, or their sum."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")


class Outputs(torch.nn.Module):
    """The output of each row in place of a loss of it."""

    reduction = "sum"

    def forward(self, outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return outputs.sum()


class Plain(torch.nn.Module):
    """A dense network of whichmin's, of torch's own layers, which are those that captum knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.activation = model.activation
        self.factors = [(layer.before, layer.after) for layer in model.layers]
        shapes = [layer.weight.shape for layer in model.layers]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(n_in, n_out, bias=False) for n_out, n_in in shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for i, (layer, (before, after)) in enumerate(zip(self.layers, self.factors, strict=True)):
            x = layer(x * before) * after
            x = x if i == len(self.layers) - 1 else self.activation(x)
        return x


def load(model: torch.nn.Module, path: str) -> float:
    model.load_state_dict(torch.load(path))
    return 1.0


def main() -> None:
    folder = Path(sys.argv[1])
    asked = torch.load(folder / "asked.pt", weights_only=False)
    model, paths = Plain(asked["model"]), []
    for i, state in enumerate(asked["states"]):
        torch.save(state, folder / f"state{i}.pt")
        paths.append(str(folder / f"state{i}.pt"))
    rows = TensorDataset(asked["X"], asked["y"])
    test = asked["X_test"], torch.zeros(len(asked["X_test"]), 1)
    told = {}
    for name, chosen in (("TracInCP, five checkpoints", paths), ("TracInCP, the last", paths[-1:])):
        found = TracInCP(
            model, rows, chosen, load, loss_fn=Squares(), test_loss_fn=Outputs(), batch_size=len(rows),
            sample_wise_grads_per_batch=True,
        )  # fmt: skip
        told[name] = found.influence(test)
    torch.save(told, folder / "told.pt")


if __name__ == "__main__":
    main()
