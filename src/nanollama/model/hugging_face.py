"""A causal language model of the package transformers, with the face of our own models.

Packed documents and rows at different positions are told to it by 4D masks and positions of tokens; keys and
values lie in the same state as those of our attention. So it needs attention over all that came before, in
every layer.

Shapes: B rows, T tokens, M queries, S keys.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanollama.errors import MissingExtraError, UserError
from nanollama.model.config import HuggingFaceConfig
from nanollama.model.hugging_face_contract import check_contract
from nanollama.model.lora import in_8_bits, merge, with_lora
from nanollama.model.mixers.attention import Kernel, KeyValues
from nanollama.model.mixers.mixer import gather
from nanollama.model.positions import positions_in_documents, visible_in_documents, visible_until
from nanollama.model.protocol import LanguageModel
from nanollama.model.state import DecodingState
from nanollama.pretrained_tokenizer import load_tokenizer, n_token_ids, refuse_code
from nanollama.wording import count, first_sentence, show, suggest

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""The files of a model are data: left to itself, transformers asks on the terminal whether to run them."""


class HuggingFaceModel(LanguageModel):
    """See `LanguageModel`. Until `init_weights` it has a shape and no memory.

    Raises:
        UserError: there is no such model or architecture, or its shape does not fit the config.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__()
        self.config = config
        shape = _read_shape(config)
        self.vocab_size, self.max_seq_len = shape.vocab_size, config.max_seq_len
        self._new_tokens: list[int] = []
        if config.path is not None and config.added_tokens:
            tokenizer = load_tokenizer(config.path, config.added_tokens)
            self.vocab_size = max(shape.vocab_size, n_token_ids(tokenizer))
            self._new_tokens = tokenizer.convert_tokens_to_ids(list(config.added_tokens))
        self._n_layers, self._n_heads = shape.num_hidden_layers, shape.num_attention_heads
        self._n_kv_heads = getattr(shape, "num_key_value_heads", None) or self._n_heads
        self._head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // self._n_heads
        self._shape = shape
        self.kernels: dict[int, Kernel] = {}  # by layer, what probes have put in the place of attention
        with torch.device("meta"):
            self._adopt(self._extended(_transformers().AutoModelForCausalLM.from_config(shape, **NO_CODE)))

    def _extended(self, model: Any) -> Any:
        """The model with what the config adds to it: embeddings, low-rank changes, checkpointing."""
        if self.vocab_size > model.get_input_embeddings().weight.shape[0]:
            _grow(model, self.vocab_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of names that transformers is about to change
            if self.config.gradient_checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            if self.config.lora is not None:
                model = with_lora(model, self.config.lora, self._new_tokens)
        return model

    def _adopt(self, model: Any) -> None:
        self.model = model
        self._queries: Tensor | None = None
        self._head.register_forward_pre_hook(self._keep_queries)
        parameters = inspect.signature(model.forward).parameters
        self._state_key = "cache" if "cache" in parameters else "past_key_values"  # its name has changed

    @property
    def heads(self) -> list[tuple[int, int]]:
        """All of them, as (layer, head)."""
        return [(layer, head) for layer in range(self._n_layers) for head in range(self._n_heads)]

    @property
    def embedding(self) -> nn.Module:
        """What makes vectors of token ids."""
        embedding: nn.Module = self.model.get_input_embeddings()
        return embedding

    @property
    def _head(self) -> nn.Module:
        head: nn.Module = self.model.get_output_embeddings()
        return head

    def _keep_queries(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Logits are made only where they are asked for."""
        return inputs if self._queries is None else (gather(inputs[0], self._queries),)

    def forward(
        self,
        input_ids: Tensor,
        query_positions: Tensor | None = None,
        documents: Tensor | None = None,
        state: DecodingState | None = None,
    ) -> Tensor:
        """See `LanguageModel.forward`."""
        n_tokens = input_ids.shape[1]
        if documents is None:  # rows of several may be longer
            self.check_length(n_tokens)
        reading: dict[str, Any] = {}
        if state is not None:
            if documents is not None:
                raise ValueError("A model that decodes reads one document a row.")
            positions = state.positions(n_tokens)
            reading = self._told(visible_until(positions, state.longest + n_tokens), positions)
            reading[self._state_key] = _Reading(state, positions)
        elif documents is not None:
            reading = self._told(
                visible_in_documents(documents, causal=True), positions_in_documents(documents)
            )
        self._queries = query_positions
        try:
            logits: Tensor = self.model(input_ids=input_ids, use_cache=False, **reading).logits
        finally:
            self._queries = None
        return logits.float()

    def _told(self, mask: Tensor, positions: Tensor) -> dict[str, Any]:
        """Keys that tokens see, (B, 1, T, S) bool, and their positions, (B, T), as transformers has them."""
        hidden = torch.zeros(mask.shape, dtype=self._dtype, device=mask.device)
        hidden.masked_fill_(~mask, torch.finfo(self._dtype).min)
        return {"attention_mask": hidden, "position_ids": positions}

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def make_state(self, n_rows: int, capacity: int) -> DecodingState:
        """See `LanguageModel.make_state`."""
        self.check_length(capacity - 1)  # nobody reads the last token of a dialog
        shape = (n_rows, self._n_kv_heads, capacity, self._head_dim)

        def empty() -> Tensor:
            return torch.zeros(shape, dtype=self._dtype, device=self.device)

        layers = [KeyValues(empty(), empty()) for _ in range(self._n_layers)]
        return DecodingState([*layers], n_rows, capacity, self.device)

    def state_bytes(self, capacity: int) -> int:
        """See `LanguageModel.state_bytes`."""
        n_numbers = 2 * self._n_layers * self._n_kv_heads * self._head_dim * capacity
        return n_numbers * self._dtype.itemsize

    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        """See `LanguageModel.forward_flops`; all layers read all tokens, only the head is spared."""
        sizes = {
            module: weight.numel()
            for module in self.model.modules()
            for weight in module.parameters(recurse=False)
            if weight.dim() == 2 and not isinstance(module, nn.Embedding)
        }
        n_asked = seq_len if n_queries is None else n_queries
        head = sum(sizes.pop(module, 0) for module in self._head.modules())
        macs = n_asked * head + seq_len * sum(sizes.values())
        macs += 2 * seq_len**2 * self._n_layers * self._n_heads * self._head_dim
        return 2 * macs

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Read the weights of ``path``, or draw new ones; see `LanguageModel.init_weights`.

        Raises:
            UserError: there are none, or the model, now that it has some, does not do what is asked of one.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.random.default_generator.manual_seed(seed)  # transformers knows no other
            fresh = self._extended(self._first_model())
        if self.device.type == "meta":
            self._adopt(fresh)
            self._check()
            return
        self.model.tie_weights()  # a move from the meta device makes two matrices of one
        here, there = (chain(model.parameters(), model.buffers()) for model in (self.model, fresh))
        for ours, theirs in zip(here, there, strict=True):
            ours.copy_(theirs)

    def _check(self) -> None:
        """Try what is asked of a model; rounding makes some 4e-6 of logits, or more in trained models.

        Maps in 8 bits round far more, and those that have been used are not to be moved to another device.
        """
        if self.config.lora is not None and self.config.lora.load_in_8bit:
            return
        is_drawn = self.config.path is None
        name = self.config.architecture if is_drawn else self.config.path
        check_contract(self, str(name), tolerance=3e-5 if is_drawn else 1e-3)

    def merged(self) -> Any:
        """The model as transformers has it, with what low-rank changes have learned added, in place.

        Maps that were kept in 8 bits are read once more as they were.
        """
        if self.config.lora is None:
            return self.model
        whole = self
        if self.config.lora.load_in_8bit:
            lora = self.config.lora.model_copy(update={"load_in_8bit": False})
            whole = HuggingFaceModel(self.config.model_copy(update={"lora": lora}))
            whole.init_weights(torch.Generator())
            learned = {name for name, weight in self.named_parameters() if weight.requires_grad}
            state = {name: weight for name, weight in self.state_dict().items() if name in learned}
            whole.load_state_dict(state, strict=False)
        return merge(whole.model)

    def _first_model(self) -> Any:
        models = _transformers().AutoModelForCausalLM
        if self.config.path is None:
            return models.from_config(self._shape, **NO_CODE).float()
        lora = self.config.lora
        coarse = in_8_bits() if lora is not None and lora.load_in_8bit else {}
        try:
            is_here = Path(self.config.path).is_dir()
            model = models.from_pretrained(self.config.path, local_files_only=is_here, **NO_CODE, **coarse)
        except (OSError, ValueError) as error:
            refuse_code(self.config.path, error)
            raise UserError(
                f"model.path: {self.config.path} has no weights to read: {first_sentence(error)}"
            ) from error
        return model if coarse else model.float()


class _Reading:
    """Stands for the cache that the layers of a model know: a state, about to read tokens at positions."""

    def __init__(self, state: DecodingState, positions: Tensor) -> None:
        self._state, self._positions = state, positions

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store keys and values of new tokens; return all so far."""
        read = self._state.layers[layer]
        assert isinstance(read, KeyValues)
        return read.extend(key, value, self._positions, self._state.longest + self._positions.shape[1])

    def get_seq_length(self, layer: int = 0) -> int:
        """Most tokens that a row has read."""
        return self._state.longest


@torch.no_grad()
def _grow(model: Any, n_tokens: int) -> None:
    """Give a model embeddings of more tokens, each the mean of the others.

    So a new token is no likelier than the others are on average, and what was likely before stays so
    (Hewitt, 2021, Initializing new word embeddings for pretrained language models).
    """
    n_before = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(n_tokens, mean_resizing=False)
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
        embeddings.weight[n_before:] = embeddings.weight[:n_before].mean(dim=0)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    transformers.utils.logging.disable_progress_bar()  # drawn between the lines of a run, in its log too
    return transformers


def _read_shape(config: HuggingFaceConfig) -> Any:
    """The config that transformers has of the model, if the model is one that we can ask as we do."""
    shape = stored_shape(config.path) if config.path is not None else _new_shape(config)
    shape = shape.get_text_config()
    name = config.path or config.architecture
    if type(shape) not in _transformers().MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"model: {name} is no causal language model of transformers; expected one such as Llama or GPT-2."
        )
    kinds = set(getattr(shape, "layer_types", None) or ["full_attention"])
    if (
        not hasattr(shape, "num_attention_heads")
        or kinds != {"full_attention"}
        or _window(shape, config.max_seq_len) < config.max_seq_len
    ):
        raise UserError(
            f"model: {name} has layers that do not attend to all that came before, which is not supported; "
            "expected a model such as Llama or GPT-2."
        )
    longest = getattr(shape, "max_position_embeddings", None) or config.max_seq_len
    if config.max_seq_len > longest:
        raise UserError(
            f"model.max_seq_len = {config.max_seq_len} is too long: {name} reads {count(longest, 'token')}."
        )
    if config.vocab_size > shape.vocab_size and not config.added_tokens:
        raise UserError(
            f"model.vocab_size = {config.vocab_size} is more than the {shape.vocab_size} token ids of {name}."
        )
    return shape


def _window(shape: Any, longest: int) -> int:
    """How many tokens each layer looks back on at least: what a few tokens do not show."""
    windows = [getattr(shape, "sliding_window", None)]
    if "local" in (getattr(shape, "attention_layers", None) or ()):  # those of GPT-Neo
        windows.append(shape.window_size)
    return min([window for window in windows if window], default=longest)


def stored_shape(path: str) -> Any:
    """The config that transformers has of a stored model.

    Raises:
        UserError: there is none.
        MissingExtraError: transformers is not installed.
    """
    folder = Path(path)
    if not folder.exists() and len(folder.parts) > 2:  # names on the hub are NAME or OWNER/NAME
        raise UserError(
            f"model.path: there is no folder {path}: expected that of a saved model; that of a run is there "
            "once the run has been trained."
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(
            f"model.path: the folder {path} holds no config.json; expected that of a saved model."
        )
    hub = logging.getLogger("huggingface_hub")  # which says each of its tries in two lines
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        is_here = folder.is_dir()
        return _transformers().AutoConfig.from_pretrained(path, local_files_only=is_here, **NO_CODE)
    except (OSError, ValueError) as error:
        refuse_code(path, error)
        raise UserError(
            f"model.path: {path} is no folder of a model, nor to be had from the hub: {first_sentence(error)}"
        ) from error
    finally:
        hub.setLevel(level)


def _new_shape(config: HuggingFaceConfig) -> Any:
    transformers, name = _transformers(), config.architecture
    if name not in transformers.CONFIG_MAPPING:
        raise UserError(
            f"model.architecture: transformers knows no {show(name)}"
            f"{suggest(str(name), transformers.CONFIG_MAPPING) or '; llama and gpt2 are examples.'}"
        )
    plain = transformers.AutoConfig.for_model(name)
    known = {*plain.to_dict(), *plain.attribute_map}
    for key in config.sizes.keys_and_values:
        if key not in known:
            raise UserError(f"model.sizes: {name} has no {show(key)}{suggest(key, known) or '.'}")
    lengths = {"vocab_size": config.vocab_size, "max_position_embeddings": config.max_seq_len}
    no_tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # the tokenizer names them
    own = config.sizes.keys_and_values
    try:
        return transformers.AutoConfig.for_model(name, **{**lengths, **no_tokens, **own})
    except Exception as error:  # whatever transformers raises, it is about what the user wrote
        raise UserError(f"model.sizes: {name} cannot be of these sizes: {first_sentence(error)}") from error
