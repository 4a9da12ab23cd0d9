"""A notebook as it stands in JupyterLab, driven through the application's own commands."""

from pathlib import Path
from typing import Any

ERRORS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .flatMap(cell => cell.outputs ?? [])
    .filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""
READ = """async code => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    let text = '';
    const future = kernel.requestExecute({code, store_history: false, silent: false});
    future.onIOPub = message => {
        const content = message.content;
        if (message.header.msg_type === 'stream') text += content.text;
        if (message.header.msg_type === 'error') text += content.traceback.join('\\n');
    };
    await future.done;
    return text;
}"""


class NotebookPage:
    """A page of the browser with a notebook in JupyterLab."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def open(self, address: str, theme: str) -> None:
        """Open the notebook, with nothing beside it, and wait for its kernel."""
        self.page.goto(address, timeout=90_000)
        self.page.wait_for_selector(".jp-Notebook", timeout=90_000)
        self.command("apputils:change-theme", theme=theme)
        self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Do what a menu entry does."""
        self.page.evaluate(
            "([name, options]) => window.jupyterapp.commands.execute(name, options).then(() => null)",
            [name, arguments],
        )

    def run_all(self, seconds: float) -> None:
        """Run all cells, and wait until the last one has its number."""
        self.page.set_default_timeout(seconds * 1000)
        self.command("notebook:run-all-cells")
        self.page.set_default_timeout(30_000)
        assert not (failed := self.page.evaluate(ERRORS)), failed

    def ask(self, code: str) -> str:
        """Run code in the kernel beside the notebook's cells; returns what it prints."""
        return self.page.evaluate(READ, code).strip()

    def path(self, code: str) -> Path:
        """Path that an expression gives in the kernel."""
        return Path(self.ask(f"print({code})"))

    def shut_down(self) -> None:
        """End the kernel and wait for that; the notebook is not saved."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget?.sessionContext.shutdown()")
