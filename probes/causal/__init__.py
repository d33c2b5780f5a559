"""Whether a label's heads matter to the model: the badge beside a label, from heads taken away. Never a confidence."""

from probes.causal.badges import CausalSettings, Claim, badges, with_badges
from probes.causal.tasks import Task, Tasks, impossible, task_of

__all__ = ["CausalSettings", "Claim", "Task", "Tasks", "badges", "impossible", "task_of", "with_badges"]
