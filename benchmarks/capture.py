"""What watching every residual site costs, in units of the bare forward pass.

    python benchmarks/capture.py

A llama of GPT-2-small's size with random weights, 4 x 128 tokens, one thread. Bare and watched
passes take turns in one process; the ratio of medians of process CPU seconds is what is reported.
"""

import json
import os
import platform
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from energylens.activations.batch import Batch
from energylens.activations.certify import wrap

RESULT = Path(__file__).parent / "results" / "capture.json"
ROUNDS = 7


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        vocab_size=32_000, max_position_embeddings=512,
    )  # fmt: skip
    subject = wrap(LlamaForCausalLM(config).eval())
    batch = Batch.full(torch.randint(0, 32_000, (4, 128)))
    seconds: dict[str, list[float]] = {"bare": [], "watched": []}
    with torch.no_grad():
        for contender in ["bare", "watched"] * (ROUNDS + 1):
            start = time.process_time()
            if contender == "bare":
                subject.forward(batch)
            else:
                with subject.capture("blocks.*.resid_post") as seen:
                    subject.forward(batch)
                assert len(seen) == 12
            seconds[contender].append(time.process_time() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    record = {
        "benchmark": "capture", "shape": "12 layers d768 4x128 tokens, 12 sites",
        "ratio_to_bare_forward": medians["watched"] / medians["bare"], **medians,
        "rounds": ROUNDS, "threads": 1, "clock": "process CPU seconds",
        "torch": torch.__version__, "machine": platform.machine(),
        "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(record))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
