"""The fit of the patch head's members, all at once, on patches of a few images at a time."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from defectloc.model.bags import Bags
from defectloc.model.bank_labels import NORMAL, RELIABLE, bank_reliability, labels_by_bank
from defectloc.model.kept_patches import UNKNOWN, KeptPatches

# Of fewer defective images none can be left out.
FEWEST_SPLIT = 2
# Own log-odds above which a patch of a defective image is labelled a defect, and below which it is labelled good.
SURE_DEFECT, SURE_GOOD = 0.0, -2.0
# Standard deviations of good patches' distances to a reliable bank which a patch that the head itself calls a defect
# must be beyond to be labelled one.
LEAST_ANOMALOUS = 1.5
# Images that are labelled at a time.
LABELLED = 8

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """How the members are fitted; chosen on validation splits (docs/experiments/patch_head.md)."""

    hidden: int = 128
    dropout: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    steps: int = 300
    # Parts of the steps; at the beginning of all but the first, patches of defective images are labelled anew; where
    # no bank labels them at first, of all but the first two.
    rounds: int = 3
    # Good images of a step, and as many defective ones.
    images: int = 6
    # Patches whose mean log-odds are a bag's, and the weight of the bags' loss.
    witnesses: int = 5
    bag_weight: float = 1.0
    # Where no bank labels patches at first, a bag has this share of its patches as witnesses, and fewer with each step,
    # so that the network finds what differs on the whole before it trusts the few that happen to be highest.
    first_witnesses: float = 1 / 3
    # Part of the steps after which there are no more than `witnesses`.
    narrowing: float = 0.7
    # Patches drawn of each good image, and of each label of a defective one.
    drawn_good: int = 64
    drawn_labelled: int = 32
    # What a defective image shares with good ones is no defect: that keeps the background out.
    good_of_defective_weight: float = 0.5
    # Noise on good patches, up to so many standard deviations, and the weight of its loss.
    noise: float = 2.0
    noise_weight: float = 0.1
    # Bytes of patches that are kept.
    budget: int = 2**30


def n_witnesses(n_patches: int, settings: Settings, done: float) -> int:
    """Count a bag's witnesses when a part of the steps is `done`, falling geometrically to the fewest."""
    fewest = min(settings.witnesses, n_patches)
    first = max(fewest, settings.first_witnesses * n_patches)
    return max(fewest, round(first * (fewest / first) ** min(1.0, done / settings.narrowing)))


def train(
    bags: Bags,
    truth: NDArray[np.bool_],
    members: NDArray[np.bool_],
    seed: int,
    device: str,
    settings: Settings,
    distances: NDArray | list[NDArray] | None = None,
    known: NDArray[np.int8] | list[NDArray] | None = None,
) -> Weights:
    """Fit M networks on images `(N,)`, of which `members` `(M, N)` says which each may learn from.

    `distances` `(N, h, w)` are the images' distances to the bank (see `bank_reliability`); where they are not reliable,
    they are not used. `known` `(N, h, w)` are labels by a person (see `PatchHead.fit`), which go before all others.
    Where `settings.budget` does not hold all patches, a share of each photograph's is kept: of the largest distances at
    first, reliable or not, and from the second round on of the largest log-odds by any member, beside random ones (see
    `Bags.read`). Every sum is over the members, which share nothing but the drawing of random numbers.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    reliability = 0.0 if distances is None else bank_reliability(distances, truth)
    reliable = distances if reliability > RELIABLE else None
    place = (truth, members, seed, device, settings.budget, reliable, known)
    good, defective = bags.read(*place, distances)
    is_redrawn = bags.is_redrawn(good.patches.shape[1])
    weights = _start(good.patches.shape[-1], len(members), settings.hidden, seed, device)
    n_drawn = settings.images * (1 if defective is None else 2)
    values = torch.empty((len(members), n_drawn, *good.patches.shape[1:]), device=device)
    optimizer = torch.optim.AdamW(weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    is_unguided = defective is not None and defective.distances is None
    steps = max(1, settings.steps // settings.rounds)
    for number in range(settings.rounds):
        if number > 0 and is_redrawn:
            del good, defective
            good, defective = bags.read(*place, partial(_highest, weights), number)
        labels, label_weight = None, 1.0
        if defective is not None:
            labels, label_weight = _labels_of_round(number, weights, defective, reliability, is_unguided)
        for step in range(steps):
            done = (number * steps + step) / (settings.rounds * steps)
            k = n_witnesses(values.shape[2], settings, done if is_unguided else 1.0)
            optimizer.zero_grad(set_to_none=True)
            _loss(weights, good, defective, values, labels, label_weight, k, settings, generator).backward()
            optimizer.step()
    return {name: value.detach() for name, value in weights.items()}


def _start(channels: int, n_members: int, hidden: int, seed: int, device: str) -> Weights:
    """Draw the same start for all members, on the CPU, since every device draws other numbers."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, inputs: int) -> torch.Tensor:
        one = (2 * torch.rand(1, *shape, generator=generator) - 1) / inputs**0.5
        return one.repeat(n_members, 1, 1).to(device).requires_grad_()

    return {
        "hidden_weight": uniform(channels, hidden, inputs=channels),
        "hidden_bias": uniform(1, hidden, inputs=channels),
        "output_weight": uniform(hidden, 1, inputs=hidden),
        "output_bias": torch.zeros(n_members, 1, 1, device=device, requires_grad=True),
    }


def _log_odds(weights: Weights, vectors: torch.Tensor) -> torch.Tensor:
    """Give each member's log-odds `(M, n)` of its own vectors `(M, n, C)`."""
    hidden = F.gelu(torch.baddbmm(weights["hidden_bias"], vectors, weights["hidden_weight"]))
    return torch.baddbmm(weights["output_bias"], hidden, weights["output_weight"])[..., 0]


def _highest(weights: Weights, vectors: torch.Tensor) -> torch.Tensor:
    """Give the highest log-odds `(n,)` that a member gives patches `(n, C)`."""
    with torch.no_grad():
        return _log_odds(weights, vectors.float().expand(len(weights["output_bias"]), -1, -1)).amax(0)


def _labels_of_round(
    number: int, weights: Weights, defective: KeptPatches, reliability: float, is_unguided: bool
) -> tuple[torch.Tensor | None, float]:
    """Give labels of patches of defective images `(M, n, P)` (see `_labels`), and the weight of their loss.

    None where nobody labels them: while witnesses are many, a member's log-odds tell little of single patches.
    """
    n_members, labels, weight = len(weights["output_bias"]), None, 1.0
    if number > (1 if is_unguided else 0):
        labels = _labels(weights, defective)
    elif defective.distances is not None:
        labels, weight = labels_by_bank(defective.distances, n_members), reliability
    if defective.known is not None:
        labels = _with_known(labels, defective.known, n_members)
    return labels, weight


def _labels(weights: Weights, defective: KeptPatches) -> torch.Tensor:
    """Label patches of defective images by each member's own log-odds: `(M, n, P)`, 1 defect, 0 good, -1 neither."""
    n_members, found = len(weights["output_bias"]), []
    with torch.no_grad():
        for some in defective.patches.split(LABELLED):
            vectors = some.float().flatten(0, 1).expand(n_members, -1, -1)
            found.append(_log_odds(weights, vectors).unflatten(1, some.shape[:2]))
    log_odds = torch.cat(found, 1)
    is_defect, is_good = log_odds > SURE_DEFECT, log_odds <= SURE_GOOD
    if defective.distances is not None:
        is_defect = is_defect & (defective.distances > LEAST_ANOMALOUS)
        is_good = is_good & (defective.distances <= NORMAL)
    return is_defect.to(torch.int8) - (~is_defect & ~is_good).to(torch.int8)


def _with_known(labels: torch.Tensor | None, known: torch.Tensor, n_members: int) -> torch.Tensor:
    """Put the labels `(n, P)` that a person has given before those of each member, `(M, n, P)` (see `_labels`)."""
    if labels is None:
        labels = torch.full((n_members, *known.shape), -1, dtype=torch.int8, device=known.device)
    return torch.where(known != UNKNOWN, known, labels)


def _of(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Give the patches `(M, n * k, C)` of images `(M, n, P, C)` at places `(M, n, k)`."""
    return values.gather(2, index[..., None].expand(-1, -1, -1, values.shape[-1])).flatten(1, 2)


def _dropped(vectors: torch.Tensor, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Set a share of the features to zero, and scale the rest up."""
    keep = torch.rand(vectors.shape, generator=generator, device=vectors.device) >= rate
    return vectors * keep / (1 - rate)


def _loss(
    weights: Weights,
    good: KeptPatches,
    defective: KeptPatches | None,
    values: torch.Tensor,
    labels: torch.Tensor | None,
    label_weight: float,
    k: int,
    settings: Settings,
    generator: torch.Generator,
) -> torch.Tensor:
    """Sum the members' losses on a few images, which are drawn into `values` `(M, n, P, C)`; of each k are witnesses.

    The witnesses of all patches are found without gradients; only they and some drawn patches are learned from, which
    takes half the time of learning from all.
    """
    n, n_members = settings.images, len(good.allowed)
    device = good.patches.device
    good.draw(values[:, :n], generator)
    member = torch.arange(n_members, device=device)[:, None]
    if defective is not None:
        drawn = defective.draw(values[:, n:], generator)
        has = defective.allowed.any(1).float()
    n_patches = values.shape[2]
    with torch.no_grad():
        log_odds = _log_odds(weights, values.flatten(1, 2)).unflatten(1, values.shape[1:3])
        witnesses = log_odds.topk(k, -1).indices
    places = torch.randint(n_patches, (n_members, n, settings.drawn_good), generator=generator, device=device)
    of_good = _of(values[:, :n], places)
    strength = torch.rand((*of_good.shape[:2], 1), generator=generator, device=device)
    noise = torch.randn(of_good.shape, generator=generator, device=device)
    parts = [_of(values, witnesses), of_good, of_good + settings.noise * strength * noise]
    masks = []
    if defective is not None and labels is not None:
        label = labels[member, drawn]
        order = torch.rand(label.shape, generator=generator, device=device)
        for wanted in (1, 0):
            rank, index = order.masked_fill(label != wanted, -1.0).topk(min(settings.drawn_labelled, n_patches), -1)
            parts.append(_of(values[:, n:], index))
            masks.append((rank >= 0).float().flatten(1))
    found = _log_odds(weights, _dropped(torch.cat(parts, 1), settings.dropout, generator))
    bags, plain, noisy, *labelled = found.split([part.shape[1] for part in parts], 1)
    bags = bags.unflatten(1, (-1, k)).mean(-1)
    loss = F.softplus(plain).mean(1) + settings.noise_weight * F.softplus(-noisy).mean(1)
    loss = loss + settings.bag_weight * F.softplus(bags[:, :n]).mean(1)
    if defective is not None:
        loss = loss + settings.bag_weight * has * F.softplus(-bags[:, n:]).mean(1)
    if defective is not None and labelled:
        of_defects, of_rest = (
            (mask * F.softplus(sign * odds)).sum(1) / mask.sum(1).clamp_min(1)
            for odds, mask, sign in zip(labelled, masks, (-1, 1), strict=True)
        )
        loss = loss + label_weight * has * (of_defects + settings.good_of_defective_weight * of_rest)
    return loss.sum()
