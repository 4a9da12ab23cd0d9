// Names for whoever does not see the page, where ipywidgets and Leaflet give none: handles of sliders, players, groups
// of buttons, bars of progress, maps. What is seen beside a control is also what it is called.

const PLAYER = { "fa-play": "Play", "fa-pause": "Pause", "fa-stop": "Stop", "fa-retweet": "Repeat" };
// Roots that are looked after, and how many sheets look after each: one page may hold several in one box.
const WATCHED = (window[Symbol.for("timo.names")] ??= new WeakMap());

function put(node, attribute, text) {
  // What is there already is not set again: that would be a change, to be looked at in its turn.
  if (text && node.getAttribute(attribute) !== text) node.setAttribute(attribute, text);
}

// ipywidgets fills an empty label with a space of no width.
const clean = (text) => (text ?? "").replace(/[\s\u200b]+/g, " ").trim();

// What a widget is called on the screen, or else what its tooltip says.
function called(widget) {
  const label = widget.querySelector(":scope > .widget-label");
  // ipywidgets puts the tooltip on the label, and the word "null" where there is none.
  const tip = label?.title === "null" ? "" : label?.title;
  return clean(label?.textContent) || clean(tip) || clean(widget.title);
}

function nameSlider(widget) {
  const name = called(widget);
  const handles = widget.querySelectorAll("[role=slider]");
  const readout = widget.querySelector(".widget-readout");
  const said = clean(readout?.textContent);
  handles.forEach((handle, i) => {
    put(handle, "aria-label", handles.length > 1 ? `${name}, ${i ? "to" : "from"}` : name);
    // A date rather than its number. Of two handles each would say both ends: their order says which is which.
    put(handle, "aria-valuetext", handles.length > 1 ? clean(said.split(/\s[–-]\s/)[i]) : said);
  });
  if (readout?.isContentEditable) {
    put(readout, "role", "textbox");
    put(readout, "aria-label", name && `${name}, value`);
  }
}

function namePlayer(widget) {
  put(widget, "role", "group");
  put(widget, "aria-label", called(widget) || "Player");
  for (const button of widget.querySelectorAll("button")) {
    const icon = button.querySelector("i") ?? button;
    const kind = Object.keys(PLAYER).find((name) => icon.classList.contains(name));
    put(button, "aria-label", PLAYER[kind] ?? clean(button.title));
  }
}

function nameGroup(widget) {
  put(widget, "role", "group");
  put(widget, "aria-label", called(widget));
}

function nameField(field) {
  const widget = field.closest(".jupyter-widgets");
  const label = widget?.querySelector(":scope > .widget-label");
  if (field.labels?.length && [...field.labels].some((one) => clean(one.textContent))) return;
  if (!widget || clean(label?.textContent)) return;
  put(field, "aria-label", called(widget) || clean(field.title) || clean(field.placeholder));
}

function nameProgress(widget) {
  const bar = widget.querySelector(".progress-bar");
  const place = widget.querySelector(".progress");
  if (!bar || !place) return;
  put(place, "role", "progressbar");
  put(place, "aria-label", called(widget));
  put(place, "aria-valuenow", String(Math.round(parseFloat(bar.style.width || bar.style.height || "0"))));
}

// What to look for, and what to do with it.
const RULES = [
  [".widget-slider, .widget-hslider, .widget-vslider", nameSlider],
  [".widget-play", namePlayer],
  [".widget-toggle-buttons, .widget-radio", nameGroup],
  [".widget-toggle-buttons button, .widget-toggle-button",
    (button) => put(button, "aria-pressed", String(button.classList.contains("mod-active")))],
  [".jupyter-widgets input, .jupyter-widgets select, .jupyter-widgets textarea", nameField],
  [".widget-hprogress, .widget-vprogress", nameProgress],
  [".leaflet-container", (map) => { put(map, "role", "region"); put(map, "aria-label", "Map"); }],
  [".leaflet-marker-icon[role=button]",
    (pin) => put(pin, "aria-label", `Pin ${clean(pin.textContent).replace("?", "")}`.trim())],
  ["[role=tablist]", (tabs) => put(tabs, "aria-label", "Tabs")],
  // An icon is a letter of a font, which would be read out.
  ["button > i, a > i", (icon) => put(icon, "aria-hidden", "true")],
];

function nameAll(root) {
  for (const [selector, name] of RULES) root.querySelectorAll(selector).forEach(name);
}

function watch(root) {
  let waiting = 0;
  const later = () => { waiting = waiting || setTimeout(() => { waiting = 0; nameAll(root); }, 50); };
  const observer = new MutationObserver(later);
  observer.observe(root, {
    subtree: true, childList: true, characterData: true,
    attributes: true, attributeFilter: ["class", "title", "aria-valuetext", "aria-label", "contenteditable"],
  });
  nameAll(root);
  return { count: 0, stop: () => { observer.disconnect(); clearTimeout(waiting); } };
}

// The outermost box of ours around an element, once it is on the page.
function rootOf(element) {
  let root = null;
  for (let box = element.closest(".timo"); box; box = box.parentElement?.closest(".timo")) root = box;
  return root;
}

function render({ el }) {
  let root = null;
  let timer = 0;
  const begin = () => {
    root = el.isConnected ? rootOf(el) : null;
    if (root === null) {
      timer = setTimeout(begin, 200);
      return;
    }
    if (!WATCHED.has(root)) WATCHED.set(root, watch(root));
    WATCHED.get(root).count += 1;
  };
  begin();
  return () => {
    clearTimeout(timer);
    const watched = root && WATCHED.get(root);
    if (watched && --watched.count === 0) {
      watched.stop();
      WATCHED.delete(root);
    }
  };
}

export default { render };
