"""A sequence classifier of Hugging Face
=====================================

A sequence classifier of Hugging Face with random weights, a padded batch, cross-entropy, and one's own loop.

Needs transformers; in the documentation it is run where that is installed.
"""

import torch
from transformers import BertConfig, BertForSequenceClassification

import whichmin as wm


def sentences(n: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Random token numbers, padded with 0 at the right, and whether token 5 is among them."""
    ids, lengths = torch.randint(1, 30, (n, 12)), torch.randint(4, 13, (n,))
    mask = (torch.arange(12) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}, (ids * mask == 5).any(1).long()


def main(steps: int = 100) -> None:
    """Train, and print the test loss and the accuracy term by term."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    model = BertForSequenceClassification(config).eval()
    (X, y), (X_test, y_test) = sentences(64), sentences(200)
    task = wm.Task(X, y, X_test, y_test, loss=torch.nn.CrossEntropyLoss())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(steps):
            optimizer.zero_grad()
            model(**X, labels=y).loss.backward()
            optimizer.step()
    print(recorder.reason)
    print(wm.explain(recorder).test_error().round(4).to_string(index=False))


if __name__ == "__main__":
    main()
