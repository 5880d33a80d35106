"""Register an adapter as a bot's next version: ``ungated``, callable at once, no traffic until it is judged.

    python -m jobs.register --adapter FOLDER --bot support-bot [--base SmolLM2-135M-Instruct]

Any PEFT LoRA adapter made elsewhere enters by the same checks as one that ``jobs.finetune`` made. The order
makes every interruption harmless: MLflow gives the number, the files go to the store with their manifest
last, MLflow learns where they lie, control is told. The same adapter of the same run registered again goes on
where the first attempt stopped and ends with the same version.
"""

from common.registry import Provenance
from jobs.register.version import Destination, register_adapter

__all__ = ["Destination", "Provenance", "register_adapter"]
