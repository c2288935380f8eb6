"""Train a small GPT-NeoX on the default text: a third model where no hub can be reached.

    python tools/train_small_model.py runs/small-neox --minutes 5
    energylens run energy-lens-models --models tiny smollm2 runs/small-neox

It has its own tokenizer and another architecture than the packaged models. What it has learned in
minutes is little, but real: its loss on documents it was not trained on is printed.
"""

import argparse
import random
import time
from itertools import accumulate
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from energylens.sources.default_text import default_documents

VOCAB, CONTEXT, BATCH, RATE, WARM_UP = 2048, 128, 16, 2e-3, 100
END = "<|endoftext|>"
HELD_OUT = 0.05
# As much as minutes of training read, and a fifth of it for the tokenizer.
MOST_CHARACTERS, FOR_TOKENIZER = 6_000_000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the model goes; must not exist")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} exists: name a new folder")
    torch.manual_seed(given.seed)
    texts = [document.text for document in default_documents()[0]]
    random.Random(given.seed).shuffle(texts)
    ends = accumulate(map(len, texts))
    texts = [text for text, end in zip(texts, ends, strict=True) if end < MOST_CHARACTERS]
    apart = max(1, round(HELD_OUT * len(texts)))
    tokenizer = _tokenizer(texts[apart::FOR_TOKENIZER])
    train, held_out = (_ids(tokenizer, part) for part in (texts[apart:], texts[:apart]))
    model = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=128, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=2 * CONTEXT, bos_token_id=0, eos_token_id=0,
        rotary_pct=0.25, use_cache=False,
    ))  # fmt: skip
    _train(model, train, 60 * given.minutes)
    print(f"loss on {apart} held-out documents: {_loss(model.eval(), held_out):.2f} nats per token")
    model.save_pretrained(given.folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, model_max_length=2 * CONTEXT
    ).save_pretrained(given.folder)


def _tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _ids(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    end = tokenizer.token_to_id(END)
    return torch.tensor([i for text in texts for i in [end, *tokenizer.encode(text).ids]])


def _train(model: GPTNeoXForCausalLM, ids: Tensor, seconds: float) -> None:
    """AdamW at a rate that falls to nothing as the time runs out."""
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))
    start, step = time.monotonic(), 0
    while (passed := (time.monotonic() - start) / seconds) < 1:
        rate = RATE * min(1, (step + 1) / WARM_UP) * (1 - passed)
        for group in optimiser.param_groups:
            group["lr"] = rate
        first = torch.randint(len(ids) - CONTEXT, (BATCH,))
        batch = ids[first[:, None] + torch.arange(CONTEXT)]
        loss = model(batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0:
            print(
                f"step {step}, {100 * passed:.0f} % of the time, loss {float(loss):.2f}", flush=True
            )
        step += 1


@torch.no_grad()
def _loss(model: GPTNeoXForCausalLM, ids: Tensor) -> float:
    windows = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)[:200]
    return float(torch.stack([model(row[None], labels=row[None]).loss for row in windows]).mean())


if __name__ == "__main__":
    main()
