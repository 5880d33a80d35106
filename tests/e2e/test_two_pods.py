"""One fine-tune over two pods, each with a card of its own, ends with the weights of one process."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import change
from tests.e2e.conftest import Onggi
from tests.e2e.fine_tunes import by_kubectl, ended, events, pods, weights
from tests.e2e.kube import until

pytestmark = pytest.mark.full
# Eight rows a step, however many share them; dropout is 0 unless asked for. The rate is the one that the file
# for two pods ships: Adam's first steps are about the rate in size, whatever the gradient's, so that where a
# gradient is mere rounding they differ by twice the rate (at 0.001 that makes 1.5e-5 of the weights' norm).
EXACT = {
    "FINETUNE_MAX_STEPS": "4",
    "FINETUNE_EPOCHS": "1",
    "FINETUNE_SEED": "3",
    "FINETUNE_PRECISION": "fp32",
    "FINETUNE_BATCH_SIZE": "4",
    "FINETUNE_GRADIENT_ACCUMULATION": "2",
    "FINETUNE_LEARNING_RATE": "0.0002",
    "FINETUNE_RANK": "8",
    "FINETUNE_MAX_LENGTH": "256",
}


@pytest.fixture(scope="module")
def two_cards(onggi: Onggi) -> Iterator[Onggi]:
    """The node has two cards, and there is no other node."""
    change("remove", "fleet")
    change("gpus", "2", "--card", "rtx5090")
    yield onggi
    change("gpus", "1", "--card", "rtx5090")


def trained(onggi: Onggi, name: str, bot: str) -> tuple[str, list[float]]:
    """The version that a file of k8s/jobs makes, and the loss of each step."""
    onggi.kube.apply(by_kubectl(onggi, name, bot, **EXACT))
    done = ended(onggi, f"ftjob-{onggi.kube.get('job', name)['metadata']['uid']}")
    assert done["status"] == "succeeded", done
    steps = [event["data"] for event in events(onggi, done["id"]) if event["type"] == "metrics"]
    return str(done["fine_tuned_model"]), [step["train_loss"] for step in steps]


def test_two_pods_with_torchrun_end_with_the_weights_of_one_process(two_cards: Onggi) -> None:
    kube = two_cards.kube
    for name in ("finetune-cpu", "finetune-multi-node"):
        kube.kubectl("delete", "job", name, "--ignore-not-found")
    together, losses = trained(two_cards, "finetune-multi-node", "pair-bot")
    trainers = pods(two_cards, "finetune-multi-node", "finetune")
    assert len(trainers) == 2
    assert all("nvidia.com/gpu" in str(pod["spec"]["containers"]) for pod in trainers)
    alone, expected_losses = trained(two_cards, "finetune-cpu", "alone-bot")
    assert len(losses) == int(EXACT["FINETUNE_MAX_STEPS"])
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    expected, found = (weights(two_cards, version) for version in (alone, together))
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    kube.kubectl("delete", "job", "finetune-cpu", "finetune-multi-node")
    until(lambda: not pods(two_cards, "finetune-multi-node", "finetune"), 120, "no trainer left")
