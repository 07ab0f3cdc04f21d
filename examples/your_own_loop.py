"""A training loop of one's own
============================

A training loop of one's own, watched: what its network's test error is made of.

Mini-batches, Adam, a learning rate that falls, gradients that are clipped: the loop stays as it is. The recorder sees
it through the optimizer's step hooks, and ``explain`` takes apart the network at which it ended.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import whichmin as wm


class Network(nn.Module):
    """A wide layer with dropout, (n, 10) → (n, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(10, width)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 10) → (n, 1)."""
        return self.out(self.dropout(torch.relu(self.hidden(x))))


def points(n: int) -> tuple[Tensor, Tensor]:
    """Random points and the product of their first two coordinates."""
    X = torch.randn(n, 10)
    return X, X[:, :1] * X[:, 1:2]


def main(width: int = 1024, epochs: int = 300) -> None:
    """Train, and print the test error term by term."""
    torch.manual_seed(0)
    task = wm.Task(*points(60), *points(200))
    model = Network(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    batches = DataLoader(TensorDataset(task.X, task.y), batch_size=20, shuffle=True)

    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(epochs):
            for x, y in batches:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(x), y).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            scheduler.step()

    print(recorder.reason)
    for snapshot in recorder.snapshots[::4]:
        print(f"  step {snapshot.step:4}: training loss {snapshot.loss:.2g}, lr {snapshot.lr[0]:.2g}")
    explained = wm.explain(recorder)
    model.eval()
    assert torch.allclose(explained.total, model(task.X_test).double(), atol=1e-5)
    print(explained.test_error().round(4).to_string(index=False))
    _, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    explained.plot(axes=axes)
    plt.show()


if __name__ == "__main__":
    main()
