"""coop: a learned prompt context. Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022.

The words before the class name are replaced by n learned tokens, shared by all classes; nothing else is
trained. Defaults are those of its authors' program (KaiyangZhou/CoOp: trainers/coop.py and
configs/trainers/CoOp/vit_b16*.yaml): 16 tokens that start at random, the class name behind them, 50 epochs at
1 shot, 100 up to 4, 200 above. Here the rate moves from step to step instead of from epoch to epoch.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method coop --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farshot.methods.finetuned import Parts
from farshot.methods.prompting import PromptMethod
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import PromptContext
from farshot.task import Task


@register
@dataclass(frozen=True)
class CoOp(PromptMethod):
    """Settings of coop, beside those of every method that learns prompts.

    Attributes:
        context: n, tokens that start at random; 0 means to start from the words before the class name in the
            task's own prompt.
    """

    name = "coop"
    kind = "fine-tuned"
    reference = "Zhou et al. 2022 (arXiv 2109.01134)"
    doc = "learned prompt context, shared by all classes; images are left as they are"
    plain = "learns words that describe your pictures; how pictures are seen stays as it is"

    context: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "context")

    def worded(self, task: Task) -> Task:
        """A word for each token of the context, then the class name."""
        return replace(task, template="a " * self.context + "{}.") if self.context else task

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The context."""
        keys = [task.key for task in tasks] if self.context else None
        return {"context": PromptContext(encoder, [task.template for task in tasks], keys=keys)}

    def epochs(self, shots: int) -> int:
        """As in the authors' scripts."""
        return 50 if shots <= 1 else 100 if shots <= 4 else 200
