"""Recall: what a model answers when it is asked about people it knows, and about people it never met.

Answers are decoded greedily, with the live database. One is right if the model ended the dialog and its last
message ends with ``<answer>.``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from apps.memory.capacity import capacity, value_loss_nats
from apps.memory.dataset.dependent import database_bits, dependent_people, ensure_dependent_database
from apps.memory.dataset.dialogs import Dialog, DialogKind, make_dialog
from apps.memory.dataset.people import (
    ATTRIBUTES,
    N_PEOPLE,
    Person,
    Population,
    bits_per_person,
    people,
)
from apps.memory.dataset.sql_db import ensure_database
from apps.memory.growing import GrowingDatabase
from apps.memory.settings import SUM_SETS, MemoryConfig, RecallConfig
from apps.memory.sources import tokenizer_of
from apps.memory.sums import Split, SumKind, sum_dialogs
from nanollama.dialogs.expected import attempt_dialogs
from nanollama.dialogs.generate import Ending
from nanollama.dialogs.tools import CalculatorTool, Reply, Tool, Toolbox, build_tool
from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.seeds import named_seed
from nanollama.statistics import share_interval
from nanollama.tokenizer import DialogTokenizer, Message
from nanollama.training.trained import Trained
from nanollama.wording import show

TOOL_ROLE = "database"
"""The special token that opens the reply of any tool."""

SUM_SPLITS: Mapping[str, Split] = {
    "sums_trained": "trained",
    "sums_unseen": "unseen",
    "sums_longer": "longer",
}

TrainedMemory = Trained[MemoryConfig]


class Answer(NamedTuple):
    """What a model made of one question.

    Args:
        question: the dialog as it should be.
        messages: the dialog as it went.
        replies: what the database said in it.
        ending: how it ended.
        is_right: did the model give the answer?
        loss_nats: (n,) cross entropy of the tokens the assistant should write.
    """

    question: Dialog
    messages: tuple[Message, ...]
    replies: tuple[Reply, ...]
    ending: Ending
    is_right: bool
    loss_nats: np.ndarray


class Score(NamedTuple):
    """A share of right answers, with its 95 % interval: people are the units, and so are sums."""

    n_prompts: int
    n_right: int
    recall: float
    low: float
    high: float


class Learned(NamedTuple):
    """What there was to learn by heart: about so many people, so many bits on average."""

    n_people: int
    bits_per_person: float


class RecallEvaluator:
    """Asks the same questions at every evaluation.

    Args:
        questions: dialogs as they should be, by the name of their set.
        tokenizer: of the model.
        tool: the database; None where answers are known by heart.
        config: how many tokens a dialog may take and how many dialogs are decoded at once.
        learned: what the model learned by heart; ``trained`` is a sample of the people, from which its
            capacity is reckoned.
    """

    def __init__(
        self,
        questions: Mapping[str, Sequence[Dialog]],
        tokenizer: DialogTokenizer,
        tool: Tool | None,
        config: RecallConfig,
        learned: Learned | None = None,
    ) -> None:
        self.questions = questions
        self._tokenizer = tokenizer
        self._tool = tool
        self._config = config
        self._learned = learned

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """Measures of each set, see `summarise`; of in-weight models also `capacity`."""
        return self.summarise(self.ask(model), model.n_params())

    def ask(self, model: LanguageModel) -> dict[str, list[Answer]]:
        """Every question, answered, by set."""
        flat = [dialog for dialogs in self.questions.values() for dialog in dialogs]
        attempts = iter(
            attempt_dialogs(
                model,
                self._tokenizer,
                [dialog.messages for dialog in flat],
                self._tool,
                max_new_tokens=self._config.max_new_tokens,
                batch_size=self._config.batch_size,
            )
        )
        answers: dict[str, list[Answer]] = {}
        for name, dialogs in self.questions.items():
            answers[name] = []
            for dialog in dialogs:
                completion, loss_nats = next(attempts)
                messages = tuple(self._tokenizer.decode_dialog(completion.ids))
                is_right = completion.ending == "end" and is_answered(dialog, messages)
                answers[name].append(
                    Answer(
                        dialog, messages, tuple(completion.replies), completion.ending, is_right, loss_nats
                    )
                )
        return answers

    def summarise(self, answers: Mapping[str, Sequence[Answer]], n_params: int) -> dict[str, float]:
        """All measures of all answers, with the set's name in theirs."""
        measures: dict[str, float] = {}
        for name, of_set in answers.items():
            measures |= summarise(of_set, name, uses_tool=self._tool is not None)
        if self._learned is not None and "trained" in answers:
            losses = [
                value_loss_nats(answer.question.answer, answer.loss_nats) for answer in answers["trained"]
            ]
            measures |= capacity(losses, n_params=n_params, **self._learned._asdict())
        return measures


def is_answered(question: Dialog, messages: Sequence[Message]) -> bool:
    """Does the last message, the assistant's, end with the answer and a full stop?"""
    role, content = messages[-1]
    return role == "assistant" and content.endswith(f"{question.answer}.")


def summarise(answers: Sequence[Answer], name: str, uses_tool: bool) -> dict[str, float]:
    """Measures of a set of answers.

    Returns:
        with ``name`` for the set: ``recall_name``, the share of right answers, ``recall_name_low`` and
        ``recall_name_high``, its 95 % interval, people as the unit; ``recall_name_attribute``, the share by
        attribute, of people; ``tool_use_name``, the share of dialogs that asked a tool; ``valid_calls_name``,
        the share of requests that were well formed and found a value (NaN without any); where some asked a
        tool and some did not, ``recall_name_asked`` and ``recall_name_by_heart``, the shares of right answers
        among them; ``loss_name_nats``, the mean cross entropy of the tokens the assistant should write;
        ``n_prompts_name``.
    """
    _, _, recall, low, high = score(answers)
    measures = {f"recall_{name}": recall, f"recall_{name}_low": low, f"recall_{name}_high": high}
    for attribute in () if name in SUM_SETS else ATTRIBUTES:
        measures[f"recall_{name}_{attribute}"] = score(answers, attribute).recall
    if uses_tool:
        calls = [reply.ok for answer in answers for reply in answer.replies]
        measures[f"tool_use_{name}"] = _share([bool(answer.replies) for answer in answers])
        measures[f"valid_calls_{name}"] = _share(calls)
        by_way = {way: [a.is_right for a in answers if bool(a.replies) == way] for way in (True, False)}
        if all(by_way.values()):
            measures[f"recall_{name}_asked"] = _share(by_way[True])
            measures[f"recall_{name}_by_heart"] = _share(by_way[False])
    losses = np.concatenate([answer.loss_nats for answer in answers])
    measures[f"loss_{name}_nats"] = float(losses.mean(dtype=np.float64))
    measures[f"n_prompts_{name}"] = len(answers)
    return measures


def score(answers: Sequence[Answer], attribute: str | None = None) -> Score:
    """How many answers are right: all, or those about one attribute."""
    by_person: dict[int, list[bool]] = {}  # of a sum: its number
    for answer in answers:
        if attribute in (None, answer.question.attribute):
            by_person.setdefault(answer.question.person, []).append(answer.is_right)
    n_right, n_asked = [sum(of_one) for of_one in by_person.values()], list(map(len, by_person.values()))
    recall, low, high, _ = share_interval(n_right, n_asked)
    return Score(sum(n_asked), sum(n_right), recall, low, high)


@contextmanager
def build_recall(config: MemoryConfig) -> Iterator[RecallEvaluator]:
    """The evaluator of a run, with its database open; the SQLite file is made if it is missing.

    Raises:
        UserError: the database cannot be used, a set has too few people, or right dialogs would be cut off.
    """
    tokenizer = tokenizer_of(config)
    questions: dict[str, list[Dialog]] = {}
    for name in config.recall.sets:
        questions[name] = choose_questions(name, config)
    _check_lengths(questions, tokenizer, config)
    with open_tool(config) as tool:
        yield RecallEvaluator(questions, tokenizer, tool, config.recall, learned_by_heart(config))


def choose_questions(name: str, config: MemoryConfig) -> list[Dialog]:
    """The dialogs of a set, as they should be: with the tool, where the run learned to use it.

    Raises:
        UserError: too few people were left out of the training.
    """
    data, recall = config.data, config.recall
    if name in SUM_SETS:
        sum_kind: SumKind = "sumstool" if data.has("sumstool") else "sums"
        split = SUM_SPLITS[name]
        n_sums = min(recall.n_sums, data.sums.n_sums) if split == "trained" else recall.n_sums
        return sum_dialogs(data.sums, split, sum_kind, n_sums)
    kind: DialogKind = "qatool" if data.uses_tool else "qa"
    chosen = choose_people(name, data.n_people, recall)
    if data.dependence is not None:
        known = dependent_people(data.dependence.alpha, data.n_people, data.dependence.seed)
        chosen = [known[person.index] for person in chosen]
    return [make_dialog(who, attribute, kind, data.language) for who in chosen for attribute in ATTRIBUTES]


def learned_by_heart(config: MemoryConfig) -> Learned | None:
    """What a run has to store in its weights about people; None if it may ask, or learns of nobody.

    Of a pretrained model neither: what its weights hold beside is not known.
    """
    data = config.data
    if data.uses_tool or not data.tells_of_people or config.pretrained is not None:
        return None
    if data.dependence is None:
        return Learned(data.n_people, bits_per_person())
    bits = database_bits(data.dependence.alpha, data.n_people, data.dependence.seed)
    return Learned(data.n_people, bits / data.n_people)


@contextmanager
def open_tool(config: MemoryConfig, grows: bool = False) -> Iterator[Tool | None]:
    """What the model of a run may ask: database, calculator, both; None if it learned to ask nothing.

    The SQLite file is made or extended if need be: it holds whom the run learns of and is examined about.

    Args:
        config: of the run.
        grows: is it extended, too, for anybody else of the study who is asked about?

    Raises:
        UserError: the database cannot be used.
    """
    data = config.data
    tools: dict[str, Tool] = {}
    if data.uses_tool:
        root, dependence = config.data_root, data.dependence
        if config.database.url is None and dependence is not None:
            ensure_dependent_database(root, dependence.alpha, dependence.seed)
        elif config.database.url is None:
            ensure_database(root, n_asked_about(config))
        database = config.database.tool_config(root, data.language, dependence)
        can_grow = grows and config.database.url is None and dependence is None
        tools["FIND"] = (
            GrowingDatabase(root, database, n_asked_about(config)) if can_grow else build_tool(database)
        )
    if data.has("sumstool"):
        tools["CALC"] = CalculatorTool(data.sums.calculator, TOOL_ROLE)
    try:
        yield Toolbox(tools, TOOL_ROLE) if len(tools) > 1 else next(iter(tools.values()), None)
    finally:
        for tool in tools.values():
            tool.close()


def n_asked_about(config: MemoryConfig) -> int:
    """So many of the first people of each population a run learns of and is examined about."""
    return min(N_PEOPLE, _pool("unseen", config.data.n_people, config.recall).stop)


def choose_people(name: str, n_people_learned: int, config: RecallConfig) -> list[Person]:
    """The people of a set to ask about, in order of their number: a function of the seed alone.

    They are drawn from the people learned about (all of them, if that is fewer than asked for), or from as
    many that were not.

    Raises:
        UserError: too few people were left out of the training.
    """
    pool = _pool(name, n_people_learned, config)
    if pool.stop > N_PEOPLE:
        raise UserError(
            f"recall.n_people = {config.n_people} people of the set '{name}' are asked about, but "
            f"data.n_people = {n_people_learned} leaves {N_PEOPLE - n_people_learned} never shown."
        )
    generator = np.random.Generator(np.random.Philox(named_seed(config.seed, f"recall/{name}")))
    n_chosen = min(config.n_people, len(pool))
    indices = np.sort(generator.choice(len(pool), n_chosen, replace=False)) + pool.start
    population: Population = "new" if name == "new_names" else "train"
    return [person for index in indices.tolist() for person in people(index, index + 1, population)]


def _pool(name: str, n_people_learned: int, config: RecallConfig) -> range:
    """Numbers of the people a set is drawn from, in their population."""
    if name == "trained":
        return range(n_people_learned)
    n_others = max(n_people_learned, config.n_people)
    if name == "new_names":
        return range(min(n_others, N_PEOPLE))
    n_left = N_PEOPLE - n_people_learned
    return range(n_people_learned, n_people_learned + max(config.n_people, min(n_others, n_left)))


def _check_lengths(
    questions: Mapping[str, Sequence[Dialog]], tokenizer: DialogTokenizer, config: MemoryConfig
) -> None:
    """No question may be one that no model could answer."""
    for dialog in (dialog for dialogs in questions.values() for dialog in dialogs):
        ids = tokenizer.encode_dialog(dialog.messages).ids.tolist()
        if tokenizer.decode_dialog(ids) != list(dialog.messages):
            raise UserError(
                f"model.path: the tokenizer of {config.pretrained} does not give back what it is given, such "
                f"as {show(dialog.messages[0].content)}: expected one that keeps all letters, as byte-level "
                "ones do."
            )
        n_tokens = len(ids)
        n_new = n_tokens - len(tokenizer.encode_prompt(dialog.messages[:1]))
        if n_new > config.recall.max_new_tokens:
            raise UserError(
                f"recall.max_new_tokens = {config.recall.max_new_tokens} is too small: a right dialog has "
                f"{n_new} tokens after its question."
            )
        if n_tokens - 1 > config.model.max_seq_len:
            raise UserError(
                f"model.max_seq_len = {config.model.max_seq_len} is too small: a right dialog has "
                f"{n_tokens - 1} tokens to read."
            )


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes) if outcomes else float("nan")
