"""Energy-lens for image classifiers: which features drive the class energy up and down?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="energy-lens-classifier",
    question="Which sparse features of an image classifier drive its class energy up and down?",
    entry="energylens.studies.energy_lens_classifier.work:run",
    example="energylens run energy-lens-classifier --model mlp --out runs/classifier",
    subject="model",
)
@dataclass(frozen=True, kw_only=True)
class EnergyLensClassifier:
    """Dictionaries of hidden layers, aligned with the class energy and proved by intervening."""

    model: str = "mlp"
    """The classifier: mlp or cnn (trained in the run, seconds), a folder of safetensors or a hub id
    of an image classifier."""

    images: str = ""
    """Images as an .npz file with arrays images and labels; default, for mlp and cnn: digits."""

    sites: tuple[str, ...] = ()
    """Hidden layers, such as hidden2:out; default: all of them, at most five over the depth."""

    width: Annotated[int, Range(0, 1_048_576)] = 0
    """Features of each dictionary; 0: 8 per dimension, fewer where images are few."""

    k: Annotated[int, Range(0, 4096)] = 0
    """Features active per position; 0: an eighth of the dimension, at most 32."""

    most_images: Annotated[int, Range(200, 10**6)] = 4_000
    """Images to use at the most; half train, half are held out."""

    proof_features: Annotated[int, Range(3, 1000)] = 12
    """Features per layer to intervene on."""

    proof_images: Annotated[int, Range(5, 10_000)] = 60
    """Images per intervened feature, of those in which it is active."""

    accuracy_features: Annotated[int, Range(0, 100)] = 5
    """Strongest features whose ablation is set against the accuracy, over all layers; 0: none."""

    draws: Annotated[int, Range(1_000, 10**6)] = 10_000
    """Draws of the multiplier bootstrap behind max-T."""

    random_weights: bool = True
    """Score the same architecture with random weights too, on half of the images."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random, the training of the network included."""
