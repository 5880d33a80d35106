"""The loss: negative log-likelihood of the supervised tokens, and logits at their positions only.

A vocabulary of 49,152 makes the output layer a fifth of SmolLM2's work and most of its activation memory;
in a chat row more than half of the positions are not supervised, so they are dropped before that layer.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from common.chat import Example
from jobs.finetune.batches import IGNORED, collate


class SupervisedHead:
    """Makes a causal language model compute logits only where it is told to.

    It hooks the output layer's input, so whatever the architecture does to logits afterwards (Gemma's
    soft-capping, Cohere's scale) still happens, and calling the model still goes through its wrappers.
    """

    def __init__(self, model: Any) -> None:
        self._positions: Any = None
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def logits(self, model: Any, ids: Any, positions: Any) -> Any:
        """Logits of shape (n, vocabulary) at the n true entries of ``positions``, (rows, length)."""
        self._positions = positions
        try:
            return model(input_ids=ids, use_cache=False).logits
        finally:
            self._positions = None

    def _select(self, _: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._positions is None:
            return None
        hidden, *rest = inputs
        return (hidden[self._positions], *rest)


def summed_nll(model: Any, head: SupervisedHead, ids: Any, targets: Any) -> Any:
    """Sum of -log p over the supervised tokens, in nats: a float32 scalar that can be differentiated."""
    from torch.nn.functional import cross_entropy

    positions = targets != IGNORED
    logits = head.logits(model, ids, positions)
    return cross_entropy(logits.float(), targets[positions], reduction="sum")


def total_nll(
    model: Any, head: SupervisedHead, batches: Iterable[Sequence[Example]], *, pad_id: int
) -> float:
    """Sum of -log p over the supervised tokens of ``batches``, in nats, with dropout off."""
    import torch

    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in batches:
            ids, targets = collate(batch, pad_id)
            total += summed_nll(model, head, ids.to(device), targets.to(device)).item()
    model.train(was_training)
    return total
