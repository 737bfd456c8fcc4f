"""LuCI's widgets as a user meets them: buttons by their words, rows by their names, fields by their options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.luci.browser import Browser, Element
from tests.luci.stock.server import Stock, settle

#: Where a dialog is.
DIALOG = "#modal_overlay .modal"
_BUTTON = """
const [words, scope] = arguments;
const shown = e => e.getClientRects().length && !e.disabled;
for (const root of document.querySelectorAll(scope))
    for (const e of root.querySelectorAll('button, .btn, .cbi-button, li[data-value]'))
        if (shown(e) && e.textContent.trim() == words)
            return e;
return null;
"""
#: A widget is asked by its own class, and tells the form as it does when it is used.
_GIVE = """
const [id, value] = arguments;
const node = document.getElementById(id), select = node.matches('select') ? node : node.querySelector('select');
if (select) {
    select.value = value;
    select.dispatchEvent(new Event('change', { bubbles: true }));
    return select.value;
}
L.dom.callClassMethod(node, 'setValue', value);
node.dispatchEvent(new CustomEvent('widget-change', { bubbles: true }));
return L.dom.callClassMethod(node, 'getValue');
"""


class Page:
    """A page of LuCI in a browser. ``pictures`` is where :meth:`picture` puts them; without it, it does nothing."""

    def __init__(self, stock: Stock, browser: Browser, pictures: Path | None = None) -> None:
        self.stock, self.browser, self._pictures = stock, browser, pictures

    def open(self, node: str) -> None:
        """A page by its place in the menu; returns when it has what it asked for."""
        self.browser.open("about:blank")
        settle(self.stock)
        self.stock.rpcd.calls.clear()
        self.browser.open(self.stock.address(node))
        self.ready()

    def ready(self) -> None:
        """Wait until the view is there."""
        script = "return window.L && !document.querySelector('#view > .spinning') && document.readyState == 'complete'"
        self.browser.wait(lambda: self.browser.run(script), "the view")
        settle(self.stock)

    def button(self, words: str, scope: str = "body") -> Element:
        """One that can be pressed, by its words."""
        found: dict[str, str] = self.browser.wait(
            lambda: self.browser.run(_BUTTON, words, scope), f"a button {words!r} in {scope}"
        )
        return Element(self.browser, next(iter(found.values())))

    def press(self, words: str, scope: str = "body") -> None:
        self.button(words, scope).click()

    def row(self, name: str) -> str:
        """The selector of a row by its section's name."""
        return f'tr[data-section-id="{name}"], .tr[data-section-id="{name}"]'

    def rows(self) -> list[str]:
        """Names of the rows, in order."""
        script = "return [...document.querySelectorAll('.cbi-section-table-row[data-section-id]')].map(e => e.dataset.sectionId)"  # noqa: E501
        found: list[str] = self.browser.run(script)
        return found

    def add(self, name: str) -> None:
        """A new row by its name, as far as the dialog that asks for the rest."""
        self.browser.find(".cbi-section-create-name").type(name)
        self.press("Add", ".cbi-section-create")
        self.browser.find(DIALOG)
        settle(self.stock)

    def edit(self, name: str) -> None:
        self.press("Edit", self.row(name))
        self.browser.find(DIALOG)
        settle(self.stock)

    def delete(self, name: str) -> None:
        """LuCI stages it at once."""
        self.press("Delete", self.row(name))
        settle(self.stock)

    def give(self, section: str, option: str, value: Any) -> None:
        """A value to the field of an option: text, a list of texts, or a choice."""
        node = f"cbid.mwan3.{section}.{option}"
        self.browser.find(f'[id="{node}"]')
        got = self.browser.run(_GIVE, node, value)
        assert got == value, f"{option} is {got!r}, not {value!r}"

    def tick(self, section: str, option: str) -> None:
        """Press the box of a flag."""
        self.browser.find(f'[data-name="{option}"] input[type=checkbox]').click()

    def has(self, option: str) -> bool:
        """Whether a field can be seen."""
        script = "const e = document.querySelector(arguments[0]); return !!e && !!e.getClientRects().length"
        return bool(self.browser.run(script, f'[data-name="{option}"]'))

    def close(self) -> None:
        """Press the dialog's own Save, and wait until it is gone."""
        self.press("Save", DIALOG)
        self.gone()

    def gone(self) -> None:
        script = "return !document.body.classList.contains('modal-overlay-active')"
        self.browser.wait(lambda: self.browser.run(script), "the dialog to go")
        settle(self.stock)

    def save(self) -> None:
        """Save, which stages."""
        self.press("Save", ".cbi-page-actions")
        settle(self.stock)

    def save_and_apply(self) -> None:
        """Save & Apply, until the page has loaded itself again."""
        self.browser.run("window.before = true")
        self.press("Save & Apply", ".cbi-page-actions")
        self.reloaded()

    def reloaded(self) -> None:
        self.browser.wait(lambda: self.browser.run("return window.before === undefined"), "the page to load again")
        self.ready()

    def notice(self) -> str:
        """Texts of what LuCI shows above the page."""
        script = (
            "return [...document.querySelectorAll('#maincontent > .alert-message')].map(e => e.innerText).join('\\n')"  # noqa: E501
        )
        return str(self.browser.run(script))

    def drag_row(self, name: str, before: str) -> None:
        """Take a row by its handle, and let it go above another."""
        x, y = Element(self.browser, self._found(f"{self.row(before)}")).centre
        handle = Element(self.browser, self._found(f'[data-section-id="{name}"] .drag-handle'))
        self.browser.drag(handle, (x, y - 12))

    def _found(self, selector: str) -> str:
        return self.browser.find(selector).reference

    def text(self, selector: str = "#view") -> str:
        """What can be seen."""
        script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''"
        return str(self.browser.run(script, selector))

    def picture(self, name: str) -> None:
        if self._pictures is not None:
            self.browser.picture(self._pictures / f"{name}.png")

    def asked(self) -> list[str]:
        """Calls since the page was opened, each with its arguments and ubus' status."""
        return [
            f"{one.name} {one.method} {json.dumps(one.args)}" + ("" if one.code == 0 else f" -> {one.code}")
            for one in self.stock.rpcd.calls
        ]
