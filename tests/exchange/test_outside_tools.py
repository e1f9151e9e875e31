"""lm-eval examines a run, and TransformerLens looks into an exported one; each where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import string
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from exchange_runs import GPT2, LLAMA, write_run
from mixer_contract import build, shape

from nanollama.cli.command import main
from nanollama.dialogs.generate import next_token
from nanollama.errors import UserError
from nanollama.exchange.export import export_hf
from nanollama.exchange.scoring import build_scorer
from nanollama.tokenizer import ByteTokenizer

ROOT = Path(__file__).parents[2]
HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
HAS_LENS = importlib.util.find_spec("transformer_lens") is not None
TASKS = {
    "choice": """\
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
""",
    "text": """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}]
""",
    "writing": """\
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["x"], max_gen_toks: 9, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}


def write_tasks(folder: Path) -> None:
    """Three tasks about made-up lines, one a kind of request; one text is longer than the model reads."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    lines = []
    for index in range(6):
        letters = "".join(chr(97 + int(n)) for n in torch.randint(26, (9 + 15 * index,), generator=generator))
        lines.append({"question": f"é {letters}", "choices": ["<end>", " bc", "zebra"], "answer": index % 3})
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = f'dataset_path: json\ndataset_kwargs: {{data_files: {{test: "{folder}/lines.jsonl"}}}}\n'
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: toy_{name}\ntest_split: test\n{data}{text}")


def examined(model: str, arguments: str, folder: Path) -> dict[str, Any]:
    """What lm-eval finds, by the command; answers that it logs, too."""
    out = folder / model
    tasks = ",".join(f"toy_{name}" for name in TASKS)
    command = (
        f"lm-eval --model {model} --model_args {arguments} --tasks {tasks} --output_path {out} --log_samples"
    )
    more = f"--include_path {folder / 'tasks'} --batch_size 2 --device cpu"
    done = subprocess.run(
        [sys.executable, "-m", "nanollama", *command.split(), *more.split()],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(folder / f"{model}_cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = {}
    for path in sorted(out.rglob("samples_*.jsonl")):
        task = next(name for name in TASKS if f"toy_{name}" in path.name)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        answers[task] = [row["filtered_resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    return answers


def flat(value: Any) -> list[Any]:
    """Numbers and texts of nested lists; lm-eval logs numbers as texts here and there.

    Texts are without special tokens: a run shows those that it writes, the other model does not.
    """
    if isinstance(value, list):
        return [one for inner in value for one in flat(inner)]
    try:
        return [float(value)]
    except (TypeError, ValueError):
        return [re.sub("<(user|assistant|database|end)>", "", value)]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_LM_EVAL, reason="lm-eval is not installed: pip install 'nanollama[eval]'")
def test_lm_eval_finds_in_a_run_what_it_finds_in_the_exported_model(tmp_path: Path) -> None:
    write_run(tmp_path / "run", **LLAMA)
    export_hf(tmp_path / "run", tmp_path / "there")
    write_tasks(tmp_path / "tasks")
    models = {
        "nanollama": f"run={tmp_path / 'run'}",
        "hf": f"pretrained={tmp_path / 'there'},dtype=float32",
    }
    with ThreadPoolExecutor() as pool:  # each is a process of its own, most of whose time goes into imports
        ours, theirs = pool.map(lambda model: examined(model, models[model], tmp_path), models)
    assert set(ours) == set(TASKS)
    for task in TASKS:
        assert flat(ours[task]) == pytest.approx(flat(theirs[task]), abs=1e-3), task


@pytest.mark.skipif(HAS_LM_EVAL, reason="lm-eval is installed")
def test_without_lm_eval_the_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lm-eval", "--model", "nanollama"]) == 2
    assert "pip install 'nanollama[eval]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not HAS_LENS, reason="transformer_lens is not installed: pip install transformer_lens")
@pytest.mark.filterwarnings("default")  # those of packages that we do not own
@pytest.mark.parametrize("model", [LLAMA, {**GPT2, "mlp": "gelu"}], ids=["llama", "gpt2"])
def test_transformer_lens_looks_into_an_exported_model(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformer_lens.model_bridge import TransformerBridge

    ours = write_run(tmp_path / "run", **model)
    export_hf(tmp_path / "run", tmp_path / "there")
    lens = TransformerBridge.boot_transformers(str(tmp_path / "there"), device="cpu", dtype=torch.float32)
    ids = torch.randint(256, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, cache = lens.run_with_cache(ids)
        torch.testing.assert_close(logits, ours(ids), rtol=1e-4, atol=1e-5)
    patterns = cache["blocks.1.attn.hook_pattern"]
    assert patterns.shape == (2, ours.config.n_heads, 30, 30)
    torch.testing.assert_close(patterns.sum(-1), torch.ones(2, ours.config.query_heads, 30))


@torch.no_grad()
def test_log_likelihoods_are_those_of_each_token_after_all_before_it() -> None:
    tokenizer = ByteTokenizer(("assistant",))
    model = build(shape(vocab_size=tokenizer.vocab_size, max_seq_len=16))
    pytest.importorskip("tokenizers")
    scorer = build_scorer(model, tokenizer, "here", batch_size=3)
    assert scorer.encode("a<assistant>") == [97, 256]
    pairs = [("ab", "c"), ("", "abc"), ("x" * 30, "yz"), ("a", "bcdefghij")]
    encoded = [(scorer.encode(one) or [scorer.end], scorer.encode(other)) for one, other in pairs]
    for (context, rest), (found, _) in zip(encoded, scorer.log_likelihoods(encoded), strict=True):
        ids = [*context, *rest][-17:]
        scores = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
        expected = sum(float(scores[len(ids) - 1 - len(rest) + n, token]) for n, token in enumerate(rest))
        assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UserError, match="is longer than the 16"):
        scorer.log_likelihoods([([97], [97] * 17)])


@pytest.mark.parametrize("prompt", ["ab", "", "x" * 30])
def test_what_is_written_is_the_likeliest_each_time(prompt: str) -> None:
    pytest.importorskip("tokenizers")
    tokenizer = ByteTokenizer(("assistant",))
    model = build(shape(vocab_size=tokenizer.vocab_size, max_seq_len=24))
    scorer = build_scorer(model, tokenizer, "here", batch_size=3)
    ids = (scorer.encode(prompt) or [scorer.end])[-15:]
    expected: list[int] = []
    while len(expected) < 9 and expected[-1:] != [scorer.end]:
        expected.append(next_token(model, [*ids, *expected]))
    text = tokenizer.decode([token for token in expected if token != scorer.end])
    assert len(expected) > 2 and scorer.write(prompt, [], 9) == text
    assert scorer.write(prompt, [text[2]], 9) == text[: text.index(text[2])]


@pytest.mark.parametrize(("n_prompt", "n_read", "n_written"), [(5, 5, 19), (14, 12, 12), (99, 12, 12)])
def test_who_asks_for_more_than_a_model_reads_still_has_the_prompt_read(
    n_prompt: int, n_read: int, n_written: int
) -> None:
    pytest.importorskip("tokenizers")
    tokenizer = ByteTokenizer(("assistant",))
    model = build(shape(vocab_size=tokenizer.vocab_size, max_seq_len=24))
    scorer = build_scorer(model, tokenizer, "here", batch_size=1)
    prompt = string.printable[:n_prompt]
    expected: list[int] = []
    while len(expected) < n_written and expected[-1:] != [scorer.end]:
        expected.append(next_token(model, [*scorer.encode(prompt)[-n_read:], *expected]))
    text = tokenizer.decode([token for token in expected if token != scorer.end])
    assert len(expected) > 2 and scorer.write(prompt, [], 256) == text


def test_what_cannot_be_asked_in_text_is_told() -> None:
    model = build(shape())
    with pytest.raises(UserError, match="has no tokenizer, for its tokens are numbers"):
        build_scorer(model, None, "runs/x", 1)
    with pytest.raises(UserError, match="runs/x is not causal"):
        build_scorer(build(shape(causal=False)), ByteTokenizer(("assistant",)), "runs/x", 1)
