"""LoRA and QLoRA fine-tuning; ``python -m jobs.finetune`` runs it, and ``job.py`` tells its story."""
