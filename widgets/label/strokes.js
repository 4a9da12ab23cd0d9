// The labeler's brush and keys. A stroke is collected and shown here, and sent to the kernel once, when it is done.

const PAINT = 1;
const ERASE = 2;
const GRID = ["rows", "columns", "to_grid", "to_picture"];
const ROOT = ".timo-labeler";
const MAP = ".leaflet-container";

// ---- where things are ------------------------------------------------------------------------

const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

// Linear between nodes of a square lattice over 0..1, and beyond its edges.
function between(nodes, across, down) {
  const many = Math.sqrt(nodes.length / 2);
  const [x, y] = [across * (many - 1), down * (many - 1)];
  const [i, j] = [x, y].map((part) => Math.min(Math.max(Math.floor(part), 0), many - 2));
  const [a, b] = [x - i, y - j];
  const at = 2 * (j * many + i);
  const value = (k) =>
    (1 - b) * ((1 - a) * nodes[at + k] + a * nodes[at + 2 + k]) +
    b * ((1 - a) * nodes[at + 2 * many + k] + a * nodes[at + 2 * many + 2 + k]);
  return [value(0), value(1)];
}

// The pictures on the map are in Web Mercator, as its screen is: their rectangle shows where the grid is.
function cellAt(grid, container, x, y) {
  const box = container.querySelector("img.leaflet-image-layer")?.getBoundingClientRect();
  if (!box?.width || !grid.rows) return null;
  const [column, row] = between(grid.toGrid, (x - box.left) / box.width, (y - box.top) / box.height);
  return [Math.floor(row), Math.floor(column)];
}

// ---- cells of a stroke -----------------------------------------------------------------------

// In whole numbers, rounded half up: the kernel (cells.py) must come to the same.
function* line([row, column], [toRow, toColumn]) {
  const [down, across] = [toRow - row, toColumn - column];
  const steps = Math.max(Math.abs(down), Math.abs(across));
  for (let i = 1; i <= steps; i++) {
    yield [
      row + Math.floor((2 * i * down + steps) / (2 * steps)),
      column + Math.floor((2 * i * across + steps) / (2 * steps)),
    ];
  }
}

function cover(stroke, [row, column], grid) {
  const { cells, fresh, size } = stroke;
  const half = (size - 1) / 2;
  for (let r = Math.max(row - half, 0); r <= Math.min(row + half, grid.rows - 1); r++) {
    for (let c = Math.max(column - half, 0); c <= Math.min(column + half, grid.columns - 1); c++) {
      const cell = r * grid.columns + c;
      if (cells.has(cell)) continue;
      cells.add(cell);
      fresh.push(cell);
    }
  }
}

function touches([row, column], size, grid) {
  const half = (size - 1) / 2;
  return row + half >= 0 && column + half >= 0 && row - half < grid.rows && column - half < grid.columns;
}

function extend(stroke, cell, grid) {
  const last = stroke.path[stroke.path.length - 1];
  if (last && last[0] === cell[0] && last[1] === cell[1]) return;
  for (const passed of last ? line(last, cell) : [cell]) cover(stroke, passed, grid);
  stroke.path.push(cell);
}

// ---- what is shown ---------------------------------------------------------------------------

function addBox(path, grid, place, row, column, rows, columns) {
  [[0, 0], [0, columns], [rows, columns], [rows, 0]].forEach(([down, across], i) => {
    const point = between(grid.toPicture, (column + across) / grid.columns, (row + down) / grid.rows);
    path[i ? "lineTo" : "moveTo"](...place(point));
  });
  path.closePath();
}

// Neighbours in a row become one box.
function outlineOf(cells, grid, place) {
  const path = new Path2D();
  const sorted = Int32Array.from(cells).sort();
  for (let first = 0, i = 1; i <= sorted.length; i++) {
    if (sorted[i] === sorted[i - 1] + 1 && sorted[i] % grid.columns) continue;
    const [row, column] = [Math.floor(sorted[first] / grid.columns), sorted[first] % grid.columns];
    addBox(path, grid, place, row, column, 1, i - first);
    first = i;
  }
  return path;
}

// As the map will be: the picture without the labels, and the class over it.
function drawCells(context, stroke, view, grid) {
  const path = outlineOf(stroke.fresh, grid, view.place);
  context.save();
  context.clip(path);
  context.fillStyle = view.background;
  context.fill(path);
  context.drawImage(view.picture, view.left, view.top, view.width, view.height);
  if (!stroke.erases) {
    context.globalAlpha = stroke.opacity;
    context.fillStyle = stroke.colour;
    context.fill(path);
  }
  context.restore();
}

function drawBrush(context, [row, column], size, view, grid) {
  const path = new Path2D();
  const half = (size - 1) / 2;
  addBox(path, grid, view.place, row - half, column - half, size, size);
  for (const [colour, width] of [["#000000", 3], ["#ffffff", 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(path);
  }
}

// Where the picture is on the screen now, within its map.
function viewOf(container) {
  const picture = container.querySelector("img.leaflet-image-layer");
  if (!picture) return null;
  const [origin, box] = [container, picture].map((part) => part.getBoundingClientRect());
  const [left, top, width, height] = [box.left - origin.left, box.top - origin.top, box.width, box.height];
  return {
    picture, left, top, width, height, background: getComputedStyle(container).backgroundColor,
    key: [left, top, width, height, origin.width, origin.height, window.devicePixelRatio].join(),
    place: ([across, down]) => [left + across * width, top + down * height],
  };
}

// An empty canvas over the map.
function wiped(container, name) {
  let canvas = container.querySelector(`:scope > canvas.${name}`);
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.className = `timo-strokes ${name}`;
    container.append(canvas);
  }
  const scale = window.devicePixelRatio || 1;
  // Setting the size also wipes it.
  canvas.width = container.clientWidth * scale;
  canvas.height = container.clientHeight * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.imageSmoothingEnabled = false;
  return context;
}

// ---- the keys --------------------------------------------------------------------------------

const PRESSED = new Set(["checkbox", "radio", "button", "submit", "range", "color", "file"]);

function writesText(node) {
  if (node.isContentEditable || node.tagName === "TEXTAREA") return true;
  return node.tagName === "INPUT" && !PRESSED.has(node.type);
}

// What a key means to the labeler; null: nothing.
function meaning(event) {
  const key = event.key.toLowerCase();
  if (event.altKey || event.isComposing) return null;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return event.shiftKey ? "redo" : "undo";
    return key === "y" && event.ctrlKey && !event.shiftKey ? "redo" : null;
  }
  return /^[1-9]$/.test(key) ? Number(key) : null;
}

// JupyterLab takes single letters for commands to the cell ("d d" deletes it), unless the focus says that it shall not.
function keepFromLab(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Escape") return;
  if ((event.shiftKey && event.key === "Enter") || target.hasAttribute("data-lm-suppress-shortcuts")) return;
  target.setAttribute("data-lm-suppress-shortcuts", "true");
  setTimeout(() => target.removeAttribute("data-lm-suppress-shortcuts"));
}

// ---- together --------------------------------------------------------------------------------

async function parts(model) {
  const names = ["mode", "brush", "classes", "opacity"];
  const found = await Promise.all(
    names.map((name) => model.widget_manager.get_model(model.get(name).slice("IPY_MODEL_".length))),
  );
  return Object.fromEntries(names.map((name, i) => [name, found[i]]));
}

class Brush {
  constructor(model, el, panel) {
    Object.assign(this, { model, el, panel, stroke: null, pointer: null, hover: null, container: null });
    this.waiting = new Map();
    this.frame = 0;
    this.moving = false;
    this.readGrid();
  }

  readGrid() {
    const [rows, columns, toGrid, toPicture] = GRID.map((name) => this.model.get(name));
    this.grid = { rows, columns, toGrid: floats(toGrid), toPicture: floats(toPicture) };
  }

  get mode() { return this.panel.mode.get("index"); }

  get size() { return this.model.get("sizes")[this.panel.brush.get("index")] ?? 1; }

  get root() { return this.el.closest(ROOT); }

  // The map that the brush works on, if that is where the event is.
  mapOf(event) {
    if (this.mode !== PAINT && this.mode !== ERASE) return null;
    const container = event.target.closest?.(MAP);
    if (!container || event.target.closest(".leaflet-control")) return null;
    return this.root?.contains(container) ? container : null;
  }

  down(event) {
    const container = this.mapOf(event);
    if (!container || this.moving || event.button !== 0 || !event.isPrimary) return;
    stop(event);
    container.setPointerCapture(event.pointerId);
    container.focus({ preventScroll: true });
    const code = this.panel.classes.get("index");
    this.stroke = {
      id: `${Date.now()}-${Math.random()}`, path: [], cells: new Set(), fresh: [], size: this.size, code,
      erases: this.mode === ERASE, opacity: this.panel.opacity.get("value"),
      colour: this.model.get("colours")[code] ?? "transparent",
    };
    this.goTo(container);
    this.pointer = event.pointerId;
    this.follow(event);
  }

  goTo(container) {
    if (container === this.container) return;
    this.container = container;
    this.context = this.brush = null;
  }

  follow(event) {
    const cell = cellAt(this.grid, this.container, event.clientX, event.clientY);
    if (cell) extend(this.stroke, cell, this.grid);
    this.hover = cell;
    this.later();
  }

  move(event) {
    if (this.stroke) {
      if (event.pointerId !== this.pointer) return;
      event.stopImmediatePropagation();
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const one of passed.length ? passed : [event]) this.follow(one);
      return;
    }
    const container = this.moving ? null : this.mapOf(event);
    if (container) this.goTo(container);
    else if (!this.hover) return;
    this.hover = container && cellAt(this.grid, container, event.clientX, event.clientY);
    this.later();
  }

  up(event) {
    if (!this.stroke || event.pointerId !== this.pointer) return;
    stop(event);
    this.follow(event);
    const { id, path, cells, size, erases, code } = this.stroke;
    if (cells.size) {
      this.waiting.set(id, this.stroke);
      this.model.send({ kind: "stroke", id, path, size, erases, code });
    }
    this.stroke = null;
    this.later();
  }

  cancel(event) {
    if (!this.stroke || (event?.pointerId ?? this.pointer) !== this.pointer) return;
    this.stroke = null;
    this.later();
  }

  async done(id) {
    if (!this.waiting.has(id)) return;
    // The map's new picture came just before; it takes a moment to be unpacked.
    await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
    const pictures = [...(this.container?.querySelectorAll("img.leaflet-image-layer") ?? [])];
    await Promise.allSettled(pictures.map((picture) => picture.decode()));
    this.waiting.delete(id);
    this.later();
  }

  later() { this.frame = this.frame || requestAnimationFrame(() => this.show()); }

  show() {
    this.frame = 0;
    const view = this.container?.isConnected && this.grid.rows ? viewOf(this.container) : null;
    if (!view) return;
    const strokes = [...this.waiting.values(), ...(this.stroke ? [this.stroke] : [])];
    // Otherwise only what is new is drawn: a long stroke must not slow itself down.
    const shown = [view.key, ...strokes.map((stroke) => stroke.id)].join(" ");
    if (!this.context || !shown.startsWith(this.shown)) {
      this.context = wiped(this.container, "timo-stroke");
      for (const stroke of strokes) stroke.fresh = [...stroke.cells];
    }
    this.shown = shown;
    for (const stroke of strokes) {
      if (stroke.fresh.length) drawCells(this.context, stroke, view, this.grid);
      stroke.fresh = [];
    }
    this.showBrush(view);
    // The map may be moved or zoomed while the kernel works.
    if (this.waiting.size) this.later();
  }

  showBrush(view) {
    const brush = [view.key, this.hover, this.size].join(" ");
    if (brush === this.brush) return;
    this.brush = brush;
    const context = wiped(this.container, "timo-brush");
    if (this.hover && touches(this.hover, this.size, this.grid)) {
      drawBrush(context, this.hover, this.size, view, this.grid);
    }
  }

  // Whether a key is meant for this labeler: by the focus, or else by the pointer.
  hears(event) {
    const root = this.root;
    if (!root || writesText(event.composedPath()[0])) return false;
    const owner = event.target.closest?.(ROOT);
    return owner ? owner === root : root.matches(":hover");
  }

  key(event) {
    if (!this.hears(event)) return;
    if (this.stroke && event.key === "Escape") {
      stop(event);
      this.cancel();
    } else if (event.key === " " && this.spaceMoves(event)) {
      stop(event);
      this.moving = true;
      this.hover = null;
      this.later();
    } else if (meaning(event) !== null) {
      stop(event);
      this.act(meaning(event));
    } else if (this.root.contains(event.target)) {
      keepFromLab(event);
    }
  }

  act(wanted) {
    if (this.stroke) return;
    const { classes } = this.panel;
    if (typeof wanted === "string") this.model.send({ kind: wanted });
    else if (wanted <= classes.get("_options_labels").length) {
      classes.set("index", wanted - 1);
      classes.save_changes();
    }
  }

  // On a button the space bar presses the button.
  spaceMoves(event) {
    const map = this.root.querySelector(`${MAP}:hover, ${MAP}:focus`);
    const painting = this.mode === PAINT || this.mode === ERASE;
    return painting && map && !event.target.closest("button, input, select, a, [role=slider]");
  }

  keyUp(event) { if (event.key === " " || event.target === window) this.moving = false; }

  // The map must hear of no press while the brush works; of a move, not while there is a stroke.
  hold(event) { if (!this.moving && this.mapOf(event)) stop(event); }

  holdMove(event) { if (this.stroke) stop(event); }

  holdClick(event) { if (this.mapOf(event)) stop(event); }
}

function stop(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

async function render({ model, el }) {
  const brush = new Brush(model, el, await parts(model));
  // At the window and on the way down: before JupyterLab and the map, wherever the focus is.
  const heard = {
    pointerdown: "down", pointermove: "move", pointerup: "up", pointercancel: "cancel", keydown: "key", keyup: "keyUp",
    mousedown: "hold", touchstart: "hold", mousemove: "holdMove", wheel: "holdMove", click: "holdClick",
    dblclick: "holdClick", blur: "keyUp",
  };
  const ears = Object.entries(heard).map(([name, method]) => [name, (event) => brush[method](event)]);
  const options = { capture: true, passive: false };
  for (const [name, ear] of ears) window.addEventListener(name, ear, options);
  const readGrid = () => brush.readGrid();
  const putDown = () => {
    brush.hover = null;
    brush.later();
  };
  const onMessage = (content) => brush.done(content.done);
  for (const name of GRID) model.on(`change:${name}`, readGrid);
  model.on("msg:custom", onMessage);
  brush.panel.mode.on("change:index", putDown);
  return () => {
    for (const [name, ear] of ears) window.removeEventListener(name, ear, options);
    for (const name of GRID) model.off(`change:${name}`, readGrid);
    model.off("msg:custom", onMessage);
    brush.panel.mode.off("change:index", putDown);
    cancelAnimationFrame(brush.frame);
  };
}

export default { render };
