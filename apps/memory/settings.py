"""What the configs of the memory study may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, SerializeAsAny, Tag, ValidationError, model_validator

from apps.memory.data_settings import DIALOG_TOKENS, DataConfig, DependenceConfig
from apps.memory.dataset.dependent import N_DEPENDENT_PEOPLE
from apps.memory.dataset.dialogs import Language
from apps.memory.dataset.paths import TABLE, database_path, dependent_database_path
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE
from apps.memory.pretrained_model.settings import PretrainConfig
from nanollama.config import Config, ConfigPath, RunConfig, RunName
from nanollama.data.text.config import TextConfig
from nanollama.dialogs.tools import DatabaseConfig, DatabaseUrl, Limits
from nanollama.errors import UserError
from nanollama.model.config import HUGGING_FACE, HuggingFaceConfig, ModelConfig, model_tag
from nanollama.model.mixers import ATTENTION
from nanollama.studies import Study
from nanollama.training.config import DeviceName
from nanollama.training.run_config import TrainingRunConfig

RecallSet = Literal["trained", "unseen", "new_names", "sums_trained", "sums_unseen", "sums_longer"]
N_TOKENS = 260
"""Of the study's tokenizer: 256 bytes, three roles and the end."""
SUM_SETS = ("sums_trained", "sums_unseen", "sums_longer")


class DatabaseSettings(Config):
    """The database that is asked while a model is evaluated."""

    url: DatabaseUrl | None = Field(
        default=None,
        description="SQLAlchemy URL, postgresql+psycopg://user:$PASSWORD_VARIABLE@host/name; default: the "
        "SQLite file under data_root.",
    )
    limits: Limits = Field(default=Limits(), description="What one request may cost.")

    def tool_config(
        self, data_root: Path, language: Language, dependence: DependenceConfig | None = None
    ) -> DatabaseConfig:
        """The tool's own config, for the database of all people or of those with dependent facts."""
        if dependence is None:
            path = database_path(data_root)
        else:
            path = dependent_database_path(data_root, dependence.alpha, dependence.seed)
        return DatabaseConfig(
            path=None if self.url else path,
            url=self.url,
            language=language,
            table=TABLE,
            attributes=ATTRIBUTES,
            limits=self.limits,
        )


class RecallConfig(Config):
    """Whom to ask about, and how many of them."""

    n_people: int = Field(
        default=100, ge=1, description="People of each set to ask about, four questions each."
    )
    sets: tuple[RecallSet, ...] = Field(
        default=("trained", "unseen", "new_names"),
        min_length=1,
        description="`trained`: people learned about; `unseen`: same name lists, never shown; `new_names`: "
        "new first and last names. `sums_trained`, `sums_unseen` (each with an operand never shown), "
        "`sums_longer` (of longer operands).",
    )
    n_sums: int = Field(default=400, ge=1, description="Sums of each set of sums.")
    seed: int = Field(default=0, ge=0, description="Of the choice of people.")
    batch_size: int = Field(
        default=1024, ge=1, description="Dialogs generated at once; fewer where they take too much memory."
    )
    max_new_tokens: int = Field(default=256, ge=1, description="Longest dialog, beyond its question.")


class ForgettingConfig(Config):
    """How far a model is from the pretrained one that it was, on text that is held out."""

    split: Literal["valid", "test"] = Field(
        default="valid", description="Documents for validation, or for the test."
    )
    n_rows: int = Field(
        default=64,
        ge=1,
        description="Examples of text, spread over all documents: their loss, and prompts, are taken.",
    )
    prompt_len: int = Field(
        default=16, ge=1, description="Tokens of each example that the pretrained model goes on from."
    )
    n_new: int = Field(default=48, ge=1, description="Tokens that it goes on for, the likeliest each time.")
    batch_size: int = Field(default=16, ge=1, description="Examples at once: a matter of memory.")


class MemoryModelConfig(ModelConfig):
    """A model that reads the study's tokens."""

    vocab_size: int = Field(default=N_TOKENS, ge=1, description="Number of token ids.")


class MemoryHuggingFaceConfig(HuggingFaceConfig):
    """A model of the package transformers that reads the study's tokens."""

    vocab_size: int = Field(
        default=N_TOKENS,
        ge=1,
        description="Number of token ids in the data; with path, the tokenizer's own count.",
    )
    added_tokens: tuple[str, ...] = Field(
        default=tuple(DIALOG_TOKENS.values()),
        description="With path: the special tokens of dialogs, which its tokenizer is given.",
    )

    @model_validator(mode="after")
    def _check_tokens(self) -> MemoryHuggingFaceConfig:
        expected = tuple(DIALOG_TOKENS.values())
        if self.added_tokens != expected:
            raise ValueError(f"added_tokens are those of dialogs, {', '.join(expected)}: leave them out")
        return self


MemoryModel = Annotated[
    Annotated[MemoryModelConfig, Tag(ATTENTION)] | Annotated[MemoryHuggingFaceConfig, Tag(HUGGING_FACE)],
    Discriminator(model_tag),
    SerializeAsAny(),
]


class MemoryConfig(TrainingRunConfig):
    """A training run of the memory study."""

    study: Literal["memory"] = Field(description="Which study this config belongs to.")
    model: MemoryModel = Field(description="Which model learns.")
    data_root: ConfigPath = Field(default=Path("data"), description="Folder of people, dialogs and database.")
    data: DataConfig = Field(description="What is learned.")
    recall: RecallConfig = Field(default=RecallConfig(), description="How it is examined.")
    database: DatabaseSettings = Field(
        default=DatabaseSettings(), description="What the model may ask when it is examined."
    )
    text: TextConfig | None = Field(
        default=None,
        description="For a model with path: text to mix in, and to measure on what the model has forgotten. "
        "It is cut into tokens by the tokenizer of the model.",
    )
    forgetting: ForgettingConfig = Field(
        default=ForgettingConfig(), description="How that is measured, where there is text."
    )
    engine: Literal["own", "trainer"] = Field(
        default="own",
        description="What trains a model with path: the library's loop, or the Trainer of transformers, "
        "which shares a large model out as the config file of accelerate says (FSDP, DeepSpeed).",
    )

    @property
    def pretrained(self) -> str | None:
        """Folder or name of the model that is trained further; None: a new one."""
        return self.model.path if isinstance(self.model, HuggingFaceConfig) else None

    @model_validator(mode="after")
    def _check(self) -> MemoryConfig:
        self._check_sets()
        self._check_text()
        if self.data.format == "chat" and self.pretrained is None:
            raise ValueError(
                "data.format = chat is for a model with model.path, whose tokenizer has a template"
            )
        if self.data.format == "chat" and self.data.has("biographies"):
            raise ValueError("data.format = chat is for dialogs: biographies are none, leave them out")
        self._check_engine()
        if "unseen" in self.recall.sets and self.data.n_people + self.recall.n_people > N_PEOPLE:
            raise ValueError(
                f"recall.n_people = {self.recall.n_people} people of the set 'unseen' are asked about, but "
                f"data.n_people = {self.data.n_people} leaves {N_PEOPLE - self.data.n_people} never shown"
            )
        if self.database.url is not None and self.data.language == "sql":
            raise ValueError(
                "data.language = sql needs the SQLite database: leave out database.url, or use find"
            )
        return self

    def _check_sets(self) -> None:
        """Each set must be about something that is learned."""
        for name in self.recall.sets:
            if name in SUM_SETS and not self.data.has("sums", "sumstool"):
                raise ValueError(f"recall.sets: '{name}' needs a source of kind sums or sumstool")
            if name not in SUM_SETS and not (self.data.tells_of_people or self.data.has("text")):
                raise ValueError(
                    f"recall.sets: '{name}' is a set of people, and no source is about people; "
                    f"expected sets among {', '.join(SUM_SETS)}"
                )
        dependence = self.data.dependence
        if dependence is None:
            return
        if self.recall.sets != ("trained",) or self.data.has("biographies", "sums", "sumstool"):
            raise ValueError("data.dependence is for sources of kind qa or qatool and recall.sets: [trained]")
        if self.data.n_people > N_DEPENDENT_PEOPLE:
            raise ValueError(
                f"data.n_people = {self.data.n_people} is too many: with data.dependence there are "
                f"{N_DEPENDENT_PEOPLE}"
            )

    def _check_text(self) -> None:
        """Text is for pretrained models, and read by their tokenizer."""
        if self.text is None:
            if self.data.has("text"):
                raise ValueError("a source of kind text needs the section text, which says what is read")
            return
        if self.pretrained is None:
            raise ValueError(
                "text is for a model with model.path, which has learned to read it: leave it out"
            )
        if self.text.tokenizer != TextConfig.model_fields["tokenizer"].default:
            raise ValueError("text.tokenizer is that of model.path: leave it out")
        needed = max(self.text.seq_len - 1, self.forgetting.prompt_len + self.forgetting.n_new)
        if needed > self.model.max_seq_len:
            raise ValueError(
                f"model.max_seq_len = {self.model.max_seq_len} is too small: text.seq_len, or "
                f"forgetting.prompt_len and n_new together, make {needed} tokens to read"
            )
        if self.forgetting.prompt_len > self.text.seq_len:
            raise ValueError(
                f"forgetting.prompt_len = {self.forgetting.prompt_len} is more than an example has, "
                f"text.seq_len = {self.text.seq_len}"
            )

    def _check_engine(self) -> None:
        """The Trainer knows models of transformers, and does not know all that our loop does."""
        if self.engine == "own":
            return
        if self.pretrained is None:
            raise ValueError("engine = trainer is for a model with model.path: leave it out")
        refused = {
            "interventions": bool(self.interventions),
            "training.parallel = sharded": self.training.parallel == "sharded",
        }
        for key in (key for key, is_set in refused.items() if is_set):
            raise ValueError(
                f"engine = trainer does not go with {key}: leave it out, or take engine = own (how a model "
                "is shared out says the config file of accelerate)"
            )

    def changed(self, **values: Any) -> MemoryConfig:
        """This config with other values for some keys, checked again as a whole.

        Raises:
            UserError: they do not go with the rest of the config.
        """
        try:
            return MemoryConfig.model_validate({**dict(self), **values})
        except ValidationError as error:
            problems = [str(item["ctx"]["error"]) for item in error.errors()]
            raise UserError(f"{'; '.join(problems)}.") from None


class EvalConfig(Config):
    """An examination of a trained model."""

    study: Literal["memory"] = Field(description="Which study this config belongs to.")
    run: ConfigPath = Field(
        description="Folder of a run, whose newest checkpoint is examined, or of one of its checkpoints."
    )
    recall: RecallConfig = Field(default=RecallConfig(), description="How it is examined.")
    data_root: ConfigPath | None = Field(
        default=None, description="Folder of the database; default: the run's."
    )
    database: DatabaseSettings | None = Field(
        default=None, description="What the model may ask; default: what the run says."
    )
    forgetting: ForgettingConfig | None = Field(
        default=None, description="How forgetting is measured; default: as in the run."
    )
    device: DeviceName = "auto"


class CircuitConfig(RunConfig):
    """An examination of the in-tool model that is built by hand."""

    study: Literal["memory"] = Field(description="Which study this config belongs to.")
    name: RunName = Field(default="circuit", description="Name of the run.")
    data_root: ConfigPath = Field(
        default=Path("data"), description="Folder of the database that `nanollama chat` then asks."
    )
    n_people: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(
        default=(10, 100_000), min_length=1, description="Sizes of the databases of invented people."
    )
    n_questions: int = Field(default=1000, ge=1, description="Different questions for each of these sizes.")
    seed: int = Field(default=0, ge=0, description="Of names, values and questions.")


STUDY = Study(
    "memory",
    configs={
        "train": MemoryConfig,
        "eval": EvalConfig,
        "circuit": CircuitConfig,
        "pretrained_model.pretrain": PretrainConfig,
    },
    commands=("show", "chat"),
    measured=(
        *(f"recall_{name}*" for name in get_args(RecallSet)),
        *(f"loss_{name}_nats" for name in get_args(RecallSet)),
        *(
            f"{kind}_{name}"
            for kind in ("tool_use", "valid_calls", "n_prompts")
            for name in get_args(RecallSet)
        ),
        *("bits_per_parameter", "bits_per_fact"),
        *("n_text_documents", "text_loss*_nats*", "kl_base_nats*", "total_variation_base*"),
    ),
    tokenizer="apps.memory.sources:tokenizer_of",
    exhibits="apps.memory.exhibits:exhibits",
)
