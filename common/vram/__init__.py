"""The VRAM planner: what a fine-tune or a server takes of a card, by part, and what would fit instead.

plan = requirement(config, shape_of(config.base, config.model_cache_dir))
plan.fits(32607 * 2**20), plan.sentence, plan.ways(16311 * 2**20)
"""

from common.vram.plan import Plan, gib
from common.vram.serving import Serving, plan_serving
from common.vram.shape import Shape, from_folder, known, shape_of
from common.vram.training import Training, batch_for, of_config, plan_training, requirement

__all__ = [
    "Plan",
    "Serving",
    "Shape",
    "Training",
    "batch_for",
    "from_folder",
    "gib",
    "known",
    "of_config",
    "plan_serving",
    "plan_training",
    "requirement",
    "shape_of",
]
