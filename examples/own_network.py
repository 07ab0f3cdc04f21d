"""A transformer of one's own
==========================

A small transformer of one's own: which part of its test outputs comes from where, for two seeds.

Sequences of tokens 0…7; the target is the share of tokens that stand before the largest. Embeddings, attention, layer
normalization and tied use of a parameter are all found by themselves; nothing of the network has to be declared.
"""

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import whichmin as wm


class Transformer(nn.Module):
    """One block of attention and a feed-forward layer on sequences of token numbers, (n, length) → (n, 1)."""

    def __init__(self, tokens: int = 8, length: int = 6, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.randn(length, width))
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.forward_layer = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.out = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) → (n, 1)."""
        h = self.embedding(tokens) + self.position
        h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
        return self.out((h + self.forward_layer(h)).mean(dim=1))


def sequences(n: int) -> tuple[Tensor, Tensor]:
    """(n, 6) token numbers and their targets."""
    X = torch.randint(0, 8, (n, 6))
    return X, X.argmax(dim=1) / 5.0


def main(n: int = 24, until: float = 1e-2) -> None:
    """Predict, train and explain two seeds on the same data."""
    torch.manual_seed(0)
    task = wm.Task(*sequences(n), *sequences(100))
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = Transformer()
        kernel = wm.tangent_kernel(model, task.X)
        rate = 0.3 * wm.spectrum(kernel).max_lr
        optimizer = partial(torch.optim.SGD, lr=rate)
        predicted = wm.predict(model, task, optimizer, until=until, tol=0.05, relinearize="path")
        run = wm.train(model, task, optimizer, until=until)
        explained = wm.explain(run)
        assert torch.allclose(explained.total, run.test.double(), atol=1e-5)
        distance = (predicted.test - run.test).square().mean().sqrt()
        print(f"seed {seed}: {predicted.method}, {predicted.intervals} linearizations in {predicted.seconds:.1f} s,")
        print(f"  {run.steps} steps of training in {run.seconds:.1f} s, {distance:.2g} from the prediction")
        print(f"  which was estimated as {predicted.error:.2g}; the test outputs spread by {run.test.std():.2g}")
        print(explained.test_error().round(4).to_string(index=False))
        _, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        explained.plot(axes=axes)
    plt.show()


if __name__ == "__main__":
    main()
