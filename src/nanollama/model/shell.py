"""The shell of all models of ours: embedding, positions, blocks of a mixer and an MLP with norms, head.

With attention, RMSNorm, SwiGLU, rotary positions and no biases it is the Llama architecture (arXiv
2302.13971); LayerNorm, GELU and learned positions make it a GPT-2, and with norms behind the sums and without
``causal`` a BERT. Published runs are reproduced by settings, never by another class.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for), D d_model, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.errors import UserError
from nanollama.model.config import ModelConfig
from nanollama.model.mixers import mixer_class
from nanollama.model.mixers.mixer import Attended, Context, Mixer, gather
from nanollama.model.mlp import MLPS
from nanollama.model.norms import NORMS
from nanollama.model.positions import (
    Positions,
    Rotary,
    at_positions,
    positions_in_documents,
    visible_in_documents,
    visible_until,
)
from nanollama.model.protocol import LanguageModel
from nanollama.model.state import DecodingState


class Block(nn.Module):
    """A mixer, then an MLP if there is one; each reads a normed stream and adds to it.

    A norm stands in front of each or, with ``residual = post``, behind each sum.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        mixer = mixer_class(config.mixers[layer])(config, layer)
        self._name = mixer.name
        self.add_module(f"{mixer.name}_norm", NORMS[config.norm](config))
        self.add_module(mixer.name, mixer)
        has_mlp = config.mlp != "none"
        self.mlp_norm = NORMS[config.norm](config) if has_mlp else None
        self.mlp = MLPS[config.mlp](config) if has_mlp else None
        self.dropout = nn.Dropout(config.dropout)
        self.residual = config.residual

    @property
    def mixer(self) -> Mixer:
        """What mixes tokens here."""
        mixer = self._modules[self._name]
        assert isinstance(mixer, Mixer)
        return mixer

    @property
    def mixer_norm(self) -> nn.Module:
        """The norm of the mixer."""
        norm = self._modules[f"{self._name}_norm"]
        assert norm is not None
        return norm

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, M, D) when only these positions go on."""
        is_post = self.residual == "post"
        read = x if is_post else self.mixer_norm(x)
        x = read if self.residual == "normed" else x
        mixed = self.mixer(read, context, query_positions)
        if query_positions is not None:
            x = gather(x, query_positions)
        self._check_mixed(mixed, x)
        x = x + self.dropout(mixed)
        x = self.mixer_norm(x) if is_post else x
        if self.mlp is None or self.mlp_norm is None:
            return x
        x = x + self.dropout(self.mlp(x if is_post else self.mlp_norm(x)))
        return self.mlp_norm(x) if is_post else x

    def _check_mixed(self, mixed: object, x: Tensor) -> None:
        """Refuse what a sum would broadcast: one vector for all tokens would tell each of those to come."""
        if isinstance(mixed, Tensor) and mixed.shape == x.shape:
            return
        found = f"shape {tuple(mixed.shape)}" if isinstance(mixed, Tensor) else f"a {type(mixed).__name__}"
        raise ValueError(
            f"The mixer '{self._name}' of layer {self.mixer.layer} returned {found}, expected a tensor of "
            f"shape {tuple(x.shape)}: a vector for each token or, with query_positions, for each of those."
        )


class Shell(LanguageModel):
    """A model of ours; see `LanguageModel`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.max_seq_len = config.vocab_size, config.max_seq_len
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.max_seq_len, config.position_width)
        self.attends = config.uses_attention
        self.rotary = Rotary(config) if config.positions == "rotary" and self.attends else None
        self.has_table = self.rotary is not None or config.positions in ("learned", "relative")
        on_embeddings = config.embedding_dropout
        self.dropout = nn.Dropout(config.dropout if on_embeddings is None else on_embeddings)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = NORMS[config.norm](config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.is_tied = False
        if config.tied_embeddings:
            self.tie()

    def forward(
        self,
        input_ids: Tensor,
        query_positions: Tensor | None = None,
        documents: Tensor | None = None,
        state: DecodingState | None = None,
    ) -> Tensor:
        """See `LanguageModel.forward`."""
        context = self._context(input_ids, documents, state)
        x = self.embedding(input_ids)
        if self.config.positions == "learned":
            embedded = at_positions(self.position_embedding.weight, context.positions)
            x = x + F.pad(embedded, (0, x.shape[-1] - self.config.position_width))
        is_post = self.config.residual == "post"
        x = self.dropout(self.norm(x) if is_post else x)
        *before, last = self.blocks
        for block in before:
            x = block(x, context)
        x = last(x, context, query_positions)
        return self.head(x if is_post else self.norm(x)).float()

    def _context(self, input_ids: Tensor, documents: Tensor | None, state: DecodingState | None) -> Context:
        """What the blocks need to know of these tokens."""
        n_tokens = input_ids.shape[1]
        if documents is None and self.has_table:  # rows of several may be longer
            self.check_length(n_tokens)
        positions: Positions = slice(n_tokens)
        mask = None
        if state is not None:
            if documents is not None:
                raise ValueError("A model that decodes reads one document a row.")
            positions = state.positions(n_tokens)
            mask = visible_until(positions, state.longest + n_tokens) if self.attends else None
        elif documents is not None:
            positions = positions_in_documents(documents)
            mask = visible_in_documents(documents, self.config.causal) if self.attends else None
        rotary = None if self.rotary is None else self.rotary(positions)
        attended = Attended(mask, rotary) if self.attends else None
        return Context(positions, documents, attended, state)

    @property
    def layers(self) -> list[Block]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def tie(self) -> None:
        """Make the input embeddings the output embeddings too: from now on, they are one matrix."""
        self.head.weight = self.embedding.weight
        self.is_tied = True

    def untie(self) -> None:
        """Give the output embeddings a matrix of their own, equal to that of the input."""
        weight = self.embedding.weight
        self.head.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
        self.is_tied = False

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights: normal, with the maps that write to the stream scaled by 1 / sqrt(2 n_layers).

        What a mixer leaves unset is not a number, see `check_drawn`.
        """
        if self.is_tied:
            self.tie()  # a move from the meta device makes two matrices of one
        for parameter in self.parameters():
            if parameter.is_floating_point():
                parameter.fill_(math.nan)  # what nobody sets is found
        std = self.config.init_std or self.config.d_model**-0.5
        mixers = [block.mixer for block in self.layers]
        writing = {mixer.output for mixer in mixers}
        writing |= {block.mlp.down for block in self.layers if block.mlp is not None}
        of_embeddings = self.config.embedding_std or std
        for module in self.modules():
            if isinstance(module, nn.Linear):
                scale = (2 * self.config.n_layers) ** -0.5 if module in writing else 1.0
                spread = of_embeddings if module is self.head and self.is_tied else std * scale
                module.weight.normal_(0.0, spread, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, of_embeddings, generator=generator)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                if module.weight is not None:
                    nn.init.ones_(module.weight)
                if isinstance(module, nn.LayerNorm) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Rotary):
                cos, sin = module.tables()
                module.cos.copy_(cos)
                module.sin.copy_(sin)
        for mixer in mixers:
            mixer.init_weights(generator)

    def check_drawn(self) -> None:
        """See `LanguageModel.check_drawn`."""
        unset = [name for name, parameter in self.named_parameters() if parameter.isnan().any()]
        if unset:
            raise ValueError(
                f"init_weights has left {', '.join(unset)} unset: the shell draws linear maps, embeddings, "
                "LayerNorm and RMSNorm; what else a mixer has, its init_weights sets, from the generator."
            )

    def make_state(self, n_rows: int, capacity: int) -> DecodingState:
        """See `LanguageModel.make_state`."""
        return self._state(n_rows, capacity, self.device)

    def state_bytes(self, capacity: int) -> int:
        """See `LanguageModel.state_bytes`."""
        layers = self._state(1, capacity, torch.device("meta")).layers
        return sum(stored.nbytes for layer in layers for stored in layer.tensors().values())

    def _state(self, n_rows: int, capacity: int, device: torch.device) -> DecodingState:
        if not self.config.causal:
            raise UserError(
                "A model with causal = false sees what comes after a token, so it cannot write one after "
                "another: set model.causal=true, or leave out what decodes."
            )
        if self.has_table:
            self.check_length(capacity - 1)  # nobody reads the last token of a dialog
        layers = [block.mixer.make_state(n_rows, capacity, device) for block in self.layers]
        return DecodingState(layers, n_rows, capacity, device)

    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        """See `LanguageModel.forward_flops`."""
        config = self.config
        n_asked = seq_len if n_queries is None else n_queries
        matrices = {"swiglu": 3, "gelu": 2, "gelu_tanh": 2, "none": 0}[config.mlp]
        total = 2 * n_asked * config.d_model * config.vocab_size
        for layer, block in enumerate(self.layers):
            n_out = n_asked if layer == config.n_layers - 1 else seq_len
            mlp = matrices * config.d_model * config.mlp_width
            total += block.mixer.forward_flops(seq_len, n_out) + 2 * n_out * mlp
        return total
