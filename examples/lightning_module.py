"""A Lightning module
==================

A Lightning module with cross-entropy, recorded by a callback and explained.

Needs lightning; in the documentation it is run where that is installed.
"""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import whichmin as wm
from whichmin.training.adapters import LightningRecorder


class Classifier(lightning.LightningModule):
    """Two layers, (n, 10) → (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(10, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 10) → (n, 3)."""
        return self.layers(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of a batch."""
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(epochs: int = 40) -> None:
    """Train, and print the test loss and the accuracy term by term."""
    torch.manual_seed(0)
    X, X_test = torch.randn(64, 10), torch.randn(200, 10)
    y, y_test = X[:, :3].argmax(1), X_test[:, :3].argmax(1)
    recorder = LightningRecorder(wm.Task(X, y, X_test, y_test, loss=torch.nn.CrossEntropyLoss()))
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[recorder], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Classifier(), DataLoader(TensorDataset(X, y), batch_size=16))
    print(wm.explain(recorder.recorder).test_error().round(4).to_string(index=False))


if __name__ == "__main__":
    main()
