"""Dialogs of a trained model to look at: a few right ones and a few wrong ones of each set of people."""

from __future__ import annotations

from apps.memory.dataset.dialogs import Dialog, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, Person, people
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_tokenizer
from nanollama.agent import build_tool
from nanollama.inference import generate
from nanollama.model.transformer import Transformer
from nanollama.report.runs import SampleDialog

N_ASKED = 8
N_SHOWN = 2
SET_NAMES = {
    "trained": "trained person",
    "unseen": "person never trained on",
    "new_names": "person of a new name",
}


def sample_dialogs(config: MemoryConfig, model: Transformer) -> list[SampleDialog]:
    """Ask for one fact of a few people of each set; at most two right and two wrong answers a set.

    Args:
        config: of the run that trained the model; its database must be there.
        model: asked on the device where it is.
    """
    kind = "qatool" if config.data.uses_tool else "qa"
    titles, questions = [], []
    for name, spoken in SET_NAMES.items():
        for number, person in enumerate(_people_of(name, config.data.n_people)):
            attribute = ATTRIBUTES[number % len(ATTRIBUTES)]
            titles.append(f"{spoken}, {attribute.replace('_', ' ')}")
            questions.append(make_dialog(person, attribute, kind, config.data.language))
    shown: dict[tuple[str, bool], list[SampleDialog]] = {}
    for sample in _ask(config, model, questions, titles):
        set_name = sample.title.partition(",")[0]
        shown.setdefault((set_name, sample.is_right), []).append(sample)
    return [sample for samples in shown.values() for sample in samples[:N_SHOWN]]


def _people_of(name: str, n_trained: int) -> list[Person]:
    if name == "trained":
        return people(0, min(N_ASKED, n_trained))
    if name == "unseen":
        return people(n_trained, n_trained + N_ASKED)
    return people(0, N_ASKED, "new")


def _ask(
    config: MemoryConfig, model: Transformer, questions: list[Dialog], titles: list[str]
) -> list[SampleDialog]:
    """What the model makes of each question, and whether it ends with the answer."""
    tokenizer = build_tokenizer()
    prompts = [tokenizer.encode_prompt(dialog.messages[:1]) for dialog in questions]
    tool = build_tool(config.database.tool_config(config.data_root, config.data.language))
    try:
        completions = generate(model, tokenizer, prompts, tool, max_new_tokens=config.recall.max_new_tokens)
    finally:
        tool.close()
    samples = []
    for title, dialog, completion in zip(titles, questions, completions, strict=True):
        messages = tuple(tokenizer.decode_dialog(completion.ids))
        role, text = messages[-1]
        is_right = role == tokenizer.assistant and text.endswith(f"{dialog.answer}.")
        samples.append(SampleDialog(title, dialog.answer, is_right, messages))
    return samples
