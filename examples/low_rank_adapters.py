"""Low-rank adapters
=================

Low-rank adapters of peft on a sequence classifier of Hugging Face: predicted, trained and explained.

Needs transformers and peft; in the documentation it is run where these are installed.
"""

from functools import partial

import torch
from peft import LoraConfig, get_peft_model
from sequence_classifier import sentences
from transformers import BertConfig, BertForSequenceClassification

import whichmin as wm


def main(steps: int = 60) -> None:
    """Print where the adapters are predicted to end, and what is in the test loss of the trained ones."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    adapters = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
    model = get_peft_model(BertForSequenceClassification(config), adapters).eval()
    (X, y), (X_test, y_test) = sentences(64), sentences(200)
    task = wm.Task(X, y, X_test, y_test, loss=torch.nn.CrossEntropyLoss())
    adam = partial(torch.optim.AdamW, lr=3e-3)
    predicted = wm.predict(model, task, adam, steps=steps, batch_size=16)
    print(f"predicted by {predicted.method}: test loss {task.test_loss(predicted.test):.4f}")
    explained = wm.explain(wm.train(model, task, adam, until=None, steps=steps, batch_size=16))
    print(explained.test_error().round(4).to_string(index=False))


if __name__ == "__main__":
    main()
