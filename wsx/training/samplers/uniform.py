"""Archs drawn independently."""

from wsx.spaces import Arch
from wsx.training.samplers._base import SAMPLERS, Sampler


@SAMPLERS.register("uniform")
class Uniform(Sampler):
    """Every path of every step is an independent, uniform draw under the measure.

    With one path: SPOS (1904.00420), P2's Random-NAS over encodings and its Random-A over distinct archs
    (2110.01154). With K paths and summed gradients: multi-path training of P1 (2010.08219).
    """

    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return ``n_paths`` archs."""
        rng = self.stream(step, rank)
        return [self.draw(rng) for _ in range(self.recipe.n_paths)]
