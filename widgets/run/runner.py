"""Train and map beside the notebook: buttons, progress, the live loss, and a Cancel that really stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets
import xarray as xr

from timo.checks import NotNegative, checked
from timo.cube import check_labels
from timo.errors import TimoError
from timo.models.config import PIXEL

from ..base.part import Part, replace_earlier
from ..base.state import State
from ..base.style import Message, PictureFallback, button, style_sheet
from . import tasks, view
from .jobs import Job, Queue
from .options import Options
from .tasks import Choices, Inputs, Outcome

_LEFT = {"align_items": "flex-start"}
_SHOWN = ("cube", "labels", "classes", "model")
FEW_TOOLTIP = "Train the head alone on a few labels, and map: in seconds"


class Runner(PictureFallback, Part):
    """Fine-tune, learn from a few clicks, map and pretrain, as jobs beside the notebook.

    Jobs run one at a time in a thread, with the number of threads that torch was given; further ones wait. A job works
    on copies of what the state holds when its button is pressed, and puts its results there when it ends, between two
    cells. While a cell runs the panel stands still; the job does not.

    Cancel ends a job within two seconds. A fine-tuning leaves its model as far as it was trained in the state, and in
    the folder named under Advanced (``runs/finetune/model`` for `timo.load_model`); with "go on with the last run" it
    is trained to the end.

    While a job trains, the random numbers of torch in this process are the job's: draw yours with a generator of your
    own.

    Parameters
    ----------
    cube : xarray.DataArray, optional
        The cube; by default that of the state.
    labels : xarray.DataArray, optional
        (y, x) or (time, y, x) integers, -1 = unlabelled, with the classes' names in ``attrs["classes"]``; by default
        those of the state.
    state : State, optional
        What is shared with other widgets: `cube`, `labels`, `classes` are read, `model`, `result` and `code` set.

    Attributes
    ----------
    queue : jobs.Queue
        The jobs.
    job : jobs.Job or None
        The job that is shown: the one that runs, or the last.
    options : Options
        What a job is made with; each control is an attribute, such as `options.epochs`.
    finetune_button, few_button, predict_button, pretrain_button, cancel_button : ipywidgets.Button
        The actions.
    bar, status, loss, lines, listed : ipywidgets
        Progress, a line about it, the curve, the log, and the jobs.
    advanced : ipywidgets.ToggleButton
        Shows the options that are not needed every day, and the button of the pretraining.
    note : Message
        What does not go with the model that is chosen.
    message : Message
        Errors, with their remedy; and what the labels chose in a few-click map (`timo.fit_head`).
    """

    @checked
    def __init__(
        self,
        cube: xr.DataArray | None = None,
        labels: xr.DataArray | None = None,
        *,
        state: State | None = None,
    ) -> None:
        super().__init__(state, cube)
        if labels is not None:
            if self.state.cube is not None:
                check_labels(labels, self.state.cube)
            self.state.labels = labels
        self._few = tasks.FewClicks()
        self.job: Job | None = None
        self.queue = Queue(self._show)
        self.options, self.note = Options(), Message()
        # Not an Accordion: its headings cannot be reached by the keyboard.
        self.advanced = ipywidgets.ToggleButton(
            description="Advanced",
            icon="sliders",
            tooltip="Pretrained weights, checkpoints, pretraining",
            layout={"width": "max-content"},
        )
        self.advanced.observe(self._show_advanced, names="value")
        self._make_buttons()
        self._make_progress()
        self.children = self._rooms()
        self.follow(self.state, self._refresh, *_SHOWN)
        for one in (self.options.start, self.options.size, self.options.per_date):
            self.follow(one, self._refresh, "value")
        self._refresh()
        replace_earlier(self)

    def _make_buttons(self) -> None:
        self.finetune_button = button(
            "Fine-tune", "graduation-cap", "Train the whole model on the labels", self.finetune
        )
        self.few_button = button(
            "Few-click map",
            "bolt",
            FEW_TOOLTIP,
            self.few_clicks,
            "primary",
        )
        self.predict_button = button(
            "Predict", "map-o", "Map the cube with the present model", self.predict
        )
        self.pretrain_button = button(
            "Pretrain", "cubes", "Learn from the cube itself, without labels", self.pretrain
        )
        self.cancel_button = button(
            "Cancel", "stop", "Stop the running job within two seconds", self.cancel, "warning"
        )

    def _make_progress(self) -> None:
        self.bar = ipywidgets.FloatProgress(
            min=0, max=1, description="Progress", layout={"width": "100%", "max_width": "460px"}
        )
        self.status, self.lines, self.listed = (ipywidgets.HTML() for _ in range(3))
        self.lines.layout.width = "auto"
        self.status.add_class("timo-status")
        self.loss = view.loss_chart()

    def _rooms(self) -> list[Any]:
        actions = ipywidgets.HBox(
            [self.few_button, self.finetune_button, self.predict_button, self.cancel_button],
            layout={"flex_flow": "row wrap"},
        )
        self._more = ipywidgets.VBox([self.options.advanced, self.pretrain_button], layout=_LEFT)
        self._show_advanced()
        progress = ipywidgets.VBox([self.bar, self.status, self.loss])
        jobs = ipywidgets.VBox([self.listed])
        return [
            style_sheet(),
            ipywidgets.HTML(view.CSS, layout={"display": "none"}),
            self.options.panel,
            self.note,
            actions,
            self.message,
            progress,
            self.lines,
            jobs,
            self.advanced,
            self._more,
        ]

    def finetune(self) -> Job | None:
        """Fine-tune a model on the labels; None, and a message, where that cannot be."""
        return self._submit("Fine-tune", tasks.finetune)

    def few_clicks(self) -> Job | None:
        """Train the head on the labels, with the encoder frozen, and map the cube."""
        return self._submit("Few-click map", self._few)

    def predict(self) -> Job | None:
        """Map the cube with the present model."""
        return self._submit("Predict", tasks.predict)

    def pretrain(self) -> Job | None:
        """Pretrain an encoder on the cube, which a new model can then start from."""
        return self._submit("Pretrain", tasks.pretrain)

    def cancel(self) -> None:
        """Stop the job that runs, or else take back the first that waits."""
        jobs = [job for job in self.queue.jobs if not job.ended]
        if jobs:
            jobs[0].cancel()
            self._show(jobs[0])

    @checked
    def wait(self, seconds: NotNegative | None = None) -> bool:
        """Wait in a cell until all jobs have ended, and show what came of them; return whether they have."""
        return self.queue.wait(seconds)

    def picture(self) -> bytes:
        """Return a PNG of the job that is shown."""
        return view.picture(self.job, self.loss)

    def _stop(self) -> None:
        self.queue.close(5)
        self._few.forget()

    def _submit(self, title: str, task: Callable[[Job, Inputs, Choices], Outcome]) -> Job | None:
        self.message.clear()
        try:
            inputs, choices = Inputs.of(self.state), self.options.choices
            if task in (tasks.finetune, self._few):
                inputs.check_labels()
        except TimoError as error:
            self.message.error(error)
            return None
        before = [job for job in self.queue.jobs if not job.ended]

        def work(job: Job) -> Outcome:
            # The present model is the one that the jobs before this one will have left.
            left = [j.result.model for j in before if isinstance(j.result, Outcome)]
            models = [model for model in (inputs.model, *left) if model is not None]
            return task(job, replace(inputs, model=models[-1] if models else None), choices)

        job = self.queue.submit(title, work, self._take)
        if self.job is None or self.job.ended:
            self.job = job
        self._show(job)
        return job

    def _take(self, job: Job) -> None:
        """Put what a job gave into the state; say what went wrong."""
        if job.state == "failed":
            # An error that is not ours is named: its message was not written for this panel.
            kind = "" if isinstance(job.error, TimoError) else f"{type(job.error).__name__}: "
            self.message.error(f"{job.title}: {kind}{job.error}")
        outcome = job.result
        if not isinstance(outcome, Outcome):
            return
        if outcome.model is not None:
            self.state.model = outcome.model
        if outcome.result is not None:
            self.state.result = outcome.result
        if outcome.note:
            self.message.info(outcome.note)
        if outcome.encoder and not outcome.stopped:
            self.options.offer(outcome.encoder)
        for line in outcome.code:
            self.state.echo(line)

    def _show_advanced(self, _: Any = None) -> None:
        self._more.layout.display = None if self.advanced.value else "none"

    def _show(self, job: Job) -> None:
        """Show where a job is; the queue calls it a few times a second."""
        if self._closed:
            return
        running = self.queue.current
        if running is not None:
            self.job = running
        elif not job.ended or self.job is None:
            self.job = self.job or job
        shown = self.job or job
        self.bar.value = shown.share
        self.bar.bar_style = {"failed": "danger", "cancelled": "warning", "done": "success"}.get(
            shown.state, "info"
        )
        self.status.value = f'<span role="status">{view.status_text(shown)}</span>'
        view.show_losses(self.loss, shown.losses)
        self.lines.value = view.log_html(list(shown.log))
        self._refresh()

    def _refresh(self, _: Any = None) -> None:
        """Show the jobs, and which buttons make sense."""
        jobs = self.queue.jobs
        self.listed.value = view.jobs_html(jobs)
        self.cancel_button.disabled = all(job.ended for job in jobs)
        no_cube = self.state.cube is None
        self.options.has_model(self.state.model is not None)
        choices = self.options.choices
        single = tasks.is_of_single_pixels(self.state.model, choices)
        self.options.trains(single=single)
        if single:
            self.note.info(tasks.SINGLE)
        else:
            self.note.clear()
        for one in (self.finetune_button, self.predict_button):
            one.disabled = no_cube
        self.few_button.disabled = no_cube or single
        self.few_button.tooltip = tasks.NO_HEAD if single else FEW_TOOLTIP
        self.pretrain_button.disabled = no_cube or choices.size == PIXEL
        if not jobs:
            self.status.value = f'<span role="status">{view.status_text(None)}</span>'
            view.show_losses(self.loss, [])
            self.lines.value = view.log_html([])
