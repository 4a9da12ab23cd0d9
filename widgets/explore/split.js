// A divider over a map: pictures of the front pane are shown left of it only. Dragged, or moved by the arrow keys.

const PANE = ".leaflet-timo-front-pane";

function render({ model, el }) {
  el.style.display = "none";
  let map = null;
  let watcher = null;
  let frame = 0;
  let tries = 0;
  const bar = document.createElement("div");
  bar.className = "timo-split";
  bar.tabIndex = 0;
  bar.setAttribute("role", "slider");
  bar.setAttribute("aria-label", "Divider between the two dates");
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", 100);
  const left = document.createElement("span");
  const right = document.createElement("span");
  const grip = document.createElement("i");
  left.className = "timo-split-left";
  right.className = "timo-split-right";
  grip.textContent = "◂ ▸";
  bar.append(left, grip, right);

  const place = () => {
    frame = 0;
    if (!map) return;
    const on = model.get("active");
    const position = model.get("position");
    bar.hidden = !on;
    bar.style.left = `${100 * position}%`;
    bar.setAttribute("aria-valuenow", Math.round(100 * position));
    left.textContent = model.get("left_text");
    right.textContent = model.get("right_text");
    const frameBox = map.getBoundingClientRect();
    const cut = frameBox.left + position * frameBox.width;
    for (const image of map.querySelectorAll(`${PANE} img`)) {
      const box = image.getBoundingClientRect();
      const hidden = box.width ? Math.min(100, Math.max(0, (100 * (box.right - cut)) / box.width)) : 0;
      const clip = on ? `inset(0px ${hidden.toFixed(2)}% 0px 0px)` : "";
      // Setting it only when it changes keeps the observer from calling itself.
      if (image.dataset.timoClip !== clip) {
        image.dataset.timoClip = clip;
        image.style.clipPath = clip;
      }
    }
  };
  const later = () => { frame = frame || requestAnimationFrame(place); };
  const find = () => {
    const root = el.closest(".timo-explorer");
    map = root && root.querySelector(".leaflet-container");
    if (!map) {
      // The map may be drawn after this; a page that is never shown is given up after a minute.
      if (tries++ < 300) timer = setTimeout(find, 200);
      return;
    }
    map.append(bar);
    watcher = new MutationObserver(later);
    watcher.observe(map, { subtree: true, childList: true, attributes: true, attributeFilter: ["style", "src", "class"] });
    map.addEventListener("transitionend", later);
    later();
  };
  let timer = setTimeout(find, 0);

  const move = (position, save) => {
    model.set("position", Math.min(1, Math.max(0, position)));
    if (save) model.save_changes();
  };
  const at = (event) => {
    const box = map.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  bar.addEventListener("pointerdown", (event) => {
    bar.setPointerCapture(event.pointerId);
    bar.focus();
    event.preventDefault();
  });
  bar.addEventListener("pointermove", (event) => {
    if (bar.hasPointerCapture(event.pointerId)) move(at(event), false);
  });
  bar.addEventListener("pointerup", (event) => move(at(event), true));
  bar.addEventListener("keydown", (event) => {
    const now = model.get("position");
    const to = {
      ArrowLeft: now - 0.02, ArrowRight: now + 0.02, PageDown: now - 0.1, PageUp: now + 0.1, Home: 0, End: 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(to, true);
  });
  // Neither the map nor the notebook may take these for their own.
  for (const kind of ["pointerdown", "mousedown", "touchstart", "click", "dblclick"]) {
    bar.addEventListener(kind, (event) => event.stopPropagation());
  }
  const names = ["active", "position", "left_text", "right_text"];
  for (const name of names) model.on(`change:${name}`, later);
  return () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    if (watcher) watcher.disconnect();
    if (map) map.removeEventListener("transitionend", later);
    bar.remove();
    for (const name of names) model.off(`change:${name}`, later);
  };
}

export default { render };
