"""How any study runs: settings, plan, steps in order, going on where it stopped."""

import json
from dataclasses import dataclass, replace

import pytest

from wsx.errors import OptionError, StudyError, TrainingError, UnknownNameError
from wsx.report.findings import Claim, Findings
from wsx.studies.papers import (
    SCALES,
    STUDIES,
    Machine,
    Settings,
    Step,
    Study,
    make_plan,
    run_study,
    settings_of,
)
from wsx.studies.papers._base import Work
from wsx.studies.papers.variants import RankedSettings
from wsx.training.recipes import Recipe
from wsx.training.run import DataSpec

DATA = DataSpec("digits", n_train=100)


@dataclass(frozen=True)
class Note(Step):
    name: str
    ran: list
    fails: bool = False

    def work(self):
        return Work(n_trainings=1, n_train_images=10, seconds_per_train_image=0.5)

    def run(self, folder, machine, update):
        self.ran.append((self.name, machine.device))
        update(1, 1, "")
        if self.fails:
            raise TrainingError(f"{self.name} diverged")


class Doubled(Study):
    paper, summary = "nowhere", "a study of nothing"

    def __init__(self, *failing):
        self.ran, self.failing = [], failing

    def settings(self, scale):
        return Settings("nasbench201", DATA, Recipe(epochs=len(scale)), seeds=(0, 1))

    def steps(self, settings, folder):
        return [Note(name, self.ran, name in self.failing) for name in ("a", "b", "c")]

    def findings(self, settings, folder):
        return Findings("nothing", "asked", [Claim("x", "y", "open", f"{len(self.ran)} steps")])


def run(study, folder, settings=None, **changes):
    settings = settings or replace(study.settings("tiny"), **changes)
    begun = []

    def start(name):
        begun.append(name)
        return lambda done, total, note: None

    found = run_study(
        "doubled", study, settings, folder, machine=Machine(device="cpu"), start=start
    )
    return found, begun


def test_steps_run_in_order_and_once(tmp_path):
    study = Doubled()
    plan = make_plan(study.steps(study.settings("tiny"), tmp_path), tmp_path)
    assert [(step.name, step.work.seconds, step.is_done) for step in plan] == [
        ("a", 5.0, False),
        ("b", 5.0, False),
        ("c", 5.0, False),
    ]
    findings, begun = run(study, tmp_path)
    assert study.ran == [("a", "cpu"), ("b", "cpu"), ("c", "cpu")]
    assert begun == ["a", "b", "c"]
    assert json.loads((tmp_path / "findings.json").read_text()) == findings.as_dict()
    assert "a study of nothing" not in (page := (tmp_path / "report.html").read_text())
    assert "3 steps" in page
    assert run(study, tmp_path)[1] == []
    assert all(
        step.is_done for step in make_plan(study.steps(study.settings("tiny"), tmp_path), tmp_path)
    )


def test_a_failed_step_is_where_it_goes_on(tmp_path):
    study = Doubled("b")
    with pytest.raises(TrainingError, match="b diverged"):
        run(study, tmp_path)
    assert not (tmp_path / "findings.json").exists()
    study.failing = ()
    assert run(study, tmp_path)[1] == ["b", "c"]


def test_another_study_in_the_folder_is_refused(tmp_path):
    run(Doubled(), tmp_path)
    with pytest.raises(StudyError, match=r"settings\.seeds differ"):
        run(Doubled(), tmp_path, seeds=(0, 2))
    with pytest.raises(StudyError, match=r"settings\.recipe\.lr differ"):
        run(Doubled(), tmp_path, recipe=Recipe(lr=0.5, epochs=4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"format_version": 1}', "is damaged"),
        ('{"format_version": 1e999, "study": "x", "settings": {}}', "is damaged"),
        (
            '{"format_version": 2, "study": "x", "settings": {}}',
            "study format 2; this wsx reads up to 1",
        ),
    ],
)
def test_foreign_folders_are_refused(tmp_path, content, message):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=message):
        run(Doubled(), tmp_path)


def test_settings_take_overrides():
    study = Doubled()
    changed = settings_of(
        study,
        "small",
        {
            "seeds": "3, 4,5",
            "bn": "running",
            "n_images": "50",
            "recipe.lr": "0.5",
            "recipe.channels": "8",
            "data.spec": "cifar10=x",
            "data.n_train": "7",
        },
    )
    assert changed == replace(
        study.settings("small"),
        seeds=(3, 4, 5),
        bn="running",
        n_images=50,
        recipe=Recipe(epochs=5, lr=0.5, supernet={"channels": 8}),
        data=DataSpec("cifar10=x", n_train=7),
    )


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"sedes": "1"}, UnknownNameError, "Did you mean seeds"),
        ({"recipe": "x"}, UnknownNameError, r"recipe\.\*"),
        ({"data.n_trian": "1"}, UnknownNameError, "n_train"),
        ({"n_images": "many"}, OptionError, "n_images is 'many'"),
        ({"seeds": "1,x"}, OptionError, "seeds is 'x'"),
        ({"recipe.lr": "-1"}, OptionError, "lr is -1"),
    ],
)
def test_wrong_overrides_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        settings_of(Doubled(), "tiny", values)


def test_unknown_scales_are_refused():
    with pytest.raises(OptionError, match="'huge' is none of: tiny, small, paper"):
        settings_of(Doubled(), "huge", {})


@pytest.mark.parametrize("name", list(STUDIES))
@pytest.mark.parametrize("scale", SCALES)
def test_settings_of_all_studies_are_sound(name, scale, tmp_path):
    settings = settings_of(STUDIES[name], scale, {})
    json.dumps(settings.as_dict(), allow_nan=False)
    if isinstance(settings, RankedSettings) and scale != "tiny":
        # Tables of whole benchmarks do not come with wsx.
        with pytest.raises(StudyError, match="--set truth=PATH"):
            STUDIES[name].steps(settings, tmp_path)
        if settings.space != "nasbench201":
            return
        smaller = {"random-search": {"budget": "100"}}.get(name, {})
        settings = settings.override({"truth": "digits-nasbench201", **smaller})
    steps = STUDIES[name].steps(settings, tmp_path)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) > 1
    assert not list(tmp_path.iterdir())
