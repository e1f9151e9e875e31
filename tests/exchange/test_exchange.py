"""Models there and back: logits, greedy writing, tied and untied, whichever shape; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from exchange_runs import GPT2, LLAMA, MAMBA2, memory_config, write_model, write_run
from toy_dialogs import TOKENIZER, toy_prompts

from apps.tying.data import read_tokenizer
from apps.tying.settings import TyingConfig
from nanollama.cli.command import main
from nanollama.dialogs.generate import next_token
from nanollama.errors import UserError
from nanollama.exchange import export
from nanollama.exchange.export import export_hf
from nanollama.exchange.imported import import_hf
from nanollama.exchange.runs import open_trained
from nanollama.model.protocol import LanguageModel
from nanollama.model.shell import Shell
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.interventions import build_interventions

SHAPES = {
    "llama": LLAMA,
    "llama with biases": {**LLAMA, "bias": True, "d_ff": 20},
    "gpt2": {**GPT2, "mlp": "gelu"},
    "gpt2 as published": {**GPT2, "mlp": "gelu_tanh", "dropout": 0.1},
    "gpt2 without biases": {**GPT2, "mlp": "gelu", "bias": False},
    "mamba2": MAMBA2,
    "mamba2 with biases": {**MAMBA2, "bias": True, "conv_size": 3},
}
SENTENCES = toy_prompts("abc")


def loaded(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.eval()


def ids(n_rows: int = 3, n_tokens: int = 40) -> torch.Tensor:
    return torch.randint(TOKENIZER.vocab_size, (n_rows, n_tokens), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def check_alike(ours: LanguageModel, theirs: Any) -> None:
    """Logits within 1e-5, and the same tokens written greedily."""
    torch.testing.assert_close(ours(ids()), theirs(ids()).logits, rtol=1e-5, atol=1e-5)
    for sentence in SENTENCES:
        written = list(sentence)
        for _ in range(12):
            written.append(next_token(ours, written))
        told = theirs.generate(
            torch.tensor([sentence]),
            attention_mask=torch.ones(1, len(sentence), dtype=torch.long),
            max_new_tokens=12,
            min_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
        )
        assert told[0].tolist() == written


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_run_is_the_same_model_there_and_back(
    shape: dict[str, Any], tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = write_run(tmp_path / "run", tied_embeddings=tied, **shape)
    export_hf(tmp_path / "run", tmp_path / "there")
    theirs = loaded(tmp_path / "there")
    assert theirs.config.tie_word_embeddings == tied
    check_alike(ours, theirs)
    theirs.save_pretrained(tmp_path / "saved")  # by transformers itself, with the keys that it writes
    import_hf(tmp_path / "saved", tmp_path / "back")
    back, tokenizer = open_trained(tmp_path / "back")
    assert tokenizer is None and isinstance(back.model, Shell) and back.model.is_tied == tied
    check_alike(back.model, theirs)
    with torch.no_grad():
        assert torch.equal(back.model(ids()), ours(ids()))


def test_a_run_that_was_untied_midway_has_two_matrices_there(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "run", untied_at=5, tied_embeddings=True, **LLAMA)
    export_hf(tmp_path / "run", tmp_path / "there")
    theirs = loaded(tmp_path / "there")
    assert not theirs.config.tie_word_embeddings
    assert theirs.lm_head.weight.data_ptr() != theirs.model.embed_tokens.weight.data_ptr()
    check_alike(ours, theirs)


def test_what_is_exported_has_tokenizer_card_and_config_and_comes_back_to_its_study(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_run(tmp_path / "run", **LLAMA)
    run, there, back = (str(tmp_path / name) for name in ("run", "there", "back"))
    assert main(["export", "hf", run, there]) == 0
    assert {path.name for path in Path(there).iterdir()} == set(export.WRITTEN)
    assert len({path.stat().st_mode for path in Path(there).iterdir()}) == 1
    tokenizer = transformers.AutoTokenizer.from_pretrained(there, local_files_only=True)
    assert tokenizer("é")["input_ids"] == TOKENIZER.encode("é")
    assert loaded(Path(there)).generation_config.eos_token_id == TOKENIZER.end_id
    card = (Path(there) / "README.md").read_text()
    for told in ("| qa | f00d |", "| recall_trained | 0.25 |", "| step | 7 |", "0123abc", "d_model: 16"):
        assert told in card
    assert main(["import", "hf", there, back, f"{there}/nanollama.yaml"]) == 0
    known = open_trained(Path(back))[0]
    assert known.config.study == "memory"
    load = LoadConfig(implementation="load", run=Path(back))
    build_interventions([load], seed=0)[0].check(known.model)
    assert main(["import", "hf", there, back]) == 2
    assert main(["import", "hf", there, back, "--overwrite"]) == 0
    imported, encoder = open_trained(Path(back))
    assert imported.config.study == "imported" and encoder.encode("é").ids == TOKENIZER.encode("é")
    result = json.loads((Path(back) / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 0)


def test_a_run_of_text_is_exported_with_the_tokenizer_made_from_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    lines = [f"The number {n} is followed by {n + 1}." for n in range(200)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    text = {
        "files": [str(tmp_path / "lines.txt")],
        "cache": str(tmp_path / "cache"),
        "tokenizer": {"implementation": "wordpiece", "vocab_size": 96},
        "seq_len": 16,
    }
    config = TyingConfig.model_validate_json(
        json.dumps(
            {
                "study": "tying",
                "name": "text",
                "text": text,
                "model": {"vocab_size": 96, "n_layers": 1, "max_seq_len": 32, **LLAMA},
                "training": {"n_steps": 1, "device": "cpu"},
            }
        )
    )
    ours = write_model(tmp_path / "run", config)
    export_hf(tmp_path / "run", tmp_path / "there")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "there", local_files_only=True)
    kept = read_tokenizer(config)
    assert tokenizer(lines[7])["input_ids"] == kept.encode(lines[7]).ids
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.mask_token) == ("[SEP]", "[PAD]", "[MASK]")
    theirs = loaded(tmp_path / "there")
    assert theirs.config.eos_token_id == tokenizer.eos_token_id
    assert theirs.config.pad_token_id == tokenizer.pad_token_id
    there = f"{{implementation: hugging_face, path: {tmp_path / 'there'}}}"
    import_hf(
        tmp_path / "there", tmp_path / "back", [f"{tmp_path}/run/config.yaml", f"text.tokenizer={there}"]
    )
    back, encoder = open_trained(tmp_path / "back")
    assert back.config.study == "tying" and encoder.encode(lines[7]).ids == kept.encode(lines[7]).ids
    few = ids() % 96
    torch.testing.assert_close(ours(few[:, :32]), theirs(few[:, :32]).logits, rtol=1e-5, atol=1e-5)


def test_a_run_of_a_model_of_transformers_is_exported_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2}
    model = {"implementation": "hugging_face", "architecture": "gpt2", "sizes": sizes, "max_seq_len": 64}
    ours = write_model(tmp_path / "run", memory_config(model))
    export_hf(tmp_path / "run", tmp_path / "there")
    export_hf(tmp_path / "run", tmp_path / "there", overwrite=True)
    check_alike(ours, loaded(tmp_path / "there"))


NOT_EXPORTED = {
    "hybrid": ({"implementation": ["transformer", "mamba2"], "n_heads": 2, "d_model": 16}, "its blocks are"),
    "hawk": ({"implementation": "hawk", "d_model": 16}, "its blocks are hawk"),
    "two pi": ({**LLAMA, "rope_two_pi": True}, "model.rope_two_pi = true"),
    "normed": ({**LLAMA, "residual": "normed"}, "model.residual = 'normed'"),
    "no positions": ({**LLAMA, "positions": "none"}, "it is no Llama, for model.positions = 'none'"),
    "gated": ({**GPT2}, "it is no GPT-2, for model.mlp = 'swiglu'"),
    "some coordinates": ({**GPT2, "mlp": "gelu", "position_dim": 8}, "model.position_dim = 8"),
    "shared keys": ({**GPT2, "mlp": "gelu", "n_kv_heads": 1}, "model.n_kv_heads = 1"),
    "wide heads": ({**GPT2, "mlp": "gelu", "head_dim": 16}, "model.head_dim = 16"),
    "odd heads": ({**LLAMA, "n_heads": 3, "n_kv_heads": 3}, "model.d_model = 16 is not a multiple"),
    "mamba with MLPs": ({**MAMBA2, "mlp": "swiglu"}, "it is no Mamba2, for model.mlp = 'swiglu'"),
}


@pytest.mark.parametrize(("model", "said"), NOT_EXPORTED.values(), ids=NOT_EXPORTED)
def test_models_without_a_counterpart_are_told_in_one_sentence(
    model: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", **model)
    assert main(["export", "hf", str(tmp_path / "run"), str(tmp_path / "there")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_folder_is_replaced_when_asked_and_only_if_an_export_wrote_it(tmp_path: Path) -> None:
    write_run(tmp_path / "run", **LLAMA)
    run, there = tmp_path / "run", tmp_path / "there"
    there.mkdir()
    export_hf(run, there)
    with pytest.raises(UserError, match="is not empty: name another one, or add --overwrite"):
        export_hf(run, there)
    (there / "README.md").write_text("old")
    export_hf(run, there, overwrite=True)
    assert (there / "README.md").read_text() != "old"
    (there / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds thesis\.tex, which no export writes"):
        export_hf(run, there, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder"):
        export_hf(run, tmp_path / "file", overwrite=True)


def test_an_export_that_is_interrupted_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run", **LLAMA)
    export_hf(tmp_path / "run", tmp_path / "there")
    before = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_card", interrupt)
    for target in ("there", "new"):
        with pytest.raises(KeyboardInterrupt):
            export_hf(tmp_path / "run", tmp_path / target, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "there"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name, shape in (("llama", LLAMA), ("gpt2", {**GPT2, "mlp": "gelu"}), ("mamba2", MAMBA2)):
        write_run(folder / f"{name}_run", tied_embeddings=True, **shape)
        export_hf(folder / f"{name}_run", folder / name)
    return {name: folder / name for name in ("llama", "gpt2", "mamba2")}


NOT_IMPORTED = [
    ("llama", {"model_type": "opt"}, "model_type = 'opt' cannot be imported"),
    ("llama", {"model_type": None}, "has no model_type"),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type = 'linear'"),
    ("llama", {"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.rope_type = 'llama3'"),
    ("llama", {"attention_bias": True}, "mlp_bias = false"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("llama", {"sliding_window": 16}, "sliding_window = 16"),
    ("llama", {"auto_map": {"AutoModel": "x.y"}}, "auto_map = "),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = "),
    ("llama", {"hidden_size": "16"}, "hidden_size = '16' is not of the kind int"),
    ("llama", {"num_attention_heads": 0}, "gives no model of ours: n_heads"),
    ("llama", {"intermediate_size": 32}, "do not fit its config.json"),
    ("llama", {"num_hidden_layers": 3}, "lacks model.layers.2.input_layernorm.weight"),
    ("llama", {"num_hidden_layers": 9_000}, "has 9,000 layers, more than there are tensors"),
    ("llama", {"rms_norm_eps": 10**400}, "is not of the kind float"),
    ("llama", {"num_hidden_layers": 1}, "holds, beside what a model of its config has, model.layers.1"),
    ("llama", {"tie_word_embeddings": False}, "lacks lm_head.weight"),
    ("gpt2", {"activation_function": "relu"}, "activation_function = 'relu'"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = true"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention = true"),
    ("mamba2", {"n_groups": 2}, "n_groups = 2"),
    ("mamba2", {"time_step_limit": [0.1, 1.0]}, "time_step_limit = [0.1, 1.0]"),
]


@pytest.mark.parametrize(("name", "keys", "said"), NOT_IMPORTED)
def test_what_our_models_cannot_be_is_refused_by_its_key(
    name: str, keys: dict[str, Any], said: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(exported[name], there)
    values = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps({**values, **keys}))
    with pytest.raises(UserError) as error:
        import_hf(there, tmp_path / "run")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_is_none_or_another_models_is_refused_before_there_is_a_run(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(exported["llama"], there)
    tokenizer = there / "tokenizer.json"
    whole = {"model": {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(5_000)}, "unk_token": "w0"}}
    for content, said in (
        (b"\xff", "is no tokenizer"),
        (b'{"not": "a tokenizer"}', "is no tokenizer"),
        (json.dumps({"version": "1.0", "added_tokens": [], **whole}).encode(), "has 5,000 tokens, the model"),
    ):
        tokenizer.write_bytes(content)
        with pytest.raises(UserError, match=said):
            import_hf(there, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_run_is_made_in_the_folder_of_the_model(exported: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exported["llama"], tmp_path / "there")
    before = sorted((tmp_path / "there").iterdir())
    with pytest.raises(UserError, match="is the folder of the model itself"):
        import_hf(tmp_path / "there", tmp_path / "other" / ".." / "there")
    assert sorted((tmp_path / "there").iterdir()) == before


@pytest.mark.parametrize("overwrite", [True, False])
def test_no_run_is_made_in_a_folder_that_holds_something_else(
    exported: dict[str, Path], tmp_path: Path, overwrite: bool
) -> None:
    for name, there in (("model", "config.json"), ("apps", "tokenizer.json")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / there).write_text("mine")
        (folder / "tokenizer.json").write_text("mine")
        with pytest.raises(UserError, match=f"{name} holds {there} and no run: name another folder"):
            import_hf(exported["llama"], folder, overwrite=overwrite)
        assert {path.name for path in folder.iterdir()} == {there, "tokenizer.json"}
        assert (folder / "tokenizer.json").read_text() == "mine"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".gitignore").touch()
    import_hf(exported["llama"], tmp_path / "new", overwrite=overwrite)
    assert open_trained(tmp_path / "new")[0].step == 0


def test_nothing_is_unpickled_and_nothing_is_read_outside_of_the_folder(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(exported["llama"], there)
    (there / "model.safetensors").rename(there / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which could run any code"):
        import_hf(there, tmp_path / "run")
    index = there / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../llama/model.safetensors"}}))
    with pytest.raises(UserError, match="names what is no safetensors file of its folder"):
        import_hf(there, tmp_path / "run")
    (there / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        import_hf(there, tmp_path / "run")
    (there / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="is not a JSON object"):
        import_hf(there, tmp_path / "run")
    with pytest.raises(UserError, match="There is no folder"):
        import_hf(tmp_path / "none", tmp_path / "run")


def test_weights_in_several_files_in_half_precision_and_without_a_prefix(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    there = tmp_path / "there"
    shutil.copytree(exported["gpt2"], there)
    state = load_file(there / "model.safetensors")
    halves = {name.removeprefix("transformer."): one.bfloat16() for name, one in state.items()}
    halves["h.0.attn.bias"] = torch.ones(1, 1, 48, 48)  # a mask, as in the files of the published GPT-2
    (there / "model.safetensors").unlink()
    parts = {
        "model-00001-of-00002.safetensors": list(halves)[:9],
        "model-00002-of-00002.safetensors": list(halves)[9:],
    }
    for name, chosen in parts.items():
        save_file({key: halves[key] for key in chosen}, there / name)
    index = {"weight_map": {key: name for name, chosen in parts.items() for key in chosen}}
    (there / "model.safetensors.index.json").write_text(json.dumps(index))
    import_hf(there, tmp_path / "run")
    model = open_trained(tmp_path / "run")[0].model
    expected = state["transformer.wte.weight"].bfloat16().float()
    assert torch.equal(model.get_parameter("embedding.weight"), expected)
