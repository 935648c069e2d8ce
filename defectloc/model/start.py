"""A head that is right about most training images before the first step."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from defectloc.model.classifier import Classifier

# The inverse strength of the L2 penalty on standardised features: strong, since there are more channels than images.
STRENGTH = 0.01


def logistic_head(
    pooled: np.ndarray, labels: np.ndarray, class_weights: list[float], strength: float = STRENGTH
) -> tuple[np.ndarray, float]:
    """Fit a class-weighted logistic regression; gives weights `(C,)` and bias of the log-odds of 'defective'.

    `pooled` `(N, C)`, with labels `(N,)` 0/1, is standardised inside, and the result applies to it as it is.
    `class_weights`: [good, defective]. Raises ValueError where only one class is there.
    """
    pooled = pooled.astype(np.float64)
    mean, sd = pooled.mean(0), pooled.std(0)
    # A constant channel tells nothing.
    scale = np.where(sd > 1e-6, sd, np.inf)
    regression = LogisticRegression(C=strength, class_weight=dict(enumerate(class_weights)), max_iter=1000)
    regression.fit((pooled - mean) / scale, labels)
    weights = regression.coef_[0] / scale
    return weights, float(regression.intercept_[0] - weights @ mean)


def start_head(
    classifier: Classifier,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    class_weights: list[float],
    features: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Set the head to a logistic regression on the pooled output of the untouched tail.

    With the head at the answer that the features already give, the first steps do not tear up the tail for the sake of
    a random head (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution"). `batches` give inputs with labels `(n,)` 0/1; `features` makes the trunk's output
    `(n, C, h, w)` of the inputs. `class_weights`: [good, defective]. Raises ValueError where only one class is there.
    """
    device = next(classifier.parameters()).device
    training, pooled, labels = classifier.training, [], []
    classifier.eval()
    with torch.inference_mode():
        for inputs, of_batch in batches:
            pooled.append(classifier.last_map(features(inputs.to(device))).mean((2, 3)).cpu().numpy())
            labels.append(of_batch.cpu().numpy())
    classifier.train(training)
    weights, bias = logistic_head(np.concatenate(pooled), np.concatenate(labels), class_weights)
    # Half to each side: the same log-odds with the smallest numbers.
    halves = torch.from_numpy(np.stack([-weights / 2, weights / 2])).float()
    with torch.no_grad():
        classifier.head.weight.copy_(halves[:, :, None, None])
        assert classifier.head.bias is not None
        classifier.head.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
