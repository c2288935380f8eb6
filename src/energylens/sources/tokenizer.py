"""What the framework asks of a tokenizer, and the one of the tiny reference model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: Any) -> str: ...

    def convert_ids_to_tokens(self, ids: Any) -> Any: ...


CHARACTER_PAIR_SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


def character_pair_tokenizer(path: Path) -> Tokenizer:
    r"""A byte-pair tokenizer over characters, from a JSON file with `alphabet` and `merges`.

    Text is brought to NFC, spaces become `▁`, and merges never cross a newline or the space before
    a word. Ids count the four special tokens first, then the alphabet, then the merges. Special
    tokens are never read from text: `<bos>` in a document is five characters.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    content = json.loads(path.read_text(encoding="utf-8"))
    merges = [(left, right) for left, right in content["merges"]]
    pieces: Sequence[str] = [
        *CHARACTER_PAIR_SPECIALS, *content["alphabet"], *(a + b for a, b in merges),
    ]  # fmt: skip
    vocab = {piece: index for index, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=False))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁*[^▁\n]+|▁+"), behavior="isolated")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    # The model was trained on text alone: <bos> and <eos> have ids, and mean nothing to it.
    pad, unknown = CHARACTER_PAIR_SPECIALS[:2]
    return PreTrainedTokenizerFast(
        tokenizer_object=core, split_special_tokens=True, clean_up_tokenization_spaces=False,
        pad_token=pad, unk_token=unknown,
    )  # fmt: skip
