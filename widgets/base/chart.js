// A chart of series over dates: masked observations hollow, bars below, one cursor that clicks and arrow keys move.

const SVG = "http://www.w3.org/2000/svg";
const MASKED = "#8C8C8C";
const CURSOR = "var(--jp-ui-font-color1, #212121)";
const FAINT = "var(--jp-border-color2, #cccccc)";
const INK = "var(--jp-ui-font-color1, #212121)";
// Height of the row of dates on which a series saw nothing.
const ROW = 7;
// Width of the widest bar.
const WIDEST = 14;
// A shape for each series: colour alone does not tell them apart for all eyes.
const SHAPES = [
  (r) => `M${-r},0A${r},${r} 0 1 0 ${r},0A${r},${r} 0 1 0 ${-r},0Z`,
  (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0,${-1.3 * r}L${1.2 * r},${r}H${-1.2 * r}Z`,
  (r) => `M0,${-1.4 * r}L${1.4 * r},0L0,${1.4 * r}L${-1.4 * r},0Z`,
  (r) => `M0,${1.3 * r}L${1.2 * r},${-r}H${-1.2 * r}Z`,
];

function make(name, attributes, parent, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

const day = (iso) => Date.parse(iso.length === 10 ? iso + "T00:00:00Z" : iso);
// Steps of a training are numbers, all else dates.
const timeOf = (model) => (model.get("numeric") ? Number : day);
const shortDate = (text) => text.slice(0, 10);
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const short = (value) => (known(value) ? Number(value.toPrecision(3)).toString() : "–");

function niceTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

// Starts of years, or of months where the series is short, that leave each other room.
function dateTicks(times, width, numeric) {
  if (numeric) return niceTicks(times[0], times[times.length - 1], width / 60).map((at) => [at, String(at)]);
  const first = new Date(times[0]);
  const last = times[times.length - 1];
  const monthly = (last - times[0]) / 864e5 < 800;
  const all = [];
  for (let i = 0; ; i++) {
    const at = monthly
      ? Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + i)
      : Date.UTC(first.getUTCFullYear() + i, 0);
    if (at > last) break;
    if (at >= times[0]) {
      const iso = new Date(at).toISOString();
      all.push([at, monthly ? iso.slice(0, 7) : iso.slice(0, 4)]);
    }
  }
  const every = Math.max(1, Math.ceil((all.length * (monthly ? 62 : 42)) / width));
  return all.filter((_, i) => i % every === 0);
}

function range(model, series) {
  const fixed = model.get("y_range");
  if (fixed.length === 2) return fixed;
  let low = Infinity;
  let high = -Infinity;
  for (const one of series) {
    for (const value of one.values) {
      if (!known(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

function draw(model, svg, width) {
  svg.replaceChildren();
  const height = model.get("height");
  const compact = model.get("compact");
  const dates = model.get("dates");
  const series = model.get("series");
  const bars = model.get("bars");
  const title = compact ? "" : model.get("title");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.setAttribute("width", width);
  if (!dates.length || (!series.length && !bars.length)) {
    make("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "timo-chart-empty" }, svg,
      model.get("empty"));
    return null;
  }
  const numeric = model.get("numeric");
  const time = timeOf(model);
  const times = dates.map(time);
  const left = compact ? 8 : 58;
  const right = compact ? width - 8 : width - 14;
  const top = compact ? 3 : title ? 26 : 10;
  const foot = height - (compact ? 15 : 20);
  const span = Math.max(1, times[times.length - 1] - times[0]);
  const even = model.get("even");
  // Evenly spaced dates stand under the handle of a slider; otherwise time runs evenly.
  // The outermost bars stand between the axis' numbers and the edge, not across them.
  const room = bars.length && !compact ? WIDEST / 2 + 2 : 0;
  const spread = (share) => left + room + share * (right - left - 2 * room);
  const x = (time) => times.length === 1 ? (left + right) / 2 : spread((time - times[0]) / span);
  const place = (i) => times.length === 1 ? (left + right) / 2 : even ? spread(i / (times.length - 1)) : x(times[i]);
  const both = series.length && bars.length;
  const middle = both ? foot - Math.max(40, (foot - top) * 0.3) : foot;

  if (title) make("text", { x: left, y: 15, class: "timo-chart-title" }, svg, title);
  drawDates(svg, { dates, times, even, place, x, left, right, foot, compact, numeric });
  if (series.length) {
    const [low, high] = range(model, series);
    // What was not seen has no height: it gets rows of its own under the values.
    const unseen = series.some((one) => one.values.some((value) => !known(value)));
    const floor = unseen ? middle - ROW * series.length - 2 : middle;
    const y = (value) => floor - ((value - low) / (high - low)) * (floor - top);
    drawAxis(svg, { low, high, y, left, right, top, bottom: floor, label: model.get("y_label") });
    const clip = "clip-" + Math.random().toString(36).slice(2);
    make("rect", { x: left - 6, y: top - 4, width: right - left + 12, height: middle - top + 8 },
      make("clipPath", { id: clip }, svg));
    const group = make("g", { "clip-path": `url(#${clip})` }, svg);
    series.forEach((one, i) => drawSeries(group, one, i, { place, x, y, even, time, numeric, bottom: middle }));
  }
  if (bars.length) drawBars(svg, model, { place, left, right, top: both ? middle + 12 : top, foot, compact });
  const selected = model.get("selected");
  if (selected >= 0 && selected < times.length) {
    const at = place(selected);
    make("line", { x1: at, x2: at, y1: top - 3, y2: foot, stroke: CURSOR, "stroke-width": 1.5, class: "timo-cursor" }, svg);
    make("path", { d: `M${at - 5},${foot + 6}L${at},${foot}L${at + 5},${foot + 6}Z`, fill: CURSOR }, svg);
  }
  return { place, count: times.length, left, right };
}

function drawDates(svg, { dates, times, even, place, x, left, right, foot, compact, numeric }) {
  make("line", { x1: left, x2: right, y1: foot, y2: foot, stroke: FAINT }, svg);
  let free = -Infinity;
  for (const [at, text] of dateTicks(times, right - left, numeric)) {
    const i = times.findIndex((time) => time >= at);
    const here = even ? place(i) : x(at);
    make("line", { x1: here, x2: here, y1: foot, y2: foot + 4, stroke: INK }, svg);
    const half = text.length * 3.2;
    // The evenly spaced dates may crowd two years; the text must not leave the picture either.
    if (here - half < free || here + half > right + 10) continue;
    free = here + half + 6;
    make("text", { x: Math.max(here, half), y: foot + (compact ? 12 : 16), "text-anchor": "middle" }, svg, text);
  }
  if (free === -Infinity) {
    make("text", { x: left, y: foot + (compact ? 12 : 16) }, svg, shortDate(dates[0]));
  }
}

function drawAxis(svg, { low, high, y, left, right, top, bottom, label }) {
  for (const tick of niceTicks(low, high, (bottom - top) / 34)) {
    make("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), stroke: FAINT, "stroke-width": 0.6 }, svg);
    make("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, svg, short(tick));
  }
  const middle = (top + bottom) / 2;
  make("text", { transform: `translate(13,${middle}) rotate(-90)`, "text-anchor": "middle" }, svg, label);
}

function drawSeries(svg, one, index, { place, x, y, even, time, numeric, bottom }) {
  const at = (i) => (even || !one.times.length ? place(i) : x(time(one.times[i])));
  const points = one.values.map((value, i) => [at(i), value, one.valid[i]]);
  const line = points.filter(([, value, valid]) => valid && known(value));
  make("path", {
    d: line.map(([px, value], i) => `${i ? "L" : "M"}${px.toFixed(1)},${y(value).toFixed(1)}`).join(""),
    fill: "none", stroke: one.colour, "stroke-width": numeric ? 2 : 1.2,
  }, svg);
  // A curve of many steps; a line of one point is not seen.
  if (numeric && points.length > 1) return;
  const form = SHAPES[index % SHAPES.length];
  const [shape, small] = [form(points.length > 400 ? 1.6 : 2.6), form(1.9)];
  for (const [px, value, valid] of points) {
    const py = known(value) ? y(value) : bottom - ROW * (index + 0.5);
    const seen = valid && known(value);
    make("path", {
      d: known(value) ? shape : small, transform: `translate(${px.toFixed(1)},${py.toFixed(1)})`,
      fill: seen ? one.colour : "none", stroke: seen ? "none" : known(value) ? one.colour : MASKED,
      "stroke-width": 1, class: seen ? "timo-valid" : "timo-masked",
    }, svg);
  }
}

function drawBars(svg, model, { place, left, right, top, foot, compact }) {
  const bars = model.get("bars");
  const fixed = model.get("bars_range");
  const most = fixed.length === 2 ? fixed[1] : Math.max(...bars.filter(known), 1e-12);
  const pitch = bars.length > 1 ? Math.min(...bars.slice(1).map((_, i) => place(i + 1) - place(i))) : 20;
  const wide = Math.max(1.5, Math.min(WIDEST, pitch * 0.8));
  if (compact) {
    make("rect", { x: left, y: top, width: right - left, height: foot - top, fill: FAINT, opacity: 0.25 }, svg);
  } else {
    make("text", { x: left - 6, y: top + 8, "text-anchor": "end" }, svg, short(most));
    make("text", { transform: `translate(13,${(top + foot) / 2}) rotate(-90)`, "text-anchor": "middle" }, svg,
      model.get("bars_label"));
  }
  bars.forEach((value, i) => {
    const tall = known(value) ? Math.max(1, (Math.min(value, most) / most) * (foot - top)) : foot - top;
    // What was not looked at yet is an outline.
    const look = known(value)
      ? { fill: model.get("bars_colour"), opacity: i === model.get("selected") ? 1 : 0.75 }
      : { fill: "none", stroke: MASKED, "stroke-dasharray": "2,2", "stroke-width": 0.6 };
    make("rect", { x: place(i) - wide / 2, y: foot - tall, width: wide, height: tall, class: "timo-bar", ...look }, svg);
  });
}

function describe(model, i) {
  const lines = [];
  for (const one of model.get("series")) {
    const date = model.get("dates")[i];
    const at = one.times.length ? one.times.indexOf(date) : i;
    if (at < 0) continue;
    const value = one.values[at];
    lines.push([one.colour, one.name, known(value) ? short(value) + (one.valid[at] ? "" : " (masked)") : "masked"]);
  }
  const bars = model.get("bars");
  if (bars.length) lines.push([model.get("bars_colour"), model.get("bars_label"), known(bars[i]) ? short(bars[i]) : "not known yet"]);
  return lines;
}

function legend(model, box) {
  box.replaceChildren();
  const series = model.get("series");
  box.style.display = model.get("compact") || model.get("numeric") ? "none" : "";
  const entry = (colour, shape, text, hollow) => {
    const item = document.createElement("span");
    const icon = make("svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" }, item);
    make("path", { d: shape(3.6), fill: hollow ? "none" : colour, stroke: colour }, icon);
    item.append(text);
    box.append(item);
  };
  series.forEach((one, i) => entry(one.colour, SHAPES[i % SHAPES.length], one.name, false));
  if (series.some((one) => one.valid.some((valid) => !valid))) entry(MASKED, SHAPES[0], "masked", true);
}

function render({ model, el }) {
  el.classList.add("timo-chart");
  const svg = make("svg", { tabindex: 0, role: "slider" }, el);
  const tip = document.createElement("div");
  tip.className = "timo-chart-tip";
  tip.hidden = true;
  const names = document.createElement("div");
  names.className = "timo-chart-legend";
  el.append(tip, names);
  let scale = null;

  const speak = () => {
    const dates = model.get("dates");
    const i = model.get("selected");
    svg.setAttribute("aria-label", model.get("title") || model.get("y_label") || "Chart");
    svg.setAttribute("aria-valuemin", 0);
    svg.setAttribute("aria-valuemax", Math.max(0, dates.length - 1));
    svg.setAttribute("aria-valuenow", Math.max(0, i));
    if (i >= 0 && i < dates.length) {
      const said = describe(model, i).map(([, name, value]) => `${name}: ${value}`);
      svg.setAttribute("aria-valuetext", [shortDate(dates[i]), ...said].join(", "));
    }
  };
  const redraw = () => {
    // A chart on a tab that is not shown has no width; the observer calls again once it has.
    const width = el.clientWidth;
    if (width < 40) return;
    scale = draw(model, svg, width);
    legend(model, names);
    speak();
  };
  const nearest = (event) => {
    const at = event.clientX - svg.getBoundingClientRect().left;
    let best = 0;
    for (let i = 1; i < scale.count; i++) {
      if (Math.abs(scale.place(i) - at) < Math.abs(scale.place(best) - at)) best = i;
    }
    return best;
  };
  const select = (i) => {
    const last = model.get("dates").length - 1;
    model.set("selected", Math.min(last, Math.max(0, i)));
    model.save_changes();
  };
  svg.addEventListener("click", (event) => scale && select(nearest(event)));
  svg.addEventListener("keydown", (event) => {
    const i = Math.max(0, model.get("selected"));
    const to = {
      ArrowLeft: i - 1, ArrowDown: i - 1, ArrowRight: i + 1, ArrowUp: i + 1,
      PageDown: i - 10, PageUp: i + 10, Home: 0, End: model.get("dates").length - 1,
    }[event.key];
    if (to === undefined || !scale) return;
    // The notebook would take the arrows for its own.
    event.preventDefault();
    event.stopPropagation();
    select(to);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!scale) return;
    const i = nearest(event);
    tip.replaceChildren();
    const head = document.createElement("b");
    head.textContent = shortDate(model.get("dates")[i]);
    tip.append(head);
    for (const [colour, name, value] of describe(model, i)) {
      const row = document.createElement("div");
      row.textContent = `${name}: ${value}`;
      row.style.borderLeft = `4px solid ${colour}`;
      tip.append(row);
    }
    tip.hidden = false;
    const at = scale.place(i);
    const room = el.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(0, at + 12 > room ? Math.min(room, at - tip.offsetWidth - 12) : at + 12)}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });

  const names_ = ["dates", "series", "bars", "bars_label", "bars_colour", "bars_range", "selected", "title", "y_label",
    "y_range", "height", "even", "compact", "numeric", "empty"];
  // Several traits often change at once: one drawing is enough.
  let waiting = 0;
  const later = () => { waiting = waiting || requestAnimationFrame(() => { waiting = 0; redraw(); }); };
  for (const name of names_) model.on(`change:${name}`, later);
  const watcher = new ResizeObserver(later);
  watcher.observe(el);
  redraw();
  return () => {
    watcher.disconnect();
    cancelAnimationFrame(waiting);
    for (const name of names_) model.off(`change:${name}`, later);
  };
}

export default { render };
