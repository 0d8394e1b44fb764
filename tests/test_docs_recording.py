"""The recipe for recording runs as it is printed, where PyTorch is there, and how many steps it says are needed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sgdynamics.cli import main
from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
from sgdynamics.theory.diagnosis import diagnose

PAGE = (Path(__file__).parent.parent / "docs" / "recording.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_callbacks_are_python():
    assert len(BLOCKS) == 7
    for kind, code in BLOCKS:
        if kind == "python":
            compile(code, "docs/recording.md", "exec")


def test_the_loop_runs_as_printed_and_its_records_have_a_verdict(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs PyTorch")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for kind, code in BLOCKS:
        if kind == "console":
            assert main(code.removeprefix("$ sgdynamics ").split()) == 0
        elif "Callback" not in code:
            exec(compile(code, "docs/recording.md", "exec"), names)
    slopes, gradients = capsys.readouterr().out.split("quantity", 1)
    assert slopes.startswith("Noise-limited")
    assert "independent_cosine" in gradients


def blocks_of(*words):
    """The recorder, and the callback that is made of these words, as printed."""
    names: dict = {}
    for kind, code in BLOCKS:
        if kind == "python" and ("class Recorder" in code or any(word in code for word in words)):
            exec(compile(code, "docs/recording.md", "exec"), names)
    return names


def least_squares(torch):
    torch.manual_seed(0)
    inputs = torch.randn(256, 5)
    return inputs, inputs @ torch.randn(5, 1) + torch.randn(256, 1)


def loss_change(path, steps):
    """The mean of the two slopes is the change of a quadratic loss along a step."""
    with np.load(path) as found:
        assert len(found["slope_before"]) == len(found["slope_after"]) == steps
        return (found["slope_before"] + found["slope_after"]).sum() / 2


@pytest.mark.filterwarnings("ignore")
def test_the_callback_records_a_run_of_the_trainer_of_transformers(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="its trainer needs accelerate")
    names, (inputs, targets) = blocks_of("TrainerCallback"), least_squares(torch)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(5, 1)

        def forward(self, inputs, labels):
            return {"loss": torch.nn.functional.mse_loss(self.linear(inputs), labels)}

    model = Model()

    def loss():
        return model(inputs, targets)["loss"]

    start = loss().item()

    how = transformers.TrainingArguments(
        tmp_path, max_steps=120, per_device_train_batch_size=8, learning_rate=0.1, lr_scheduler_type="constant",
        optim="sgd", report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, max_grad_norm=0.0,
    )  # fmt: skip
    data = [{"inputs": x, "labels": y} for x, y in zip(inputs, targets, strict=True)]
    callback = names["RecordSlopes"](names["Recorder"](model, loss), tmp_path / "slopes.npz")
    transformers.Trainer(model, how, train_dataset=data, callbacks=[callback]).train()
    assert loss_change(tmp_path / "slopes.npz", 120) == pytest.approx(loss().item() - start, rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_callback_records_a_run_of_lightning(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning")
    monkeypatch.chdir(tmp_path)
    names, (inputs, targets) = blocks_of("lightning"), least_squares(torch)

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(5, 1)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.mse_loss(self.linear(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Model()

    def loss():
        return torch.nn.functional.mse_loss(model.linear(inputs), targets)

    start = loss().item()

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=8, shuffle=True)
    callback = names["RecordSlopes"](names["Recorder"](model, loss), tmp_path / "slopes.npz")
    lightning.Trainer(
        max_steps=120, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, loader)  # fmt: skip
    assert loss_change(tmp_path / "slopes.npz", 120) == pytest.approx(loss().item() - start, rel=1e-4)


@pytest.mark.parametrize(
    ("warm", "steps", "verdict"),
    [(3000, 1500, "Noise-limited"), (3000, 100, "Undecided"), (0, 100, "Still descending")],
)
def test_a_network_has_a_verdict_after_as_many_steps_as_the_page_says(warm, steps, verdict):
    x, y, _, _ = trainer.split(*trainer.digits(), train=1200, seed=0)
    how = {"replacement": True, "label_noise": 0.2}
    objective = trainer.Objective(trainer.network([64, 32, 10], "tanh", seed=0), x, y, "cross_entropy")
    if warm:
        batches = trainer.Batches(16, seed=0, **how)
        settled = trainer.trajectory(objective, schedules.constant(0.3, warm), batches=batches)
        objective = objective.with_flat(settled.final_weights)
    kept = {"record": np.arange(steps + 1), "keep_weights": True, "evaluate_loss": False}
    batches = trainer.Batches(16, seed=100, **how)
    run = trainer.trajectory(objective, schedules.constant(0.3, steps), batches=batches, **kept)
    weights = run.weights.values
    fresh = trainer.Batches(128, seed=200, **how).drawn(objective, 2 * steps)
    slopes = np.empty((steps, 2))
    for step, end in np.ndindex(steps, 2):
        gradient = trainer.gradient(objective.net.with_flat(weights[step + end]), *next(fresh), "cross_entropy")
        slopes[step, end] = gradient @ (weights[step + 1] - weights[step])
    assert diagnose(dict(zip(("slope_before", "slope_after"), slopes.T, strict=True))).verdict.startswith(verdict)


@pytest.mark.parametrize(("gain", "size"), [(0.1, 100), (0.3, 20)])
def test_the_width_of_the_vertex_is_what_the_page_says(gain, size):
    steps = int(450 * (1 - gain / 2) / (size * gain**2))
    widths = []
    for seed in range(8):
        random = np.random.default_rng([3, seed])
        error = np.sqrt(gain / (2 - gain)) * random.normal(size=size)
        slopes = []
        for _ in range(steps):
            moved = -gain * (error - random.normal(size=size))
            first, second = random.normal(size=(2, size))
            slopes.append([(error - first) @ moved, (error + moved - second) @ moved])
            error = error + moved
        before, after = np.transpose(slopes)
        found = diagnose({"slope_before": before, "slope_after": after}).sel(quantity="vertex")
        widths.append(float(found.upper - found.lower) / 2)
    expected = 2 / gain * np.sqrt((1 - gain / 2) / (2 * size * steps))
    assert np.median(widths) == pytest.approx(expected, rel=0.2)
