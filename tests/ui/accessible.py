"""What a screen reader is told of a page: Chromium's own accessibility tree."""

import re
from dataclasses import dataclass
from typing import Any

# Roles that a person operates, and those that are nothing without a name.
OPERATED = {
    "button",
    "checkbox",
    "combobox",
    "link",
    "listbox",
    "menuitem",
    "option",
    "popUpButton",
    "radio",
    "slider",
    "spinbutton",
    "switch",
    "tab",
    "textbox",
    "searchbox",
    "ToggleButton",
    "progressbar",
    "tablist",
}


@dataclass(frozen=True)
class Control:
    """Something that can be operated: what it is, what it is called, what it says of its value."""

    role: str
    name: str
    value: str
    markup: str


def controls(page: Any, box: Any) -> list[Control]:
    """All controls in a box that a screen reader meets, with or without a name.

    These are the roles above, and whatever else takes the focus or can be edited.
    """
    session = page.context.new_cdp_session(page)
    try:
        session.send("DOM.enable")
        session.send("Accessibility.enable")
        handle = _marked(box, session)
        nodes = session.send("Accessibility.queryAXTree", {"objectId": handle})["nodes"]
        return [_control(node, session) for node in nodes if _is_control(node)]
    finally:
        session.detach()


def _marked(box: Any, session: Any) -> str:
    """The box as the session knows it."""
    box.evaluate("element => { window.timoAudited = element; }")
    return session.send("Runtime.evaluate", {"expression": "window.timoAudited"})["result"][
        "objectId"
    ]


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["value"].get("value") for one in node.get("properties", [])}


def _is_control(node: dict[str, Any]) -> bool:
    if node.get("ignored") or "backendDOMNodeId" not in node:
        return False
    has = _properties(node)
    role = node["role"].get("value")
    # The list that a select opens is a part of Chromium, and has the name of the select.
    return role != "MenuListPopup" and (role in OPERATED or bool(has.get("focusable")))


def _control(node: dict[str, Any], session: Any) -> Control:
    number = {"backendNodeId": node["backendDOMNodeId"]}
    markup = session.send("DOM.getOuterHTML", number)["outerHTML"]
    said = re.match(r'<[^>]* aria-valuetext="([^"]*)"', markup)
    value = said.group(1) if said else node.get("value", {}).get("value") or ""
    name = node.get("name", {}).get("value") or ""
    return Control(node["role"].get("value", ""), name.strip(), str(value), markup[:300])
